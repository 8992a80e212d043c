//! Asks the replica that has a session, and passes its answer on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::mark::Mark;
use super::{Forward, Peer};
use crate::listener::TCP_STALL;

/// How long a peer may take to accept a connection. 2 s: it is in the same cluster.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest answer of a peer, in bytes. 32 MiB: what waits for one client is bounded by 1 MiB where it waits, and by one event
/// however long it is; brokers take records of 1 MB by default.
const MAX_ANSWER: usize = 32 * 1024 * 1024;
/// What is read at once from each side of a WebSocket that is passed on, in bytes. 4 KiB.
const TUNNEL_BUFFER: usize = 4 * 1024;
/// Says at the peer port for which listener a request is.
pub(super) const LISTENER: HeaderName = HeaderName::from_static("aldis-listener");
/// What of a client's request its session has to hear.
const PASSED_ON: [HeaderName; 5] = [
    CONTENT_TYPE,
    UPGRADE,
    CONNECTION,
    HeaderName::from_static("sec-websocket-key"),
    HeaderName::from_static("sec-websocket-version"),
];

/// Marks an answer that another replica gave, which has counted it.
#[derive(Clone, Copy)]
pub(crate) struct Elsewhere;

/// Why a request could not be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// No replica has the mark: it is gone, and its sessions recover.
    Unknown,
    /// It could not be asked, or where it is.
    Unreachable,
    /// It did not answer in time.
    TimedOut,
    /// [`super::MAX_FORWARDED`] are on their way.
    Busy,
}

impl Failed {
    /// As metrics name it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::Busy => "busy",
        }
    }
}

/// A WebSocket that a peer has taken up, to be joined with the client's.
pub(crate) struct Tunnel {
    peer: TokioIo<hyper::upgrade::Upgraded>,
    _place: OwnedSemaphorePermit,
}

/// What a peer answers.
pub(crate) enum Answer {
    /// An answer like any other.
    Whole(Response<Full<Bytes>>),
    /// It has taken the WebSocket up.
    Upgraded(Tunnel),
}

impl Tunnel {
    /// Carries bytes until either side ends.
    pub(crate) async fn carry(mut self, client: impl AsyncRead + AsyncWrite + Unpin) {
        let mut client = client;
        let carried = copy_bidirectional_with_sizes(&mut client, &mut self.peer, TUNNEL_BUFFER, TUNNEL_BUFFER).await;
        if let Err(error) = carried {
            tracing::debug!(%error, "a WebSocket to a session of another replica has ended");
        }
    }
}

impl Forward {
    /// Asks the replica of `mark`, which may take `patience`, in the name of a client of `listener`. What became of it is counted.
    pub(crate) async fn ask(
        &self,
        mark: &Mark,
        listener: &str,
        request: Request<Incoming>,
        patience: Duration,
    ) -> Result<Answer, Failed> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Failed::Busy);
        let asked = match place {
            Ok(place) => {
                let asked = tokio::time::timeout(patience, self.pass_on(mark, listener, request, place)).await;
                asked.unwrap_or(Err(Failed::TimedOut))
            }
            Err(busy) => Err(busy),
        };
        self.metrics.forwarded(
            listener,
            match &asked {
                Ok(Answer::Whole(_)) => "answered",
                Ok(Answer::Upgraded(_)) => "upgraded",
                Err(failed) => failed.as_str(),
            },
        );
        asked
    }

    async fn pass_on(
        &self,
        mark: &Mark,
        listener: &str,
        request: Request<Incoming>,
        place: OwnedSemaphorePermit,
    ) -> Result<Answer, Failed> {
        let peer = self.find(mark).await.map_err(|error| {
            tracing::warn!(%error, "it is not known where another replica is, whose client asks here");
            Failed::Unreachable
        })?;
        let Peer { address, token } = peer.ok_or(Failed::Unknown)?;
        let (parts, body) = request.into_parts();
        // Its length was judged; who takes too long for it runs into `patience`.
        let body = body.collect().await.map_err(|_| Failed::Unreachable)?.to_bytes();
        let unreachable = |error: &dyn std::fmt::Display| {
            tracing::debug!(%address, %error, "another replica can not be asked");
            self.known().remove(mark);
            Failed::Unreachable
        };
        let stream = connect(address).await.map_err(|error| unreachable(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(&error))?;
        // It ends with its request, or with the WebSocket that becomes of it.
        tokio::spawn(async move { connection.with_upgrades().await.ok() });
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let asking = Request::builder()
            .method(parts.method)
            .uri(path)
            .header(HOST, address.to_string())
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .header(LISTENER, listener);
        let mut asking = asking.body(Full::new(body)).map_err(|error| unreachable(&error))?;
        copy(&parts.headers, asking.headers_mut());
        let mut response = sender.send_request(asking).await.map_err(|error| unreachable(&error))?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let upgraded = hyper::upgrade::on(&mut response).await;
            let peer = TokioIo::new(upgraded.map_err(|error| unreachable(&error))?);
            return Ok(Answer::Upgraded(Tunnel { peer, _place: place }));
        }
        let (mut parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|error| unreachable(&error))?.to_bytes();
        let kept = parts.headers.remove(CONTENT_TYPE);
        parts.headers.clear();
        parts.headers.extend(kept.map(|kind| (CONTENT_TYPE, kind)));
        parts.extensions.insert(Elsewhere);
        Ok(Answer::Whole(Response::from_parts(parts, Full::new(body))))
    }
}

async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(TCP_STALL))?;
    Ok(stream)
}

fn copy(from: &HeaderMap, to: &mut HeaderMap) {
    let is_upgrade = from.contains_key(UPGRADE);
    for name in PASSED_ON {
        // What a connection is for is said on each of them anew.
        if (name != CONNECTION || is_upgrade)
            && let Some(value) = from.get(&name)
        {
            to.insert(name, value.clone());
        }
    }
}
