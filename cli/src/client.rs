//! A small Socket.IO v5 client (Engine.IO v4, WebSocket transport only), for `aldis tail` and for tests and
//! load tests with thousands of connections.
//!
//! A [`Client`] is one connection to one namespace. It has no task of its own: [`Client::next`] reads, answers
//! the server's pings and notices its silence, so it must be called (or a call be waiting) more often than the
//! server's ping timeout. Binary packets are counted, not read.

mod connect;
mod error;
mod event;
mod packet;

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, timeout, timeout_at};
use tokio_tungstenite::tungstenite::{Error as WsError, Message, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

pub use connect::{CONNECT_TIMEOUT, Connect, DEFAULT_MAX_FRAME, Session};
pub use error::{ClientError, ConnectError, DisconnectReason};
pub use event::Event;
pub use packet::PacketError;

use packet::{Frame, Kind};

/// Longest wait, 10 s, for one packet to leave: a server that reads nothing for so long is stuck.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest wait, 2 s, for the server to answer our close: afterwards the connection is dropped.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Most events, 16 384, that are kept while an acknowledgement is awaited: enough for the history that a join
/// replays, and still bounded where the server floods.
pub const MAX_HELD_EVENTS: usize = 16_384;

/// What [`Client::next`] brings.
#[derive(Debug)]
pub enum Incoming {
    Event(Event),
    /// A binary event, of which only the number of attachments was read.
    Binary {
        attachments: usize,
    },
    /// The end: everything after it is [`ClientError::Closed`].
    Disconnected {
        reason: DisconnectReason,
    },
}

/// One connection to one Socket.IO namespace.
pub struct Client {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    namespace: String,
    sid: String,
    pid: Option<String>,
    recovered: bool,
    max_frame: usize,
    /// Silence that ends the connection: the server's ping interval and ping timeout together.
    heartbeat: Duration,
    /// Runs out when the server has not pinged for `heartbeat`.
    silence: Pin<Box<Sleep>>,
    /// Text of a pong not yet handed to the WebSocket. Kept here so that a cancelled `next` loses none.
    pong: Option<String>,
    /// A pong was handed over and perhaps not sent.
    unflushed: bool,
    next_ack: u64,
    held: VecDeque<Incoming>,
    closed: bool,
}

/// One packet that concerns the caller.
enum Received {
    Incoming(Incoming),
    Ack {
        id: u64,
        args: Result<Vec<Value>, ClientError>,
    },
}

impl Client {
    /// Connects to a namespace and returns when the server has let the client in. Bounded by
    /// [`Connect::timeout`].
    pub async fn connect(options: Connect) -> Result<Self, ConnectError> {
        connect::connect(options).await
    }

    /// The socket's id in its namespace.
    pub fn sid(&self) -> &str {
        &self.sid
    }

    /// The private id of the session, where the server offers connection state recovery.
    pub fn pid(&self) -> Option<&str> {
        self.pid.as_deref()
    }

    /// Whether the server took up the session given as [`Connect::session`].
    pub fn recovered(&self) -> bool {
        self.recovered
    }

    /// Sends an event. Returns when it was handed to the operating system.
    pub async fn emit(&mut self, event: &str, args: &[Value]) -> Result<(), ClientError> {
        let frame = packet::event(&self.namespace, None, event, args);
        self.send(frame).await
    }

    /// Sends an event and waits for its acknowledgement, whose arguments it returns. What arrives meanwhile is
    /// kept for [`Client::next`], in order, up to [`MAX_HELD_EVENTS`].
    pub async fn emit_with_ack(
        &mut self,
        event: &str,
        args: &[Value],
        within: Duration,
    ) -> Result<Vec<Value>, ClientError> {
        let deadline = Instant::now() + within;
        let asked = self.next_ack;
        self.next_ack += 1;
        self.send(packet::event(&self.namespace, Some(asked), event, args))
            .await?;
        loop {
            let Ok(received) = timeout_at(deadline, self.receive()).await else {
                return Err(ClientError::NoAck {
                    event: event.to_owned(),
                    after: within,
                });
            };
            match received? {
                Received::Ack { id, args } if id == asked => return args,
                // Answers a call that gave up.
                Received::Ack { .. } => {}
                Received::Incoming(incoming) => {
                    let end = matches!(incoming, Incoming::Disconnected { .. });
                    if self.held.len() >= MAX_HELD_EVENTS && !end {
                        return Err(ClientError::TooManyHeld {
                            event: event.to_owned(),
                        });
                    }
                    self.held.push_back(incoming);
                    if end {
                        return Err(ClientError::Closed);
                    }
                }
            }
        }
    }

    /// Waits for what the server sends next. Safe to cancel: nothing is lost by dropping the future.
    pub async fn next(&mut self) -> Result<Incoming, ClientError> {
        if let Some(incoming) = self.held.pop_front() {
            return Ok(incoming);
        }
        loop {
            if let Received::Incoming(incoming) = self.receive().await? {
                return Ok(incoming);
            }
        }
    }

    /// Leaves the namespace and closes the connection, waiting at most [`CLOSE_TIMEOUT`] for the server's
    /// answer. Dropping a client closes it too, without a farewell.
    pub async fn close(mut self) {
        if self.closed {
            return;
        }
        let farewell = async {
            let leave = packet::disconnect(&self.namespace);
            self.stream.send(Message::Text(leave.into())).await?;
            self.stream.close(None).await?;
            while let Some(message) = self.stream.next().await {
                message?;
            }
            Ok::<(), WsError>(())
        };
        // The connection ends either way, and a peer that is already gone is what was wanted.
        let _ = timeout(CLOSE_TIMEOUT, farewell).await;
    }

    async fn send(&mut self, frame: String) -> Result<(), ClientError> {
        if self.closed {
            return Err(ClientError::Closed);
        }
        match timeout(WRITE_TIMEOUT, self.stream.send(Message::Text(frame.into()))).await {
            Err(_) => Err(ClientError::Stalled),
            Ok(Err(WsError::ConnectionClosed | WsError::AlreadyClosed)) => Err(ClientError::Closed),
            Ok(sent) => sent.map_err(|source| ClientError::Transport(Box::new(source))),
        }
    }

    /// Reads until something concerns the caller. Safe to cancel.
    async fn receive(&mut self) -> Result<Received, ClientError> {
        if self.closed {
            return Err(ClientError::Closed);
        }
        loop {
            self.answer_ping().await;
            let message = tokio::select! {
                // What has already arrived counts before the clock, however late we came to read it.
                biased;
                message = self.stream.next() => message,
                () = &mut self.silence => return Ok(self.end(DisconnectReason::PingTimeout)),
            };
            let frame = match message {
                Some(Ok(Message::Text(frame))) => frame,
                // Attachments of a binary event already reported, and WebSocket's own control frames.
                Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                None | Some(Ok(Message::Close(_)) | Err(WsError::ConnectionClosed | WsError::AlreadyClosed)) => {
                    return Ok(self.end(DisconnectReason::TransportClose));
                }
                Some(Err(WsError::Capacity(_))) => {
                    self.closed = true;
                    return Err(ClientError::FrameTooLarge { max: self.max_frame });
                }
                Some(Err(error)) => return Ok(self.end(DisconnectReason::TransportError(error.to_string()))),
            };
            if let Some(received) = self.take(frame)? {
                return Ok(received);
            }
        }
    }

    /// Handles one text frame; `None` if it does not concern the caller.
    fn take(&mut self, frame: Utf8Bytes) -> Result<Option<Received>, ClientError> {
        let packet = match packet::parse(&frame)? {
            Frame::Message(packet) => packet,
            Frame::Ping(text) => {
                self.pong = Some(format!("3{text}"));
                self.silence.as_mut().reset(Instant::now() + self.heartbeat);
                return Ok(None);
            }
            Frame::Close => return Ok(Some(self.end(DisconnectReason::TransportClose))),
            Frame::Open(_) | Frame::Ignored => return Ok(None),
        };
        if packet.namespace != self.namespace {
            return Ok(None);
        }
        let id = packet.id;
        Ok(match packet.kind {
            Kind::Event => {
                let array = frame.len() - packet.json.len();
                Some(Received::Incoming(Incoming::Event(Event::new(frame, array, id)?)))
            }
            Kind::Ack => {
                let id = id.ok_or_else(|| PacketError::new("acknowledgement without an id", &frame))?;
                let args = serde_json::from_str(packet.json)
                    .map_err(|_| PacketError::new("an acknowledgement must be a JSON array", &frame).into());
                Some(Received::Ack { id, args })
            }
            Kind::BinaryEvent { attachments } => Some(Received::Incoming(Incoming::Binary { attachments })),
            Kind::BinaryAck { .. } => id.map(|id| Received::Ack {
                id,
                args: Err(ClientError::BinaryAck),
            }),
            Kind::Disconnect => Some(self.end(DisconnectReason::ServerDisconnect)),
            Kind::Connect | Kind::ConnectError => None,
        })
    }

    /// Sends the pong that is due, if any. An error is left for the read that follows, which tells it better.
    async fn answer_ping(&mut self) {
        if self.pong.is_none() && !self.unflushed {
            return;
        }
        let sending = async {
            if let Some(pong) = &self.pong {
                self.stream.feed(Message::Text(pong.as_str().into())).await?;
                self.pong = None;
                self.unflushed = true;
            }
            self.stream.flush().await
        };
        let _ = timeout(WRITE_TIMEOUT, sending).await;
        (self.pong, self.unflushed) = (None, false);
    }

    fn end(&mut self, reason: DisconnectReason) -> Received {
        self.closed = true;
        Received::Incoming(Incoming::Disconnected { reason })
    }
}

impl std::fmt::Debug for Client {
    /// Without the pid, which lets its holder take over the session.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("namespace", &self.namespace)
            .field("sid", &self.sid)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}
