//! sockets: Socket.IO namespaces of a listener: connect, client events, disconnect.
//!
//! ```text
//! admit      authenticate → resume (which session, what was missed, is all of it there?) → CONNECT carries the pid
//! client     into the hub, held → its rooms → aldis:ready → greeting → what it missed → what was held → live
//! Events     joins, leaves, replies
//! disconnect the session waits for its client to come back
//! ```
//! Handlers are called by socketioxide on the task that reads the client, one event after the other: what a client sends
//! first is done first.

use std::fmt::Display;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use aldis_core::channel::Channel;
use aldis_core::identity::{Handshake, Identity, Refusal};
use aldis_core::json::Json;
use aldis_core::table::Table;
use aldis_crds::contract::Attachment;
use aldis_crds::names::ChannelName;
use arc_swap::ArcSwap;
use socketioxide::SocketIo;
use socketioxide::adapter::LocalAdapter;
use socketioxide::handler::{ConnectHandler, DisconnectHandler};
use socketioxide::socket::{DisconnectReason, Socket};
use socketioxide_core::Value;

use crate::adapter::{Adapter, Position};
use crate::clock::Clock;
use crate::connection::Connection;
use crate::hub::{Changed, ClientId, CloseReason, Hub, Parted};
use crate::listener::transports::{Transports, WireLink};
use crate::metrics::Metrics;
use crate::sessions::{Joined, Sessions};
use crate::wire::Link;

mod args;
mod client;
mod events;
mod resume;

use args::RawArgs;
use client::SocketClient;
use events::Events;
use resume::{Offer, Resumption};

/// What the namespaces of all listeners share.
pub struct Shared<A> {
    /// The channels in force.
    pub table: ArcSwap<Table>,
    /// What numbers deliveries and keeps them.
    pub adapter: A,
    /// The clients.
    pub hub: Arc<Hub<Arc<Metrics>>>,
    /// What clients may come back to.
    pub sessions: Sessions,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Now.
    pub clock: Clock,
}

/// One Socket.IO namespace of a listener.
pub struct Namespace<A> {
    attachment: Attachment,
    /// The channel that it belonged to when it was opened: a namespace never changes hands while clients are on it.
    channel: ChannelName,
    shared: Arc<Shared<A>>,
    transports: Arc<Transports>,
}

impl<A> Clone for Namespace<A> {
    fn clone(&self) -> Self {
        Self {
            attachment: self.attachment.clone(),
            channel: self.channel.clone(),
            shared: Arc::clone(&self.shared),
            transports: Arc::clone(&self.transports),
        }
    }
}

/// One client that was let in.
struct Guest {
    identity: Identity,
    /// Its wire, where it has one from the beginning.
    link: Option<Arc<dyn Link>>,
    /// What it comes back to, or a new session; `None` where the channel keeps no history.
    resumption: Option<Resumption>,
    client: OnceLock<ClientId>,
}

/// A client that was gone before it was in the hub.
const NEVER: ClientId = 0;

/// The first event that a client gets: whether it was recovered, and its rooms.
const READY_EVENT: &str = "aldis:ready";

/// Marks our implementations of socketioxide's handler traits.
pub struct Direct;

impl<A: Adapter> Namespace<A> {
    /// A namespace of `channel`.
    pub fn new(
        attachment: Attachment,
        channel: ChannelName,
        shared: Arc<Shared<A>>,
        transports: Arc<Transports>,
    ) -> Self {
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
    async fn admit(&self, socket: &Arc<Socket>, auth: Option<&Value>) -> Result<(), Refusal> {
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
        let resumption = match channel.history_size {
            0 => None,
            _ => Some(resume::resume(&self.shared, &channel, &identity, &Offer::of(auth.as_ref())).await),
        };
        let pid = resumption.as_ref().map(|resumption| resumption.session.pid.reveal());
        let link = self.open_link(socket, pid);
        let guest = Arc::new(Guest {
            identity,
            link,
            resumption,
            client: OnceLock::new(),
        });
        socket.extensions.insert(Arc::clone(&guest));
        socket.on_fallback(Events {
            namespace: self.clone(),
            guest: Arc::clone(&guest),
        });
        socket.on_disconnect(Gone {
            namespace: self.clone(),
            guest,
        });
        Ok(())
    }

    /// The wire of a client that connects over WebSocket: deliveries wait there until it hears that it is connected. For
    /// one that polls, the polling reply with its CONNECT gets the pid.
    fn open_link(&self, socket: &Socket, pid: Option<&str>) -> Option<Arc<dyn Link>> {
        let first = socket
            .req_parts()
            .extensions
            .get::<WireLink>()
            .map(|WireLink(link)| Arc::clone(link));
        match first.or_else(|| self.transports.upgraded(socket.id.as_str())) {
            Some(link) => {
                link.open(socket.ns(), pid);
                Some(link)
            }
            None => {
                if let Some(pid) = pid {
                    self.transports.name_session(socket.id.as_str(), socket.ns(), pid);
                }
                None
            }
        }
    }

    /// The client is connected: into the hub, into its rooms, and greeted. Whatever comes first, this or its first event.
    fn client(&self, socket: &Arc<Socket>, guest: &Guest) -> ClientId {
        *guest.client.get_or_init(|| {
            let client = SocketClient::new(Arc::clone(socket), Arc::clone(&self.transports), guest.link.clone());
            let (id, position) = self.shared.hub.connect(&self.channel, Box::new(client));
            self.shared.metrics.connected(&self.channel);
            let recovered = guest.resumption.as_ref().is_some_and(Resumption::is_recovered);
            tracing::info!(
                channel = %self.channel, client = id, user = guest.identity.user, method = guest.identity.method, recovered,
                "client connected"
            );
            match self.channel() {
                Some(channel) => self.welcome(&channel, socket, guest, id, position),
                // It went while the client connected.
                None => {
                    self.shared.hub.disconnect(&self.channel, id);
                    client::close(socket, &self.transports);
                }
            }
            id
        })
    }

    fn welcome(&self, channel: &Channel, socket: &Arc<Socket>, guest: &Guest, id: ClientId, position: Position) {
        let hub = &self.shared.hub;
        let joined = self.join_rooms(channel, guest, id);
        if let Some(resumption) = &guest.resumption {
            let begin = resumption.begin().unwrap_or(position);
            let former = resumption.session.take(id, joined, &begin);
            if let Some(former) = former.filter(|former| *former != id) {
                hub.kick(&self.channel, former, CloseReason::TakenOver);
            }
            self.shared.metrics.session(&self.channel, resumption.outcome());
            hub.announce(&self.channel, id, READY_EVENT, resumption.info(channel).into(), begin);
        }
        let greeting = channel
            .lobby
            .greeting(&guest.identity, socket.id.as_str(), self.shared.clock.now());
        if let Some((event, payload)) = greeting {
            self.emit(socket, guest, &event, vec![payload]);
        }
        match guest.resumption.as_ref().and_then(Resumption::since) {
            Some((epoch, since)) => {
                let (shared, channel) = (Arc::clone(&self.shared), self.channel.clone());
                tokio::spawn(async move {
                    match shared.adapter.read(&channel, &epoch, &since).await {
                        Ok(missed) => shared.hub.release(&channel, id, &missed.0, &since),
                        // It was there when CONNECT said so; now the client has to hear otherwise.
                        Err(_) => drop(shared.hub.kick(&channel, id, CloseReason::HistoryGone)),
                    }
                });
            }
            None => hub.release(&self.channel, id, &[], &Default::default()),
        }
    }

    /// The rooms of the session, or those that the client joins by itself; with the place from which it is in each.
    fn join_rooms(&self, channel: &Channel, guest: &Guest, id: ClientId) -> Vec<Joined> {
        let mut joined = Vec::new();
        let recovered = guest.resumption.as_ref().is_some_and(Resumption::is_recovered);
        let former = guest
            .resumption
            .as_ref()
            .map(|resumption| resumption.rooms.clone())
            .unwrap_or_default();
        let auto = channel
            .lobby
            .auto_rooms(&guest.identity)
            .into_iter()
            .map(|membership| membership.room);
        let auto: Vec<_> = auto
            .filter(|room| !former.iter().any(|known| known.room == *room))
            .collect();
        let auto = auto.into_iter().map(|room| (Joined { room, by: None, at: 0 }, false));
        for (room, keeps_place) in former.into_iter().map(|room| (room, recovered)).chain(auto) {
            let shown = channel.lobby.shown(&room.room);
            tracing::debug!(channel = %self.channel, client = id, room = shown, "client is in a room from the beginning");
            if let Changed::Yes(position) | Changed::No(position) =
                self.shared.hub.join(&self.channel, id, room.room.clone())
            {
                joined.push(Joined {
                    at: if keeps_place { room.at } else { position.seq },
                    ..room
                });
            }
        }
        joined
    }

    /// Sends a client an event that is no delivery.
    fn emit(&self, socket: &Arc<Socket>, guest: &Guest, event: &str, args: Vec<String>) {
        let args = match guest.resumption {
            Some(_) => args::without_position(args),
            None => args,
        };
        if socket
            .emit(event, &RawArgs::new(&args))
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

    fn disconnected(&self, socket: &Socket, guest: &Guest, reason: DisconnectReason) {
        let by_packet = matches!(
            reason,
            DisconnectReason::ClientNSDisconnect | DisconnectReason::ServerNSDisconnect
        );
        match by_packet {
            true => self.transports.unname(socket.id.as_str(), socket.ns()),
            false => self.transports.forget(socket.id.as_str()),
        }
        // A client that is gone already is never put into the hub.
        let id = *guest.client.get_or_init(|| NEVER);
        if id == NEVER {
            return;
        }
        let parted = self.shared.hub.disconnect(&self.channel, id);
        if let Some(resumption) = &guest.resumption {
            match parted {
                // Who says goodbye does not come back.
                _ if by_packet => self.shared.sessions.end_of(&self.channel, &resumption.session, id),
                parted => {
                    resumption
                        .session
                        .parted(id, parted.unwrap_or(Parted::UNKNOWN), self.shared.clock.now());
                }
            }
        }
        self.shared.metrics.disconnected(&self.channel);
        tracing::info!(channel = %self.channel, client = id, %reason, "client disconnected");
    }
}

/// The query of the first request, decoded.
fn query(socket: &Socket) -> Vec<(String, String)> {
    let query = socket.req_parts().uri.query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

impl<A: Adapter> ConnectHandler<LocalAdapter, Direct> for Namespace<A> {
    fn call(&self, socket: Arc<Socket>, _: Option<Value>) {
        if let Some(guest) = socket.extensions.get::<Arc<Guest>>() {
            self.client(&socket, &guest);
        }
    }

    fn call_middleware<'a>(
        &'a self,
        socket: Arc<Socket>,
        auth: &'a Option<Value>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Box<dyn Display + Send>>> + Send + 'a>> {
        Box::pin(async move {
            self.admit(&socket, auth.as_ref()).await.map_err(|refusal| {
                self.shared.metrics.refused(&self.channel, refusal.code());
                tracing::info!(channel = %self.channel, reason = refusal.code(), detail = ?refusal, "connection refused");
                Box::new(refusal.message()) as Box<dyn Display + Send>
            })
        })
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

/// A client goes. Done at once, on the task that reads it: a CONNECT may follow the DISCONNECT.
struct Gone<A> {
    namespace: Namespace<A>,
    guest: Arc<Guest>,
}

impl<A: Adapter> DisconnectHandler<LocalAdapter, Direct> for Gone<A> {
    fn call(&self, socket: Arc<Socket>, reason: DisconnectReason) {
        self.namespace.disconnected(&socket, &self.guest, reason);
    }

    fn call_with_defer(&self, socket: Arc<Socket>, reason: DisconnectReason, defer: fn(Arc<Socket>)) {
        self.namespace.disconnected(&socket, &self.guest, reason);
        defer(socket);
    }
}

/// The connection of a session that began with WebSocket. That of a first poll may be shared by a proxy.
fn own_connection(socket: &Socket) -> Option<&Connection> {
    let extensions = &socket.req_parts().extensions;
    extensions
        .get::<WireLink>()
        .and_then(|_| extensions.get::<Connection>())
}
