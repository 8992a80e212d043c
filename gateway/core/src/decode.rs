//! decode: a record becomes events, by the rules of a source.

use std::borrow::Cow;

use aldis_crds::channel::Source as SourceSpec;
use aldis_crds::names::ChannelName;
use serde_json::Value as JsonValue;

use crate::compiler::Compiler;
use crate::expression::{EvaluateError, Expression, Names, Scope, Variable};
use crate::http::CHANNEL_HEADER;
use crate::json::{Json, Kind};
use crate::record::Record;
use crate::reject::{Reason, Rejected};
use crate::route::MAX_PAYLOADS;
use crate::template::Template;
use crate::time::Millis;

mod cloudevent;

use cloudevent::CloudEvent;

/// Most events that one record may make (`each`).
pub const MAX_EVENTS: usize = 1_000;
/// Longest event type, in bytes.
pub const MAX_TYPE: usize = 256;

/// What a record says has happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// A CloudEvent's id, else `topic/partition/offset` (and `/index` with `each`).
    pub id: String,
    /// What kind of event: routes choose by it.
    pub type_: String,
    /// A CloudEvent's time, else the record's.
    pub time: Millis,
    /// Its data.
    pub data: Json,
}

/// What a source makes of a record.
#[derive(Debug)]
pub enum Decoded {
    /// Events, in the order of their elements.
    Events(Vec<Event>),
    /// Not for this channel: `where` is false, or the record is a tombstone.
    NotForUs,
}

/// A compiled source.
#[derive(Debug)]
pub struct Source {
    /// Its name in `spec.sources`.
    pub name: String,
    /// The topics that it reads.
    pub topics: Vec<String>,
    /// The one channel whose records of a shared topic it takes, by [`crate::http::CHANNEL_HEADER`].
    only: Option<String>,
    type_: Option<Template>,
    data: Option<Template>,
    require: Vec<Vec<String>>,
    where_: Option<Expression>,
    each: Option<Expression>,
}

const NAMES: [&str; 8] = [
    "body",
    "record.topic",
    "record.key",
    "record.headers",
    "record.partition",
    "record.offset",
    "record.timestamp",
    "item",
];

impl Source {
    pub(crate) fn compile(field: &str, spec: &SourceSpec, compiler: &mut Compiler) -> Self {
        let names = &Names(if spec.each.is_some() { &NAMES } else { &NAMES[..7] });
        Self {
            name: spec.name.clone(),
            topics: spec.kafka.topics.clone(),
            only: None,
            type_: spec
                .type_
                .as_deref()
                .and_then(|source| compiler.text_template(&format!("{field}.type"), source, names)),
            data: spec
                .data
                .as_deref()
                .and_then(|source| compiler.text_template(&format!("{field}.data"), source, names)),
            require: spec
                .require
                .iter()
                .flatten()
                .map(|path| path.split('.').skip(1).map(str::to_owned).collect())
                .collect(),
            where_: compiler.optional(&format!("{field}.where"), spec.where_.as_deref(), names),
            each: compiler.optional(&format!("{field}.each"), spec.each.as_deref(), &Names(&NAMES[..7])),
        }
    }

    /// What came over HTTP for one channel: CloudEvents in the gateway's ingress topic.
    pub(crate) fn ingress(channel: &ChannelName) -> Self {
        Self {
            name: "http".to_owned(),
            topics: Vec::new(),
            only: Some(channel.to_string()),
            type_: None,
            data: None,
            require: Vec::new(),
            where_: None,
            each: None,
        }
    }

    /// Whether it takes what came over HTTP.
    pub(crate) fn is_ingress(&self) -> bool {
        self.only.is_some()
    }

    /// Decodes one record: all its events, or none of them.
    ///
    /// # Errors
    /// Why the record must go to the dead letters.
    pub fn decode(&self, record: &Record) -> Result<Decoded, Rejected> {
        let Some(value) = &record.value else {
            return Ok(Decoded::NotForUs);
        };
        if let Some(channel) = &self.only
            && record.header(CHANNEL_HEADER) != Some(channel)
        {
            return Ok(Decoded::NotForUs);
        }
        let body = Json::parse_bytes(value).map_err(|error| Rejected::new(Reason::NotJson, "value", error))?;
        let envelope = CloudEvent::recognise(record, &body);
        let headers = headers_json(record);
        let elements = match &self.each {
            None => vec![None],
            Some(each) => {
                let scope = scope(record, &body, &headers, None);
                let list = each
                    .evaluate(&scope)
                    .map_err(|error| self.rejected(Reason::Expression, "each", &error))?;
                elements(&list).map_err(|message| Rejected::new(Reason::Expression, self.field("each"), message))?
            }
        };
        let many = self.each.is_some();
        let mut events = Vec::with_capacity(elements.len());
        let mut made = 0;
        for (index, item) in elements.iter().enumerate() {
            let scope = scope(record, &body, &headers, item.as_ref());
            if let Some(where_) = &self.where_
                && !where_
                    .holds(&scope)
                    .map_err(|error| self.rejected(Reason::Expression, "where", &error))?
            {
                continue;
            }
            let mut event = self.event(record, &body, envelope.as_ref(), item.as_ref(), &scope)?;
            if many {
                event.id = format!("{}/{index}", event.id);
            }
            // What is not made by a template is a part of the record itself.
            made += if self.data.is_some() {
                event.data.text().len()
            } else {
                0
            };
            if made > MAX_PAYLOADS {
                let message = format!("the data of this record's events is longer than {MAX_PAYLOADS} bytes together");
                return Err(Rejected::new(Reason::TooLarge, self.field("data"), message));
            }
            events.push(event);
        }
        if events.is_empty() && !(many && elements.is_empty()) {
            return Ok(Decoded::NotForUs);
        }
        Ok(Decoded::Events(events))
    }

    fn event(
        &self,
        record: &Record,
        body: &Json,
        envelope: Option<&CloudEvent>,
        item: Option<&Json>,
        scope: &Scope<'_>,
    ) -> Result<Event, Rejected> {
        let type_ = match (&self.type_, envelope) {
            (Some(template), _) => template
                .render_name(scope)
                .map_err(|error| Rejected::new(Reason::Expression, self.field("type"), error.message))?
                .ok_or_else(|| {
                    Rejected::new(Reason::NoType, self.field("type"), "the event's type is null or empty")
                })?,
            (None, Some(envelope)) => envelope.type_.clone(),
            (None, None) => record.topic.to_string(),
        };
        if type_.len() > MAX_TYPE {
            let message = format!("the event's type is longer than {MAX_TYPE} bytes");
            return Err(Rejected::new(Reason::NoType, self.field("type"), message));
        }
        let data = match (&self.data, item, envelope) {
            (Some(template), ..) => {
                let mut out = String::new();
                let failed = |message: String| Rejected::new(Reason::Expression, self.field("data"), message);
                template
                    .render(scope, &mut out)
                    .map_err(|error| failed(error.message))?;
                Json::parse(out).map_err(|error| failed(error.to_string()))?
            }
            (None, Some(item), _) => item.clone(),
            (None, None, Some(envelope)) => envelope.data.clone(),
            (None, None, None) => body.clone(),
        };
        for path in &self.require {
            if data.at(path).is_none_or(Json::is_null) {
                let message = format!("data.{} is required and is not there", path.join("."));
                return Err(Rejected::new(Reason::Required, self.field("require"), message));
            }
        }
        Ok(Event {
            id: envelope.map_or_else(|| record.place(), |envelope| envelope.id.clone()),
            type_,
            time: envelope
                .and_then(|envelope| envelope.time)
                .unwrap_or(Millis(record.timestamp_ms)),
            data,
        })
    }

    fn field(&self, field: &str) -> String {
        format!("sources[{}].{field}", self.name)
    }

    fn rejected(&self, reason: Reason, field: &str, error: &EvaluateError) -> Rejected {
        Rejected::new(reason, self.field(field), error.to_string())
    }
}

fn elements(list: &crate::expression::Value<'_>) -> Result<Vec<Option<Json>>, String> {
    let mut text = String::new();
    list.write_json(&mut text)?;
    let list = Json::parse(text).map_err(|error| error.to_string())?;
    if list.kind() != Kind::List {
        return Err("it gives no list".to_owned());
    }
    if list.elements().len() > MAX_EVENTS {
        return Err(format!(
            "the list has {} elements, more than {MAX_EVENTS}",
            list.elements().len()
        ));
    }
    Ok(list.elements().iter().cloned().map(Some).collect())
}

fn scope<'a>(record: &'a Record, body: &'a Json, headers: &'a Json, item: Option<&'a Json>) -> Scope<'a> {
    let key = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok());
    let scope = Scope::new()
        .with("body", Variable::Json(body))
        .with("record.topic", Variable::Text(Cow::Borrowed(&record.topic)))
        .with(
            "record.key",
            key.map_or(Variable::Null, |key| Variable::Text(Cow::Borrowed(key))),
        )
        .with("record.headers", Variable::Json(headers))
        .with("record.partition", Variable::Int(record.partition.into()))
        .with("record.offset", Variable::Int(record.offset))
        .with("record.timestamp", Variable::Time(Millis(record.timestamp_ms)));
    match item {
        Some(item) => scope.with("item", Variable::Json(item)),
        None => scope,
    }
}

/// Headers by name, those that are text; of a repeated one the last.
fn headers_json(record: &Record) -> Json {
    let headers = record.headers.iter().filter_map(|(name, value)| {
        let text = std::str::from_utf8(value.as_deref()?).ok()?;
        Some((name.clone(), JsonValue::String(text.to_owned())))
    });
    Json::from_value(&JsonValue::Object(headers.collect()))
}

#[cfg(test)]
mod tests;
