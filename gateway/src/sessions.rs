//! sessions: what a client that has dropped may come back to: who it is, its rooms, its place.
//!
//! A session is known by its `pid`, which the CONNECT reply carries and every Socket.IO client since 4.6 sends back when it
//! reconnects by itself. It belongs to one client at a time: whoever comes back with the pid takes it over, and what the
//! former one still does to it is refused.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aldis_core::identity::Identity;
use aldis_core::json::Json;
use aldis_core::room::RoomKey;
use aldis_core::time::Millis;
use aldis_crds::names::ChannelName;

use crate::adapter::Position;
use crate::hub::{ClientId, Parted};

/// Sessions of one channel that wait for their client. 100,000, some 50 MB; beyond it the one that has waited longest goes.
pub const WAITING: usize = 100_000;

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
    /// The client event and its arguments; `None` for a room that it joined by itself.
    pub by: Option<(String, Json)>,
    /// Seq from which on it is in the room.
    pub at: u64,
}

/// One session, shared by the registry and the client that has it.
#[derive(Debug)]
pub struct Session {
    /// Its name.
    pub pid: Pid,
    user: Option<String>,
    method: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Who has it; `None` before its first client is there, and once it is gone.
    client: Option<ClientId>,
    /// Where its first client began: what counts where that has not received any position.
    began: Option<Position>,
    joined: Vec<Joined>,
    parted: Option<(Parted, Millis)>,
}

/// Sessions of all channels.
#[derive(Debug, Default)]
pub struct Sessions {
    channels: Mutex<HashMap<ChannelName, HashMap<Pid, Arc<Session>>>>,
}

/// Why a session can not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSession {
    /// There is none of this name: it has expired, or never was.
    Unknown,
    /// It is somebody else's.
    Identity,
}

impl NoSession {
    /// As `aldis:ready` names it.
    pub fn as_str(self) -> &'static str {
        match self {
            NoSession::Unknown => "session_unknown",
            NoSession::Identity => "identity",
        }
    }
}

impl Sessions {
    /// A new session. It waits for its client from now on.
    pub fn begin(&self, channel: &ChannelName, identity: &Identity, now: Millis) -> Arc<Session> {
        let session = Arc::new(Session {
            pid: Pid::new(),
            user: identity.user.clone(),
            method: identity.method.clone(),
            state: Mutex::new(State {
                client: None,
                began: None,
                joined: Vec::new(),
                parted: Some((Parted::default(), now)),
            }),
        });
        self.with(channel, |sessions| {
            sessions.insert(session.pid.clone(), Arc::clone(&session))
        });
        session
    }

    /// The session of this name, if it is of the same identity.
    ///
    /// # Errors
    /// [`NoSession`]; nothing of it is told.
    pub fn find(&self, channel: &ChannelName, pid: &Pid, identity: &Identity) -> Result<Arc<Session>, NoSession> {
        let session = self
            .with(channel, |sessions| sessions.get(pid).cloned())
            .ok_or(NoSession::Unknown)?;
        if session.user == identity.user && session.method == identity.method {
            Ok(session)
        } else {
            Err(NoSession::Identity)
        }
    }

    /// Ends a session for the client that has it; a former one ends nothing.
    pub fn end_of(&self, channel: &ChannelName, session: &Session, client: ClientId) {
        if session.client() == Some(client) {
            self.end(channel, &session.pid);
        }
    }

    /// Ends all sessions of a channel that is gone.
    pub fn forget(&self, channel: &ChannelName) {
        self.with(channel, HashMap::clear);
    }

    /// Ends a session.
    pub fn end(&self, channel: &ChannelName, pid: &Pid) {
        self.with(channel, |sessions| sessions.remove(pid));
    }

    /// Ends sessions that have waited for longer than `ttl_ms`, and where too many wait those that have waited longest.
    pub fn drop_old(&self, channel: &ChannelName, ttl_ms: i64, now: Millis) {
        self.with(channel, |sessions| {
            sessions.retain(|_, session| {
                session
                    .waiting_since()
                    .is_none_or(|since| now.0.saturating_sub(since.0) <= ttl_ms)
            });
            let mut waiting: Vec<_> = sessions
                .values()
                .filter_map(|session| Some((session.waiting_since()?.0, session.pid.clone())))
                .collect();
            if let Some(too_many) = waiting.len().checked_sub(WAITING).filter(|many| *many > 0) {
                waiting.sort_unstable_by_key(|(since, _)| *since);
                for (_, pid) in &waiting[..too_many] {
                    sessions.remove(pid);
                }
            }
        });
    }

    /// How many sessions a channel has.
    pub fn count(&self, channel: &ChannelName) -> usize {
        self.with(channel, |sessions| sessions.len())
    }

    fn with<T>(&self, channel: &ChannelName, work: impl FnOnce(&mut HashMap<Pid, Arc<Session>>) -> T) -> T {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        work(channels.entry(channel.clone()).or_default())
    }
}

impl Session {
    /// Gives the session to a client that begins at a place; what a former one still does to it counts no longer. Gives
    /// that one.
    pub fn take(&self, client: ClientId, joined: Vec<Joined>, begin: &Position) -> Option<ClientId> {
        let mut state = self.lock();
        let former = state.client.replace(client);
        state.began.get_or_insert_with(|| begin.clone());
        state.joined = joined;
        state.parted = None;
        former
    }

    /// Where its first client began.
    pub fn began(&self) -> Option<Position> {
        self.lock().began.clone()
    }

    /// The client that has it now, if one has.
    pub fn client(&self) -> Option<ClientId> {
        self.lock().client
    }

    /// Its rooms, and how its last client went, if it is gone.
    pub fn rooms(&self) -> (Vec<Joined>, Option<Parted>) {
        let state = self.lock();
        (state.joined.clone(), state.parted.as_ref().map(|(parted, _)| *parted))
    }

    /// The client has joined a room.
    pub fn joined(&self, client: ClientId, joined: Joined) {
        let mut state = self.lock();
        if state.client == Some(client) && !state.joined.iter().any(|known| known.room == joined.room) {
            state.joined.push(joined);
        }
    }

    /// The client has left a room.
    pub fn left(&self, client: ClientId, room: &RoomKey) {
        let mut state = self.lock();
        if state.client == Some(client) {
            state.joined.retain(|known| known.room != *room);
        }
    }

    /// The client is gone; it may come back.
    pub fn parted(&self, client: ClientId, parted: Parted, now: Millis) {
        let mut state = self.lock();
        if state.client == Some(client) {
            state.client = None;
            state.parted = Some((parted, now));
        }
    }

    fn waiting_since(&self) -> Option<Millis> {
        self.lock().parted.as_ref().map(|(_, since)| *since)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
