//! Which records become events.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// Records of some topics, and how each becomes events. CloudEvents (structured and binary) are recognised.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// Shown in dead letters, logs and metrics.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// The topics.
    pub kafka: KafkaSource,
    /// Template of the event's type, over `body`, `record` and `item`. Default: a CloudEvent's type, else the topic.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub type_: Option<String>,
    /// Template of the event's data, over the same. Default: a CloudEvent's data, else the body (or `item`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub data: Option<String>,
    /// Fields without which a record goes to the dead letters: `data.order_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::field_paths")]
    pub require: Option<Vec<String>>,
    /// Expression over `body`, `record` and `item`: false means not for this channel (counted).
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub where_: Option<String>,
    /// Expression of a list in the body: one event per element, which is `item`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub each: Option<String>,
}

/// Kafka topics of a source.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaSource {
    /// Names of topics.
    #[schemars(schema_with = "schema::topics")]
    pub topics: Vec<String>,
}
