//! Why a connection was not made, why it ended, and what else can go wrong on it.

use std::time::Duration;

use serde_json::Value;
use tokio_tungstenite::tungstenite::Error as WsError;

use super::packet::PacketError;

/// Why no connection was made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL, path, query or namespace cannot be used.
    #[error("cannot connect to `{url}`: {reason}")]
    InvalidUrl { url: String, reason: String },
    /// The server answered CONNECT_ERROR: it knows this client and does not let it in. Stock clients do not
    /// try again by themselves.
    #[error("the server refused namespace {namespace}: {message}")]
    Refused {
        namespace: String,
        message: String,
        /// The error's `data`, where the server gives one.
        data: Option<Value>,
    },
    /// The server speaks HTTP and did not open a WebSocket.
    #[error("{server} answered HTTP {status} instead of opening a websocket{}", body_suffix(.body))]
    Http {
        server: String,
        status: u16,
        /// The beginning of the answer's text, perhaps empty.
        body: String,
    },
    /// The connection failed or broke before the server let the client in.
    #[error("cannot connect to {server}")]
    Transport { server: String, source: Box<WsError> },
    /// The server closed the connection before it let the client in.
    #[error("{server} closed the connection during the handshake")]
    Closed { server: String },
    /// [`Connect::timeout`](super::Connect::timeout) passed.
    #[error("{server} did not let the client in within {after:?}")]
    Timeout { server: String, after: Duration },
    /// The server does not speak Socket.IO v5.
    #[error("{server} does not speak socket.io as expected")]
    Protocol { server: String, source: PacketError },
}

fn body_suffix(body: &str) -> String {
    if body.is_empty() {
        String::new()
    } else {
        format!(": {body}")
    }
}

/// What can go wrong on a connection.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection has ended; [`Incoming::Disconnected`](super::Incoming::Disconnected) told why.
    #[error("the connection is closed")]
    Closed,
    /// [`WRITE_TIMEOUT`](super::WRITE_TIMEOUT) passed.
    #[error(
        "the server reads nothing: a packet could not be sent within {:?}",
        super::WRITE_TIMEOUT
    )]
    Stalled,
    #[error("cannot send to the server")]
    Transport(#[source] Box<WsError>),
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// A frame over [`Connect::max_frame`](super::Connect::max_frame); ends the connection.
    #[error("the server sent a frame over the limit of {max} bytes")]
    FrameTooLarge { max: usize },
    #[error("`{event}` was not acknowledged within {after:?}")]
    NoAck { event: String, after: Duration },
    #[error("the acknowledgement carries binary data, which this client does not read")]
    BinaryAck,
    /// Over [`MAX_HELD_EVENTS`](super::MAX_HELD_EVENTS); the event that was one too many is lost.
    #[error(
        "more than {} events arrived before `{event}` was acknowledged",
        super::MAX_HELD_EVENTS
    )]
    TooManyHeld { event: String },
}

/// Why a connection ended, in the words of Socket.IO's clients.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DisconnectReason {
    /// The server sent DISCONNECT. Stock clients do not come back from this by themselves.
    #[error("io server disconnect")]
    ServerDisconnect,
    /// The server closed the connection.
    #[error("transport close")]
    TransportClose,
    /// The connection broke.
    #[error("transport error: {0}")]
    TransportError(String),
    /// The server has not pinged within its own interval and timeout.
    #[error("ping timeout")]
    PingTimeout,
}
