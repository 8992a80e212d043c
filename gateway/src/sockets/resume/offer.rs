//! What a client shows when it connects.

use aldis_core::json::{Json, Kind};
use aldis_core::membership::ClientEvent;

use crate::adapter::Position;
use crate::sessions::Pid;

/// Most joins that may come with a CONNECT. 100: each is asked for before anything is answered.
const MAX_JOINS: usize = 100;

/// `auth: {pid, offset}`, which Socket.IO clients since 4.6 send by themselves when they come back; and for others
/// `auth: {position, joins: [[event, arg], …]}`.
#[derive(Debug, Default)]
pub(in crate::sockets) struct Offer {
    pub(super) pid: Option<Pid>,
    pub(super) offset: Offset,
    pub(super) position: Offset,
    joins: Vec<Asked>,
}

/// The last position that a client says it has received.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Offset {
    /// It says none.
    #[default]
    Absent,
    /// It says something that is no position.
    Unreadable,
    At(Position),
}

/// A join that came along.
#[derive(Debug)]
pub(super) struct Asked {
    event: String,
    args: Json,
}

impl Asked {
    pub(super) fn event(&self) -> ClientEvent<'_> {
        ClientEvent {
            name: &self.event,
            args: &self.args,
            binary: false,
            socket_id: "",
        }
    }
}

impl Offer {
    pub(in crate::sockets) fn of(auth: Option<&Json>) -> Self {
        let field = |name: &str| auth?.get(name).filter(|value| !value.is_null());
        let text = |value: &Json| value.as_str().map(|text| text.into_owned());
        let place = |name: &str| {
            field(name).map_or(Offset::Absent, |place| {
                let position = text(place).and_then(|place| Position::parse(&place));
                position.map_or(Offset::Unreadable, Offset::At)
            })
        };
        let joins = field("joins").map(Json::elements).unwrap_or_default();
        Self {
            pid: field("pid").and_then(text).map(|pid| Pid::claimed(&pid)),
            offset: place("offset"),
            position: place("position"),
            joins: joins.iter().take(MAX_JOINS).map(asked).collect(),
        }
    }

    pub(super) fn joins(&self) -> &[Asked] {
        &self.joins
    }
}

/// What is no event is asked for all the same, and refused: each has its answer.
fn asked(join: &Json) -> Asked {
    let (name, args) = match join.elements().split_first().filter(|_| join.kind() == Kind::List) {
        Some((name, args)) => (name.as_str().unwrap_or_default().into_owned(), args),
        None => (String::new(), &[][..]),
    };
    let args: Vec<_> = args.iter().map(Json::text).collect();
    Asked {
        event: name,
        args: Json::parse(format!("[{}]", args.join(","))).unwrap_or_else(|_| Json::null()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(auth: &str) -> Offer {
        Offer::of(Some(&Json::parse(auth).unwrap()))
    }

    fn at(epoch: &str, seq: u64) -> Offset {
        Offset::At(Position {
            epoch: epoch.into(),
            seq,
        })
    }

    #[test]
    fn an_offer_is_what_clients_send() {
        let both = offer(r#"{"pid":"p","offset":"e:7","token":"t"}"#);
        assert!(both.pid.is_some());
        assert_eq!((both.offset, both.position), (at("e", 7), Offset::Absent));
        assert_eq!(offer(r#"{"pid":"p"}"#).offset, Offset::Absent);
        assert_eq!(offer(r#"{"position":"e:9"}"#).position, at("e", 9));
    }

    #[test]
    fn what_is_no_position_is_unreadable() {
        for offset in [
            "\"2026-11-21\"",
            "\"pong\"",
            "\"\"",
            "7",
            "{}",
            "[\"e:7\"]",
            "true",
            "\"e:-1\"",
            "\"e:1.0\"",
            "\"e:18446744073709551616\"",
            "\"e: 1\"",
            "\"e:\"",
        ] {
            let auth = format!("{{\"pid\":7,\"offset\":{offset},\"position\":{offset}}}");
            let offer = offer(&auth);
            assert!(offer.pid.is_none());
            assert_eq!(
                (offer.offset, offer.position),
                (Offset::Unreadable, Offset::Unreadable),
                "{offset}"
            );
        }
    }

    #[test]
    fn joins_are_events_and_bounded() {
        let joins = |auth: &str| {
            let offer = offer(auth);
            let events = offer
                .joins()
                .iter()
                .map(|asked| format!("{} {}", asked.event, asked.args.text()));
            events.collect::<Vec<_>>()
        };
        assert_eq!(
            joins(r#"{"joins":[["join",{"room":"a"}],["join"],"join",[7],{}]}"#),
            [r#"join [{"room":"a"}]"#, "join []", " []", " []", " []"]
        );
        assert!(joins(r#"{"joins":"join"}"#).is_empty());
        let many = format!("{{\"joins\":[{}]}}", vec!["[\"join\"]"; 500].join(","));
        assert_eq!(joins(&many).len(), MAX_JOINS);
    }
}
