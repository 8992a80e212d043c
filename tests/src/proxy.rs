//! A TCP proxy before a gateway or a Redis, which cuts connections in the ways in which networks do, and counts what it carries.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Both sides see an orderly end.
    Fin,
    /// Both sides see a reset.
    Reset,
    /// Nothing passes any more, then a reset: what was on its way is lost.
    Stall,
    /// Half of what the gateway sends next passes, then a reset.
    MidFrame,
    /// Nothing passes any more, for as long as both sides bear it.
    Freeze,
}

impl Cut {
    /// Those that end by themselves.
    pub(crate) const ALL: [Cut; 4] = [Cut::Fin, Cut::Reset, Cut::Stall, Cut::MidFrame];
}

/// How long a stalled connection stalls: longer than events take, shorter than heartbeats.
const STALL: std::time::Duration = std::time::Duration::from_millis(150);

/// A proxy. Its connections end with it.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    connections: Connections,
    gateway: Arc<Mutex<String>>,
    to_clients: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

/// Each with the port from which it goes on.
type Connections = Arc<Mutex<BTreeMap<u64, (u16, oneshot::Sender<Cut>)>>>;

impl Proxy {
    /// Listens on a free port, before `gateway` (`host:port`).
    pub(crate) async fn before(gateway: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Connections::default();
        let gateway = Arc::new(Mutex::new(gateway.to_owned()));
        let to_clients = Arc::<AtomicU64>::default();
        let task = tokio::spawn(accept(
            listener,
            Arc::clone(&gateway),
            Arc::clone(&connections),
            Arc::clone(&to_clients),
        ));
        Self {
            address,
            connections,
            gateway,
            to_clients,
            task,
        }
    }

    /// Bytes that it has carried to those that connect.
    pub(crate) fn carried(&self) -> u64 {
        self.to_clients.load(Ordering::Relaxed)
    }

    /// Connections that come from now on go to another gateway.
    pub(crate) fn lead_to(&self, gateway: &str) {
        *self.gateway.lock().unwrap() = gateway.to_owned();
    }

    /// Cuts the `nth` of the open connections, counted round; gives whether there was one.
    pub(crate) fn cut(&self, nth: usize, how: Cut) -> bool {
        let mut connections = self.connections.lock().unwrap();
        let Some(number) = connections.keys().nth(nth % connections.len().max(1)).copied() else {
            return false;
        };
        connections
            .remove(&number)
            .is_some_and(|(_, connection)| connection.send(how).is_ok())
    }

    /// Cuts the connection that goes on from this port; gives whether there was one.
    pub(crate) fn cut_from(&self, port: u16, how: Cut) -> bool {
        let mut connections = self.connections.lock().unwrap();
        let number = connections.iter().find(|(_, (from, _))| *from == port);
        let number = number.map(|(number, _)| *number);
        number
            .and_then(|number| connections.remove(&number))
            .is_some_and(|(_, connection)| connection.send(how).is_ok())
    }

    /// Cuts all open connections at once; gives how many there were.
    pub(crate) fn cut_all(&self, how: Cut) -> usize {
        let connections = std::mem::take(&mut *self.connections.lock().unwrap());
        let cut = connections.into_values().map(|(_, connection)| connection.send(how));
        cut.filter(Result::is_ok).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    gateway: Arc<Mutex<String>>,
    connections: Connections,
    to_clients: Arc<AtomicU64>,
) {
    let next = AtomicU64::new(0);
    loop {
        let Ok((client, _)) = listener.accept().await else {
            return;
        };
        let gateway = gateway.lock().unwrap().clone();
        let Ok(server) = TcpStream::connect(gateway).await else {
            continue;
        };
        let number = next.fetch_add(1, Ordering::Relaxed);
        let (sender, cut) = oneshot::channel();
        let from = server.local_addr().map_or(0, |address| address.port());
        connections.lock().unwrap().insert(number, (from, sender));
        let (connections, to_clients) = (Arc::clone(&connections), Arc::clone(&to_clients));
        tokio::spawn(async move {
            carry(client, server, cut, &to_clients).await;
            connections.lock().unwrap().remove(&number);
        });
    }
}

async fn carry(mut client: TcpStream, mut server: TcpStream, mut cut: oneshot::Receiver<Cut>, to_clients: &AtomicU64) {
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let how = {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        tokio::select! {
            _ = async {
                let to_server = async {
                    tokio::io::copy(&mut from_client, &mut to_server).await?;
                    to_server.shutdown().await
                };
                tokio::try_join!(to_server, copy_counted(&mut from_server, &mut to_client, to_clients))
            } => return,
            how = &mut cut => how,
        }
    };
    match how {
        // The proxy itself is gone.
        Err(_) => {}
        Ok(Cut::Fin) => {
            client.shutdown().await.ok();
            server.shutdown().await.ok();
        }
        Ok(Cut::Reset) => reset(&client, &server),
        Ok(Cut::Stall) => {
            tokio::time::sleep(STALL).await;
            reset(&client, &server);
        }
        Ok(Cut::Freeze) => std::future::pending().await,
        Ok(Cut::MidFrame) => {
            let mut next = [0; 4096];
            if let Ok(Ok(length)) = tokio::time::timeout(STALL, server.read(&mut next)).await {
                client.write_all(&next[..length / 2]).await.ok();
                client.flush().await.ok();
            }
            reset(&client, &server);
        }
    }
}

async fn copy_counted(from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>, carried: &AtomicU64) -> std::io::Result<()> {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        match from.read(&mut bytes).await? {
            0 => return to.shutdown().await,
            length => {
                to.write_all(&bytes[..length]).await?;
                carried.fetch_add(length as u64, Ordering::Relaxed);
            }
        }
    }
}

/// Closing with a zero linger sends a reset.
fn reset(client: &TcpStream, server: &TcpStream) {
    for stream in [client, server] {
        stream.set_zero_linger().ok();
    }
}
