//! sockets: Socket.IO namespaces of a listener: connect, client events, disconnect.
//!
//! ```text
//! admit      authenticate → resume (which session, into the hub, what was missed?) → CONNECT carries the pid
//! client     the session is its → aldis:ready → greeting → what it missed → what was held → live
//! Events     joins, leaves, replies
//! disconnect the session waits for its client to come back
//! ```
//! Handlers are called by socketioxide on the task that reads the client, one event after the other: what a client sends
//! first is done first.

use std::collections::HashMap;
use std::fmt::Display;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use aldis_core::channel::Channel;
use aldis_core::identity::{Handshake, Identity};
use aldis_core::json::Json;
use aldis_core::room::RoomKey;
use aldis_core::table::Table;
use aldis_crds::contract::Attachment;
use aldis_crds::names::ChannelName;
use arc_swap::ArcSwap;
use socketioxide::SocketIo;
use socketioxide::adapter::LocalAdapter;
use socketioxide::handler::{ConnectHandler, DisconnectHandler};
use socketioxide::socket::{DisconnectReason, Socket};
use socketioxide_core::Value;

use crate::adapter::{Adapter, Hosted, SessionChange};
use crate::clock::Clock;
use crate::connection::Connection;
use crate::hub::{ClientId, Hub, Parted};
use crate::jwks::Jwks;
use crate::limits::{Entrance, Peer, Permit, Permits, Rate, Rates};
use crate::listener::polling::{TooMuch, Waiting};
use crate::listener::transports::{Transports, WireLink};
use crate::metrics::Metrics;
use crate::replicas::Replicas;
use crate::sabotage::Rule;
use crate::sessions::{Generation, Session, Sessions};
use crate::stats::Counts;
use crate::wire::Link;

mod args;
mod client;
mod events;
pub(crate) mod expiry;
mod hold;
pub(crate) mod identify;
pub(crate) mod recheck;
mod resume;
mod room_for;
mod rooms;
mod turns;

use args::Args;
use client::SocketClient;
use events::{Events, Handler};
use expiry::Expiries;
use hold::HOLD;
use identify::{NOT_SERVED, NotAdmitted};
use resume::{Arrival, Offer, Seat};
use turns::Turns;

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
    /// The way in.
    pub entrance: Arc<Entrance>,
    /// What clients have taken.
    pub permits: Permits,
    /// What is counted each second.
    pub rates: Rates,
    /// What is known of other replicas, and shared with them.
    pub replicas: Replicas,
    /// Clients whose tokens expire.
    pub expiries: Arc<Expiries>,
    /// Who is there.
    pub counts: Counts,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// The keys of the channels' issuers.
    pub jwks: Jwks,
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
    identity: Arc<Identity>,
    permit: Arc<Permit>,
    /// Its events each second.
    events: Mutex<Rate>,
    /// Its wire, where it has one from the beginning.
    link: Option<Arc<dyn Link>>,
    session: Arc<Session>,
    generation: Generation,
    /// Whether it knows its session's name: not where the channel keeps no history.
    may_come_back: bool,
    /// Its first event: name and argument.
    greeting: Option<(String, String)>,
    /// What waits for it while it polls; `None` where it began with WebSocket.
    waiting: Option<Arc<Waiting>>,
    /// What waits until it hears that it is connected.
    arrival: Mutex<Option<Arrival>>,
    /// Its place in the hub; `None` where it was gone, or taken over, before it heard that it is connected.
    seat: OnceLock<Option<Seat>>,
    /// Its events, one after the other.
    turns: Arc<Turns>,
    /// The rooms that it has joined since.
    hosted: Mutex<HashMap<RoomKey, Hosted>>,
}

/// No client has this id.
const NOBODY: ClientId = 0;

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
    async fn admit(&self, socket: &Arc<Socket>, auth: Option<&Value>) -> Result<(), NotAdmitted> {
        self.turn().await?;
        let channel = self.channel().ok_or(NOT_SERVED)?;
        let query = query(socket);
        let auth = auth.and_then(|auth| match auth {
            Value::Str(text, _) => Json::parse(text.as_str()).ok(),
            Value::Bytes(_) => None,
        });
        let handshake = Handshake {
            query: &query,
            auth: auth.as_ref(),
        };
        let identity = Arc::new(identify::identify(&self.shared, &channel, &handshake).await?);
        let offer = Offer::of(auth.as_ref());
        let until = Instant::now() + HOLD;
        // Its former connection may not know yet that it is dead: it must not be what keeps it out.
        let claim = || resume::claim(&self.shared, &channel, &identity, &offer);
        let claim = self.hold(until, claim).await?;
        let from = claim.as_ref().and_then(|claim| claim.as_ref().ok()?.from.as_ref());
        let permit = Arc::new(self.permit(socket, identity.user.as_deref(), from).await?);
        let arrive = || resume::resume(&self.shared, &channel, &identity, &offer, claim.as_ref());
        let arrival = self.hold(until, arrive).await?;
        arrival.session.came_from(peer(socket));
        let pid = arrival.may_come_back.then(|| arrival.session.pid.reveal());
        let link = self.open_link(socket, pid);
        let guest = Arc::new(Guest {
            greeting: channel
                .lobby
                .greeting(&identity, auth.as_ref(), socket.id.as_str(), self.shared.clock.now()),
            waiting: self.transports.waiting(socket.id.as_str()),
            identity,
            permit,
            events: Mutex::default(),
            link,
            session: Arc::clone(&arrival.session),
            generation: arrival.generation,
            may_come_back: arrival.may_come_back,
            arrival: Mutex::new(Some(arrival)),
            seat: OnceLock::new(),
            turns: Arc::default(),
            hosted: Mutex::default(),
        });
        socket.extensions.insert(Arc::clone(&guest));
        socket.on_fallback(Handler::of(Events {
            namespace: self.clone(),
            guest: Arc::clone(&guest),
        }));
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

    /// The client is connected: it gets its session, and what waits for it. Whatever comes first, this or its first event.
    fn client(&self, socket: &Arc<Socket>, guest: &Guest) -> ClientId {
        let seat = guest.seat.get_or_init(|| {
            let arrival = guest.take_arrival()?;
            let seat = self.welcome(socket, guest, arrival);
            if seat.is_none() {
                client::close(socket, &self.transports);
            }
            seat
        });
        seat.as_ref().map_or(NOBODY, |seat| seat.id)
    }

    /// `None` where the client must come back: its session is another's meanwhile, or more came for it than is held.
    fn welcome(&self, socket: &Arc<Socket>, guest: &Guest, arrival: Arrival) -> Option<Seat> {
        self.channel()?;
        let expires = guest.identity.expires;
        let client = SocketClient::new(
            Arc::clone(socket),
            Arc::clone(&self.transports),
            guest.link.clone(),
            guest.waiting.clone(),
            guest.identity.user.clone(),
            Arc::clone(&guest.permit),
            expires.map(|expires| self.shared.expiries.watch(&self.channel, arrival.seat.id, expires)),
        );
        if !arrival.welcome(&self.shared, &guest.identity, Box::new(client)) {
            return None;
        }
        self.shared.metrics.connected(&self.channel);
        if guest.may_come_back {
            self.shared.metrics.session(&self.channel, arrival.outcome());
        }
        tracing::info!(
            channel = %self.channel, client = arrival.seat.id, user = guest.identity.user, method = guest.identity.method,
            recovered = arrival.is_recovered(), rooms = ?arrival.rooms(), "client connected"
        );
        if let Some((event, payload)) = &guest.greeting {
            self.emit(socket, guest, event, Args::of([payload.as_str()]));
        }
        arrival.release(&self.shared);
        self.recheck_if_changed(&arrival.channel, guest);
        Some(arrival.seat)
    }

    /// The rules that a client was let in by may have changed since `channel` was looked up.
    fn recheck_if_changed(&self, channel: &Arc<Channel>, guest: &Guest) {
        if let Some(now) = self.channel().filter(|now| !Arc::ptr_eq(now, channel)) {
            recheck::client(&self.shared, &now, &guest.session);
        }
    }

    /// Sends a client an event that is no delivery.
    fn emit(&self, socket: &Arc<Socket>, guest: &Guest, event: &str, args: Args<'_>) {
        let args = match guest.may_come_back && Rule::OnlyPositionsAreStrings.is_on() {
            true => args.without_position(),
            false => args,
        };
        if guest.makes_room(event.len() + args.bytes()).is_err()
            || socket.emit(event, &args).is_err_and(|error| client::is_full(&error))
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
        guest.permit.give_up();
        // One that is gone already is never welcomed.
        let Some(seat) = guest.seat.get_or_init(|| None) else {
            drop(guest.take_arrival());
            return;
        };
        let (id, parted) = (seat.id, seat.leave().unwrap_or(Parted::UNKNOWN));
        guest.lock_hosted().clear();
        // Who says goodbye does not come back.
        let change = if by_packet || !guest.may_come_back {
            self.shared
                .sessions
                .end(&self.channel, &guest.session, guest.generation);
            SessionChange::End
        } else {
            let now = self.shared.clock.now();
            guest.session.parted(guest.generation, parted.clone(), now);
            SessionChange::Parted(parted)
        };
        self.part(guest, change);
        self.shared
            .metrics
            .disconnected(&self.channel, client::went(guest.link.as_ref(), reason));
        tracing::info!(channel = %self.channel, client = id, %reason, "client disconnected");
    }
}

impl Guest {
    fn lock_hosted(&self) -> MutexGuard<'_, HashMap<RoomKey, Hosted>> {
        self.hosted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what is about to be queued for it.
    fn makes_room(&self, bytes: usize) -> Result<(), TooMuch> {
        self.waiting.as_ref().map_or(Ok(()), |waiting| waiting.add(bytes))
    }

    fn take_arrival(&self) -> Option<Arrival> {
        self.arrival.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The address that a client is counted by.
fn peer(socket: &Socket) -> Peer {
    socket.req_parts().extensions.get().copied().unwrap_or(Peer::UNKNOWN)
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
            let admitted = self.admit(&socket, auth.as_ref()).await;
            admitted.map_err(|not_admitted| self.refuse(&socket, not_admitted))
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
