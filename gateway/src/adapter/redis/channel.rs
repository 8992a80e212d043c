//! One channel as this replica follows it: what is pushed goes to the hub in the order of seq, or it is noticed that
//! something is missing. Sync: what is to be asked from Redis is asked by the subscriber.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use aldis_core::room::RoomKey;
use aldis_core::route::Audience;
use aldis_crds::names::ChannelName;
use tokio::sync::oneshot;

use super::answer::ReadBack;
use super::fork::{Fork, Recent, TooMuch};
use super::keys::{self, EVERYONE, Keys};
use super::packed;
use crate::adapter::{Hosted, Numbered, Position, Publish};
use crate::sabotage::Rule;

#[cfg(test)]
mod tests;

/// Bytes that are held while a channel catches up. 16 MiB; beyond it what is held is dropped, and it catches up again.
const MAX_HELD: usize = 16 * 1024 * 1024;

/// Held by who hosts a room; when the last is dropped nobody does.
pub(super) struct Guard;

/// One channel.
pub(super) struct Followed {
    pub(super) name: ChannelName,
    pub(super) keys: Keys,
    pub(super) room_ttl: i64,
    /// Number of the node that has it.
    pub(super) home: u64,
    /// Whether all that is followed was subscribed to there, and nothing of it was ended.
    pub(super) is_subscribed: bool,
    /// Of the last delivery or fence that passed here; the epoch is empty before the first.
    position: Position,
    rooms: HashMap<String, Room>,
    stage: Stage,
    fences: HashMap<u64, Waiting>,
    /// What clients here were given lately.
    recent: Recent,
    /// While Redis has forgotten some of that.
    fork: Option<Fork>,
}

struct Room {
    /// `None` is the room of everyone.
    key: Option<RoomKey>,
    guard: Weak<Guard>,
    /// Seq of its last delivery; `None` until a fence has said so.
    last: Option<u64>,
}

/// Who waits for a fence, and for which rooms it says the last seq.
struct Waiting {
    rooms: Vec<String>,
    passed: oneshot::Sender<Position>,
}

enum Stage {
    Live,
    /// What is pushed before the fence of the read is in the read; what comes after it is held.
    CatchingUp {
        token: u64,
        passed: bool,
        held: Vec<(String, Vec<u8>)>,
        bytes: usize,
    },
}

/// What a push has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    Fine,
    /// Something is missing, for this reason: the channel has to catch up.
    Gap(&'static str),
}

/// Rooms that are to be read, each with the seq after which, in this epoch.
#[derive(Clone, Debug)]
pub(super) struct Behind {
    pub(super) epoch: Arc<str>,
    pub(super) rooms: Vec<(String, u64)>,
}

/// How a read went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CaughtUp {
    Yes,
    /// Redis has forgotten what came after this seq: read from there.
    From(u64),
    /// Its fence has not passed, or too much was held: read again.
    Again,
}

impl Followed {
    pub(super) fn new(name: ChannelName, keys: Keys, room_ttl: i64, home: u64) -> Self {
        Self {
            name,
            keys,
            room_ttl,
            home,
            is_subscribed: true,
            position: Position {
                epoch: "".into(),
                seq: 0,
            },
            rooms: HashMap::new(),
            stage: Stage::Live,
            fences: HashMap::new(),
            recent: Recent::default(),
            fork: None,
        }
    }

    /// Notes that these rooms are hosted; gives what keeps them so, and which of them no fence has passed for yet.
    pub(super) fn host(&mut self, rooms: &[RoomKey]) -> (Vec<Arc<Guard>>, Vec<String>) {
        let everyone = std::iter::once((EVERYONE.to_owned(), None));
        let keyed = rooms.iter().map(|room| (keys::room(room), Some(room.clone())));
        let (mut guards, mut new) = (Vec::new(), Vec::new());
        for (name, key) in everyone.chain(keyed) {
            let room = self.rooms.entry(name.clone()).or_insert_with(|| Room {
                key,
                guard: Weak::new(),
                last: None,
            });
            let guard = room.guard.upgrade().unwrap_or_else(|| Arc::new(Guard));
            room.guard = Arc::downgrade(&guard);
            guards.push(guard);
            if room.last.is_none() {
                new.push(name);
            }
        }
        (guards, new)
    }

    /// Keeps rooms hosted, from the position of this channel on.
    pub(super) fn hosted(&self, guards: Vec<Arc<Guard>>) -> Hosted {
        Hosted::new(self.told(), Some(Arc::new(guards)))
    }

    /// The place that clients are told.
    fn told(&self) -> Position {
        let epoch = self.fork.as_ref().map_or(&self.position.epoch, |fork| &fork.told);
        Position {
            epoch: Arc::clone(epoch),
            seq: self.position.seq,
        }
    }

    /// Whether clients here have had what Redis has forgotten, and has not been given again.
    pub(super) fn is_forked(&self) -> bool {
        self.fork.is_some()
    }

    /// A client here is given this, which it has missed. `false` where Redis may have forgotten it meanwhile.
    pub(super) fn gives(&mut self, missed: &[Arc<Numbered>]) -> bool {
        let is_of_now = |numbered: &Arc<Numbered>| numbered.position.epoch == self.position.epoch;
        let gives = !self.is_forked() && self.is_live() && missed.iter().all(is_of_now);
        if gives {
            missed.iter().for_each(|numbered| self.recent.push(numbered));
        }
        gives
    }

    /// A second has passed.
    pub(super) fn wait_for_fork(&mut self, publish: &impl Publish) {
        // What is read meanwhile may be what is waited for.
        let Some(fork) = self.fork.as_mut().filter(|_| matches!(self.stage, Stage::Live)) else {
            return;
        };
        let has_patience = fork.waits(self.rooms.values().filter_map(|room| room.key.as_ref()));
        if fork.is_over() {
            self.fork = None;
        } else if !has_patience {
            tracing::warn!(channel = %self.name, "what redis has forgotten has not come again: clients are told");
            self.break_all(publish);
        }
    }

    /// Takes away the rooms that nobody hosts any more; gives their names.
    pub(super) fn take_abandoned(&mut self) -> Vec<String> {
        let abandoned = self.rooms.iter().filter(|(_, room)| room.guard.strong_count() == 0);
        let names: Vec<_> = abandoned.map(|(name, _)| name.clone()).collect();
        for name in &names {
            self.rooms.remove(name);
        }
        names
    }

    pub(super) fn is_live(&self) -> bool {
        matches!(self.stage, Stage::Live)
    }

    pub(super) fn is_hosted(&self, room: &str) -> bool {
        self.rooms.contains_key(room)
    }

    pub(super) fn room_names(&self) -> impl Iterator<Item = &String> {
        self.rooms.keys()
    }

    /// Waits for a fence, which will say the last seq of these rooms.
    pub(super) fn expect_fence(&mut self, token: u64, rooms: Vec<String>) -> oneshot::Receiver<Position> {
        let (passed, receiver) = oneshot::channel();
        self.fences.insert(token, Waiting { rooms, passed });
        receiver
    }

    /// Nobody waits for this fence any more.
    pub(super) fn forget_fence(&mut self, token: u64) {
        self.fences.remove(&token);
    }

    /// From now on nothing goes to the hub until what was missed has been read. Gives what is to be read; `None` where there
    /// is nothing to miss.
    pub(super) fn fall_behind(&mut self, token: u64) -> Option<Behind> {
        // Who waits for a fence would take it for one of an unbroken order.
        self.fences.clear();
        let known = self
            .rooms
            .iter()
            .filter_map(|(name, room)| Some((name.clone(), room.last?)));
        let behind = Behind {
            epoch: Arc::clone(&self.position.epoch),
            rooms: known.collect(),
        };
        self.stage = Stage::CatchingUp {
            token,
            passed: false,
            held: Vec::new(),
            bytes: 0,
        };
        if behind.rooms.is_empty() {
            // Nobody here has anything that goes on: the next fence says in which epoch the channel is.
            self.position.epoch = "".into();
            self.recent.clear();
            self.fork = None;
            self.stage = Stage::Live;
            return None;
        }
        Some(behind)
    }

    /// Whether the fence of the read has passed; `None` where another read was begun since.
    pub(super) fn has_passed(&self, token: u64) -> Option<bool> {
        match self.stage {
            Stage::CatchingUp { token: own, passed, .. } if own == token => Some(passed),
            _ => None,
        }
    }

    /// A fence has passed: `token epoch seq last last …`.
    pub(super) fn pushed_fence(&mut self, fence: &[u8]) -> Pushed {
        let text = std::str::from_utf8(fence).unwrap_or_default();
        let mut words = text.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let (Ok(token), epoch, Ok(seq)) = (word().parse::<u64>(), word(), word().parse::<u64>()) else {
            return Pushed::Gap("a fence can not be read");
        };
        if let Stage::CatchingUp { token: own, passed, .. } = &mut self.stage {
            *passed |= *own == token;
            return Pushed::Fine;
        }
        let Some(waiting) = self.fences.remove(&token) else {
            return Pushed::Fine;
        };
        if let Err(gap) = self.adopt(epoch) {
            return gap;
        }
        for (name, last) in waiting.rooms.iter().zip(words) {
            let Some(room) = self.rooms.get_mut(name) else { continue };
            match (room.last, last.parse::<u64>()) {
                (None, Ok(last)) => room.last = Some(last),
                (None, Err(_)) => {}
                (Some(seen), Ok(last)) if seen == last => {}
                (Some(_), _) => return Pushed::Gap("a room went on unheard"),
            }
        }
        self.position.seq = self.position.seq.max(seq);
        waiting.passed.send(self.told()).ok();
        Pushed::Fine
    }

    /// A delivery to a room: `epoch seq prev bytes`.
    pub(super) fn pushed(&mut self, room: &str, message: &[u8], publish: &impl Publish) -> Pushed {
        match &mut self.stage {
            Stage::Live => self.deliver(room, message, publish),
            Stage::CatchingUp { passed: false, .. } => Pushed::Fine,
            Stage::CatchingUp { held, bytes, .. } => {
                *bytes = bytes.saturating_add(message.len());
                if *bytes <= MAX_HELD {
                    held.push((room.to_owned(), message.to_vec()));
                } else {
                    held.clear();
                }
                Pushed::Fine
            }
        }
    }

    fn deliver(&mut self, room: &str, message: &[u8], publish: &impl Publish) -> Pushed {
        let mut parts = message.splitn(4, |byte| *byte == b' ');
        let mut word = || {
            parts
                .next()
                .and_then(|part| std::str::from_utf8(part).ok())
                .unwrap_or_default()
        };
        let (epoch, Ok(seq), Ok(prev)) = (word(), word().parse::<u64>(), word().parse::<u64>()) else {
            return Pushed::Gap("a message can not be read");
        };
        let bytes = parts.next().unwrap_or_default();
        // What was pushed before this replica ceased to host the room.
        let Some(followed) = self.rooms.get(room) else {
            return Pushed::Fine;
        };
        if followed.last.is_some_and(|last| last != prev) && Rule::Prev.is_on() {
            return match followed.last {
                // It came twice: what is subscribed anew may be pushed by both.
                Some(last) if last >= seq => Pushed::Fine,
                _ => Pushed::Gap("a delivery is missing"),
            };
        }
        if let Err(gap) = self.adopt(epoch) {
            return gap;
        }
        if let Some(followed) = self.rooms.get_mut(room).filter(|followed| followed.last.is_some()) {
            followed.last = Some(seq);
        }
        self.give(seq, bytes, publish)
    }

    /// Takes the first epoch that is heard of; any other is a gap.
    fn adopt(&mut self, epoch: &str) -> Result<(), Pushed> {
        if self.position.epoch.is_empty() {
            self.position.epoch = epoch.into();
        }
        match *self.position.epoch == *epoch || !Rule::Epoch.is_on() {
            true => Ok(()),
            false => Err(Pushed::Gap("another epoch has begun")),
        }
    }

    /// Gives a delivery to the hub, unless another room's copy of it came first, or it had it in a former epoch.
    fn give(&mut self, seq: u64, bytes: &[u8], publish: &impl Publish) -> Pushed {
        if seq <= self.position.seq {
            return Pushed::Fine;
        }
        let Some((delivery, source)) = packed::unpack(bytes) else {
            return Pushed::Gap("a delivery is of a form that this version does not know");
        };
        self.position.seq = seq;
        let comes_again = self.fork.as_mut().is_some_and(|fork| fork.comes_again(&source));
        let numbered = Numbered {
            position: self.told(),
            delivery,
            source: Some(source),
        };
        // Also what comes again: Redis may forget it again.
        self.recent.push(&numbered);
        if comes_again {
            self.fork.take_if(|fork| fork.is_over());
        } else {
            publish.publish(&self.name, &Arc::new(numbered));
        }
        Pushed::Fine
    }

    /// Gives the hub what was missed and then what was held, and goes on. What can not be proven to be complete is told.
    pub(super) fn caught_up(&mut self, behind: &Behind, read: ReadBack, publish: &impl Publish) -> CaughtUp {
        let ReadBack::Read {
            epoch,
            seq,
            good,
            beyond,
            broken,
            deliveries,
        } = read
        else {
            self.break_all(publish);
            return CaughtUp::Yes;
        };
        if !beyond.is_empty() {
            return CaughtUp::From(good);
        }
        let held = match &mut self.stage {
            Stage::CatchingUp {
                passed: true,
                held,
                bytes,
                ..
            } if *bytes <= MAX_HELD => std::mem::take(held),
            _ => return CaughtUp::Again,
        };
        if epoch != self.position.epoch {
            let former = std::mem::replace(&mut self.position.epoch, epoch);
            publish.forked(&self.name, good);
            match Fork::at(good, &mut self.recent, self.fork.take(), former) {
                Ok(fork) => self.fork = fork,
                Err(TooMuch) => {
                    self.break_all(publish);
                    return CaughtUp::Yes;
                }
            }
        }
        // Where Redis has forgotten something, rooms go on from what it still has.
        for (name, after) in &behind.rooms {
            if let Some(Room { last: Some(last), .. }) = self.rooms.get_mut(name) {
                *last = (*last).min(*after);
            }
        }
        let broken: HashSet<&str> = broken
            .iter()
            .filter_map(|at| behind.rooms.get(*at))
            .map(|(name, _)| &**name)
            .collect();
        self.tell_broken(&broken, publish);
        for (missed, bytes) in deliveries {
            self.pass_rooms(missed, &bytes, &broken);
            if let Pushed::Gap(_) = self.give(missed, &bytes, publish) {
                self.break_all(publish);
                return CaughtUp::Yes;
            }
        }
        self.position.seq = self.position.seq.max(seq);
        self.stage = Stage::Live;
        for (room, message) in held {
            if let Pushed::Gap(_) = self.deliver(&room, &message, publish) {
                self.break_all(publish);
                break;
            }
        }
        CaughtUp::Yes
    }

    /// Rooms that were read are up to this delivery.
    fn pass_rooms(&mut self, seq: u64, bytes: &[u8], broken: &HashSet<&str>) {
        let Some((delivery, _)) = packed::unpack(bytes) else {
            return;
        };
        let names = match &delivery.audience {
            Audience::Everyone => vec![EVERYONE.to_owned()],
            Audience::Rooms(rooms) => rooms.iter().map(|(room, _)| keys::room(room)).collect(),
        };
        for name in names.iter().filter(|name| !broken.contains(&***name)) {
            if let Some(Room { last: Some(last), .. }) = self.rooms.get_mut(name) {
                *last = (*last).max(seq);
            }
        }
    }

    fn tell_broken(&mut self, broken: &HashSet<&str>, publish: &impl Publish) {
        if broken.is_empty() {
            return;
        }
        let mut keys = Vec::new();
        for name in broken {
            if let Some(room) = self.rooms.get_mut(*name) {
                room.last = None;
                keys.extend(room.key.clone());
            }
        }
        let everyone = broken.contains(EVERYONE);
        publish.broken(&self.name, (!everyone).then_some(&keys[..]));
    }

    /// Nothing can be proven: all clients are told, and the channel begins anew.
    fn break_all(&mut self, publish: &impl Publish) {
        self.rooms.values_mut().for_each(|room| room.last = None);
        self.position.epoch = "".into();
        self.recent.clear();
        self.fork = None;
        self.stage = Stage::Live;
        publish.broken(&self.name, None);
    }
}
