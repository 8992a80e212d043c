//! A socketioxide socket as the hub sees it.

use std::sync::Arc;

use serde_json::value::RawValue;
use socketioxide::socket::Socket;
use socketioxide::{SendError as EmitError, SocketError};

use crate::hub::{Client, CloseReason, SendError};
use crate::listener::transports::Transports;

/// The way to one client.
pub(super) struct SocketClient {
    socket: Arc<Socket>,
    transports: Arc<Transports>,
}

impl SocketClient {
    pub(super) fn new(socket: Arc<Socket>, transports: Arc<Transports>) -> Self {
        Self { socket, transports }
    }
}

impl Client for SocketClient {
    fn send(&self, event: &str, payload: &RawValue, position: &str) -> Result<(), SendError> {
        self.socket.emit(event, &(payload, position)).map_err(|error| match is_full(&error) {
            true => SendError::Full,
            false => SendError::Gone,
        })
    }

    fn close(&self, _: CloseReason) {
        close(&self.socket, &self.transports);
    }
}

/// Whether nothing was queued because the queue is full.
pub(super) fn is_full(error: &EmitError) -> bool {
    matches!(error, EmitError::Socket(SocketError::InternalChannelFull))
}

/// Ends the client's session whatever its queue holds.
pub(super) fn close(socket: &Socket, transports: &Transports) {
    transports.close(socket.id.as_str(), super::first_connection(socket));
}
