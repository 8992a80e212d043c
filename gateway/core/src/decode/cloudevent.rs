//! CloudEvents 1.0 in Kafka records, structured (JSON format) and binary: <https://github.com/cloudevents/spec>, Kafka
//! protocol binding.

use crate::json::Json;
use crate::record::Record;
use crate::time::Millis;

/// What a CloudEvent says about itself.
#[derive(Debug)]
pub(super) struct CloudEvent {
    pub(super) id: String,
    pub(super) type_: String,
    pub(super) time: Option<Millis>,
    pub(super) data: Json,
}

impl CloudEvent {
    /// The CloudEvent that a record carries, if it does: `ce_` headers, or a body with `specversion`, `id`, `source` and `type`.
    pub(super) fn recognise(record: &Record, body: &Json) -> Option<Self> {
        Self::binary(record, body).or_else(|| Self::structured(body))
    }

    fn binary(record: &Record, body: &Json) -> Option<Self> {
        let header = |name: &str| record.header(name).filter(|value| !value.is_empty());
        header("ce_specversion").filter(|version| version.starts_with("1."))?;
        Some(Self {
            id: header("ce_id")?.to_owned(),
            type_: header("ce_type")?.to_owned(),
            time: header("ce_time").and_then(Millis::parse_rfc3339),
            data: body.clone(),
        })
    }

    fn structured(body: &Json) -> Option<Self> {
        let text = |name: &str| body.get(name)?.as_str().filter(|text| !text.is_empty());
        text("specversion").filter(|version| version.starts_with("1."))?;
        text("source")?;
        Some(Self {
            id: text("id")?.into_owned(),
            type_: text("type")?.into_owned(),
            time: text("time").and_then(|time| Millis::parse_rfc3339(&time)),
            data: body
                .get("data")
                .or_else(|| body.get("data_base64"))
                .cloned()
                .unwrap_or_else(Json::null),
        })
    }
}
