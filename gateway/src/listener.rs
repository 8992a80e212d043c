//! listener: one Socket.IO server on a TCP port, by socketioxide behind hyper.
//!
//! ```text
//! accept     TCP → TLS, where the listener has it → HTTP/1.1
//! respond    each request: host → origin → HTTP beside Socket.IO, or transport → session → size → upgrade, or socketioxide
//! close      no new sessions → the others are closed one by one → what is left is cut off
//! ```
//! The accept loop is ours, so that a connection can be ended from outside ([`crate::connection`]), and so that an
//! Engine.IO session that was closed is refused by polling too ([`transports`]). What is asked of a request ([`policy`]) is
//! swapped while clients stay; what Engine.IO itself is built with needs a new server on the same port.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aldis_crds::gateway::{EngineSettings, Transport};
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use socketioxide::{SocketIo, SocketIoBuilder, TransportType};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection::{Connection, Stream};
use crate::forward::Forward;
use crate::limits::Entrance;
use crate::metrics::Metrics;

mod beside;
pub mod close;
pub(crate) mod http1;
pub mod policy;
pub mod polling;
pub mod refusal;
pub mod refused;
pub mod tls;
pub mod transports;

mod engine;
mod respond;
mod upgrade;

pub use beside::Beside;
use engine::Engine;
use policy::Policy;
use refusal::Refusal;
use refused::Refusals;
use transports::Transports;

/// How long data may stay unacknowledged by the peer's TCP. As Engine.IO's heartbeat; without it a stalled peer is never
/// noticed while a write to it is stuck.
pub const TCP_STALL: Duration = Duration::from_secs(25);
/// How long a client may take for a TLS handshake. 10 s.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that TLS may hold for a client that does not take them. 16 KiB, a record: what waits, waits on the wire, where it is
/// counted.
const TLS_BUFFER: usize = 16 * 1024;
/// What engineioxide is told is the longest payload, in bytes: a number that JavaScript still reads exactly.
const UNCUT: u64 = 1 << 52;
/// Packets that may wait for one client. A client with a full queue is closed. 4,096: a few seconds of a busy room.
pub const QUEUE_PACKETS: usize = 4_096;
/// How much is read from a WebSocket at once, in bytes. 1 KiB: client events are short, and it is kept per client.
pub const READ_BUFFER: usize = 1_024;

/// A Socket.IO server on a port. Where what Engine.IO is built with changes, another follows it there.
pub struct Listener {
    /// Its namespaces.
    pub io: SocketIo,
    /// Its transports.
    pub transports: Arc<Transports>,
    engine_io: Arc<dyn Engine>,
    engine: EngineSettings,
    policy: Arc<ArcSwap<Policy>>,
    /// The accept loop, and what ends it.
    accepting: TaskTracker,
    stop_accepting: CancellationToken,
    /// Ends connections after the request that they are at.
    stop: CancellationToken,
    tasks: TaskTracker,
    /// All of them, to end at once.
    connections: Connection,
    local: Local,
}

/// Its sessions, for the replicas that their clients ask.
#[derive(Clone)]
pub(crate) struct Local(Ends);

impl Local {
    /// Answers a request that came over `connection` from another replica.
    pub(crate) async fn answer(&self, request: Request<Incoming>, connection: Connection) -> Response<Full<Bytes>> {
        respond::of_peer(request, connection, self.0.clone()).await
    }
}

/// What is around a listener.
pub struct Around {
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What answers beside Socket.IO.
    pub beside: Beside,
    /// The way in, of all listeners.
    pub entrance: Arc<Entrance>,
    /// Its peers, where it has some.
    pub forward: Option<Arc<Forward>>,
}

/// A port that is taken and not yet served: clients that connect wait.
pub struct Port {
    /// Where it is.
    pub address: SocketAddr,
    /// What was asked for; port 0 is any.
    pub wanted: SocketAddr,
    socket: TcpListener,
}

impl Port {
    /// Takes `address`.
    ///
    /// # Errors
    /// Where the port can not be had.
    pub async fn bind(wanted: SocketAddr) -> io::Result<Self> {
        let socket = TcpListener::bind(wanted).await?;
        Ok(Self {
            address: socket.local_addr()?,
            wanted,
            socket,
        })
    }
}

impl Listener {
    /// Serves `port` from now on, with the namespaces that `open` opens before the first client is let in.
    pub fn serve(
        name: &str,
        port: &Arc<Port>,
        engine: EngineSettings,
        policy: Policy,
        around: Around,
        open: impl FnOnce(&SocketIo, &Arc<Transports>),
    ) -> Self {
        let Around {
            metrics,
            beside,
            entrance,
            forward,
        } = around;
        let policy = Arc::new(ArcSwap::from_pointee(policy));
        let (service, io) = builder(&engine).build_svc();
        let transports = Arc::new(Transports::new(engine.ping_interval + engine.ping_timeout));
        open(&io, &transports);
        let engine_io: Arc<dyn Engine> = Arc::new(engine::SocketIoEngine(service));
        let ends = Ends {
            engine: Arc::clone(&engine_io),
            beside,
            entrance,
            forward,
            name: name.into(),
            settings: Arc::new(engine.clone()),
            policy: Arc::clone(&policy),
            transports: Arc::clone(&transports),
            refusals: Refusals::of_listener(metrics, name),
            tasks: TaskTracker::new(),
            connections: Connection::default(),
            stop: CancellationToken::new(),
        };
        let (tasks, connections, stop) = (ends.tasks.clone(), ends.connections.clone(), ends.stop.clone());
        let (accepting, stop_accepting) = (TaskTracker::new(), CancellationToken::new());
        let local = Local(ends.clone());
        accepting.spawn(accept(Arc::clone(port), ends, stop_accepting.clone()));
        Self {
            io,
            transports,
            engine_io,
            engine,
            policy,
            accepting,
            stop_accepting,
            stop,
            tasks,
            connections,
            local,
        }
    }

    /// What Engine.IO was built with.
    pub fn engine(&self) -> &EngineSettings {
        &self.engine
    }

    /// What it asks of requests, now.
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// Its sessions, for other replicas.
    pub(crate) fn local(&self) -> Local {
        self.local.clone()
    }

    /// Puts another policy in force; clients stay.
    pub fn set_policy(&self, policy: Policy) {
        self.policy.store(Arc::new(policy));
    }

    /// Ends the accept loop, which lets go of the port. Clients stay.
    pub async fn stop_accepting(&self) {
        self.stop_accepting.cancel();
        self.accepting.close();
        self.accepting.wait().await;
    }
}

fn builder(engine: &EngineSettings) -> SocketIoBuilder {
    let builder = SocketIo::builder()
        .ping_interval(engine.ping_interval)
        .ping_timeout(engine.ping_timeout)
        .connect_timeout(engine.connect_timeout)
        // A reply to a poll that is cut leaves a packet behind which is lost when the client upgrades: replies are
        // bounded by the queue alone, and what clients send is bounded in `respond`.
        .max_payload(UNCUT)
        .ws_max_message_size(engine.max_payload)
        .ws_max_frame_size(engine.max_payload)
        .ws_read_buffer_size(READ_BUFFER)
        .max_buffer_size(QUEUE_PACKETS);
    match engine.transports.as_slice() {
        [Transport::Polling] => builder.transports([TransportType::Polling]),
        [Transport::Websocket] => builder.transports([TransportType::Websocket]),
        _ => builder.transports([TransportType::Polling, TransportType::Websocket]),
    }
}

/// The bytes of a client: as they come, or through TLS, whose state those without do not pay for.
pub(crate) type Bare = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// What every connection of a listener needs.
#[derive(Clone)]
struct Ends {
    name: Arc<str>,
    settings: Arc<EngineSettings>,
    policy: Arc<ArcSwap<Policy>>,
    engine: Arc<dyn Engine>,
    beside: Beside,
    entrance: Arc<Entrance>,
    forward: Option<Arc<Forward>>,
    transports: Arc<Transports>,
    refusals: Refusals,
    tasks: TaskTracker,
    connections: Connection,
    stop: CancellationToken,
}

async fn accept(port: Arc<Port>, ends: Ends, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = port.socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                ends.tasks.spawn(serve(stream, peer.ip(), ends.clone()));
            }
            Err(error) => {
                // Out of file descriptors, mostly: others may give some back.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, peer: IpAddr, ends: Ends) {
    let tuned = stream
        .set_nodelay(true)
        .and_then(|()| socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(TCP_STALL)));
    if let Err(error) = tuned {
        tracing::debug!(%error, "a connection was gone before it began");
        return;
    }
    let stop = ends.stop.clone();
    let stream = tokio::select! {
        () = stop.cancelled() => return,
        stream = bare(stream, &ends) => stream,
    };
    let Some(stream) = stream else { return };
    let connection = ends.connections.one_of();
    let stream = Stream::new(stream, &connection);
    let refusals = ends.refusals.clone();
    let handler = service_fn(move |request| {
        let response = respond::respond(request, peer, connection.clone(), ends.clone());
        let refusals = ends.refusals.clone();
        async move { response.await.inspect(|response| refusals.answered(response)) }
    });
    http1::serve(stream, handler, &stop, &refusals).await;
}

/// Ends TLS, where the listener has it; `None` where there is no handshake.
async fn bare(stream: TcpStream, ends: &Ends) -> Option<Bare> {
    let policy = ends.policy.load();
    let Some(tls) = &policy.tls else {
        return Some(Either::Left(stream));
    };
    let bounded = |session: &mut rustls::ServerConnection| session.set_buffer_limit(Some(TLS_BUFFER));
    let handshake = tls.acceptor().accept_with(stream, bounded);
    drop(policy);
    match tokio::time::timeout(TLS_HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => Some(Either::Right(Box::new(stream))),
        Ok(Err(error)) => {
            tracing::debug!(listener = %ends.name, %error, "no TLS handshake");
            ends.refusals.refused(Refusal::TlsHandshake);
            None
        }
        Err(_) => {
            tracing::debug!(listener = %ends.name, "a TLS handshake took too long");
            ends.refusals.refused(Refusal::TlsTimeout);
            None
        }
    }
}
