//! answer: what a client event does: join a room, leave it, or get a reply.

use std::collections::HashMap;
use std::sync::Arc;

use aldis_crds::channel::{Greeting as GreetingSpec, Reply as ReplySpec, Room as RoomSpec};
use serde_json::Value as JsonValue;

use crate::compiler::{Compiler, Expressions};
use crate::event_name;
use crate::expression::{Expression, Names, Scope, Variable, work};
use crate::identity::Identity;
use crate::json::{Json, write_string};
use crate::room::{RoomKey, RoomPattern};
use crate::template::Template;
use crate::time::Millis;

mod reply;

pub use reply::Arguments;
use reply::Reply;

/// A client event. Does not print: the socket's id is a secret of the transport, and the arguments are the client's.
pub struct ClientEvent<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its arguments, a JSON list. Binary ones are null in it.
    pub args: &'a Json,
    /// Whether there are binary ones among them.
    pub binary: bool,
    /// Id of the socket.
    pub socket_id: &'a str,
}

impl std::fmt::Debug for ClientEvent<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClientEvent({:?})", self.name)
    }
}

/// What a client event does.
#[derive(Debug, PartialEq)]
pub enum Answer {
    /// The client joins a room.
    Join(Membership),
    /// The client leaves a room.
    Leave(Membership),
    /// The client gets something back.
    Reply {
        /// An event: its name and its arguments.
        emit: Option<(Arc<str>, Arguments)>,
        /// The acknowledgement.
        ack: Option<Arguments>,
    },
    /// Nothing, for a reason that the acknowledgement tells.
    Refuse(Denial),
}

/// A room, and how it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Membership {
    /// The room.
    pub room: RoomKey,
    /// As the channel's `key` writes it: `orders:t1`.
    pub shown: String,
}

/// Why a client event does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// For programs: `denied`, `invalid_room`, `binary_unsupported`, `unknown_event`, `failed`.
    pub code: &'static str,
    /// For people.
    pub message: String,
}

impl Denial {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

/// The compiled rooms, replies and greeting of a channel.
#[derive(Debug, Default)]
pub struct Lobby {
    rooms: Vec<Room>,
    replies: Vec<Reply>,
    events: HashMap<String, Action>,
    greeting: Option<(Template, Template)>,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Join(usize),
    Leave(usize),
    Reply(usize),
}

#[derive(Debug)]
struct Room {
    pattern: Arc<RoomPattern>,
    with: Expressions,
    allow: Option<Expression>,
    auto: Option<Auto>,
}

#[derive(Debug)]
struct Auto {
    when: Option<Expression>,
    with: Expressions,
}

const ARGS: [&str; 3] = ["args", "arg", "identity"];
const GREETING: [&str; 4] = ["identity", "socket.id", "handshake.auth", "now"];

impl Lobby {
    pub(crate) fn compile(
        rooms: &[RoomSpec],
        patterns: &HashMap<String, Arc<RoomPattern>>,
        replies: &[ReplySpec],
        greeting: Option<&GreetingSpec>,
        compiler: &mut Compiler,
    ) -> Self {
        let mut lobby = Self::default();
        for (index, spec) in rooms.iter().enumerate() {
            let field = format!("spec.rooms[{index}]");
            let Some(pattern) = patterns.get(&spec.name) else {
                continue;
            };
            let position = lobby.rooms.len();
            if let Some(join) = &spec.join {
                lobby.claim(
                    &format!("{field}.join.event"),
                    join.event.as_deref(),
                    Action::Join(position),
                    compiler,
                );
                lobby.claim(
                    &format!("{field}.join.leave"),
                    join.leave.as_deref(),
                    Action::Leave(position),
                    compiler,
                );
            }
            lobby.rooms.push(Room::compile(&field, spec, pattern, compiler));
        }
        for (index, spec) in replies.iter().enumerate() {
            let field = format!("spec.replies[{index}]");
            lobby.claim(
                &format!("{field}.event"),
                Some(&spec.event),
                Action::Reply(index),
                compiler,
            );
            lobby.replies.push(Reply::compile(&field, spec, compiler));
        }
        lobby.greeting = greeting.and_then(|spec| {
            let names = Names(&GREETING);
            let event = compiler.event_name("spec.greeting.event", &spec.event, &names);
            let payload = compiler.template("spec.greeting.payload", &spec.payload, &names);
            Some((event?, payload?))
        });
        lobby
    }

    fn claim(&mut self, field: &str, event: Option<&str>, action: Action, compiler: &mut Compiler) {
        let Some(event) = event else { return };
        if compiler.name_is_free(field, event) && self.events.insert(event.to_owned(), action).is_some() {
            compiler.problem(
                field,
                format!("the client event {event:?} is used above already: each does one thing"),
            );
        }
    }

    /// Whether the answer to an event tells of the channel's clients.
    pub fn needs_stats(&self, event: &str) -> bool {
        matches!(self.events.get(event), Some(Action::Reply(index)) if self.replies[*index].needs_stats)
    }

    /// Whether the answer to any event does.
    pub fn tells_stats(&self) -> bool {
        self.replies.iter().any(|reply| reply.needs_stats)
    }

    /// What a client event does.
    pub fn answer(&self, identity: &Identity, event: &ClientEvent<'_>, now: Millis) -> Answer {
        self.answer_with(identity, event, now, &Json::null())
    }

    /// [`Lobby::answer`], where [`Lobby::needs_stats`] says so with
    /// `{connections, uniqueUsers, users: [{user, connections}], roomCount, rooms: [{name, members}], replicas: {answered, of}}` of
    /// the channel.
    pub fn answer_with(&self, identity: &Identity, event: &ClientEvent<'_>, now: Millis, stats: &Json) -> Answer {
        work::bounded(|| match self.answer_bounded(identity, event, now, stats) {
            _ if work::is_exhausted() => Answer::Refuse(Denial::new("failed", work::exhausted_message())),
            answer => answer,
        })
    }

    fn answer_bounded(&self, identity: &Identity, event: &ClientEvent<'_>, now: Millis, stats: &Json) -> Answer {
        let null = Json::null();
        let arg = event.args.elements().first().unwrap_or(&null);
        let scope = client_scope(identity, arg);
        match self.events.get(event.name) {
            Some(Action::Join(_) | Action::Leave(_)) if event.binary => Answer::Refuse(Denial::new(
                "binary_unsupported",
                "a room is named without binary arguments: send text or numbers",
            )),
            Some(Action::Join(index)) => match self.rooms[*index].join(scope, identity, arg) {
                Ok(membership) => Answer::Join(membership),
                Err(denial) => Answer::Refuse(denial),
            },
            Some(Action::Leave(index)) => match self.rooms[*index].membership(&self.rooms[*index].with, &scope) {
                Ok(membership) => Answer::Leave(membership),
                Err(denial) => Answer::Refuse(denial),
            },
            Some(Action::Reply(index)) => {
                let socket_id = Json::string(event.socket_id);
                let scope = scope
                    .with("socket.id", Variable::Json(&socket_id))
                    .with("now", Variable::Time(now))
                    .with("stats", Variable::Json(stats));
                self.replies[*index].answer(&scope).unwrap_or_else(Answer::Refuse)
            }
            None => Answer::Refuse(Denial::new("unknown_event", "this channel has no such event")),
        }
    }

    /// How a room of this channel is shown; `None` where it has no such room any more.
    pub fn shown(&self, room: &RoomKey) -> Option<String> {
        let known = self.rooms.iter().find(|known| known.pattern.name() == &*room.name)?;
        (known.pattern.parameters().len() == room.values.len()).then(|| known.pattern.shown(room))
    }

    /// The rooms that a client joins by itself at connect.
    pub fn auto_rooms(&self, identity: &Identity) -> Vec<Membership> {
        let scope = Scope::new().with("identity", Variable::Json(&identity.json));
        let joins = |auto: &Auto| {
            auto.when
                .as_ref()
                .is_none_or(|when| when.holds(&scope).unwrap_or(false))
        };
        self.rooms
            .iter()
            .filter_map(|room| {
                let auto = room.auto.as_ref().filter(|auto| joins(auto))?;
                room.membership(&auto.with, &scope).ok()
            })
            .collect()
    }

    /// The event that a client gets once it has connected: its name, and its argument as JSON text. `auth` is what the
    /// client's CONNECT brought, if anything.
    pub fn greeting(
        &self,
        identity: &Identity,
        auth: Option<&Json>,
        socket_id: &str,
        now: Millis,
    ) -> Option<(String, String)> {
        let (event, payload) = self.greeting.as_ref()?;
        let socket_id = Json::string(socket_id);
        let auth = auth.cloned().unwrap_or_else(Json::empty_map);
        let scope = Scope::new()
            .with("identity", Variable::Json(&identity.json))
            .with("socket.id", Variable::Json(&socket_id))
            .with("handshake.auth", Variable::Json(&auth))
            .with("now", Variable::Time(now));
        let name = event_name::checked(event.render_name(&scope).ok()?).ok()?;
        let mut out = String::new();
        payload.render(&scope, &mut out).ok()?;
        Some((name.to_string(), out))
    }
}

fn client_scope<'a>(identity: &'a Identity, arg: &'a Json) -> Scope<'a> {
    Scope::new()
        .with("args", Variable::Json(arg))
        .with("arg", Variable::Json(arg))
        .with("identity", Variable::Json(&identity.json))
}

impl Room {
    fn compile(field: &str, spec: &RoomSpec, pattern: &Arc<RoomPattern>, compiler: &mut Compiler) -> Self {
        let join = spec.join.as_ref();
        let with = match join.filter(|join| join.event.is_some()) {
            Some(join) => {
                let field = format!("{field}.join.with");
                let with = compiler.by_name(&field, &join.with, &Names(&ARGS));
                pattern.order(&field, with, compiler)
            }
            None => Expressions::new(),
        };
        let auto = join.and_then(|join| join.auto.as_ref()).map(|auto| {
            let field = format!("{field}.join.auto");
            let names = Names(&["identity"]);
            let with = compiler.by_name(&format!("{field}.with"), &auto.with, &names);
            Auto {
                when: compiler.optional(&format!("{field}.when"), auto.when.as_deref(), &names),
                with: pattern.order(&format!("{field}.with"), with, compiler),
            }
        });
        let names = Names(&["args", "arg", "identity", "params"]);
        let allow = compiler.optional(&format!("{field}.allow"), spec.allow.as_deref(), &names);
        Self {
            pattern: Arc::clone(pattern),
            with,
            allow,
            auto,
        }
    }

    fn membership(&self, with: &Expressions, scope: &Scope<'_>) -> Result<Membership, Denial> {
        let room = self
            .pattern
            .room(with, scope)
            .map_err(|error| Denial::new("invalid_room", error.message()))?;
        Ok(Membership {
            shown: self.pattern.shown(&room),
            room,
        })
    }

    /// Absent `allow`, false and any error mean no.
    fn join(&self, scope: Scope<'_>, identity: &Identity, arg: &Json) -> Result<Membership, Denial> {
        let membership = self.membership(&self.with, &scope)?;
        let params = self.pattern.parameters().iter().zip(membership.room.values.iter());
        let params = params
            .map(|(name, value)| (name.clone(), JsonValue::String(value.to_string())))
            .collect();
        let params = Json::from_value(&JsonValue::Object(params));
        let scope = client_scope(identity, arg).with("params", Variable::Json(&params));
        let allowed = self
            .allow
            .as_ref()
            .is_some_and(|allow| allow.holds(&scope).unwrap_or(false));
        if allowed {
            Ok(membership)
        } else {
            Err(Denial::new("denied", "you may not join this room"))
        }
    }
}

/// `{"ok": false, "code": …, "message": …}`: the acknowledgement of an event that did nothing.
pub fn denial_json(denial: &Denial) -> String {
    let mut out = format!("{{\"ok\":false,\"code\":\"{}\",\"message\":", denial.code);
    write_string(&mut out, &denial.message);
    out.push('}');
    out
}

#[cfg(test)]
mod tests;
