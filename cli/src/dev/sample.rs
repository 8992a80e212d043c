//! What `aldis dev` suggests for a first try of a channel: a token or a query, a join, a record.
//!
//! The channel's annotation `aldis.dev/sample` says it best. Without one it is read from the channel itself: every field
//! that its expressions name becomes `"dev"`, so that rooms and records fit together, or what it is compared with.

use std::collections::BTreeMap;

use aldis_crds::NotificationChannelSpec;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Annotation with a JSON object of the fields of [`Sample`].
pub(super) const ANNOTATION: &str = "aldis.dev/sample";

/// A first try.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Sample {
    /// Claims of a token.
    pub(super) claims: Option<Map<String, Value>>,
    /// Fields of the handshake's query.
    pub(super) query: Option<BTreeMap<String, String>>,
    /// A client event that joins a room.
    pub(super) join: Option<Join>,
    /// A record.
    pub(super) record: Option<Record>,
}

/// A client event.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct Join {
    pub(super) event: String,
    #[serde(default)]
    pub(super) args: Vec<Value>,
}

/// A record to publish.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct Record {
    pub(super) topic: String,
    pub(super) value: Value,
}

impl Sample {
    /// The sample of a channel.
    ///
    /// # Errors
    /// Where the annotation is not what it should be.
    pub(super) fn of(annotation: Option<&str>, spec: &NotificationChannelSpec) -> Result<Self, serde_json::Error> {
        let given: Self = annotation.map(serde_json::from_str).transpose()?.unwrap_or_default();
        let derived = Self::derive(spec);
        Ok(Self {
            claims: given.claims.or(derived.claims),
            query: given.query.or(derived.query),
            join: given.join.or(derived.join),
            record: given.record.or(derived.record),
        })
    }

    fn derive(spec: &NotificationChannelSpec) -> Self {
        let authentication = spec.authentication.as_ref();
        let jwt = authentication.and_then(|methods| methods.jwt.first());
        let query = authentication.and_then(|methods| methods.query.as_ref());
        let text = |value: Value| value.to_string();
        Self {
            claims: jwt.map(|jwt| fields(&text(json!(jwt.identity)), "claims.")),
            query: query.map(|query| {
                let named = fields(&text(json!(query.identity)), "query.")
                    .into_iter()
                    .map(|(name, _)| name);
                named
                    .chain(query.required.iter().flatten().cloned())
                    .map(|name| (name, "dev".to_owned()))
                    .collect()
            }),
            join: spec.rooms.iter().find_map(|room| {
                let join = room.join.as_ref()?;
                let with = text(json!(join.with));
                let args = match (fields(&with, "args."), with.contains("\"arg\"")) {
                    (named, _) if !named.is_empty() => vec![Value::Object(named)],
                    (_, true) => vec![json!("dev")],
                    _ => vec![],
                };
                Some(Join {
                    event: join.event.clone()?,
                    args,
                })
            }),
            record: record(spec),
        }
    }
}

/// A record of the first source for the first route: its type where the source reads it, and all the data that is named.
fn record(spec: &NotificationChannelSpec) -> Option<Record> {
    let source = spec.sources.first()?;
    let route = spec.routes.first()?;
    let type_ = route.types.first().map(|type_| type_.replace('*', "dev"))?;
    // All routes that it fires: one whose rule can not be asked of it would send it to the dead letters.
    let fires = |pattern: &String| match pattern.strip_suffix('*') {
        Some(prefix) => type_.starts_with(prefix),
        None => *pattern == type_,
    };
    let routes: Vec<_> = spec
        .routes
        .iter()
        .filter(|route| route.types.iter().any(fires))
        .collect();
    let data = Value::Object(fields(&json!(routes).to_string(), "event.data."));
    let path = |template: &Option<String>| {
        let path = template.as_deref()?.strip_prefix("{body.")?.strip_suffix('}')?;
        path.chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_')
            .then(|| path.to_owned())
    };
    let mut value = match path(&source.data) {
        Some(field) => json!({ field: data }),
        None => data,
    };
    if let (Some(field), Some(object)) = (path(&source.type_), value.as_object_mut()) {
        object.insert(field, Value::String(type_.clone()));
    }
    let by_topic = source.type_.is_none() && source.kafka.topics.contains(&type_);
    let topic = if by_topic {
        type_
    } else {
        source.kafka.topics.first()?.clone()
    };
    Some(Record { topic, value })
}

/// The fields that a text of expressions names below `prefix`, each `"dev"`, or what makes a comparison of it true:
/// `claims.tenant.id` gives `{tenant: {id: "dev"}}`, `event.data.pulse > 120` gives `{pulse: 121}`.
fn fields(text: &str, prefix: &str) -> Map<String, Value> {
    let mut fields = Map::new();
    for (at, _) in text.match_indices(prefix) {
        let path: String = text[at + prefix.len()..]
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
            .collect();
        let parts: Vec<_> = path.split('.').filter(|part| !part.is_empty()).collect();
        insert(&mut fields, &parts, fitting(&text[at + prefix.len() + path.len()..]));
    }
    fields
}

fn insert(fields: &mut Map<String, Value>, path: &[&str], fitting: Option<Value>) {
    let Some((name, rest)) = path.split_first() else { return };
    let entry = fields.entry((*name).to_owned()).or_insert_with(|| json!("dev"));
    if !rest.is_empty() && !entry.is_object() {
        *entry = json!({});
    }
    if let Some(inner) = entry.as_object_mut() {
        insert(inner, rest, fitting);
    } else if let Some(fitting) = fitting.filter(|_| *entry == "dev") {
        *entry = fitting;
    }
}

/// What a field is, so that the comparison that follows it is true; `None` where none follows, or not with a constant.
fn fitting(behind: &str) -> Option<Value> {
    let behind = behind.trim_start();
    let operators = [("<=", 0), (">=", 0), ("==", 0), ("<", -1), (">", 1)];
    let (operator, step) = operators
        .into_iter()
        .find(|(operator, _)| behind.starts_with(operator))?;
    let constant = behind[operator.len()..].trim_start();
    if let Some(text) = constant.strip_prefix('\'') {
        return text
            .split_once('\'')
            .filter(|_| operator == "==")
            .map(|(text, _)| json!(text));
    }
    let end = constant.find(|c: char| !c.is_ascii_digit() && !"-.".contains(c));
    let number = &constant[..end.unwrap_or(constant.len())];
    let whole = number.parse::<i64>().ok().and_then(|number| number.checked_add(step));
    whole
        .map(|number| json!(number))
        .or_else(|| Some(json!(number.parse::<f64>().ok()? + step as f64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(value: Value) -> NotificationChannelSpec {
        serde_json::from_value(value).unwrap()
    }

    fn channel() -> NotificationChannelSpec {
        spec(json!({
            "parentRefs": [{"name": "g"}],
            "authentication": {"jwt": [{"name": "a", "secretRef": {"name": "s", "key": "k"}, "algorithms": ["HS256"],
                "identity": {"user": "claims.sub", "attributes": {"tenant": "claims.org.id"}}}]},
            "sources": [{"name": "s", "kafka": {"topics": ["orders"]}, "type": "{body.kind}", "data": "{body.data}"}],
            "rooms": [{"name": "r", "key": "r:{t}", "join": {"event": "join", "with": {"t": "args.t_id"}}, "allow": "true"}],
            "routes": [{"types": ["order.*"], "emit": [{"event": "e", "payload": {"n": "{event.data.n}"},
                "to": [{"room": "r", "with": {"t": "event.data.t_id"}}]}]}],
        }))
    }

    #[test]
    fn without_an_annotation_everything_that_is_named_is_dev_and_fits_together() {
        let sample = Sample::of(None, &channel()).unwrap();
        assert_eq!(
            Value::Object(sample.claims.unwrap()),
            json!({"sub": "dev", "org": {"id": "dev"}})
        );
        let join = sample.join.unwrap();
        assert_eq!((join.event.as_str(), join.args), ("join", vec![json!({"t_id": "dev"})]));
        let record = sample.record.unwrap();
        assert_eq!(
            record.value,
            json!({"kind": "order.dev", "data": {"n": "dev", "t_id": "dev"}})
        );
        assert_eq!(record.topic, "orders");
    }

    #[test]
    fn a_record_keeps_the_rules_of_all_routes_that_it_fires() {
        let mut spec = channel();
        spec.routes = serde_json::from_value(json!([
            {"types": ["pulse"], "emit": [{"event": "e", "payload": {"pulse": "{event.data.pulse}"}, "everyone": true}]},
            {"types": ["pu*"], "when": "event.data.pulse > 120 && event.data.kind == 'adult' && event.data.at.x <= 0.5",
             "emit": [{"event": "e", "everyone": true}]},
            {"types": ["other"], "when": "event.data.other < 1", "emit": [{"event": "e", "everyone": true}]},
        ]))
        .unwrap();
        let record = Sample::of(None, &spec).unwrap().record.unwrap();
        assert_eq!(
            record.value["data"],
            json!({"pulse": 121, "kind": "adult", "at": {"x": 0.5}})
        );
    }

    #[test]
    fn an_annotation_counts_field_by_field() {
        let sample = Sample::of(Some(r#"{"claims": {"sub": "me"}}"#), &channel()).unwrap();
        assert_eq!(Value::Object(sample.claims.unwrap()), json!({"sub": "me"}));
        assert!(sample.join.is_some());
        assert!(Sample::of(Some(r#"{"claim": {}}"#), &channel()).is_err());
    }
}
