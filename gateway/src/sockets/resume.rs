//! resume: a client comes back. Which session is its, what has it missed, and is all of that still there?
//!
//! The answer is all or nothing, and is known before CONNECT: the same pid means recovered, another one means not. Rooms
//! are asked for again from what the client said then, by today's identity and today's rules.

use std::sync::Arc;

use aldis_core::channel::Channel;
use aldis_core::identity::Identity;
use aldis_core::json::Json;
use aldis_core::membership::{Answer, ClientEvent};
use serde_json::json;

use super::Shared;
use crate::adapter::{Adapter, Incomplete, Position, Since};
use crate::hub::{CloseReason, Parted};
use crate::sessions::{Joined, Pid, Session};

/// Most deliveries that a client gets back. 2,000: half of what its queue holds while it polls.
pub const BACKLOG_DELIVERIES: usize = 2_000;
/// Most bytes of payloads that a client gets back. 4 MiB.
pub const BACKLOG_BYTES: usize = 4 * 1024 * 1024;

/// What a client shows when it comes back: `auth: {pid, offset}`, which Socket.IO clients since 4.6 do by themselves.
#[derive(Debug, Default)]
pub(super) struct Offer {
    pid: Option<Pid>,
    offset: Offset,
}

/// The last position that a client says it has received.
#[derive(Debug, Default, PartialEq)]
enum Offset {
    /// It has received none.
    #[default]
    Absent,
    /// It says something that is no position.
    Unreadable,
    At(Position),
}

impl Offer {
    pub(super) fn of(auth: Option<&Json>) -> Self {
        let field = |name: &str| auth?.get(name).filter(|value| !value.is_null());
        let text = |value: &Json| value.as_str().map(|text| text.into_owned());
        let offset = field("offset").map_or(Offset::Absent, |offset| {
            let position = text(offset).and_then(|offset| Position::parse(&offset));
            position.map_or(Offset::Unreadable, Offset::At)
        });
        Self {
            pid: field("pid").and_then(text).map(|pid| Pid::claimed(&pid)),
            offset,
        }
    }
}

/// What a client gets back.
pub(super) struct Resumption {
    /// Its session: the former one where it is recovered.
    pub(super) session: Arc<Session>,
    /// Rooms of the former session that it may still be in.
    pub(super) rooms: Vec<Joined>,
    /// Rooms of the former session that it may no longer be in.
    denied: Vec<Joined>,
    state: State,
}

enum State {
    /// There was nothing to come back to.
    Fresh,
    /// Everything that was missed since this place is there.
    Recovered { begin: Position, since: Since },
    /// Something can not be had any more.
    NotRecovered { reason: &'static str },
}

/// Finds the session of a client that comes back, takes it from whoever still has it, and decides.
pub(super) async fn resume<A: Adapter>(
    shared: &Shared<A>,
    channel: &Channel,
    identity: &Identity,
    offer: &Offer,
) -> Resumption {
    let fresh = |rooms, denied, state| {
        let session = shared.sessions.begin(&channel.name, identity, shared.clock.now());
        Resumption {
            session,
            rooms,
            denied,
            state,
        }
    };
    let Some(pid) = &offer.pid else {
        return fresh(Vec::new(), Vec::new(), State::Fresh);
    };
    let session = match shared.sessions.find(&channel.name, pid, identity) {
        Ok(session) => session,
        Err(none) => return fresh(Vec::new(), Vec::new(), State::NotRecovered { reason: none.as_str() }),
    };
    let parted = part_from_former_client(shared, channel, &session);
    let (rooms, denied) = still_allowed(shared, channel, identity, session.rooms().0);
    let not_recovered = |reason| {
        shared.sessions.end(&channel.name, pid);
        fresh(rooms.clone(), denied.clone(), State::NotRecovered { reason })
    };
    // A client that has not received any position yet has had nothing since it began.
    let offset = match (&offer.offset, session.began()) {
        (Offset::Unreadable, _) => None,
        (Offset::Absent, began) => began,
        // What it had before this session began is none of this session.
        (Offset::At(at), Some(began)) if at.epoch != began.epoch || at.seq < began.seq => Some(began),
        (Offset::At(at), _) => Some(at.clone()),
    };
    let Some(offset) = offset else {
        return not_recovered("offset");
    };
    let after = reached(offset.seq, parted);
    let since = Since {
        rooms: rooms
            .iter()
            .map(|room| (room.room.clone(), after.max(room.at)))
            .collect(),
        everyone: after,
    };
    match shared.adapter.read(&channel.name, &offset.epoch, &since).await {
        Err(Incomplete::Epoch) => not_recovered("epoch"),
        Err(Incomplete::History) => not_recovered("history"),
        Ok(missed) if missed.0.len() > BACKLOG_DELIVERIES || missed.bytes() > BACKLOG_BYTES => not_recovered("backlog"),
        Ok(_) => {
            let begin = Position { seq: after, ..offset };
            Resumption {
                session,
                rooms,
                denied,
                state: State::Recovered { begin, since },
            }
        }
    }
}

/// A client that has the last position that was sent to it has everything up to where it parted.
fn reached(offset: u64, parted: Option<Parted>) -> u64 {
    match parted {
        Some(parted) if offset >= parted.last_sent => offset.max(parted.at),
        _ => offset,
    }
}

/// The former connection may not know yet that it is dead.
fn part_from_former_client<A: Adapter>(shared: &Shared<A>, channel: &Channel, session: &Session) -> Option<Parted> {
    if let Some(former) = session.client()
        && let Some(parted) = shared.hub.kick(&channel.name, former, CloseReason::TakenOver)
    {
        session.parted(former, parted, shared.clock.now());
    }
    session.rooms().1
}

/// Asks for every room again, by what the client said then, and splits them into those that it gets and those that it does not.
fn still_allowed<A: Adapter>(
    shared: &Shared<A>,
    channel: &Channel,
    identity: &Identity,
    rooms: Vec<Joined>,
) -> (Vec<Joined>, Vec<Joined>) {
    let now = shared.clock.now();
    let auto: Vec<_> = channel
        .lobby
        .auto_rooms(identity)
        .into_iter()
        .map(|membership| membership.room)
        .collect();
    rooms.into_iter().partition(|joined| match &joined.by {
        None => auto.contains(&joined.room),
        Some((event, args)) => {
            let event = ClientEvent {
                name: event,
                args,
                socket_id: "",
            };
            matches!(channel.lobby.answer(identity, &event, now), Answer::Join(again) if again.room == joined.room)
        }
    })
}

impl Resumption {
    pub(super) fn is_recovered(&self) -> bool {
        matches!(self.state, State::Recovered { .. })
    }

    /// For metrics.
    pub(super) fn outcome(&self) -> &'static str {
        match self.state {
            State::Fresh => "new",
            State::Recovered { .. } => "recovered",
            State::NotRecovered { reason } => reason,
        }
    }

    /// The place from which a recovered client goes on.
    pub(super) fn begin(&self) -> Option<Position> {
        match &self.state {
            State::Recovered { begin, .. } => Some(begin.clone()),
            _ => None,
        }
    }

    /// What a recovered client has missed.
    pub(super) fn since(&self) -> Option<(Arc<str>, Since)> {
        match &self.state {
            State::Recovered { begin, since } => Some((Arc::clone(&begin.epoch), since.clone())),
            _ => None,
        }
    }

    /// `{recovered, reason?, rooms, denied?}`: what `aldis:ready` tells.
    pub(super) fn info(&self, channel: &Channel) -> String {
        let shown = |rooms: &[Joined]| {
            rooms
                .iter()
                .filter_map(|joined| channel.lobby.shown(&joined.room))
                .collect::<Vec<_>>()
        };
        let mut info = json!({ "recovered": self.is_recovered(), "rooms": shown(&self.rooms) });
        if let State::NotRecovered { reason } = self.state {
            info["reason"] = reason.into();
        }
        if !self.denied.is_empty() {
            info["denied"] = shown(&self.denied).into();
        }
        info.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_the_last_position_has_everything_up_to_where_it_parted() {
        let parted = Some(Parted { at: 100, last_sent: 60 });
        assert_eq!(reached(60, parted), 100);
        assert_eq!(reached(59, parted), 59);
        assert_eq!(reached(60, None), 60);
        assert_eq!(reached(120, parted), 120);
    }

    #[test]
    fn an_offer_is_what_clients_send() {
        let offer = |auth: &str| Offer::of(Some(&Json::parse(auth).unwrap()));
        let both = offer(r#"{"pid":"p","offset":"e:7","token":"t"}"#);
        assert!(both.pid.is_some());
        assert_eq!(
            both.offset,
            Offset::At(Position {
                epoch: "e".into(),
                seq: 7
            })
        );
        assert_eq!(offer(r#"{"pid":"p"}"#).offset, Offset::Absent);
        for unreadable in [
            r#"{"pid":7,"offset":"2026-11-21"}"#,
            r#"{"offset":7}"#,
            r#"{"offset":"e:-1"}"#,
        ] {
            assert_eq!(offer(unreadable).offset, Offset::Unreadable, "{unreadable}");
        }
    }
}
