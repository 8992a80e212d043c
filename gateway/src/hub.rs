//! hub: this replica's clients, by channel and room. A delivery goes to each of its clients once.
//!
//! One lock per channel orders everything that a client of it sees: a join and the deliveries around it, and deliveries
//! among themselves. Sending under it never waits: a client that can not take a frame is closed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use aldis_core::room::RoomKey;
use aldis_core::route::{Audience, Delivery};
use aldis_core::time::Millis;
use aldis_crds::names::ChannelName;

use crate::adapter::{Numbered, Position, Publish, Since};
use crate::traces;

mod clients;
mod outgoing;
mod presence;
mod rooms;

use clients::{Clients, Member};
use outgoing::Frames;
pub use outgoing::Outgoing;
pub use presence::{Presence, Whom};
use rooms::TenantRooms;
pub use rooms::{RoomLimits, RoomsFull};

/// Tells a client where the channel stands: `(null, position)`. Clients take the position for what they have received.
const BEACON_EVENT: &str = "aldis:position";

/// One client of a channel, in this process.
pub type ClientId = u64;

/// The way to a client.
pub trait Client: Send + Sync + 'static {
    /// Queues an event for the client. Must not wait. What a client has missed does not count against its bound.
    ///
    /// # Errors
    /// [`SendError::Full`] where the client reads too slowly: nothing was queued.
    fn send(&self, outgoing: &Outgoing<'_>, pace: Pace) -> Result<(), SendError>;

    /// Closes the client's connection, whatever it still has in its queue. It may come back.
    fn close(&self, reason: CloseReason);

    /// Disconnects the client for good.
    fn dismiss(&self) {
        self.close(CloseReason::Dismissed);
    }

    /// The user of the client's identity, where it has one.
    fn user(&self) -> Option<&str> {
        None
    }

    /// The id by which the client knows its connection.
    fn socket(&self) -> Option<&str> {
        None
    }
}

/// Whether an event comes as it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// It does.
    Live,
    /// It was missed, and is bounded already.
    Backlog,
}

/// How far a client had come when it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parted {
    /// The last delivery of the channel; of another epoch than what the client has, where one has begun since that was sent. None
    /// where that is not known.
    pub at: Option<Position>,
    /// Seq of the last position that was sent to the client. If it has that, it has everything up to `at`.
    pub last_sent: u64,
}

impl Parted {
    /// Of a client that was out of the hub before it went: only what it says itself counts.
    pub const UNKNOWN: Self = Self {
        at: None,
        last_sent: u64::MAX,
    };
}

/// Why a frame could not be queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The client's queue is full.
    Full,
    /// The client is gone.
    Gone,
}

/// Why the gateway closes a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// Its queue is full: it reads slower than it is sent to. Closing is not losing: it is told, and nothing is skipped.
    SlowConsumer,
    /// Its session has a new connection.
    TakenOver,
    /// Somebody who may has sent it away.
    Dismissed,
    /// It can not be given all that came for it: it is told on its next attempt.
    HistoryGone,
    /// Its token has expired: it may come back with a fresh one.
    TokenExpired,
}

impl CloseReason {
    /// As metrics and logs name it.
    pub fn as_str(self) -> &'static str {
        match self {
            CloseReason::SlowConsumer => "slow_consumer",
            CloseReason::TakenOver => "taken_over",
            CloseReason::Dismissed => "dismissed",
            CloseReason::HistoryGone => "history_gone",
            CloseReason::TokenExpired => "token_expired",
        }
    }
}

/// Gets told what the hub does, for metrics.
pub trait Observe: Send + Sync + 'static {
    /// A delivery was sent to so many clients.
    fn sent(&self, _channel: &ChannelName, _clients: usize) {}
    /// A client was closed.
    fn closed(&self, _channel: &ChannelName, _reason: CloseReason) {}
    /// So many deliveries can not be read back any more, because a tenant keeps too much.
    fn forgot(&self, _namespace: &str, _deliveries: usize) {}
    /// Redis goes on without its last writes.
    fn forked(&self, _channel: &ChannelName) {}
}

/// Observes nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoObserve;

impl Observe for NoObserve {}

/// All clients of this replica.
pub struct Hub<O = NoObserve> {
    /// Epoch of the adapter's numbering, for places before the first delivery.
    epoch: Arc<str>,
    channels: RwLock<HashMap<ChannelName, Arc<Mutex<Clients>>>>,
    /// Rooms with clients, by namespace.
    tenants: Mutex<HashMap<String, TenantRooms>>,
    next_id: AtomicU64,
    observe: O,
}

/// What a join or a leave did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// The client is now in the room, or no longer, from this place on.
    Yes(Position),
    /// It was so already.
    No(Position),
    /// The client is in as many rooms as it may be.
    TooMany,
    /// Its channel or tenant has as many rooms as it may have.
    Full,
    /// The client is gone.
    Gone,
}

impl<O: Observe> Hub<O> {
    /// A hub without clients, whose channels stand at the beginning of `epoch`.
    pub fn new(epoch: Arc<str>, observe: O) -> Self {
        Self {
            epoch,
            channels: RwLock::default(),
            tenants: Mutex::default(),
            next_id: AtomicU64::new(1),
            observe,
        }
    }

    /// Adds a client that is about to connect, in `rooms` (no more than it may be in) from the returned place on.
    /// Deliveries for it are held, from before anybody reads what it has missed, until [`Hub::release`].
    ///
    /// # Errors
    /// [`RoomsFull`], and it was not added.
    pub fn enter(
        &self,
        channel: &ChannelName,
        rooms: &[RoomKey],
        limits: RoomLimits,
    ) -> Result<(ClientId, Position), RoomsFull> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.with(channel, |clients| {
            let member = Member::held(rooms);
            clients.rooms.take(&member.rooms, limits)?;
            clients.add(id, member);
            Ok((id, clients.position.clone()))
        })
    }

    /// Everything up to this place has passed here, for all rooms that are hosted.
    pub fn reach(&self, channel: &ChannelName, position: &Position) {
        self.with(channel, |clients| {
            if clients.position.epoch.is_empty() || position.seq > clients.position.seq {
                clients.position = position.clone();
            }
        });
    }

    /// A client that has entered goes on from this seq: what came before it, it has had somewhere else, or never.
    pub fn begin(&self, channel: &ChannelName, id: ClientId, seq: u64) {
        self.with(channel, |clients| {
            if let Some(member) = clients.clients.get(&id) {
                member.link.begun.store(seq, Ordering::Relaxed);
            }
        });
    }

    /// Gives a client that has entered the way to it. Gives whether it is still there: more may have come meanwhile than
    /// is held for it.
    #[must_use]
    pub fn attach(&self, channel: &ChannelName, id: ClientId, client: Box<dyn Client>) -> bool {
        self.with(channel, |clients| {
            clients.changes += 1;
            let member = clients.clients.get(&id);
            member.is_some_and(|member| member.link.client.set(client).is_ok())
        })
    }

    /// Sends a client an event of the gateway's own, with a position that all it has been sent so far is below.
    pub fn announce(&self, channel: &ChannelName, id: ClientId, event: &str, payload: Arc<str>, position: Position) {
        let numbered = announcement(event, payload, position);
        self.with(channel, |clients| {
            if let Some(member) = clients.clients.get(&id) {
                let frames = Frames::of(&numbered);
                member.link.last_sent.store(frames.seq(), Ordering::Relaxed);
                // A client that can take not even this is found slow by its first delivery.
                member.link.pass(&frames.outgoing(0), Pace::Backlog).ok();
            }
        });
    }

    /// Sends a client what it has missed of its rooms and what was held, and from then on everything as it comes.
    pub fn release(&self, channel: &ChannelName, id: ClientId, missed: &[Arc<Numbered>], since: &Since) {
        let slow = self.with(channel, |clients| {
            let member = clients.clients.get(&id)?;
            let held = member.link.lock_held().take().unwrap_or_default();
            let missed = missed
                .iter()
                .filter_map(|numbered| Some((numbered, since.payload(numbered)?, Pace::Backlog)));
            let held = held.iter().map(|(numbered, payload)| (numbered, *payload, Pace::Live));
            // By seq. What is in both comes once, in the form that the client's rooms of now give it.
            let mut all: Vec<_> = held.chain(missed).collect();
            all.sort_by_key(|(numbered, ..)| numbered.position.seq);
            let mut sent = 0;
            for (numbered, payload, pace) in all {
                match member.link.send(&Frames::of(numbered), payload, pace) {
                    Some(Ok(())) => sent += 1,
                    Some(Err(SendError::Full)) => {
                        self.observe.sent(channel, sent);
                        return clients.remove(id).map(|(member, _)| member);
                    }
                    Some(Err(SendError::Gone)) => break,
                    None => {}
                }
            }
            self.observe.sent(channel, sent);
            None
        });
        if let Some(member) = slow {
            self.close(channel, &member, CloseReason::SlowConsumer);
        }
    }

    /// Removes a client from all its rooms; gives how far it had come, where it was still there.
    pub fn disconnect(&self, channel: &ChannelName, id: ClientId) -> Option<Parted> {
        self.with(channel, |clients| clients.remove(id))
            .map(|(_, parted)| parted)
    }

    /// Removes a client, and closes its connection.
    pub fn kick(&self, channel: &ChannelName, id: ClientId, reason: CloseReason) -> Option<Parted> {
        let (member, parted) = self.with(channel, |clients| clients.remove(id))?;
        self.close(channel, &member, reason);
        Some(parted)
    }

    fn close(&self, channel: &ChannelName, member: &Member, reason: CloseReason) {
        tracing::info!(channel = %channel, reason = reason.as_str(), "the gateway closes a client");
        self.observe.closed(channel, reason);
        if let Some(client) = member.link.client.get() {
            client.close(reason);
        }
    }

    /// Puts a client into a room: it gets every delivery after the returned place.
    pub fn join(&self, channel: &ChannelName, id: ClientId, room: RoomKey, limits: RoomLimits) -> Changed {
        self.with(channel, |clients| {
            let position = clients.position.clone();
            let Some(member) = clients.clients.get_mut(&id) else {
                return Changed::Gone;
            };
            if member.rooms.contains(&room) {
                return Changed::No(position);
            }
            if member.rooms.len() >= limits.of_client {
                return Changed::TooMany;
            }
            if clients.rooms.take([&room], limits).is_err() {
                return Changed::Full;
            }
            member.rooms.insert(room.clone());
            clients.rooms.add(room, id, &member.link);
            clients.changes += 1;
            Changed::Yes(position)
        })
    }

    /// Takes a client out of a room.
    pub fn leave(&self, channel: &ChannelName, id: ClientId, room: &RoomKey) -> Changed {
        self.with(channel, |clients| {
            let position = clients.position.clone();
            let Some(member) = clients.clients.get_mut(&id) else {
                return Changed::Gone;
            };
            if !member.rooms.remove(room) {
                return Changed::No(position);
            }
            clients.rooms.remove(room, id);
            clients.changes += 1;
            Changed::Yes(position)
        })
    }

    /// Takes a client out of a room, and tells it by an event. Gives false where it was not in it, or has not been told yet
    /// what it has missed.
    pub fn expel(&self, channel: &ChannelName, id: ClientId, room: &RoomKey, event: &str, payload: Arc<str>) -> bool {
        let (expelled, slow) = self.with(channel, |clients| {
            let numbered = announcement(event, payload, clients.position.clone());
            let Some(member) = clients.clients.get_mut(&id).filter(|member| !member.link.is_held()) else {
                return (false, None);
            };
            if !member.rooms.remove(room) {
                return (false, None);
            }
            let full = member.link.tell(&Frames::of(&numbered)) == Err(SendError::Full);
            clients.rooms.remove(room, id);
            clients.changes += 1;
            (true, full.then(|| clients.remove(id)).flatten())
        });
        if let Some((member, _)) = slow {
            self.close(channel, &member, CloseReason::SlowConsumer);
        }
        expelled
    }

    /// Tells a client something by an event. One that has not been told yet what it has missed does not hear this either.
    pub fn tell(&self, channel: &ChannelName, id: ClientId, event: &str, payload: Arc<str>) {
        let slow = self.with(channel, |clients| {
            let numbered = announcement(event, payload, clients.position.clone());
            let member = clients.clients.get(&id).filter(|member| !member.link.is_held())?;
            let full = member.link.tell(&Frames::of(&numbered)) == Err(SendError::Full);
            full.then(|| clients.remove(id)).flatten()
        });
        if let Some((member, _)) = slow {
            self.close(channel, &member, CloseReason::SlowConsumer);
        }
    }

    /// Tells a client where the channel stands, if it has not heard so: what it says that it has received is then no older.
    pub fn beacon(&self, channel: &ChannelName, id: ClientId) {
        self.with(channel, |clients| {
            let position = clients.position.clone();
            let member = clients.clients.get(&id);
            clients.beacon(member, position);
        });
    }

    /// The same for all clients of a channel, once every `every_ms`. Gives how many heard it.
    pub fn beacons(&self, channel: &ChannelName, every_ms: i64, now: Millis) -> usize {
        self.with(channel, |clients| {
            let due = now.0.saturating_sub(clients.beacons_at.0) >= every_ms;
            if !due {
                return 0;
            }
            clients.beacons_at = now;
            clients.beacon(clients.clients.values(), clients.position.clone())
        })
    }

    /// How many clients a channel has here.
    pub fn connections(&self, channel: &ChannelName) -> usize {
        self.with(channel, |clients| clients.clients.len())
    }

    /// How many rooms of a channel have clients here.
    pub fn rooms(&self, channel: &ChannelName) -> usize {
        self.with(channel, |clients| clients.rooms.len())
    }

    fn with<T>(&self, channel: &ChannelName, work: impl FnOnce(&mut Clients) -> T) -> T {
        let known = self
            .channels
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(channel)
            .cloned();
        let clients = known.unwrap_or_else(|| {
            let mut channels = self.channels.write().unwrap_or_else(PoisonError::into_inner);
            let empty = || {
                let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
                let tenant = tenants.entry(channel.namespace.clone()).or_default().clone();
                let begin = Position {
                    epoch: Arc::clone(&self.epoch),
                    seq: 0,
                };
                Arc::new(Mutex::new(Clients::at(begin, tenant)))
            };
            Arc::clone(channels.entry(channel.clone()).or_insert_with(empty))
        });
        work(&mut clients.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<O: Observe> Publish for Hub<O> {
    fn publish(&self, channel: &ChannelName, numbered: &Arc<Numbered>) {
        let delivering = traces::deliver(channel, numbered);
        let (sent, slow) = self.with(channel, |clients| {
            let (sent, slow) = clients.deliver(numbered);
            clients.position = numbered.position.clone();
            self.observe.sent(channel, sent);
            // Out of the hub before the lock is given back: nothing more goes to a client that has missed something.
            (
                sent,
                slow.into_iter().filter_map(|id| clients.remove(id)).collect::<Vec<_>>(),
            )
        });
        if let Some(delivering) = delivering {
            delivering.end(sent);
        }
        for (member, _) in slow {
            let reason = match member.link.client.get() {
                Some(_) => CloseReason::SlowConsumer,
                None => CloseReason::HistoryGone,
            };
            self.close(channel, &member, reason);
        }
    }

    fn forgot(&self, namespace: &str, deliveries: usize) {
        self.observe.forgot(namespace, deliveries);
    }

    fn broken(&self, channel: &ChannelName, rooms: Option<&[RoomKey]>) {
        let gone = self.with(channel, |clients| clients.remove_all_in(rooms));
        for member in gone {
            self.close(channel, &member, CloseReason::HistoryGone);
        }
    }

    fn forked(&self, channel: &ChannelName, good: u64) {
        self.observe.forked(channel);
        let unknown = self.with(channel, |clients| clients.remove_begun_after(good));
        for member in unknown {
            self.close(channel, &member, CloseReason::HistoryGone);
        }
    }

    fn taken_over(&self, channel: &ChannelName, client: ClientId) {
        self.kick(channel, client, CloseReason::TakenOver);
    }
}

/// An event of the gateway's own, in the form of a delivery.
fn announcement(event: &str, payload: Arc<str>, position: Position) -> Numbered {
    let delivery = Delivery {
        event: event.into(),
        payloads: vec![payload],
        audience: Audience::Everyone,
    };
    Numbered {
        position,
        delivery,
        source: None,
    }
}

impl Since {
    /// Which payload of a delivery a client gets that was in these rooms: that of the first listed one.
    fn payload(&self, numbered: &Numbered) -> Option<usize> {
        let seq = numbered.position.seq;
        match &numbered.delivery.audience {
            Audience::Everyone => (self.everyone < seq).then_some(0),
            Audience::Rooms(rooms) => {
                let was_in = |room: &RoomKey| self.rooms.get(room).is_some_and(|after| *after < seq);
                rooms.iter().find(|(room, _)| was_in(room)).map(|(_, payload)| *payload)
            }
        }
    }
}

#[cfg(test)]
mod tests;
