//! Which rooms a client may be in: by what it said when it joined, who it is today, and today's rules.

use aldis_core::channel::Channel;
use aldis_core::identity::Identity;
use aldis_core::json::Json;
use aldis_core::membership::{Answer, ClientEvent, Denial, Membership, denial_json};
use aldis_core::time::Millis;
use serde_json::json;

use crate::sabotage::Rule;
use crate::sessions::Joined;

/// Longest first argument of a join, in bytes: it is kept with the session. 4 KiB.
const MAX_JOIN: usize = 4 * 1024;

/// Why a client is no longer in a room, as `aldis:left` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// Today's rules say no.
    Denied,
    /// What the client asked for is no room any more, or another one.
    Changed,
}

impl Lost {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Lost::Denied => "denied",
            Lost::Changed => "changed",
        }
    }
}

/// Asks for a room again as the client did then.
pub(super) fn still_allowed(channel: &Channel, identity: &Identity, joined: &Joined, now: Millis) -> Result<(), Lost> {
    if !Rule::Identity.is_on() {
        return Ok(());
    }
    let Some((event, args)) = &joined.by else {
        let auto = channel.lobby.auto_rooms(identity);
        let stays = auto.iter().any(|membership| membership.room == joined.room);
        return if stays { Ok(()) } else { Err(Lost::Denied) };
    };
    let event = ClientEvent {
        name: event,
        args,
        binary: false,
        socket_id: "",
    };
    match channel.lobby.answer(identity, &event, now) {
        Answer::Join(again) if again.room == joined.room => Ok(()),
        Answer::Refuse(denial) if denial.code == "denied" => Err(Lost::Denied),
        _ => Err(Lost::Changed),
    }
}

/// The rooms that a client joins by itself.
pub(super) fn auto(channel: &Channel, identity: &Identity) -> impl Iterator<Item = Joined> {
    let memberships = channel.lobby.auto_rooms(identity).into_iter();
    memberships.map(|membership| joined(membership, None))
}

/// The room of a join that was let in, with what is to be asked again. Its place is not known yet.
///
/// # Errors
/// Where the argument is too long to be kept.
pub(super) fn asked(membership: Membership, event: &str, args: &Json) -> Result<Joined, Denial> {
    // Rooms are decided by the first argument alone.
    let args = first_only(args);
    if args.text().len() > MAX_JOIN {
        return Err(Denial {
            code: "too_large",
            message: format!("the argument of a join has at most {MAX_JOIN} bytes"),
        });
    }
    Ok(joined(membership, Some((event.to_owned(), args))))
}

/// A join that came with the CONNECT.
pub(super) fn join(
    channel: &Channel,
    identity: &Identity,
    event: &ClientEvent<'_>,
    now: Millis,
) -> Result<Joined, Denial> {
    match channel.lobby.answer(identity, event, now) {
        Answer::Join(membership) => asked(membership, event.name, event.args),
        Answer::Refuse(denial) => Err(denial),
        Answer::Leave(_) | Answer::Reply { .. } => Err(Denial {
            code: "no_join",
            message: "only joins can come with the connection".to_owned(),
        }),
    }
}

/// `{ok, room}` or `{ok, code, message}`, as a join is acknowledged.
pub(super) fn answer(joined: &Result<Joined, Denial>) -> serde_json::Value {
    match joined {
        Ok(joined) => json!({ "ok": true, "room": &*joined.shown }),
        Err(denial) => serde_json::from_str(&denial_json(denial)).unwrap_or_default(),
    }
}

fn joined(membership: Membership, by: Option<(String, Json)>) -> Joined {
    Joined {
        room: membership.room,
        shown: membership.shown.into(),
        by,
        at: 0,
    }
}

/// A list of the first argument alone, in memory of its own.
fn first_only(args: &Json) -> Json {
    let first = args.elements().first().map_or("", Json::text);
    Json::parse(format!("[{first}]")).unwrap_or_else(|_| Json::null())
}
