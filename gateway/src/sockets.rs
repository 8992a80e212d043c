//! sockets: Socket.IO namespaces of a listener: connect, client events, disconnect.
//!
//! Handlers are called by socketioxide on the task that reads the client, one event after the other: what a client sends
//! first is done first.

use std::fmt::Display;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use aldis_core::channel::Channel;
use aldis_core::identity::{Handshake, Identity, Refusal};
use aldis_core::json::Json;
use aldis_core::membership::{Answer, ClientEvent, Denial, denial_json};
use aldis_core::table::Table;
use aldis_crds::contract::Attachment;
use aldis_crds::names::ChannelName;
use arc_swap::ArcSwap;
use socketioxide::SocketIo;
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::{AckSender, SocketRef};
use socketioxide::handler::{ConnectHandler, FromMessageParts, MessageHandler};
use socketioxide::socket::{DisconnectReason, Socket};
use socketioxide_core::Value;

use crate::clock::Clock;
use crate::connection::Connection;
use crate::hub::{Changed, ClientId, Hub};
use crate::listener::transports::{Transports, WireLink};
use crate::metrics::Metrics;
use crate::wire::Link;

mod args;
mod client;

use args::{RawArgs, parse_event};
use client::SocketClient;

/// What the namespaces of all listeners share.
pub struct Shared {
    /// The channels in force.
    pub table: ArcSwap<Table>,
    /// The clients.
    pub hub: Arc<Hub<Arc<Metrics>>>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Now.
    pub clock: Clock,
}

/// One Socket.IO namespace of a listener.
#[derive(Clone)]
pub struct Namespace {
    attachment: Attachment,
    /// The channel that it belonged to when it was opened: a namespace never changes hands while clients are on it.
    channel: ChannelName,
    shared: Arc<Shared>,
    transports: Arc<Transports>,
}

/// One client on a namespace.
struct Session {
    identity: Identity,
    /// Its wire, where it has one from the beginning.
    link: Option<Arc<dyn Link>>,
    client: OnceLock<ClientId>,
}

/// A client that was gone before it was in the hub.
const NEVER: ClientId = 0;

/// Marks our implementations of socketioxide's handler traits.
pub struct Direct;

impl Namespace {
    /// A namespace of `channel`.
    pub fn new(attachment: Attachment, channel: ChannelName, shared: Arc<Shared>, transports: Arc<Transports>) -> Self {
        Self {
            attachment,
            channel,
            shared,
            transports,
        }
    }

    /// The channel as it is in force now, while it is still the one that this namespace was opened for.
    fn channel(&self) -> Option<Arc<Channel>> {
        let table = self.shared.table.load();
        table
            .at(&self.attachment)
            .filter(|channel| channel.name == self.channel)
            .cloned()
    }

    /// Lets a client in, or says why not. Handlers are there before the client hears that it is connected.
    fn admit(&self, socket: &Arc<Socket>, auth: Option<&Value>) -> Result<(), Refusal> {
        let channel = self.channel().ok_or(Refusal::NobodyMayConnect)?;
        let query = query(socket);
        let auth = auth.and_then(|auth| match auth {
            Value::Str(text, _) => Json::parse(text.as_str()).ok(),
            Value::Bytes(_) => None,
        });
        let handshake = Handshake {
            query: &query,
            auth: auth.as_ref(),
        };
        let identity = channel.methods.authenticate(&handshake, self.shared.clock.now())?;
        let link = self.open_link(socket);
        let session = Arc::new(Session {
            identity,
            link,
            client: OnceLock::new(),
        });
        socket.extensions.insert(Arc::clone(&session));
        socket.on_fallback(Events {
            namespace: self.clone(),
            session: Arc::clone(&session),
        });
        let namespace = self.clone();
        socket.on_disconnect(move |socket: SocketRef, reason: DisconnectReason| {
            namespace.disconnected(&socket, &session, reason);
            std::future::ready(())
        });
        Ok(())
    }

    /// The wire of a client that connects over WebSocket: deliveries wait there until it hears that it is connected.
    fn open_link(&self, socket: &Socket) -> Option<Arc<dyn Link>> {
        let first = socket
            .req_parts()
            .extensions
            .get::<WireLink>()
            .map(|WireLink(link)| Arc::clone(link));
        let link = first.or_else(|| self.transports.upgraded(socket.id.as_str()))?;
        link.open(socket.ns());
        Some(link)
    }

    /// The client is connected: into the hub, into its rooms, and greeted. Whatever comes first, this or its first event.
    fn client(&self, socket: &Arc<Socket>, session: &Session) -> ClientId {
        *session.client.get_or_init(|| {
            let client = SocketClient::new(Arc::clone(socket), Arc::clone(&self.transports), session.link.clone());
            let id = self.shared.hub.connect(&self.channel, Box::new(client));
            self.shared.metrics.connected(&self.channel);
            tracing::info!(channel = %self.channel, client = id, user = session.identity.user, method = session.identity.method, "client connected");
            if let Some(channel) = self.channel() {
                self.welcome(&channel, socket, session, id);
            }
            id
        })
    }

    fn welcome(&self, channel: &Channel, socket: &Arc<Socket>, session: &Session, id: ClientId) {
        for membership in channel.lobby.auto_rooms(&session.identity) {
            tracing::debug!(channel = %self.channel, client = id, room = membership.shown, "client joined a room by itself");
            self.shared.hub.join(&self.channel, id, membership.room);
        }
        let greeting = channel
            .lobby
            .greeting(&session.identity, socket.id.as_str(), self.shared.clock.now());
        if let Some((event, payload)) = greeting {
            self.emit(socket, &event, &[payload]);
        }
    }

    fn emit(&self, socket: &Arc<Socket>, event: &str, args: &[String]) {
        if socket
            .emit(event, &RawArgs::new(args))
            .is_err_and(|error| client::is_full(&error))
        {
            self.close_slow(socket);
        }
    }

    /// The client does not read what it is sent: nothing is skipped, it is closed.
    fn close_slow(&self, socket: &Arc<Socket>) {
        self.shared.metrics.closed_slow(&self.channel);
        client::close(socket, &self.transports);
    }

    fn disconnected(&self, socket: &SocketRef, session: &Session, reason: DisconnectReason) {
        if !matches!(
            reason,
            DisconnectReason::ClientNSDisconnect | DisconnectReason::ServerNSDisconnect
        ) {
            self.transports.forget(socket.id.as_str());
        }
        // A client that is gone already is never put into the hub.
        let id = *session.client.get_or_init(|| NEVER);
        if id != NEVER {
            self.shared.hub.disconnect(&self.channel, id);
            self.shared.metrics.disconnected(&self.channel);
            tracing::info!(channel = %self.channel, client = id, %reason, "client disconnected");
        }
    }
}

/// The query of the first request, decoded.
fn query(socket: &Socket) -> Vec<(String, String)> {
    let query = socket.req_parts().uri.query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

impl ConnectHandler<LocalAdapter, Direct> for Namespace {
    fn call(&self, socket: Arc<Socket>, _: Option<Value>) {
        if let Some(session) = socket.extensions.get::<Arc<Session>>() {
            self.client(&socket, &session);
        }
    }

    fn call_middleware<'a>(
        &'a self,
        socket: Arc<Socket>,
        auth: &'a Option<Value>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Box<dyn Display + Send>>> + Send + 'a>> {
        Box::pin(async move {
            self.admit(&socket, auth.as_ref()).map_err(|refusal| {
                self.shared.metrics.refused(&self.channel, refusal.code());
                tracing::info!(channel = %self.channel, reason = refusal.code(), detail = ?refusal, "connection refused");
                Box::new(refusal.message()) as Box<dyn Display + Send>
            })
        })
    }
}

/// The client's events.
struct Events {
    namespace: Namespace,
    session: Arc<Session>,
}

impl MessageHandler<LocalAdapter, Direct> for Events {
    fn call(&self, socket: Arc<Socket>, mut event: Value, ack_id: Option<i64>) {
        let id = self.namespace.client(&socket, &self.session);
        let args = self.answer(&socket, id, &event);
        if let (Some(_), Ok(ack)) = (
            ack_id,
            AckSender::<LocalAdapter>::from_message_parts(&socket, &mut event, &ack_id),
        ) && ack
            .send(&RawArgs::new(&args))
            .is_err_and(|error| client::is_full(&error))
        {
            self.namespace.close_slow(&socket);
        }
    }
}

impl Events {
    /// Does what the event asks for, and gives the arguments of the acknowledgement: every packet with an id gets one.
    fn answer(&self, socket: &Arc<Socket>, id: ClientId, event: &Value) -> Vec<String> {
        let namespace = &self.namespace;
        let shared = &namespace.shared;
        let refuse = |denial: &Denial| {
            shared.metrics.client_event(&namespace.channel, denial.code);
            vec![denial_json(denial)]
        };
        let (name, args) = match parse_event(event) {
            Ok(event) => event,
            Err(denial) => return refuse(&denial),
        };
        let Some(channel) = namespace.channel() else {
            return refuse(&Denial {
                code: "unknown_event",
                message: "this channel is no longer served here".to_owned(),
            });
        };
        let event = ClientEvent {
            name: &name,
            args: &args,
            socket_id: socket.id.as_str(),
        };
        match channel.lobby.answer(&self.session.identity, &event, shared.clock.now()) {
            Answer::Join(membership) => {
                let changed = shared.hub.join(&namespace.channel, id, membership.room);
                self.changed("join", &membership.shown, &changed)
            }
            Answer::Leave(membership) => {
                let changed = shared.hub.leave(&namespace.channel, id, &membership.room);
                self.changed("leave", &membership.shown, &changed)
            }
            Answer::Reply { emit, ack } => {
                shared.metrics.client_event(&namespace.channel, "reply");
                if let Some((event, args)) = emit {
                    namespace.emit(socket, &event, &args);
                }
                ack.unwrap_or_default()
            }
            Answer::Refuse(denial) => refuse(&denial),
        }
    }

    /// `{ok, room, position}`: joins and leaves are acknowledged with the place from which they count.
    fn changed(&self, what: &'static str, shown: &str, changed: &Changed) -> Vec<String> {
        self.namespace
            .shared
            .metrics
            .client_event(&self.namespace.channel, what);
        let (Changed::Yes(position) | Changed::No(position)) = changed else {
            return vec![denial_json(&Denial {
                code: "failed",
                message: "the connection is closing".to_owned(),
            })];
        };
        vec![serde_json::json!({ "ok": true, "room": shown, "position": position.to_string() }).to_string()]
    }
}

/// Closes a namespace, and tells its clients: deleting it alone tells them nothing.
pub(crate) fn close_namespace(io: &SocketIo, path: &str, transports: &Transports) {
    for socket in io.of(path).into_iter().flat_map(|namespace| namespace.sockets()) {
        if socket.clone().disconnect().is_err() {
            client::close(&socket, transports);
        }
    }
    io.delete_ns(path);
}

/// The connection that a socket's first request came over.
fn first_connection(socket: &Socket) -> Option<&Connection> {
    socket.req_parts().extensions.get::<Connection>()
}
