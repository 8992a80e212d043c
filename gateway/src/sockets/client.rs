//! A socketioxide socket as the hub sees it.
//!
//! A client on WebSocket gets its deliveries through its wire. One that polls gets them through socketioxide; once it has
//! upgraded, a switch event in that queue marks where the wire begins, so the order of its deliveries is kept.

use std::sync::{Arc, OnceLock};

use socketioxide::socket::{DisconnectReason, Socket};
use socketioxide::{SendError as EmitError, SocketError};

use super::expiry::Watched;
use crate::hub::{Client, CloseReason, Outgoing, Pace, SendError};
use crate::limits::Permit;
use crate::listener::polling::{TooMuch, Waiting};
use crate::listener::transports::Transports;
use crate::wire::{Link, LinkError, SWITCH_EVENT};

/// The way to one client.
pub(super) struct SocketClient {
    socket: Arc<Socket>,
    transports: Arc<Transports>,
    link: OnceLock<Arc<dyn Link>>,
    waiting: Option<Arc<Waiting>>,
    user: Option<String>,
    permit: Arc<Permit>,
    _watched: Option<Watched>,
}

impl SocketClient {
    /// `link`: the wire on which this namespace has been opened; `None` where the client polls.
    pub(super) fn new(
        socket: Arc<Socket>,
        transports: Arc<Transports>,
        link: Option<Arc<dyn Link>>,
        waiting: Option<Arc<Waiting>>,
        user: Option<String>,
        permit: Arc<Permit>,
        watched: Option<Watched>,
    ) -> Self {
        Self {
            socket,
            transports,
            user,
            link: link.map(OnceLock::from).unwrap_or_default(),
            waiting,
            permit,
            _watched: watched,
        }
    }

    /// The wire, from the moment on that deliveries may go through it.
    fn link(&self) -> Result<Option<&Arc<dyn Link>>, SendError> {
        if self.link.get().is_none()
            && let Some(link) = self.transports.upgraded(self.socket.id.as_str())
        {
            link.switch(self.socket.ns());
            self.socket
                .emit(SWITCH_EVENT, &())
                .map_err(|error| send_error(&error))?;
            self.link.set(link).ok();
        }
        Ok(self.link.get())
    }
}

impl Client for SocketClient {
    fn send(&self, outgoing: &Outgoing<'_>, pace: Pace) -> Result<(), SendError> {
        match self.link()? {
            Some(link) => {
                let namespace = self.socket.ns();
                link.send(namespace, &outgoing.frame(namespace), pace)
                    .map_err(|error| match error {
                        LinkError::Full => SendError::Full,
                        LinkError::Closed => SendError::Gone,
                    })
            }
            None => {
                // What a client has missed was bounded when it was read.
                if let (Some(waiting), Pace::Live) = (&self.waiting, pace) {
                    waiting.add(outgoing.bytes()).map_err(|TooMuch| SendError::Full)?;
                }
                self.socket
                    .emit(outgoing.event(), &(outgoing.payload(), outgoing.position()))
                    .map_err(|error| send_error(&error))
            }
        }
    }

    fn close(&self, _: CloseReason) {
        // At once: its user may be waiting for it.
        self.permit.give_up();
        close(&self.socket, &self.transports);
    }

    fn dismiss(&self) {
        if Arc::clone(&self.socket).disconnect().is_err() {
            close(&self.socket, &self.transports);
        }
    }

    fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    fn socket(&self) -> Option<&str> {
        Some(self.socket.id.as_str())
    }
}

fn send_error(error: &EmitError) -> SendError {
    if is_full(error) {
        SendError::Full
    } else {
        SendError::Gone
    }
}

/// Whether nothing was queued because the queue is full.
pub(super) fn is_full(error: &EmitError) -> bool {
    matches!(error, EmitError::Socket(SocketError::InternalChannelFull))
}

/// Ends the client's session whatever its queue holds.
pub(super) fn close(socket: &Socket, transports: &Transports) {
    transports.close(socket.id.as_str(), super::own_connection(socket));
}

/// How a client went, for metrics.
pub(super) fn went(link: Option<&Arc<dyn Link>>, reason: DisconnectReason) -> &'static str {
    match reason {
        DisconnectReason::TransportError if link.is_some_and(|link| !link.has_ended()) => "bad_frame",
        DisconnectReason::TransportError => "connection_lost",
        DisconnectReason::TransportClose => "closed",
        DisconnectReason::MultipleHttpPollingError => "two_polls",
        DisconnectReason::PacketParsingError => "bad_packet",
        DisconnectReason::HeartbeatTimeout => "heartbeat",
        DisconnectReason::ClientNSDisconnect => "left",
        DisconnectReason::ServerNSDisconnect => "namespace_closed",
        DisconnectReason::ClosingServer => "stopping",
    }
}
