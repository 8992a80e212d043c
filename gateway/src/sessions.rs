//! sessions: what a client that has dropped may come back to: who it is, its rooms, its place.
//!
//! A session is known by its `pid`, which the CONNECT reply carries and every Socket.IO client since 4.6 sends back when it
//! reconnects by itself. It belongs to one client at a time: whoever comes back with the pid claims it, which makes a new
//! [`Generation`], and what former ones still do to it is refused. So two that come back at once are in order: the later wins.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use aldis_core::identity::Identity;
use aldis_core::json::Json;
use aldis_core::room::RoomKey;
use aldis_core::table::Table;
use aldis_core::time::Millis;
use aldis_crds::names::ChannelName;

use crate::adapter::census::Dismissed;
use crate::adapter::{Position, StoredSession};
use crate::hub::{ClientId, Parted};
use crate::limits::Peer;
use crate::sabotage::Rule;

pub mod shared;

/// Sessions of one tenant that wait for their client, where it may not have more clients than that. 100,000, some 50 MB; beyond it
/// those go whose user has most, and of these the ones that have waited longest ([`fair`]).
pub const WAITING: usize = 100_000;

mod fair;

use fair::Owner;

/// Names a session: 128 random bits, not derived from anything. Whoever has it and the identity may take the session over,
/// so it is never shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pid(Arc<str>);

impl Pid {
    fn new() -> Self {
        Self(format!("{:032x}", rand::random::<u128>()).into())
    }

    /// What a client says is its pid.
    pub fn claimed(pid: &str) -> Self {
        Self(pid.into())
    }

    /// For the client that it belongs to.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pid(…)")
    }
}

/// A room of a session, and how the client came into it: that is asked again when it comes back.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The room.
    pub room: RoomKey,
    /// As it was shown to the client.
    pub shown: Box<str>,
    /// The client event and its arguments; `None` for a room that it joined by itself.
    pub by: Option<(String, Json)>,
    /// Seq from which on it is in the room.
    pub at: u64,
}

/// Which connection of a session this is: it grows with each. Only the newest one's writes count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(u64);

impl Generation {
    /// The generation of this number.
    pub fn of(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// One session, shared by the registry and the client that has it.
#[derive(Debug)]
pub struct Session {
    /// Its name.
    pub pid: Pid,
    /// Where its client came from, once that is known.
    from: OnceLock<Peer>,
    state: Mutex<State>,
}

/// How a session begins. All of it counts from before its client has heard of it: its CONNECT may be lost on the way.
#[derive(Clone, Debug)]
pub struct Start {
    /// Where: what counts where its client has not received any position since.
    pub at: Position,
    /// Why another one before it was not recovered; until its client has heard so, it is to be told again.
    pub reason: Option<NotRecovered>,
}

#[derive(Debug)]
struct State {
    /// Of its latest client.
    identity: Arc<Identity>,
    generation: Generation,
    ended: bool,
    /// Who has it; `None` before its client is there, and once it is gone.
    client: Option<ClientId>,
    /// Where and how it began.
    start: Start,
    /// Where its latest client began: that one has said that it had everything up to here.
    begun: Position,
    joined: Vec<Joined>,
    /// How its last client went, where that is known.
    parted: Option<Parted>,
    /// Since when it waits for its client.
    waits_since: Option<Millis>,
}

/// A session that somebody has come back to, as it was left. Nobody else writes to it from now on.
#[derive(Debug)]
pub struct Claim {
    /// The session.
    pub session: Arc<Session>,
    /// Of the one that has come back.
    pub generation: Generation,
    /// The client that still had it.
    pub former: Option<ClientId>,
    /// The replica that still had its client, where replicas share it.
    pub from: Option<Arc<str>>,
    /// Its rooms.
    pub rooms: Vec<Joined>,
    /// How its last client went, where that is known.
    pub parted: Option<Parted>,
    /// Where and how it began.
    pub start: Start,
    /// Where its latest client began.
    pub begun: Position,
}

/// Sessions of all channels.
#[derive(Debug, Default)]
pub struct Sessions {
    channels: Mutex<HashMap<ChannelName, HashMap<Pid, Arc<Session>>>>,
}

/// Why a client does not get back what it has missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRecovered {
    /// There is no session of this name: it has expired, or never was.
    SessionUnknown,
    /// It is somebody else's.
    Identity,
    /// Where the client was can not be read.
    Offset,
    /// Where it was is of another numbering.
    Epoch,
    /// Some of what it missed is no longer kept.
    History,
    /// It has missed more than a client gets back.
    Backlog,
    /// It was sent away while it was not connected.
    Dismissed,
}

impl NotRecovered {
    const ALL: [Self; 7] = [
        Self::SessionUnknown,
        Self::Identity,
        Self::Offset,
        Self::Epoch,
        Self::History,
        Self::Backlog,
        Self::Dismissed,
    ];

    /// As `aldis:ready` names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SessionUnknown => "session_unknown",
            Self::Identity => "identity",
            Self::Offset => "offset",
            Self::Epoch => "epoch",
            Self::History => "history",
            Self::Backlog => "backlog",
            Self::Dismissed => "dismissed",
        }
    }

    /// From its name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

impl Sessions {
    /// A new session. It waits for its client from now on.
    pub fn begin(
        &self,
        channel: &ChannelName,
        identity: &Arc<Identity>,
        start: Start,
        joined: Vec<Joined>,
        now: Millis,
    ) -> (Arc<Session>, Generation) {
        let generation = Generation(1);
        let session = Arc::new(Session {
            pid: Pid::new(),
            from: OnceLock::new(),
            state: Mutex::new(State {
                identity: Arc::clone(identity),
                generation,
                ended: false,
                client: None,
                begun: start.at.clone(),
                start,
                joined,
                parted: None,
                waits_since: Some(now),
            }),
        });
        self.with(channel, |sessions| {
            sessions.insert(session.pid.clone(), Arc::clone(&session))
        });
        (session, generation)
    }

    /// Takes the session of this name from whoever has it, if it is of the same identity.
    ///
    /// # Errors
    /// [`NotRecovered`]; nothing of it is told, and nothing has happened to it.
    pub fn claim(
        &self,
        channel: &ChannelName,
        pid: &Pid,
        identity: &Identity,
        now: Millis,
    ) -> Result<Claim, NotRecovered> {
        let session = self
            .with(channel, |sessions| sessions.get(pid).cloned())
            .ok_or(NotRecovered::SessionUnknown)?;
        session.claim(identity, now)
    }

    /// A session that was claimed where replicas share it; what this process still knew of it counts no longer.
    pub fn adopt(
        &self,
        channel: &ChannelName,
        pid: &Pid,
        identity: &Arc<Identity>,
        stored: StoredSession,
        now: Millis,
    ) -> Claim {
        let session = Arc::new(Session {
            pid: pid.clone(),
            from: OnceLock::new(),
            state: Mutex::new(State {
                identity: Arc::clone(identity),
                generation: stored.generation,
                ended: false,
                client: None,
                start: stored.start.clone(),
                begun: stored.begun.clone(),
                joined: stored.rooms.clone(),
                parted: stored.parted.clone(),
                waits_since: Some(now),
            }),
        });
        let former = self.with(channel, |sessions| sessions.insert(pid.clone(), Arc::clone(&session)));
        Claim {
            generation: stored.generation,
            former: former.and_then(|former| former.lock().client.take()),
            from: stored.from,
            rooms: stored.rooms,
            parted: stored.parted,
            start: stored.start,
            begun: stored.begun,
            session,
        }
    }

    /// Ends a session, for its newest generation: a former one ends nothing.
    pub fn end(&self, channel: &ChannelName, session: &Session, generation: Generation) {
        if session.end(generation) {
            self.with(channel, |sessions| sessions.remove(&session.pid));
        }
    }

    /// Ends sessions that wait for a client that is sent away.
    pub fn dismiss(&self, channel: &ChannelName, whose: Dismissed<'_>) {
        self.with(channel, |sessions| {
            sessions.retain(|_, session| session.waits_since().is_none() || !session.lock().is_whose(whose));
        });
    }

    /// Ends all sessions of a channel that is gone.
    pub fn forget(&self, channel: &ChannelName) {
        self.lock().remove(channel);
    }

    /// Sessions whose client is there.
    pub fn live(&self, channel: &ChannelName) -> Vec<Arc<Session>> {
        self.with(channel, |sessions| {
            let live = sessions.values().filter(|session| session.lock().client.is_some());
            live.cloned().collect()
        })
    }

    /// Ends sessions that have waited for longer than their channel keeps anything, and where too many of a tenant wait, those
    /// of who has most.
    pub fn sweep(&self, table: &Table, now: Millis) {
        let mut waiting: HashMap<&str, usize> = HashMap::new();
        for channel in table.channels() {
            *waiting.entry(&channel.name.namespace).or_default() +=
                self.drop_old(&channel.name, channel.history_ttl_ms, now);
        }
        for (namespace, waiting) in waiting {
            let bound = WAITING.max(table.tenant(namespace).connections as usize);
            if waiting > bound {
                self.bound(namespace, bound);
            }
        }
    }

    /// Ends sessions that have waited for longer than `ttl_ms`; gives how many others wait.
    pub fn drop_old(&self, channel: &ChannelName, ttl_ms: i64, now: Millis) -> usize {
        let mut waiting = 0;
        self.with(channel, |sessions| {
            sessions.retain(|_, session| {
                let since = session.waits_since();
                let stays = since.is_none_or(|since| now.0.saturating_sub(since.0) <= ttl_ms);
                waiting += usize::from(stays && since.is_some());
                stays
            });
        });
        waiting
    }

    /// Leaves a tenant no more than `bound` sessions that wait.
    fn bound(&self, namespace: &str, bound: usize) {
        let mut channels = self.lock();
        let of_tenant = channels.iter().filter(|(channel, _)| channel.namespace == namespace);
        let waiting = of_tenant.flat_map(|(channel, sessions)| {
            let waiting = sessions
                .values()
                .filter_map(|session| Some((session.waits_since()?, session)));
            waiting.map(|(since, session)| (session.owner(channel), since, session.pid.clone()))
        });
        for (owner, pid) in fair::too_many(waiting, bound) {
            if let Some(sessions) = channels.get_mut(&owner.channel) {
                sessions.remove(&pid);
            }
        }
    }

    /// How many sessions a channel has.
    pub fn count(&self, channel: &ChannelName) -> usize {
        self.with(channel, |sessions| sessions.len())
    }

    fn with<T>(&self, channel: &ChannelName, work: impl FnOnce(&mut HashMap<Pid, Arc<Session>>) -> T) -> T {
        work(self.lock().entry(channel.clone()).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelName, HashMap<Pid, Arc<Session>>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Its client has this address. The first counts.
    pub fn came_from(&self, peer: Peer) {
        self.from.set(peer).ok();
    }

    fn owner(&self, channel: &ChannelName) -> Owner {
        Owner {
            channel: channel.clone(),
            user: self.lock().identity.user.clone(),
            from: self.from.get().copied().unwrap_or(Peer::UNKNOWN),
        }
    }

    fn claim(self: Arc<Self>, identity: &Identity, now: Millis) -> Result<Claim, NotRecovered> {
        let mut state = self.lock();
        if state.ended {
            return Err(NotRecovered::SessionUnknown);
        }
        if !state.is_of(identity) {
            return Err(NotRecovered::Identity);
        }
        state.generation.0 += 1;
        state.waits_since = Some(now);
        let claim = Claim {
            generation: state.generation,
            former: state.client.take(),
            from: None,
            rooms: state.joined.clone(),
            parted: state.parted.clone(),
            start: state.start.clone(),
            begun: state.begun.clone(),
            session: Arc::clone(&self),
        };
        drop(state);
        Ok(claim)
    }

    /// Gives the session to the client of a generation, which begins at a place. Gives whether that is the newest.
    #[must_use]
    pub fn take(
        &self,
        generation: Generation,
        client: ClientId,
        identity: &Arc<Identity>,
        joined: Vec<Joined>,
        begin: &Position,
    ) -> bool {
        self.write(generation, |state| {
            state.client = Some(client);
            state.identity = Arc::clone(identity);
            state.begun = begin.clone();
            state.joined = joined;
            state.parted = None;
            state.waits_since = None;
        })
    }

    /// The client has joined a room. Gives whether it is still the one that has the session.
    #[must_use]
    pub fn joined(&self, generation: Generation, joined: Joined) -> bool {
        self.write(generation, |state| {
            if !state.joined.iter().any(|known| known.room == joined.room) {
                state.joined.push(joined);
            }
        })
    }

    /// The client has left a room. Gives whether it is still the one that has the session.
    #[must_use]
    pub fn left(&self, generation: Generation, room: &RoomKey) -> bool {
        self.write(generation, |state| state.joined.retain(|known| known.room != *room))
    }

    /// The client is gone; it may come back. Says nothing where another has the session.
    pub fn parted(&self, generation: Generation, parted: Parted, now: Millis) {
        self.write(generation, |state| {
            state.client = None;
            state.parted = Some(parted);
            state.waits_since = Some(now);
        });
    }

    /// Where and how it began.
    pub fn start(&self) -> Start {
        self.lock().start.clone()
    }

    /// Whose it is, which client has it now, by which generation, and its rooms.
    pub fn present(&self) -> Option<(Arc<Identity>, ClientId, Generation, Vec<Joined>)> {
        let state = self.lock();
        let identity = Arc::clone(&state.identity);
        Some((identity, state.client?, state.generation, state.joined.clone()))
    }

    fn end(&self, generation: Generation) -> bool {
        self.write(generation, |state| state.ended = true)
    }

    /// Writes of any generation but the newest are refused.
    fn write(&self, generation: Generation, work: impl FnOnce(&mut State)) -> bool {
        let mut state = self.lock();
        let newest = state.generation == generation || !Rule::Generation.is_on();
        if newest {
            work(&mut state);
        }
        newest
    }

    fn waits_since(&self) -> Option<Millis> {
        self.lock().waits_since
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_whose(&self, whose: Dismissed<'_>) -> bool {
        match whose {
            Dismissed::User(user) => self.identity.user.as_deref() == Some(user),
            Dismissed::Room(room) => self.joined.iter().any(|joined| *joined.shown == *room),
        }
    }

    fn is_of(&self, identity: &Identity) -> bool {
        let same = self.identity.user == identity.user && self.identity.method == identity.method;
        same || !Rule::Identity.is_on()
    }
}

#[cfg(test)]
mod tests;
