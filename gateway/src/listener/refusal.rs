//! What a listener refuses, how it is answered, and under which name it is counted.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;

use crate::limits::Busy;

/// When who is answered 503 may come back, in seconds. 1; stock clients do not ask, and come back as they are used to.
const RETRY_AFTER_S: &str = "1";

/// Why a connection or a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No TLS handshake, or a bad one.
    TlsHandshake,
    /// A TLS handshake that takes too long.
    TlsTimeout,
    /// It is for another host.
    Host,
    /// It comes from a web page of an origin that is not allowed.
    Origin,
    /// By a transport that is not allowed.
    Transport,
    /// It says that it is a WebSocket, and is none.
    Upgrade,
    /// A body that is too long.
    TooLarge,
    /// A body that does not come to its end in time.
    BodyTimeout,
    /// A body that does not say how long it is.
    LengthRequired,
    /// The session was closed.
    SessionClosed,
    /// The session is on a replica that is gone, or can not be asked.
    SessionLost,
    /// Too many requests are passed on to other replicas.
    PeersBusy,
    /// The gateway stops, or the listener changes: new sessions begin elsewhere, or a moment later.
    Draining,
    /// Its address has as many connections as any tenant is granted, or too many wait for their turn.
    Busy(Busy),
}

impl Refusal {
    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TlsHandshake => "tls_handshake",
            Self::TlsTimeout => "tls_timeout",
            Self::Host => "host",
            Self::Origin => "origin",
            Self::Transport => "transport",
            Self::Upgrade => "upgrade",
            Self::TooLarge => "too_large",
            Self::BodyTimeout => "body_timeout",
            Self::LengthRequired => "length_required",
            Self::SessionClosed => "session_closed",
            Self::SessionLost => "session_lost",
            Self::PeersBusy => "peers_busy",
            Self::Draining => "draining",
            Self::Busy(busy) => busy.as_str(),
        }
    }

    /// The answer to its request: Engine.IO's own where it has one, which clients know. It is among the answer's extensions, by
    /// which it is counted.
    pub fn response(self, max_payload: usize) -> Response<Full<Bytes>> {
        let json = |code: u8, message: &str| format!("{{\"code\":{code},\"message\":\"{message}\"}}");
        let (status, body) = match self {
            Self::Host => (
                StatusCode::NOT_FOUND,
                "Nothing is served under this host name here. Use the one of the listener (spec.listeners[].hostname).\n".to_owned(),
            ),
            Self::Origin => (
                StatusCode::FORBIDDEN,
                json(4, "Origin not allowed: add it to cors.allowedOrigins of the listener"),
            ),
            Self::Transport => (StatusCode::BAD_REQUEST, json(0, "Transport unknown")),
            Self::Upgrade => (StatusCode::BAD_REQUEST, json(3, "Bad request")),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("A message may have {max_payload} bytes here (maxPayload of the listener).\n"),
            ),
            Self::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, "The body was not there in time.\n".to_owned()),
            Self::LengthRequired => (StatusCode::LENGTH_REQUIRED, "Send Content-Length.\n".to_owned()),
            Self::SessionClosed | Self::SessionLost => (StatusCode::BAD_REQUEST, json(1, "Session ID unknown")),
            Self::Busy(busy) => (StatusCode::SERVICE_UNAVAILABLE, busy.message().to_owned()),
            Self::PeersBusy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many sessions of other replicas are asked for here: connect again.\n".to_owned(),
            ),
            Self::Draining | Self::TlsHandshake | Self::TlsTimeout => (
                StatusCode::SERVICE_UNAVAILABLE,
                "This gateway takes no new connections: connect again.\n".to_owned(),
            ),
        };
        let content_type = match body.starts_with('{') {
            true => "application/json",
            false => "text/plain; charset=utf-8",
        };
        let mut response = Response::new(Full::new(body.into()));
        *response.status_mut() = status;
        response.extensions_mut().insert(self);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if status == StatusCode::REQUEST_TIMEOUT {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
        }
        response
    }
}
