//! route: an event becomes deliveries, by the routes of a channel.
//!
//! All matching routes fire, in listed order. The unit is the record: one room that can not be rendered (and is not
//! optional) rejects everything, before anything is emitted, so a dead letter can be replayed without doubling.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use aldis_crds::channel::{Emit as EmitSpec, Route as RouteSpec, Target as TargetSpec};

use crate::compiler::{Compiler, Expressions};
use crate::decode::Event;
use crate::event_name;
use crate::expression::{Expression, Names, Scope, Variable};
use crate::json::{Json, write_string};
use crate::reject::{Reason, Rejected};
use crate::room::{RoomError, RoomKey, RoomPattern};
use crate::template::Template;
use crate::time::Millis;

/// Most deliveries that one record may make: [`crate::decode::MAX_EVENTS`] with the most emits that a route has, and some.
pub const MAX_DELIVERIES: usize = 10_000;
/// Most bytes of payloads that one record may make. A template multiplies: without a bound one record of 1 MiB could make a
/// gigabyte.
pub const MAX_PAYLOADS: usize = 16 * 1024 * 1024;

/// What one emit sends, not yet numbered.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The Socket.IO event's name.
    pub event: Arc<str>,
    /// First argument of the event as JSON text, in one or more variants.
    pub payloads: Vec<Arc<str>>,
    /// Who gets it.
    pub audience: Audience,
}

impl Delivery {
    /// Bytes of its payloads.
    pub fn bytes(&self) -> usize {
        self.payloads.iter().map(|payload| payload.len()).sum()
    }
}

/// Who gets a delivery.
#[derive(Clone, Debug, PartialEq)]
pub enum Audience {
    /// Every client of the channel, with the first payload.
    Everyone,
    /// The clients in these rooms, each once: the first listed room that a client is in decides its payload (by index).
    Rooms(Vec<(RoomKey, usize)>),
}

/// The deliveries of one record, as they are made.
#[derive(Debug, Default)]
pub(crate) struct Made {
    pub(crate) deliveries: Vec<Delivery>,
    bytes: usize,
}

impl Made {
    fn push(&mut self, delivery: Delivery, at: String) -> Result<(), Rejected> {
        self.bytes += delivery.bytes();
        if self.bytes > MAX_PAYLOADS {
            let message = format!("the payloads of this record are longer than {MAX_PAYLOADS} bytes together");
            return Err(Rejected::new(Reason::TooLarge, at, message));
        }
        if self.deliveries.len() == MAX_DELIVERIES {
            let message = format!("this record makes more than {MAX_DELIVERIES} deliveries");
            return Err(Rejected::new(Reason::TooLarge, at, message));
        }
        self.deliveries.push(delivery);
        Ok(())
    }
}

/// The compiled routes of a channel.
#[derive(Debug, Default)]
pub struct Routes {
    routes: Vec<Route>,
    /// Routes by exact type, in listed order.
    exact: HashMap<String, Vec<usize>>,
    /// Routes by prefix of the type, in listed order. `*` alone is the empty prefix.
    prefixes: Vec<(String, usize)>,
}

#[derive(Debug)]
struct Route {
    when: Option<Expression>,
    let_: Expressions,
    emits: Vec<Emit>,
}

#[derive(Debug)]
struct Emit {
    event: Template,
    /// `event`, where it is no template: made once.
    constant_event: Option<Arc<str>>,
    payload: Option<Template>,
    everyone: bool,
    targets: Vec<Target>,
}

#[derive(Debug)]
struct Target {
    room: Arc<RoomPattern>,
    with: Expressions,
    optional: bool,
    payload: Option<Template>,
}

/// What a route's expressions can use, besides its own `let`.
const NAMES: [&str; 5] = ["event.id", "event.type", "event.time", "event.data", "now"];
/// Names that mean something else already: an entry of this name could never be read.
const NOT_FOR_LET: [&str; 7] = ["event", "now", "tables", "true", "false", "null", "in"];

impl Routes {
    pub(crate) fn compile(
        specs: &[RouteSpec],
        rooms: &HashMap<String, Arc<RoomPattern>>,
        compiler: &mut Compiler,
    ) -> Self {
        let mut routes = Self::default();
        for (index, spec) in specs.iter().enumerate() {
            for type_ in &spec.types {
                match type_.strip_suffix('*') {
                    Some(prefix) => routes.prefixes.push((prefix.to_owned(), index)),
                    None => routes.exact.entry(type_.clone()).or_default().push(index),
                }
            }
            routes
                .routes
                .push(Route::compile(&format!("spec.routes[{index}]"), spec, rooms, compiler));
        }
        routes
    }

    /// The deliveries of one event; none where no route matches.
    ///
    /// # Errors
    /// Why the record must go to the dead letters.
    pub fn route(&self, event: &Event, now: Millis) -> Result<Vec<Delivery>, Rejected> {
        let mut made = Made::default();
        self.add(event, now, &mut made)?;
        Ok(made.deliveries)
    }

    /// [`Routes::route`] for one of several events of a record.
    pub(crate) fn add(&self, event: &Event, now: Millis, made: &mut Made) -> Result<(), Rejected> {
        for index in self.matching(&event.type_) {
            self.routes[index].route(event, now, &format_args!("routes[{index}]"), made)?;
        }
        Ok(())
    }

    fn matching(&self, type_: &str) -> Vec<usize> {
        let mut matching = self.exact.get(type_).cloned().unwrap_or_default();
        matching.extend(
            self.prefixes
                .iter()
                .filter(|(prefix, _)| type_.starts_with(prefix))
                .map(|(_, index)| *index),
        );
        matching.sort_unstable();
        matching.dedup();
        matching
    }
}

impl Route {
    fn compile(
        field: &str,
        spec: &RouteSpec,
        rooms: &HashMap<String, Arc<RoomPattern>>,
        compiler: &mut Compiler,
    ) -> Self {
        for name in spec.let_.keys() {
            if !is_identifier(name) || NOT_FOR_LET.contains(&name.as_str()) {
                let message = "choose another name: letters, digits and _, and none of event, now, tables, true, false, null and in";
                compiler.problem(format!("{field}.let.{name}"), message);
            }
        }
        let with_let: Vec<&str> = NAMES.into_iter().chain(spec.let_.keys().map(String::as_str)).collect();
        let names = Names(&with_let);
        Self {
            when: compiler.optional(&format!("{field}.when"), spec.when.as_deref(), &Names(&NAMES)),
            let_: compiler.by_name(&format!("{field}.let"), &spec.let_, &Names(&NAMES)),
            emits: spec
                .emit
                .iter()
                .enumerate()
                .filter_map(|(i, emit)| Emit::compile(&format!("{field}.emit[{i}]"), emit, rooms, &names, compiler))
                .collect(),
        }
    }

    fn route(&self, event: &Event, now: Millis, at: &dyn std::fmt::Display, made: &mut Made) -> Result<(), Rejected> {
        let scope = event_scope(event, now);
        if let Some(when) = &self.when
            && !when
                .holds(&scope)
                .map_err(|error| expression(format!("{at}.when"), error.to_string()))?
        {
            return Ok(());
        }
        let mut values = Vec::with_capacity(self.let_.len());
        for (name, source) in &self.let_ {
            let failed = |message: String| expression(format!("{at}.let.{name}"), message);
            let mut text = String::new();
            let value = source
                .evaluate_or_null(&scope)
                .map_err(|error| failed(error.to_string()))?;
            value.write_json(&mut text).map_err(failed)?;
            values.push((
                name.as_str(),
                Json::parse(text).map_err(|error| failed(error.to_string()))?,
            ));
        }
        let scope = values.iter().fold(event_scope(event, now), |scope, (name, value)| {
            scope.with(name, Variable::Json(value))
        });
        for (index, emit) in self.emits.iter().enumerate() {
            let emit_at = format!("{at}.emit[{index}]");
            if let Some(delivery) = emit.deliver(event, &scope, &emit_at)? {
                made.push(delivery, emit_at)?;
            }
        }
        Ok(())
    }
}

impl Emit {
    fn compile(
        field: &str,
        spec: &EmitSpec,
        rooms: &HashMap<String, Arc<RoomPattern>>,
        names: &Names<'_>,
        compiler: &mut Compiler,
    ) -> Option<Self> {
        let event = compiler.event_name(&format!("{field}.event"), &spec.event, names);
        let payload = spec
            .payload
            .as_ref()
            .and_then(|payload| compiler.template(&format!("{field}.payload"), payload, names));
        let targets = spec
            .to
            .iter()
            .enumerate()
            .filter_map(|(i, target)| Target::compile(&format!("{field}.to[{i}]"), target, rooms, names, compiler))
            .collect();
        let event = event?;
        let constant_event = event.constant().map(Arc::from);
        Some(Self {
            event,
            constant_event,
            payload,
            everyone: spec.everyone.unwrap_or(false),
            targets,
        })
    }

    fn deliver(&self, event: &Event, scope: &Scope<'_>, at: &str) -> Result<Option<Delivery>, Rejected> {
        let name = match &self.constant_event {
            Some(name) => Arc::clone(name),
            None => self.event_name(scope, at)?,
        };
        if self.everyone {
            let payload = self.payload(event, scope, at)?;
            return Ok(Some(Delivery {
                event: name,
                payloads: vec![payload],
                audience: Audience::Everyone,
            }));
        }
        let mut payloads = Vec::new();
        let mut shared = None;
        let mut rooms = Vec::with_capacity(self.targets.len());
        for (index, target) in self.targets.iter().enumerate() {
            let target_at = || format!("{at}.to[{index}]");
            let room = match target.room.room(&target.with, scope) {
                Ok(room) => room,
                Err(RoomError::Empty(_)) if target.optional => continue,
                Err(RoomError::Failed(message)) => return Err(expression(target_at(), message)),
                Err(error) => return Err(Rejected::new(Reason::Room, target_at(), error.message())),
            };
            // Two targets may name one room (a buyer who is also the seller): the first listed one counts.
            if rooms.iter().any(|(known, _)| *known == room) {
                continue;
            }
            let payload = match (&target.payload, shared) {
                (Some(template), _) => {
                    payloads.push(render(template, scope, &format!("{}.payload", target_at()))?);
                    payloads.len() - 1
                }
                (None, Some(index)) => index,
                (None, None) => {
                    payloads.push(self.payload(event, scope, at)?);
                    shared = Some(payloads.len() - 1);
                    payloads.len() - 1
                }
            };
            rooms.push((room, payload));
        }
        Ok((!rooms.is_empty()).then_some(Delivery {
            event: name,
            payloads,
            audience: Audience::Rooms(rooms),
        }))
    }

    fn event_name(&self, scope: &Scope<'_>, at: &str) -> Result<Arc<str>, Rejected> {
        let at = format!("{at}.event");
        match self.event.render_name(scope) {
            Ok(name) => event_name::checked(name).map_err(|message| Rejected::new(Reason::EventName, at, message)),
            Err(error) => Err(expression(at, error.message)),
        }
    }

    fn payload(&self, event: &Event, scope: &Scope<'_>, at: &str) -> Result<Arc<str>, Rejected> {
        match &self.payload {
            Some(template) => render(template, scope, &format!("{at}.payload")),
            None => Ok(default_payload(event)),
        }
    }
}

impl Target {
    fn compile(
        field: &str,
        spec: &TargetSpec,
        rooms: &HashMap<String, Arc<RoomPattern>>,
        names: &Names<'_>,
        compiler: &mut Compiler,
    ) -> Option<Self> {
        let with = compiler.by_name(&format!("{field}.with"), &spec.with, names);
        let payload = spec
            .payload
            .as_ref()
            .and_then(|payload| compiler.template(&format!("{field}.payload"), payload, names));
        let Some(room) = rooms.get(&spec.room) else {
            let mut known: Vec<_> = rooms.keys().map(String::as_str).collect();
            known.sort_unstable();
            compiler.problem(
                format!("{field}.room"),
                format!("there is no room {:?}; there are: {}", spec.room, known.join(", ")),
            );
            return None;
        };
        let with = room.order(&format!("{field}.with"), with, compiler);
        Some(Self {
            room: Arc::clone(room),
            with,
            optional: spec.optional,
            payload,
        })
    }
}

fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn event_scope(event: &Event, now: Millis) -> Scope<'_> {
    Scope::new()
        .with("event.id", Variable::Text(Cow::Borrowed(&event.id)))
        .with("event.type", Variable::Text(Cow::Borrowed(&event.type_)))
        .with("event.time", Variable::Time(event.time))
        .with("event.data", Variable::Json(&event.data))
        .with("now", Variable::Time(now))
}

fn render(template: &Template, scope: &Scope<'_>, at: &str) -> Result<Arc<str>, Rejected> {
    let mut out = String::new();
    template
        .render(scope, &mut out)
        .map_err(|error| expression(format!("{at}{}", error.at), error.message))?;
    Ok(out.into())
}

fn expression(at: String, message: String) -> Rejected {
    Rejected::new(Reason::Expression, at, message)
}

/// `{id, type, timestamp, data}`: what goes out where a route gives no payload.
fn default_payload(event: &Event) -> Arc<str> {
    let mut out = String::with_capacity(event.data.text().len() + 128);
    out.push_str("{\"id\":");
    write_string(&mut out, &event.id);
    out.push_str(",\"type\":");
    write_string(&mut out, &event.type_);
    out.push_str(",\"timestamp\":");
    write_string(&mut out, &event.time.rfc3339());
    out.push_str(",\"data\":");
    out.push_str(event.data.text());
    out.push('}');
    out.into()
}

#[cfg(test)]
mod tests;
