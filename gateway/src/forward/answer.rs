//! The peer port: other replicas pass requests on to it, of clients whose session is here.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

use super::ask::LISTENER;
use super::{Forward, PeerSettings};
use crate::admin::is_authorized;
use crate::connection::{Connection, Stream};
use crate::listener::refused::Refusals;
use crate::listener::{Bare, Local, TCP_STALL, http1};

/// Connections of peers at once, WebSockets among them. 8,192: two replicas that pass on all that they may
/// ([`super::MAX_FORWARDED`]); more are closed, and counted.
const CONNECTIONS: usize = 8192;

/// What finds the listener of a name.
type Find = Arc<dyn Fn(&str) -> Option<Local> + Send + Sync>;

/// A peer port that is open and not yet served.
pub(crate) struct PeerPort {
    listener: TcpListener,
    /// Where other replicas reach it.
    reached: SocketAddr,
}

impl PeerPort {
    /// Takes it.
    ///
    /// # Errors
    /// Where the port can not be had.
    pub(crate) async fn bind(settings: PeerSettings) -> io::Result<Self> {
        let listener = TcpListener::bind(settings.bind).await?;
        let mut reached = listener.local_addr()?;
        if let Some(address) = settings.advertise {
            reached.set_ip(address);
        }
        Ok(Self { listener, reached })
    }
}

/// Answers peers until `stop`, and tells them where. `find` gives the listener of a name.
pub(crate) async fn serve(port: PeerPort, forward: Arc<Forward>, find: Find, stop: CancellationToken) {
    let PeerPort { listener, reached } = port;
    tracing::info!(address = %reached, "other replicas pass requests of their clients on to here");
    let say = forward.say(reached, stop.clone());
    tokio::join!(say, accept(listener, &forward, find, &stop));
}

async fn accept(listener: TcpListener, forward: &Arc<Forward>, find: Find, stop: &CancellationToken) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let refusals = Refusals::of_peers(Arc::clone(&forward.metrics));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection to the peer port could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&connections).try_acquire_owned() else {
            refusals.too_many();
            continue;
        };
        let (forward, find, refusals, stop) = (Arc::clone(forward), Arc::clone(&find), refusals.clone(), stop.clone());
        tokio::spawn(async move {
            // The WebSocket that becomes of a connection keeps the place with it.
            let place = Arc::new(place);
            one(stream, &forward, &find, &refusals, &stop, &place).await;
        });
    }
}

async fn one(
    stream: TcpStream,
    forward: &Arc<Forward>,
    find: &Find,
    refusals: &Refusals,
    stop: &CancellationToken,
    place: &Arc<tokio::sync::OwnedSemaphorePermit>,
) {
    let tuned = stream
        .set_nodelay(true)
        .and_then(|()| socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(TCP_STALL)));
    if tuned.is_err() {
        return;
    }
    let connection = Connection::default();
    let bare: Bare = Either::Left(stream);
    let stream = Stream::new(bare, &connection);
    let handler = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Arc::clone(place));
        let connection = connection.clone();
        async move {
            let local = match judge(&request, forward, find) {
                Ok(local) => local,
                Err((status, why)) => {
                    let mut response = Response::new(Full::new(Bytes::from_static(why.as_bytes())));
                    *response.status_mut() = status;
                    refusals.answered(&response);
                    return Ok::<_, Infallible>(response);
                }
            };
            Ok(local.answer(request, connection).await)
        }
    });
    http1::serve(stream, handler, stop, refusals).await;
}

/// The listener that a peer asks, where it may.
fn judge(request: &Request<Incoming>, forward: &Forward, find: &Find) -> Result<Local, (StatusCode, &'static str)> {
    if !is_authorized(request.headers(), forward.token.as_bytes()) {
        return Err((StatusCode::UNAUTHORIZED, "only replicas of this gateway may ask here\n"));
    }
    let name = request.headers().get(LISTENER).and_then(|name| name.to_str().ok());
    name.and_then(|name| find(name))
        .ok_or((StatusCode::NOT_FOUND, "there is no such listener\n"))
}
