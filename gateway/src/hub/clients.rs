//! The clients of one channel: who is in which room, and what is held for whom.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use aldis_core::room::RoomKey;
use aldis_core::route::Audience;
use aldis_core::time::Millis;
use indexmap::IndexMap;

use super::outgoing::{Frames, Outgoing};
use super::rooms::{Rooms, TenantRooms};
use super::{BEACON_EVENT, Client, ClientId, Pace, Parted, SendError, announcement};
use crate::adapter::{Numbered, Position};
use crate::sabotage::Rule;

/// Deliveries that are held for a client that is about to be told what it has missed. 4,096: that takes milliseconds.
const MAX_HELD: usize = 4_096;

/// The clients of one channel.
pub(super) struct Clients {
    /// Place of the last delivery that passed here.
    pub(super) position: Position,
    pub(super) clients: IndexMap<ClientId, Member>,
    pub(super) rooms: Rooms,
    /// When all clients were last told where the channel stands.
    pub(super) beacons_at: Millis,
    /// How often it has changed who is here, or in which room.
    pub(super) changes: u64,
}

pub(super) struct Member {
    pub(super) link: Arc<Link>,
    pub(super) rooms: HashSet<RoomKey>,
}

/// Deliveries that wait for a client, each with which of its payloads.
type Held = Vec<(Arc<Numbered>, usize)>;

/// A client, as its rooms see it.
pub(super) struct Link {
    /// The way to it; not there before its CONNECT has gone out.
    pub(super) client: OnceLock<Box<dyn Client>>,
    /// Seq from which on it is given everything here; the greatest there is before that is known.
    pub(super) begun: AtomicU64,
    /// Seq of the last position that it was sent. It only grows: one delivery that names several rooms goes out once.
    pub(super) last_sent: AtomicU64,
    /// Deliveries that wait until the client has had what it missed; `None` once it has.
    held: Mutex<Option<Held>>,
}

impl Member {
    /// A client that is about to connect.
    pub(super) fn held(rooms: &[RoomKey]) -> Self {
        let link = Link {
            client: OnceLock::new(),
            begun: AtomicU64::new(u64::MAX),
            last_sent: AtomicU64::new(0),
            held: Mutex::new(Some(Vec::new())),
        };
        Self {
            link: Arc::new(link),
            rooms: rooms.iter().cloned().collect(),
        }
    }
}

impl Clients {
    pub(super) fn at(position: Position, tenant: TenantRooms) -> Self {
        Self {
            position,
            clients: IndexMap::new(),
            rooms: Rooms::of(tenant),
            beacons_at: Millis(i64::MIN),
            changes: 0,
        }
    }

    /// Adds a client, whose rooms have their places.
    pub(super) fn add(&mut self, id: ClientId, member: Member) {
        for room in &member.rooms {
            self.rooms.add(room.clone(), id, &member.link);
        }
        self.changes += 1;
        self.clients.insert(id, member);
    }

    /// Sends to each client once; gives how many got it, and who could not take it.
    pub(super) fn deliver(&self, numbered: &Arc<Numbered>) -> (usize, Vec<ClientId>) {
        let frame = Frames::of(numbered);
        let (mut sent, mut slow) = (0, Vec::new());
        let mut send = |id: ClientId, link: &Link, payload: usize| match link.deliver(numbered, &frame, payload) {
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

    /// Tells those of these clients that have not heard so where the channel stands. Everything below has been queued for
    /// them; one that is still held has not come so far.
    pub(super) fn beacon<'m>(&self, members: impl IntoIterator<Item = &'m Member>, position: Position) -> usize {
        let numbered = announcement(BEACON_EVENT, "null".into(), position);
        let frames = Frames::of(&numbered);
        let behind = members.into_iter().map(|member| &member.link).filter(|link| {
            let last_sent = link.last_sent.load(Ordering::Relaxed);
            last_sent < frames.seq() && !link.is_held()
        });
        // One that can take none now is no worse off than before.
        behind.filter(|link| link.tell(&frames).is_ok()).count()
    }

    pub(super) fn remove(&mut self, id: ClientId) -> Option<(Member, Parted)> {
        let member = self.clients.swap_remove(&id)?;
        self.changes += 1;
        for room in &member.rooms {
            self.rooms.remove(room, id);
        }
        // A client that goes before it has had what it missed has not come as far as this channel.
        let parted = match *member.link.lock_held() {
            Some(_) => Parted::UNKNOWN,
            None => Parted {
                at: Some(self.position.clone()),
                last_sent: member.link.last_sent.load(Ordering::Relaxed),
            },
        };
        Some((member, parted))
    }

    /// Removes all clients that began after a place.
    pub(super) fn remove_begun_after(&mut self, seq: u64) -> Vec<Member> {
        let began_after = |(_, member): &(&ClientId, &Member)| member.link.begun.load(Ordering::Relaxed) > seq;
        let ids: Vec<ClientId> = self.clients.iter().filter(began_after).map(|(id, _)| *id).collect();
        let removed = ids.into_iter().filter_map(|id| self.remove(id));
        removed.map(|(member, _)| member).collect()
    }

    /// Removes all clients that are in some of these rooms; all there are where none is named.
    pub(super) fn remove_all_in(&mut self, rooms: Option<&[RoomKey]>) -> Vec<Member> {
        let ids: HashSet<ClientId> = match rooms {
            None => self.clients.keys().copied().collect(),
            Some(rooms) => {
                let members = rooms.iter().filter_map(|room| self.rooms.get(room));
                members.flat_map(IndexMap::keys).copied().collect()
            }
        };
        let removed = ids.into_iter().filter_map(|id| self.remove(id));
        removed.map(|(member, _)| member).collect()
    }
}

impl Link {
    /// Sends a delivery as it happens, or holds it: what the client has missed comes first.
    fn deliver(&self, numbered: &Arc<Numbered>, frames: &Frames<'_>, payload: usize) -> Option<Result<(), SendError>> {
        if let Some(held) = &mut *self.lock_held()
            && (Rule::OneOrder.is_on() || self.client.get().is_none())
        {
            if held.last().is_none_or(|(last, _)| last.position != numbered.position) {
                held.push((Arc::clone(numbered), payload));
            }
            return (held.len() > MAX_HELD).then_some(Err(SendError::Full));
        }
        self.send(frames, payload, Pace::Live)
    }

    /// Sends, unless the client has had this delivery.
    pub(super) fn send(&self, frames: &Frames<'_>, payload: usize, pace: Pace) -> Option<Result<(), SendError>> {
        let last = self.last_sent.fetch_max(frames.seq(), Ordering::Relaxed);
        if last >= frames.seq() && Rule::OneOrder.is_on() {
            return None;
        }
        Some(self.pass(&frames.outgoing(payload), pace))
    }

    /// Sends an event of the gateway's own, with a position that everything queued so far is below.
    pub(super) fn tell(&self, frames: &Frames<'_>) -> Result<(), SendError> {
        self.pass(&frames.outgoing(0), Pace::Live)?;
        self.last_sent.fetch_max(frames.seq(), Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn is_held(&self) -> bool {
        self.lock_held().is_some()
    }

    /// Sends. Nobody is sent anything before it is attached.
    pub(super) fn pass(&self, outgoing: &Outgoing<'_>, pace: Pace) -> Result<(), SendError> {
        self.client.get().ok_or(SendError::Gone)?.send(outgoing, pace)
    }

    pub(super) fn lock_held(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
