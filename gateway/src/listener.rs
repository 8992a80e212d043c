//! listener: one Socket.IO server on a TCP port, by socketioxide behind hyper.
//!
//! The accept loop is ours, so that a connection can be ended from outside ([`crate::connection`]), and so that an
//! Engine.IO session that was closed is refused by polling too ([`transports`]).

use std::convert::Infallible;
use std::error::Error;
use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use socketioxide::SocketIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection::{Connection, Stream};
use crate::wire::Wire;

mod beside;
pub mod polling;
pub mod transports;
mod upgrade;

pub use beside::Beside;
use polling::Reply;
use transports::Transports;

/// How often a client is pinged. Socket.IO's default.
pub const PING_INTERVAL: Duration = Duration::from_secs(25);
/// How long its answer may take. Socket.IO's default.
pub const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long data may stay unacknowledged by the peer's TCP. As [`PING_INTERVAL`]; without it a stalled peer is never noticed
/// while a write to it is stuck.
pub const TCP_STALL: Duration = Duration::from_secs(25);
/// How long a client may take for the headers of a request. 10 s.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest message from a client, in bytes. 100 kB: joins are short, and replies to what is longer would pile up.
pub const MAX_PAYLOAD: usize = 100_000;
/// What engineioxide is told is the longest payload, in bytes: a number that JavaScript still reads exactly.
const UNCUT: u64 = 1 << 52;
/// Packets that may wait for one client. A client with a full queue is closed. 4,096: a few seconds of a busy room.
pub const QUEUE_PACKETS: usize = 4_096;
/// How much is read from a WebSocket at once, in bytes. 1 KiB: client events are short, and it is kept per client.
pub const READ_BUFFER: usize = 1_024;

/// A Socket.IO server.
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its namespaces.
    pub io: SocketIo,
    /// Its transports.
    pub transports: Arc<Transports>,
    tasks: TaskTracker,
    /// All of them, to end at once.
    connections: Connection,
}

/// A port that is taken and not yet served: clients that connect wait.
pub struct Bound {
    socket: TcpListener,
}

impl Bound {
    /// Takes `address`.
    ///
    /// # Errors
    /// Where the port can not be had.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            socket: TcpListener::bind(address).await?,
        })
    }

    /// Serves from now on until `stop`, with `beside` for what is not Socket.IO, and the namespaces that `open` opens before the first client is let in.
    ///
    /// # Errors
    /// Where the system does not tell the address.
    pub fn serve(
        self,
        stop: CancellationToken,
        beside: Beside,
        open: impl FnOnce(&SocketIo, &Arc<Transports>),
    ) -> io::Result<Listener> {
        let address = self.socket.local_addr()?;
        let (service, io) = SocketIo::builder()
            .ping_interval(PING_INTERVAL)
            .ping_timeout(PING_TIMEOUT)
            // A reply to a poll that is cut leaves a packet behind which is lost when the client upgrades: replies are
            // bounded by the queue alone, and what clients send is bounded in `respond`.
            .max_payload(UNCUT)
            .ws_max_message_size(MAX_PAYLOAD)
            .ws_max_frame_size(MAX_PAYLOAD)
            .ws_read_buffer_size(READ_BUFFER)
            .max_buffer_size(QUEUE_PACKETS)
            .build_svc();
        let transports = Arc::new(Transports::default());
        open(&io, &transports);
        let tasks = TaskTracker::new();
        let connections = Connection::default();
        let ends = Ends {
            transports: Arc::clone(&transports),
            beside,
            tasks: tasks.clone(),
            connections: connections.clone(),
        };
        tasks.spawn(accept(self.socket, service, ends, stop));
        Ok(Listener {
            address,
            io,
            transports,
            tasks,
            connections,
        })
    }
}

impl Listener {
    /// Closes all clients, which then see a closed transport and come back elsewhere; ends what is left after `budget`.
    pub async fn close(&self, budget: Duration) {
        self.tasks.close();
        let closed = tokio::time::timeout(budget, async {
            self.io.close().await;
            self.tasks.wait().await;
        });
        if closed.await.is_err() {
            tracing::warn!(address = %self.address, "some clients did not take their last bytes in time and were cut off");
            self.connections.end();
        }
    }
}

/// A client's WebSocket, as socketioxide gets it.
type ClientWire = Wire<Stream<TcpStream>>;

/// socketioxide: HTTP requests, and WebSockets that were accepted here.
trait Serve<B>:
    Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
    + Service<(ClientWire, Request<()>), Response = (), Error: Display, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S, B> Serve<B> for S where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
        + Service<(ClientWire, Request<()>), Response = (), Error: Display, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// What every connection of a listener needs.
#[derive(Clone)]
struct Ends {
    transports: Arc<Transports>,
    beside: Beside,
    tasks: TaskTracker,
    connections: Connection,
}

async fn accept<B: Body<Data = Bytes, Error: Error + Send + Sync> + Send + 'static>(
    socket: TcpListener,
    service: impl Serve<B>,
    ends: Ends,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                ends.tasks
                    .spawn(serve(stream, service.clone(), ends.clone(), stop.clone()));
            }
            Err(error) => {
                // Out of file descriptors, mostly: others may give some back.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve<B: Body<Data = Bytes, Error: Error + Send + Sync> + Send + 'static>(
    stream: TcpStream,
    service: impl Serve<B>,
    ends: Ends,
    stop: CancellationToken,
) {
    let tuned = stream
        .set_nodelay(true)
        .and_then(|()| socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(TCP_STALL)));
    if let Err(error) = tuned {
        tracing::debug!(%error, "a connection was gone before it began");
        return;
    }
    let connection = ends.connections.one_of();
    let stream = Stream::new(stream, &connection);
    let handler = service_fn(move |request| respond(request, connection.clone(), service.clone(), ends.clone()));
    let http = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), handler)
        .with_upgrades();
    tokio::pin!(http);
    let result = tokio::select! {
        result = &mut http => result,
        () = stop.cancelled() => {
            http.as_mut().graceful_shutdown();
            http.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended with an error");
    }
}

async fn respond<B: Body<Data = Bytes, Error: Error + Send + Sync> + Send + 'static>(
    request: Request<Incoming>,
    connection: Connection,
    service: impl Serve<B>,
    ends: Ends,
) -> Result<Response<Either<B, Full<Bytes>>>, Infallible> {
    let mut request = match ends.beside.answer(request).await {
        Ok(response) => return Ok(response.map(Either::Right)),
        Err(request) => request,
    };
    let transports = ends.transports;
    detach(&mut request);
    if transports.is_closed(request.uri()) {
        return Ok(Reply::unknown_session().into_response().map(Either::Right));
    }
    if let Some(status) = too_long(&request) {
        let mut response = Response::new(Either::Right(Full::default()));
        *response.status_mut() = status;
        return Ok(response);
    }
    if let Some(accept) = upgrade::accept_key(&request) {
        ends.tasks
            .spawn(upgrade::take_over(request, connection, service, transports));
        return Ok(upgrade::switching_protocols(accept).map(Either::Right));
    }
    if upgrade::claims_websocket(&request) {
        return Ok(Reply::bad_request().into_response().map(Either::Right));
    }
    let (uri, is_get) = (request.uri().clone(), request.method() == http::Method::GET);
    request.extensions_mut().insert(connection);
    let response = Service::<Request<Incoming>>::call(&service, request);
    if transports::begins_session(&uri) {
        let reply = Reply::of(response.await?).await;
        transports.opens(&reply);
        return Ok(with_max_payload(reply).into_response().map(Either::Right));
    }
    match transports.polled(&uri).filter(|_| is_get) {
        Some(polled) => {
            let asked = uri.clone();
            let ask = async move {
                let Ok(response) = response.await;
                transports.complete(&asked, Reply::of(response).await)
            };
            let reply = polled.poll(transports::timestamp(&uri), ask).await;
            Ok(reply.into_response().map(Either::Right))
        }
        None => Ok(response.await?.map(Either::Left)),
    }
}

/// The status of the refusal of a body that is, or may be, longer than [`MAX_PAYLOAD`].
fn too_long(request: &Request<Incoming>) -> Option<StatusCode> {
    if request.method() != http::Method::POST {
        return None;
    }
    match request.body().size_hint().exact() {
        Some(length) if length <= MAX_PAYLOAD as u64 => None,
        Some(_) => Some(StatusCode::PAYLOAD_TOO_LARGE),
        None => Some(StatusCode::LENGTH_REQUIRED),
    }
}

/// The open packet with what clients may send at once.
fn with_max_payload(reply: Reply) -> Reply {
    let uncut = format!("\"maxPayload\":{UNCUT}");
    match reply.text() {
        Some(text) => {
            let text = text.replacen(&uncut, &format!("\"maxPayload\":{MAX_PAYLOAD}"), 1);
            reply.with_text(text)
        }
        None => reply,
    }
}

/// Headers and URI are parts of hyper's read buffer, which a socket that keeps them would keep: 16 KiB a client.
fn detach<B>(request: &mut Request<B>) {
    let headers: HeaderMap = request
        .headers()
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), HeaderValue::from_bytes(value.as_bytes()).ok()?)))
        .collect();
    *request.headers_mut() = headers;
    if let Ok(uri) = request.uri().to_string().parse() {
        *request.uri_mut() = uri;
    }
}
