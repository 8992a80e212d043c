//! The entrance of a replica: what is asked before anybody knows whose client it is.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::herd::{Herd, LineFull};
use super::{Peer, Place, Places};

/// Engine.IO sessions by address, and the line of CONNECTs.
#[derive(Debug)]
pub struct Entrance {
    /// The line of CONNECTs.
    pub herd: Herd,
    sessions: Arc<Places<Peer>>,
    /// The most that any tenant here is granted for one address.
    per_address: AtomicU32,
}

/// Why no session begins now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// Its address has as many as any tenant is granted.
    Address,
    /// The line of CONNECTs is full.
    Line,
}

impl Busy {
    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Busy::Address => "address_connections",
            Busy::Line => "connects_waiting",
        }
    }

    /// What the client is told.
    pub fn message(self) -> &'static str {
        match self {
            Busy::Address => "There are too many connections from your address: close some, or try again later.\n",
            Busy::Line => "Too many clients are connecting: try again in some seconds.\n",
        }
    }
}

/// That an Engine.IO session is there; travels with its first request.
#[derive(Clone, Debug)]
pub enum Visit {
    /// One that began with polling: its request lives as long as it does.
    Polling(Arc<Place<Peer>>),
    /// One that began with WebSocket: its stream has the place, and when that is gone it is over.
    WebSocket(Weak<Place<Peer>>),
}

impl Visit {
    /// Whether the session is known to be gone.
    pub fn is_over(&self) -> bool {
        matches!(self, Visit::WebSocket(place) if place.strong_count() == 0)
    }
}

impl Default for Entrance {
    fn default() -> Self {
        Self::new(Herd::default())
    }
}

impl Entrance {
    /// An entrance with this line.
    pub fn new(herd: Herd) -> Self {
        Self {
            herd,
            sessions: Arc::default(),
            per_address: AtomicU32::new(u32::MAX),
        }
    }

    /// From now on at most so many sessions begin for one address.
    pub fn set_per_address(&self, limit: u32) {
        self.per_address.store(limit, Ordering::Relaxed);
    }

    /// A place for a session that begins.
    ///
    /// # Errors
    /// [`Busy`]: it may come back.
    pub fn begin(&self, peer: Peer, now: Instant) -> Result<Place<Peer>, Busy> {
        if self.herd.is_full(now) {
            return Err(Busy::Line);
        }
        let limit = self.per_address.load(Ordering::Relaxed);
        self.sessions.take(&peer, limit).ok_or(Busy::Address)
    }

    /// The turn of a CONNECT that comes now.
    ///
    /// # Errors
    /// [`LineFull`].
    pub async fn turn(&self) -> Result<(), LineFull> {
        let wait = self.herd.turn(Instant::now())?;
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_of_one_address_are_bounded_and_others_come_in() {
        let entrance = Entrance::new(Herd::default());
        entrance.set_per_address(2);
        let (peer, other) = (Peer::of([192, 0, 2, 1].into()), Peer::of([192, 0, 2, 2].into()));
        let begin = |peer| entrance.begin(peer, Instant::now());
        let kept = [begin(peer).unwrap(), begin(peer).unwrap()];
        assert_eq!(begin(peer).err(), Some(Busy::Address));
        assert!(begin(other).is_ok());
        drop(kept);
        assert!(begin(peer).is_ok());
    }

    #[test]
    fn while_the_line_is_full_nobody_begins() {
        let entrance = Entrance::new(Herd::new(1, 1, 1));
        let (peer, now) = (Peer::of([192, 0, 2, 1].into()), Instant::now());
        for _ in 0..2 {
            assert!(entrance.begin(peer, now).is_ok());
            entrance.herd.turn(now).ok();
        }
        assert_eq!(entrance.begin(peer, now).err(), Some(Busy::Line));
    }

    #[test]
    fn a_session_on_websocket_is_over_with_its_stream() {
        let place = Arc::new(
            Entrance::new(Herd::default())
                .begin(Peer::of([192, 0, 2, 1].into()), Instant::now())
                .unwrap(),
        );
        let visit = Visit::WebSocket(Arc::downgrade(&place));
        assert!(!visit.is_over());
        drop(place);
        assert!(visit.is_over());
    }
}
