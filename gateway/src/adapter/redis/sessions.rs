//! Sessions in Redis, where every replica finds them: a hash each, with a field for each room.

use aldis_core::identity::Identity;
use aldis_core::json::Json;
use aldis_core::room::RoomKey;
use serde_json::{Value as JsonValue, json};

use super::answer::Answer;
use super::keys;
use super::scripts::{self, Call, outcome};
use super::{RedisAdapter, room_ttl};
use crate::adapter::{AdapterError, ChannelRef, Position, Publish, SessionChange, SharedClaim, StoredSession, Written};
use crate::hub::Parted;
use crate::sessions::{Generation, Joined, NotRecovered, Pid, Start};

/// What the name of a room's field begins with.
const ROOM: &str = "r:";

impl<P: Publish> RedisAdapter<P> {
    pub(super) async fn claim(
        &self,
        channel: &ChannelRef<'_>,
        pid: &Pid,
        identity: &Identity,
    ) -> Result<SharedClaim, AdapterError> {
        let keys = self.keys(channel);
        let call = Call::new(scripts::claim(), &keys)
            .arg(pid.reveal())
            .arg(whose(identity))
            .arg(channel.keep.ttl_ms)
            .arg(
                identity
                    .user
                    .as_ref()
                    .map_or_else(String::new, |user| format!("u:{user}")),
            );
        let answer = self.run(&keys, &call).await?;
        Ok(match outcome(&answer) {
            "ok" => {
                let stored = stored(&Answer(Answer(&answer).list(1)));
                stored.map_or(SharedClaim::Unknown, SharedClaim::Claimed)
            }
            "identity" => SharedClaim::Identity,
            "dismissed" => SharedClaim::Dismissed,
            _ => SharedClaim::Unknown,
        })
    }

    pub(super) async fn write(
        &self,
        channel: &ChannelRef<'_>,
        pid: &Pid,
        generation: Generation,
        change: SessionChange<'_>,
    ) -> Result<Written, AdapterError> {
        let keys = self.keys(channel);
        let ttl = match change {
            SessionChange::Parted(_) => channel.keep.ttl_ms,
            _ => room_ttl(channel),
        };
        let call = Call::new(scripts::session(), &keys)
            .arg(pid.reveal())
            .arg(generation.number())
            .arg(ttl);
        let call = self.change(call, generation, &change);
        Ok(match outcome(&self.run(&keys, &call).await?) {
            "ok" => Written::Yes,
            "unknown" => Written::Forgotten,
            _ => Written::TakenOver,
        })
    }

    fn change(&self, call: Call, generation: Generation, change: &SessionChange<'_>) -> Call {
        match change {
            SessionChange::Take {
                identity,
                client,
                start,
                begun,
                rooms,
            } => {
                let fields = [
                    ("generation", generation.number().to_string()),
                    ("whose", whose(identity)),
                    ("replica", self.nodes.here.replica.clone()),
                    ("client", client.to_string()),
                    ("start", start.at.to_string()),
                    ("reason", start.reason.map_or("", NotRecovered::as_str).to_owned()),
                    ("begun", begun.to_string()),
                ];
                let fields = fields.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
                let rooms = rooms.iter().flat_map(room_field);
                call.arg("take").arg(0).args(fields).args(rooms)
            }
            SessionChange::Joined(joined) => call.arg("change").arg(0).args(room_field(joined)),
            SessionChange::Left(room) => call.arg("change").arg(1).arg(format!("{ROOM}{}", keys::room(room))),
            SessionChange::Parted(parted) => {
                let at = parted.at.as_ref().map(Position::to_string).unwrap_or_default();
                let parted = format!("{at} {}", parted.last_sent);
                call.arg("change")
                    .arg(2)
                    .args(["replica", "client"])
                    .args(["parted".to_owned(), parted])
            }
            SessionChange::Stay => call.arg("change").arg(0).args(["replica", &self.nodes.here.replica]),
            SessionChange::End => call.arg("end").arg(0),
        }
    }
}

/// Whose a session is: it is given to nobody else.
fn whose(identity: &Identity) -> String {
    json!([identity.method, identity.user]).to_string()
}

fn room_field(joined: &Joined) -> [String; 2] {
    let (event, args) = match &joined.by {
        Some((event, args)) => (json!(event), json!(args.text())),
        None => (JsonValue::Null, JsonValue::Null),
    };
    let values: Vec<&str> = joined.room.values.iter().map(|value| &**value).collect();
    let field = json!({
        "name": &*joined.room.name, "values": values, "shown": &*joined.shown, "event": event, "args": args, "at": joined.at,
    });
    [format!("{ROOM}{}", keys::room(&joined.room)), field.to_string()]
}

fn joined(field: &str) -> Option<Joined> {
    let field: JsonValue = serde_json::from_str(field).ok()?;
    let values: Option<Vec<Box<str>>> = field["values"]
        .as_array()?
        .iter()
        .map(|value| value.as_str().map(Box::from))
        .collect();
    let by = match (field["event"].as_str(), field["args"].as_str()) {
        (Some(event), Some(args)) => Some((event.to_owned(), Json::parse(args).ok()?)),
        _ => None,
    };
    Some(Joined {
        room: RoomKey {
            name: field["name"].as_str()?.into(),
            values: values?.into(),
        },
        shown: field["shown"].as_str()?.into(),
        by,
        at: field["at"].as_u64()?,
    })
}

/// What the fields of a session say; `None` where it can not be read. A room that can not be read is one that its client is no
/// longer in.
fn stored(fields: &Answer<'_>) -> Option<StoredSession> {
    let (mut generation, mut start, mut reason, mut begun, mut parted, mut from) = (None, None, None, None, None, None);
    let mut rooms = Vec::new();
    for at in (0..fields.len()).step_by(2) {
        let value = fields.text(at + 1);
        match fields.text(at) {
            "generation" => generation = value.parse().ok().map(Generation::of),
            "start" => start = Position::parse(value),
            "reason" => reason = NotRecovered::parse(value),
            "begun" => begun = Position::parse(value),
            "replica" => from = Some(value.into()),
            "parted" => {
                let numbers = value.split_once(' ');
                parted = numbers.and_then(|(at, last_sent)| {
                    Some(Parted {
                        at: Position::parse(at),
                        last_sent: last_sent.parse().ok()?,
                    })
                });
            }
            name if name.starts_with(ROOM) => rooms.extend(joined(value)),
            _ => {}
        }
    }
    // Redis keeps fields in no order of its own; clients are shown their rooms in the order of their joins.
    rooms.sort_by(|a, b| (a.at, &a.shown).cmp(&(b.at, &b.shown)));
    Some(StoredSession {
        generation: generation?,
        start: Start { at: start?, reason },
        begun: begun?,
        parted,
        from,
        rooms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_of_a_session_comes_back_as_it_was() {
        let room = Joined {
            room: RoomKey {
                name: "orders".into(),
                values: [Box::from("a\"b"), Box::from("")].into(),
            },
            shown: "orders:a".into(),
            by: Some(("join".to_owned(), Json::parse(r#"[{"tenant":"a\"b"}]"#).unwrap())),
            at: 7,
        };
        let [_, field] = room_field(&room);
        let back = joined(&field).unwrap();
        assert_eq!(format!("{back:?}"), format!("{room:?}"));
        assert!(joined("{}").is_none());
    }

    #[test]
    fn identities_that_differ_own_different_sessions() {
        let identity = |user: Option<&str>, method: &str| Identity {
            user: user.map(str::to_owned),
            method: method.to_owned(),
            expires: None,
            json: Json::null(),
        };
        let owners = [
            whose(&identity(Some("a"), "jwt")),
            whose(&identity(None, "jwt")),
            whose(&identity(Some("a"), "query")),
            whose(&identity(Some("\",\"a"), "jwt")),
        ];
        let different: std::collections::HashSet<_> = owners.iter().collect();
        assert_eq!(different.len(), owners.len());
    }
}
