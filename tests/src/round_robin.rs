//! An HTTP proxy before several gateways: each request goes to the next one, whose ever session it is of.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// Longest head of a request, in bytes.
const HEAD: usize = 16 * 1024;

/// A proxy. It ends with this value.
pub(crate) struct RoundRobin {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

struct State {
    gateways: Vec<String>,
    next: AtomicUsize,
    /// Which gateway was sent which first line.
    sent: Mutex<Vec<(usize, String)>>,
}

impl RoundRobin {
    /// Listens on a free port, before `gateways` (`host:port`). One that refuses connections is passed over.
    pub(crate) async fn before(gateways: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            gateways,
            next: AtomicUsize::new(0),
            sent: Mutex::default(),
        });
        let serving = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, Arc::clone(&serving)));
            }
        });
        Self { address, state, task }
    }

    /// How many gateways were asked with something that holds all of `texts`.
    pub(crate) fn asked(&self, texts: &[&str]) -> usize {
        let sent = self.state.sent.lock().unwrap();
        let fit = sent
            .iter()
            .filter(|(_, line)| texts.iter().all(|text| line.contains(text)));
        let gateways: std::collections::BTreeSet<_> = fit.map(|(gateway, _)| gateway).collect();
        gateways.len()
    }

    /// The gateway, by its place, that the last request was sent to which holds all of `texts`.
    pub(crate) fn last(&self, texts: &[&str]) -> Option<usize> {
        let sent = self.state.sent.lock().unwrap();
        let mut fit = sent
            .iter()
            .rev()
            .filter(|(_, line)| texts.iter().all(|text| line.contains(text)));
        fit.next().map(|(gateway, _)| *gateway)
    }
}

impl Drop for RoundRobin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One request, on a connection that ends with it; a WebSocket goes on. Nothing here can fail but by a side that has gone.
async fn serve(mut client: TcpStream, state: Arc<State>) {
    let Some((head, rest)) = read_head(&mut client).await else {
        return;
    };
    let line = head.lines().next().unwrap_or_default().to_owned();
    for _ in 0..state.gateways.len() {
        let gateway = state.next.fetch_add(1, Ordering::SeqCst) % state.gateways.len();
        let Ok(mut server) = TcpStream::connect(&state.gateways[gateway]).await else {
            continue;
        };
        state.sent.lock().unwrap().push((gateway, line));
        let is_upgrade = head.to_lowercase().contains("\r\nupgrade: websocket");
        let keeps = |line: &&str| is_upgrade || !line.to_lowercase().starts_with("connection:");
        let mut request = head.lines().filter(keeps).collect::<Vec<_>>().join("\r\n");
        request.push_str(if is_upgrade {
            "\r\n\r\n"
        } else {
            "\r\nConnection: close\r\n\r\n"
        });
        if server.write_all(request.as_bytes()).await.is_ok() && server.write_all(&rest).await.is_ok() {
            copy_bidirectional(&mut client, &mut server).await.ok();
        }
        return;
    }
}

/// The head of a request without the empty line behind it, and what of its body is there already.
async fn read_head(client: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            return Some((
                String::from_utf8_lossy(&bytes[..end]).into_owned(),
                bytes[end + 4..].to_vec(),
            ));
        }
        if client.read_buf(&mut bytes).await.ok()? == 0 || bytes.len() > HEAD {
            return None;
        }
    }
}
