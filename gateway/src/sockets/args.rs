//! Arguments of Socket.IO events, in and out: JSON text, and binary attachments that it refers to by placeholders.

use aldis_core::json::{Json, Kind, write_string};
use aldis_core::membership::{Arguments, Denial};
use bytes::Bytes;
use serde::ser::{Serialize, SerializeMap, SerializeSeq, SerializeTuple, Serializer};
use serde_json::value::RawValue;
use socketioxide_core::Value;

/// How deep lists and objects may nest in an event with attachments, which is walked to find the placeholders. 64.
const MAX_DEPTH: usize = 64;
/// JSON that takes an attachment's place: `{"_placeholder":true,"num":0}` with what separates packets.
const PLACEHOLDER_BYTES: usize = 40;

/// A client's event, `["name", arg, …]`.
pub(super) struct Event {
    pub(super) name: String,
    /// Its arguments as they came, with placeholders.
    sent: Json,
    /// The same with null for every attachment, where there are any.
    shown: Option<Json>,
    attachments: Vec<Bytes>,
}

/// Arguments that go out.
pub(super) struct Args<'a>(Vec<Arg<'a>>);

enum Arg<'a> {
    Text(&'a RawValue),
    Binary {
        json: &'a Json,
        attachments: &'a [Bytes],
    },
    /// What keeps the argument before it from being taken for a position.
    Null,
}

impl Event {
    /// Reads an event.
    ///
    /// # Errors
    /// `malformed_event`: no list that begins with a name, or placeholders that are not those of the attachments.
    pub(super) fn parse(event: &Value) -> Result<Self, Denial> {
        let (text, attachments) = match event {
            Value::Str(text, attachments) => (text.as_str(), attachments.iter().flatten().cloned().collect::<Vec<_>>()),
            Value::Bytes(_) => return Err(malformed("the event is no text")),
        };
        let packet = Json::parse(text).map_err(|error| malformed(&error.to_string()))?;
        let Some((name, args)) = packet.elements().split_first().filter(|_| packet.kind() == Kind::List) else {
            return Err(malformed("the event has no name"));
        };
        let name = name
            .as_str()
            .ok_or_else(|| malformed("the event's name is no string"))?
            .into_owned();
        let args: Vec<_> = args.iter().map(Json::text).collect();
        let sent = Json::parse(format!("[{}]", args.join(","))).map_err(|error| malformed(&error.to_string()))?;
        let shown = shown(&sent, &attachments)?;
        Ok(Self {
            name,
            sent,
            shown,
            attachments,
        })
    }

    /// The arguments as expressions see them.
    pub(super) fn args(&self) -> &Json {
        self.shown.as_ref().unwrap_or(&self.sent)
    }

    /// Whether there are binary arguments.
    pub(super) fn is_binary(&self) -> bool {
        self.shown.is_some()
    }

    /// What a reply to this event sends back.
    pub(super) fn reply<'a>(&'a self, arguments: &'a Arguments) -> Args<'a> {
        match arguments {
            Arguments::One(text) => Args::of([text.as_str()]),
            Arguments::AsTheyCame => {
                let args = self.sent.elements().iter();
                Args(match self.is_binary() {
                    false => args.filter_map(|arg| Arg::text(arg.text())).collect(),
                    true => args
                        .map(|json| Arg::Binary {
                            json,
                            attachments: &self.attachments,
                        })
                        .collect(),
                })
            }
        }
    }
}

/// How many bytes an event is, with its attachments.
pub(super) fn bytes(event: &Value) -> usize {
    match event {
        Value::Str(text, attachments) => {
            let attachments = attachments.iter().flatten();
            text.as_str().len() + attachments.map(Bytes::len).sum::<usize>()
        }
        Value::Bytes(bytes) => bytes.len(),
    }
}

fn malformed(message: &str) -> Denial {
    Denial {
        code: "malformed_event",
        message: message.to_owned(),
    }
}

/// The arguments without their attachments; `None` where there are none. Each has to be there once: one that is named twice
/// would go back twice as large.
fn shown(args: &Json, attachments: &[Bytes]) -> Result<Option<Json>, Denial> {
    if attachments.is_empty() {
        return Ok(None);
    }
    let mut named = vec![false; attachments.len()];
    let mut out = String::with_capacity(args.text().len());
    show(args, 0, &mut named, &mut out)?;
    if named.contains(&false) {
        return Err(malformed("an attachment has no placeholder"));
    }
    Json::parse(out)
        .map(Some)
        .map_err(|error| malformed(&error.to_string()))
}

fn show(json: &Json, depth: usize, named: &mut [bool], out: &mut String) -> Result<(), Denial> {
    if depth > MAX_DEPTH {
        return Err(malformed("an event with attachments nests deeper than 64"));
    }
    match (json.kind(), placeholder(json)) {
        (_, Some(num)) => {
            let named = num
                .and_then(|num| named.get_mut(num))
                .ok_or_else(|| malformed("a placeholder names no attachment"))?;
            if std::mem::replace(named, true) {
                return Err(malformed("two placeholders name one attachment"));
            }
            out.push_str("null");
        }
        (Kind::List, _) => {
            out.push('[');
            for (index, element) in json.elements().iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                show(element, depth + 1, named, out)?;
            }
            out.push(']');
        }
        (Kind::Map, _) => {
            out.push('{');
            for (index, (name, value)) in json.fields().iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                write_string(out, name);
                out.push(':');
                show(value, depth + 1, named, out)?;
            }
            out.push('}');
        }
        _ => out.push_str(json.text()),
    }
    Ok(())
}

/// Which attachment this stands for; `Some(None)` for a placeholder that names none.
fn placeholder(json: &Json) -> Option<Option<usize>> {
    let is_one = json.kind() == Kind::Map && json.get("_placeholder").is_some_and(|is_one| is_one.text() == "true");
    is_one.then(|| json.get("num").and_then(|num| num.text().parse().ok()))
}

impl<'a> Arg<'a> {
    /// `None` for what is no JSON, which nothing here makes.
    fn text(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok().map(Arg::Text)
    }
}

impl<'a> Args<'a> {
    /// Arguments that are JSON texts.
    pub(super) fn of(texts: impl IntoIterator<Item = &'a str>) -> Self {
        Self(texts.into_iter().filter_map(Arg::text).collect())
    }

    /// Clients with a session take the last string argument of any event for their position, and the name of one without
    /// arguments: only deliveries may end so. Others get a null behind.
    pub(super) fn without_position(mut self) -> Self {
        let ends_in_position = match self.0.last() {
            None => true,
            Some(Arg::Text(text)) => text.get().starts_with('"'),
            Some(Arg::Binary { json, .. }) => json.kind() == Kind::String,
            Some(Arg::Null) => false,
        };
        if ends_in_position {
            self.0.push(Arg::Null);
        }
        self
    }

    /// About how many bytes they are in a polling reply, where attachments are base64.
    pub(super) fn bytes(&self) -> usize {
        let attachments = self.0.iter().find_map(|arg| match arg {
            Arg::Binary { attachments, .. } => Some(attachments.iter()),
            _ => None,
        });
        let texts = self.0.iter().map(|arg| match arg {
            Arg::Text(text) => text.get().len() + 1,
            Arg::Binary { json, .. } => json.text().len() + 1,
            Arg::Null => 5,
        });
        let attachments = attachments
            .into_iter()
            .flatten()
            .map(|bytes| bytes.len().div_ceil(3) * 4 + PLACEHOLDER_BYTES);
        texts.sum::<usize>() + attachments.sum::<usize>()
    }
}

/// A tuple: socketioxide makes one argument of each element.
impl Serialize for Args<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        for arg in &self.0 {
            match arg {
                Arg::Text(text) => tuple.serialize_element(text)?,
                Arg::Binary { json, attachments } => tuple.serialize_element(&WithAttachments { json, attachments })?,
                Arg::Null => tuple.serialize_element(&())?,
            }
        }
        tuple.end()
    }
}

/// JSON in which attachments are bytes again: socketioxide gives each a new placeholder, in their order.
struct WithAttachments<'a> {
    json: &'a Json,
    attachments: &'a [Bytes],
}

impl Serialize for WithAttachments<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { json, attachments } = *self;
        let part = |json| Self { json, attachments };
        match json.kind() {
            Kind::List => {
                let mut list = serializer.serialize_seq(Some(json.elements().len()))?;
                for element in json.elements() {
                    list.serialize_element(&part(element))?;
                }
                list.end()
            }
            Kind::Map => {
                if let Some(bytes) = placeholder(json).flatten().and_then(|num| attachments.get(num)) {
                    return serializer.serialize_bytes(bytes);
                }
                let mut map = serializer.serialize_map(Some(json.fields().len()))?;
                for (name, value) in json.fields() {
                    map.serialize_entry(name, &part(value))?;
                }
                map.end()
            }
            _ => match serde_json::from_str::<&RawValue>(json.text()) {
                Ok(text) => text.serialize(serializer),
                Err(_) => serializer.serialize_unit(),
            },
        }
    }
}

#[cfg(test)]
mod tests;
