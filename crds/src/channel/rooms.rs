//! Where clients listen, who may, and client events that are answered.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::schema;

/// A room, or with parameters a family of them.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = ("!has(self.join) || !has(self.join.event) || has(self.allow)", "a room with a join event needs allow; \"true\" lets everybody in"))]
pub struct Room {
    /// Routes name it in `to[].room`.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[A-Za-z0-9]([-_A-Za-z0-9]*[A-Za-z0-9])?$")
    )]
    pub name: String,
    /// How the room is shown, with its parameters in braces: `orders:{tenant}`.
    #[schemars(length(min = 1, max = 256))]
    pub key: String,
    /// How clients come in. Absent: nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<Join>,
    /// Expression over `identity`, `args`, `arg` and the room's parameters (`params`): may this client join? An error means no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub allow: Option<String>,
}

/// How clients come into a room and leave it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = ("has(self.event) || has(self.auto)", "name a join event, or auto"),
    validation = ("!has(self.leave) || has(self.event)", "leave needs a join event")
)]
pub struct Join {
    /// Client event that joins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub event: Option<String>,
    /// Client event that leaves, with the same arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub leave: Option<String>,
    /// Expressions of the room's parameters, over `args` (first argument as object), `arg` (first argument) and `identity`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::expressions_by_name")]
    pub with: BTreeMap<String, String>,
    /// Join by itself at connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto: Option<AutoJoin>,
}

/// A join at connect, from the identity alone.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AutoJoin {
    /// Expression over `identity`. Absent: everybody. An error means no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub when: Option<String>,
    /// Expressions of the room's parameters, over `identity`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::expressions_by_name")]
    pub with: BTreeMap<String, String>,
}

/// A client event that is answered to the client itself.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("anyOf" = [{ "required": ["emit"] }, { "required": ["ack"] }]))]
pub struct Reply {
    /// The client's event.
    #[schemars(length(min = 1, max = 128))]
    pub event: String,
    /// Event that goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emit: Option<ReplyEmit>,
    /// Template of the acknowledgement's argument. A string that is just `{args}` acknowledges with all arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::free_form")]
    pub ack: Option<Value>,
    /// Expression over `identity`, `args` and `arg`: may this client ask? An error means no.
    #[schemars(length(min = 1, max = 1024))]
    pub allow: String,
}

/// An event that goes back to the client that asked.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("not" = { "required": ["payload", "args"] }))]
pub struct ReplyEmit {
    /// Name of the event.
    #[schemars(length(min = 1, max = 128))]
    pub event: String,
    /// Template of its one argument, over `args`, `arg`, `identity`, `socket.id` and `now`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::free_form")]
    pub payload: Option<Value>,
    /// `{args}`: send all arguments back as they came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::all_arguments")]
    pub args: Option<String>,
}
