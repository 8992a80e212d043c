//! What goes where.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::schema;

/// What to emit for events of some types.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
    /// Event types: exact, or a prefix and `*`.
    #[schemars(schema_with = "schema::event_types")]
    pub types: Vec<String>,
    /// Expression over `event`, `now` and `tables`. An error sends the record to the dead letters; it is never taken for false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub when: Option<String>,
    /// Expressions by name, for use in this route's payloads and targets. They cannot refer to each other.
    #[serde(default, rename = "let", skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::expressions_by_name")]
    pub let_: BTreeMap<String, String>,
    /// The deliveries.
    #[schemars(length(min = 1, max = 8))]
    pub emit: Vec<Emit>,
}

/// One emit makes one delivery: a client that is in several of its rooms gets it once.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = ("has(self.everyone) && self.everyone ? size(self.to) == 0 : size(self.to) > 0", "name the rooms in to, or everyone: true, and not both"))]
pub struct Emit {
    /// Name of the event. A template over `event`.
    #[schemars(length(min = 1, max = 128))]
    pub event: String,
    /// Template of the first argument, over `event`, `now`, `tables` and `let`. Default `{id, type, timestamp, data}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::free_form")]
    pub payload: Option<Value>,
    /// The rooms. The first listed one that a client is in decides its payload.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub to: Vec<Target>,
    /// Every client of this channel, whatever its rooms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub everyone: Option<bool>,
}

/// A room that an emit goes to.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Target {
    /// Name of a room of this channel.
    #[schemars(length(min = 1, max = 63))]
    pub room: String,
    /// Expressions of the room's parameters, over `event`, `tables` and `let`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::expressions_by_name")]
    pub with: BTreeMap<String, String>,
    /// Leave this room out when a parameter is null or empty. Else such a record goes to the dead letters.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// Template of the first argument for clients of this room, in place of the emit's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::free_form")]
    pub payload: Option<Value>,
}
