//! resume: a client comes back. Which session is its, what has it missed, and is all of that still there?
//!
//! ```text
//! claim   the session, from whoever has it: a new generation
//! wish    which rooms (by today's identity and rules), and from where on
//! enter   into the hub: what comes from now on is held
//! read    what came before that: all of it, or the client is told why not
//! ```
//! The answer is all or nothing, and is known before CONNECT: the same pid means recovered, another one means not. What
//! was read is kept until CONNECT has gone out, so nothing can be missing then.

use std::sync::Arc;

use aldis_core::channel::Channel;
use aldis_core::identity::Identity;
use aldis_core::membership::Denial;
use serde_json::{Value, json};
use thiserror::Error;

use super::{Shared, rooms};
use crate::adapter::{
    Adapter, AdapterError, Bound, ChannelRef, Incomplete, Missed, Position, SessionChange, SharedClaim, Since, Written,
};
use crate::hub::{Client, CloseReason, Parted, RoomsFull};
use crate::sabotage::Rule;
use crate::sessions::{Claim, Generation, Joined, NotRecovered, Session, Start};

mod offer;
mod seat;

pub(super) use offer::Offer;
use offer::Offset;
pub(super) use seat::Seat;

/// The first event that a client gets: whether it was recovered, and its rooms.
const READY_EVENT: &str = "aldis:ready";

/// Most that a client gets back. 2,000 deliveries, half of what its queue holds while it polls; 4 MiB.
pub const BACKLOG: Bound = Bound {
    deliveries: 2_000,
    bytes: 4 * 1024 * 1024,
};

/// A client that is about to connect: in the hub, and with all that it will be told.
pub(super) struct Arrival {
    /// By whose rules it is let in.
    pub(super) channel: Arc<Channel>,
    /// Its place in the hub.
    pub(super) seat: Seat,
    /// Its session: the former one where it is recovered by it.
    pub(super) session: Arc<Session>,
    pub(super) generation: Generation,
    /// The rooms that it is in.
    rooms: Vec<Joined>,
    /// Whether it knows its session's name: not where the channel keeps no history.
    pub(super) may_come_back: bool,
    /// The place from which it goes on.
    begin: Position,
    /// What it has missed of its rooms since then; where it entered the hub, some of that may be held there too.
    missed: Missed,
    since: Since,
    /// Rooms of the former session that it may no longer be in.
    denied: Vec<Box<str>>,
    /// Answers to the joins that came along.
    answers: Vec<Value>,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// There was nothing to come back to.
    Fresh,
    /// Everything that was missed is there.
    Recovered,
    /// Something can not be had any more, or is not this client's.
    NotRecovered(NotRecovered),
}

/// What a client is to have.
#[derive(Default)]
struct Wish {
    /// How many rooms it may be in.
    max_rooms: usize,
    /// Rooms; those that are to be read back have their place.
    rooms: Vec<Joined>,
    denied: Vec<Box<str>>,
    answers: Vec<Value>,
    /// Where it says that it was.
    from: Option<Result<From, NotRecovered>>,
}

/// Where a client was: it has had nothing after `since`.
struct From {
    begin: Position,
    since: Since,
}

/// Why it can not be decided now.
#[derive(Debug, Error)]
pub(super) enum NotNow {
    /// It may be in a moment.
    #[error(transparent)]
    Unavailable(#[from] AdapterError),
    /// A later connection has the session.
    #[error("a later connection has the session")]
    TakenOver,
    /// There is no place for its rooms.
    #[error(transparent)]
    RoomsFull(#[from] RoomsFull),
}

/// Decides what a client gets back whose session has been claimed.
///
/// # Errors
/// [`NotNow`]: nothing has happened, and the claim is as good as before.
pub(super) async fn resume<A: Adapter>(
    shared: &Shared<A>,
    channel: &Arc<Channel>,
    identity: &Arc<Identity>,
    offer: &Offer,
    claim: Option<&Result<Claim, NotRecovered>>,
) -> Result<Arrival, NotNow> {
    let wish = wish(shared, channel, identity, offer, claim);
    let keys: Vec<_> = wish.rooms.iter().map(|joined| joined.room.clone()).collect();
    let hosted = shared.adapter.host(ChannelRef::of(channel), &keys).await?;
    let seat = Seat::enter(&shared.hub, &channel.name, &keys, hosted, shared.room_limits(channel))?;
    let read = match &wish.from {
        None => None,
        Some(Err(reason)) => Some(Err(*reason)),
        Some(Ok(from)) => Some(read(shared, channel, from).await?),
    };

    let outcome = match &read {
        None => Outcome::Fresh,
        Some(Ok(_)) => Outcome::Recovered,
        Some(Err(reason)) => Outcome::NotRecovered(*reason),
    };
    let (begin, since, missed) = match (wish.from, read) {
        (Some(Ok(from)), Some(Ok(missed))) => (from.begin, from.since, missed),
        _ => (seat.position.clone(), Since::default(), Missed::default()),
    };
    let rooms = wish.rooms.into_iter().map(|joined| Joined {
        at: since.rooms.get(&joined.room).copied().unwrap_or(seat.position.seq),
        ..joined
    });
    let rooms: Vec<_> = rooms.collect();
    let may_come_back = channel.history_size > 0;
    let (session, generation) = match claim {
        Some(Ok(claim)) if outcome == Outcome::Recovered => (Arc::clone(&claim.session), claim.generation),
        // The former one waits on: whoever is cut off before it hears the new name comes back with the old one, to its rooms.
        _ => {
            let start = Start {
                at: begin.clone(),
                reason: outcome.reason(),
            };
            let now = shared.clock.now();
            shared
                .sessions
                .begin(&channel.name, identity, start, rooms.clone(), now)
        }
    };
    if may_come_back {
        let take = SessionChange::Take {
            identity,
            client: seat.id,
            start: &session.start(),
            begun: &begin,
            rooms: &rooms,
        };
        let adapter = &shared.adapter;
        let taken = adapter.write_session(ChannelRef::of(channel), &session.pid, generation, take);
        if taken.await? != Written::Yes {
            return Err(NotNow::TakenOver);
        }
    }
    Ok(Arrival {
        channel: Arc::clone(channel),
        may_come_back,
        rooms,
        seat,
        session,
        generation,
        begin,
        missed,
        since,
        denied: wish.denied,
        answers: wish.answers,
        outcome,
    })
}

/// Claims the session that the client names, and ends the connection that still has it: that one may not know yet that it is
/// dead.
pub(super) async fn claim<A: Adapter>(
    shared: &Shared<A>,
    channel: &Channel,
    identity: &Arc<Identity>,
    offer: &Offer,
) -> Result<Option<Result<Claim, NotRecovered>>, NotNow> {
    let Some(pid) = &offer.pid else { return Ok(None) };
    let claimed = shared.adapter.claim_session(ChannelRef::of(channel), pid, identity);
    let claimed = claimed.await?;
    let now = shared.clock.now();
    let claim = match claimed {
        SharedClaim::NotShared => shared.sessions.claim(&channel.name, pid, identity, now),
        SharedClaim::Unknown => Err(NotRecovered::SessionUnknown),
        SharedClaim::Identity => Err(NotRecovered::Identity),
        SharedClaim::Dismissed => Err(NotRecovered::Dismissed),
        SharedClaim::Claimed(stored) => Ok(shared.sessions.adopt(&channel.name, pid, identity, stored, now)),
    };
    Ok(Some(claim.map(|claim| {
        let former = claim.former;
        let parted = former.and_then(|former| shared.hub.kick(&channel.name, former, CloseReason::TakenOver));
        if let Some(parted) = &parted {
            claim.session.parted(claim.generation, parted.clone(), now);
        }
        Claim {
            parted: parted.or(claim.parted),
            ..claim
        }
    })))
}

/// Which rooms, and from where on. A position that the client names counts only where it has no session.
fn wish<A: Adapter>(
    shared: &Shared<A>,
    channel: &Channel,
    identity: &Identity,
    offer: &Offer,
    claim: Option<&Result<Claim, NotRecovered>>,
) -> Wish {
    let mut wish = Wish {
        max_rooms: channel.limits.rooms_per_connection as usize,
        ..Wish::default()
    };
    match claim {
        Some(Ok(claim)) => {
            for joined in &claim.rooms {
                match rooms::still_allowed(channel, identity, joined, shared.clock.now()) {
                    Ok(()) => wish.rooms.push(joined.clone()),
                    Err(_) => wish.denied.push(joined.shown.clone()),
                }
            }
            let at = came_to(claim, &offer.offset, shared.adapter.is_shared());
            wish.from = Some(at.map(|at| From::of(at, &wish.rooms)));
            wish.add(rooms::auto(channel, identity));
        }
        none => {
            wish.add(rooms::auto(channel, identity));
            for asked in offer.joins() {
                let joined = rooms::join(channel, identity, &asked.event(), shared.clock.now());
                let joined = joined.and_then(|joined| wish.fits(joined));
                wish.answers.push(rooms::answer(&joined));
                wish.add(joined);
            }
            wish.from = match (&offer.position, none) {
                (Offset::At(at), _) => Some(Ok(From::of(at.clone(), &wish.rooms))),
                (Offset::Unreadable, _) => Some(Err(NotRecovered::Offset)),
                (Offset::Absent, Some(Err(none))) => Some(Err(*none)),
                (Offset::Absent, _) => None,
            };
        }
    }
    wish
}

/// How far the client of a session had come, for certain. Where a session outlives epochs, numbers go on from one to the next.
fn came_to(claim: &Claim, offset: &Offset, outlives_epochs: bool) -> Result<Position, NotRecovered> {
    let began = &claim.start.at;
    let offset = match offset {
        Offset::At(at) if at.seq >= began.seq && (at.epoch == began.epoch || outlives_epochs) => at,
        // It has received nothing of this session, and what it had before is none of it: that begins with `aldis:ready`.
        Offset::At(_) | Offset::Absent => match claim.start.reason {
            Some(reason) => return Err(reason),
            None => began,
        },
        // It can not say; but where nothing has been sent since it last began, it has had that.
        Offset::Unreadable => {
            let sent = claim
                .parted
                .as_ref()
                .is_none_or(|parted| parted.last_sent > claim.begun.seq);
            if sent {
                return Err(NotRecovered::Offset);
            }
            &claim.begun
        }
    };
    Ok(reached(offset, claim.parted.as_ref()))
}

/// A client that has the last position that was sent to it has everything up to where it parted.
/// That is told in the epoch of then, which may have begun since the client was sent anything: numbers go on, but a number of one
/// epoch says nothing in another.
fn reached(offset: &Position, parted: Option<&Parted>) -> Position {
    let parted = parted.filter(|parted| offset.seq >= parted.last_sent);
    let at = parted.and_then(|parted| parted.at.as_ref());
    at.filter(|at| at.seq >= offset.seq).unwrap_or(offset).clone()
}

/// Reads what came before the client entered the hub, at least: what has come since is held there.
async fn read<A: Adapter>(
    shared: &Shared<A>,
    channel: &Channel,
    from: &From,
) -> Result<Result<Missed, NotRecovered>, NotNow> {
    let read = shared
        .adapter
        .read(ChannelRef::of(channel), &from.begin.epoch, &from.since, BACKLOG)
        .await;
    Ok(match read {
        Ok(missed) => Ok(missed),
        Err(_) if !Rule::CompleteOrTold.is_on() => Ok(Missed::default()),
        Err(Incomplete::Epoch) => Err(NotRecovered::Epoch),
        Err(Incomplete::History) => Err(NotRecovered::History),
        Err(Incomplete::TooMuch) => Err(NotRecovered::Backlog),
        Err(Incomplete::Unavailable) => {
            return Err(AdapterError::Unavailable("what was missed can not be read".to_owned()).into());
        }
    })
}

impl Outcome {
    fn reason(self) -> Option<NotRecovered> {
        match self {
            Outcome::NotRecovered(reason) => Some(reason),
            Outcome::Fresh | Outcome::Recovered => None,
        }
    }
}

impl Wish {
    /// Adds rooms that it does not have yet, up to as many as it may be in.
    fn add(&mut self, rooms: impl IntoIterator<Item = Joined>) {
        for joined in rooms {
            if self.rooms.len() < self.max_rooms && !self.has(&joined) {
                self.rooms.push(joined);
            }
        }
    }

    fn has(&self, joined: &Joined) -> bool {
        self.rooms.iter().any(|known| known.room == joined.room)
    }

    /// A room that it may still be in beside the others.
    fn fits(&self, joined: Joined) -> Result<Joined, Denial> {
        match self.rooms.len() < self.max_rooms || self.has(&joined) {
            true => Ok(joined),
            false => Err(Denial {
                code: "too_many_rooms",
                message: format!("you may be in {} rooms", self.max_rooms),
            }),
        }
    }
}

impl From {
    /// From a place on, but of each room only what came after the client was in it.
    fn of(begin: Position, rooms: &[Joined]) -> Self {
        let rooms = rooms.iter();
        let since = Since {
            rooms: rooms
                .map(|joined| (joined.room.clone(), begin.seq.max(joined.at)))
                .collect(),
            everyone: begin.seq,
        };
        Self { begin, since }
    }
}

impl Arrival {
    pub(super) fn is_recovered(&self) -> bool {
        self.outcome == Outcome::Recovered
    }

    /// For metrics.
    pub(super) fn outcome(&self) -> &'static str {
        match self.outcome {
            Outcome::Fresh => "new",
            Outcome::Recovered => "recovered",
            Outcome::NotRecovered(reason) => reason.as_str(),
        }
    }

    /// CONNECT has gone out: the session is this client's, and it hears how it stands. Gives false where it has to come back:
    /// a later one has the session, or more came for it than is held.
    #[must_use]
    pub(super) fn welcome<A>(&self, shared: &Shared<A>, identity: &Arc<Identity>, client: Box<dyn Client>) -> bool {
        let (id, rooms) = (self.seat.id, self.rooms.clone());
        let taken = self.session.take(self.generation, id, identity, rooms, &self.begin);
        let seq = if self.may_come_back { self.begin.seq } else { 0 };
        shared.hub.begin(&self.seat.channel, id, seq);
        if !taken || !self.seat.attach(client) {
            return false;
        }
        if self.may_come_back {
            let info = self.info().into();
            shared
                .hub
                .announce(&self.seat.channel, id, READY_EVENT, info, self.begin.clone());
        }
        true
    }

    /// It gets what it has missed, and what has come meanwhile.
    pub(super) fn release<A>(&self, shared: &Shared<A>) {
        shared
            .hub
            .release(&self.seat.channel, self.seat.id, &self.missed.0, &self.since);
    }

    /// The rooms that it is in, as they are shown.
    pub(super) fn rooms(&self) -> Vec<&str> {
        self.rooms.iter().map(|joined| &*joined.shown).collect()
    }

    /// `{recovered, reason?, rooms, denied?, joins?}`: what `aldis:ready` tells.
    fn info(&self) -> String {
        let mut info = json!({ "recovered": self.is_recovered(), "rooms": self.rooms() });
        if let Some(reason) = self.outcome.reason() {
            info["reason"] = reason.as_str().into();
        }
        if !self.denied.is_empty() {
            info["denied"] = json!(self.denied);
        }
        if !self.answers.is_empty() {
            info["joins"] = json!(self.answers);
        }
        info.to_string()
    }
}

#[cfg(test)]
mod tests;
