//! hub: this replica's clients, by channel and room. A delivery goes to each of its clients once.
//!
//! One lock per channel orders everything that a client of it sees: a join and the deliveries around it, and deliveries
//! among themselves. Sending under it never waits: a client that can not take a frame is closed.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use aldis_core::room::RoomKey;
use aldis_core::route::Audience;
use aldis_crds::names::ChannelName;
use indexmap::IndexMap;

use crate::adapter::{Numbered, Position, Publish};

mod outgoing;

use outgoing::Frames;
pub use outgoing::Outgoing;

/// One client of a channel, in this process.
pub type ClientId = u64;

/// The way to a client.
pub trait Client: Send + Sync + 'static {
    /// Queues an event for the client. Must not wait.
    ///
    /// # Errors
    /// [`SendError::Full`] where the client reads too slowly: nothing was queued.
    fn send(&self, outgoing: &Outgoing<'_>) -> Result<(), SendError>;

    /// Closes the client's connection, whatever it still has in its queue. It may come back.
    fn close(&self, reason: CloseReason);
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
}

impl CloseReason {
    /// As metrics and logs name it.
    pub fn as_str(self) -> &'static str {
        match self {
            CloseReason::SlowConsumer => "slow_consumer",
        }
    }
}

/// Gets told what the hub does, for metrics.
pub trait Observe: Send + Sync + 'static {
    /// A delivery was sent to so many clients.
    fn sent(&self, _channel: &ChannelName, _clients: usize) {}
    /// A client was closed.
    fn closed(&self, _channel: &ChannelName, _reason: CloseReason) {}
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
    next_id: AtomicU64,
    observe: O,
}

/// The clients of one channel.
struct Clients {
    /// Place of the last delivery that passed here.
    position: Position,
    clients: IndexMap<ClientId, Member>,
    rooms: HashMap<RoomKey, IndexMap<ClientId, Arc<Link>>>,
}

struct Member {
    link: Arc<Link>,
    rooms: HashSet<RoomKey>,
}

/// A client, as its rooms see it.
struct Link {
    client: Box<dyn Client>,
    /// Seq of the last delivery that it got: one that names several of its rooms goes out once.
    last_seq: AtomicU64,
}

/// What a join or a leave did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// The client is now in the room, or no longer, from this place on.
    Yes(Position),
    /// It was so already.
    No(Position),
    /// The client is gone.
    Gone,
}

impl<O: Observe> Hub<O> {
    /// A hub without clients, whose channels stand at the beginning of `epoch`.
    pub fn new(epoch: Arc<str>, observe: O) -> Self {
        Self {
            epoch,
            channels: RwLock::default(),
            next_id: AtomicU64::new(1),
            observe,
        }
    }

    /// Adds a client, in no room yet.
    pub fn connect(&self, channel: &ChannelName, client: Box<dyn Client>) -> ClientId {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let link = Arc::new(Link {
            client,
            last_seq: AtomicU64::new(0),
        });
        self.with(channel, |clients| {
            clients.clients.insert(
                id,
                Member {
                    link,
                    rooms: HashSet::new(),
                },
            )
        });
        id
    }

    /// Removes a client from all its rooms.
    pub fn disconnect(&self, channel: &ChannelName, id: ClientId) {
        self.with(channel, |clients| clients.remove(id));
    }

    /// Puts a client into a room: it gets every delivery after the returned place.
    pub fn join(&self, channel: &ChannelName, id: ClientId, room: RoomKey) -> Changed {
        self.with(channel, |clients| {
            let position = clients.position.clone();
            let Some(member) = clients.clients.get_mut(&id) else {
                return Changed::Gone;
            };
            if !member.rooms.insert(room.clone()) {
                return Changed::No(position);
            }
            clients
                .rooms
                .entry(room)
                .or_default()
                .insert(id, Arc::clone(&member.link));
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
            clients.remove_from_room(room, id);
            Changed::Yes(position)
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
                Arc::new(Mutex::new(Clients::at(Position {
                    epoch: Arc::clone(&self.epoch),
                    seq: 0,
                })))
            };
            Arc::clone(channels.entry(channel.clone()).or_insert_with(empty))
        });
        work(&mut clients.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<O: Observe> Publish for Hub<O> {
    fn publish(&self, channel: &ChannelName, numbered: Numbered) {
        let slow = self.with(channel, |clients| {
            let (sent, slow) = clients.deliver(&numbered);
            clients.position = numbered.position;
            self.observe.sent(channel, sent);
            // Out of the hub before the lock is given back: nothing more goes to a client that has missed something.
            slow.into_iter().filter_map(|id| clients.remove(id)).collect::<Vec<_>>()
        });
        for member in slow {
            self.observe.closed(channel, CloseReason::SlowConsumer);
            member.link.client.close(CloseReason::SlowConsumer);
        }
    }
}

impl Clients {
    fn at(position: Position) -> Self {
        Self {
            position,
            clients: IndexMap::new(),
            rooms: HashMap::new(),
        }
    }

    /// Sends to each client once; gives how many got it, and who could not take it.
    fn deliver(&self, numbered: &Numbered) -> (usize, Vec<ClientId>) {
        let frame = Frames::of(numbered);
        let (mut sent, mut slow) = (0, Vec::new());
        let mut send = |id: ClientId, link: &Link, payload: usize| match link.send(&frame, payload) {
            Some(Ok(())) => sent += 1,
            Some(Err(SendError::Full)) => slow.push(id),
            Some(Err(SendError::Gone)) | None => {}
        };
        match &numbered.delivery.audience {
            Audience::Everyone => self.clients.iter().for_each(|(id, member)| send(*id, &member.link, 0)),
            Audience::Rooms(rooms) => {
                for (room, payload) in rooms {
                    let members = self.rooms.get(room).into_iter().flatten();
                    members.for_each(|(id, link)| send(*id, link, *payload));
                }
            }
        }
        (sent, slow)
    }

    fn remove(&mut self, id: ClientId) -> Option<Member> {
        let member = self.clients.swap_remove(&id)?;
        for room in &member.rooms {
            self.remove_from_room(room, id);
        }
        Some(member)
    }

    fn remove_from_room(&mut self, room: &RoomKey, id: ClientId) {
        if let Some(members) = self.rooms.get_mut(room) {
            members.swap_remove(&id);
            if members.is_empty() {
                self.rooms.remove(room);
            }
        }
    }
}

impl Link {
    /// Sends, unless this client has had this delivery through another room.
    fn send(&self, frame: &Frames<'_>, payload: usize) -> Option<Result<(), SendError>> {
        if self.last_seq.swap(frame.seq(), Ordering::Relaxed) == frame.seq() {
            return None;
        }
        Some(self.client.send(&frame.outgoing(payload)))
    }
}

#[cfg(test)]
mod tests;
