//! `NotificationChannel`: written by a tenant.
//!
//! Sources say which records become events, rooms say who may listen where, routes say what goes to which room.
//! Fields whose doc says *expression* hold CEL; *template* is JSON whose strings may hold `{expression}`.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::limits::{Limits, ttl_ms};
use crate::schema;
use crate::status::ChannelStatus;

pub mod authentication;
pub mod http;
pub mod rooms;
pub mod routes;
pub mod sources;

pub use authentication::{Algorithm, Anonymous, Authentication, IdentityMapping, JwtMethod, QueryMethod, SecretKeyRef};
pub use http::{Api, Endpoint, Method, Publish, Respond, Validation};
pub use rooms::{AutoJoin, Join, Reply, ReplyEmit, Room};
pub use routes::{Emit, Route, Target};
pub use sources::{KafkaSource, Source};

/// A channel of notifications: which Kafka records become events, who may listen in which rooms, and what goes where.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "aldis.dev",
    version = "v1alpha1",
    kind = "NotificationChannel",
    plural = "notificationchannels",
    singular = "notificationchannel",
    shortname = "nch",
    category = "aldis",
    namespaced,
    derive = "PartialEq",
    doc = "A channel of notifications: which Kafka records become events, who may listen in which rooms, and what goes where. Written by a tenant.",
    status = "ChannelStatus",
    printcolumn(name = "Gateway", type_ = "string", json_path = ".spec.parentRefs[0].name"),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Accepted")].reason"#
    ),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Programmed")].status"#
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    cel
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NotificationChannelSpec {
    /// The gateways, or listeners of them, that serve this channel.
    #[schemars(length(min = 1, max = 8))]
    pub parent_refs: Vec<ParentRef>,
    /// Socket.IO namespaces on which clients reach this channel. Default `/<namespace>/<name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::paths")]
    pub paths: Option<Vec<String>>,
    /// Who may connect. Absent: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
    /// An event that every client gets once, right after it has connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub greeting: Option<Greeting>,
    /// Which records become events.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = ("self.all(s, self.exists_one(o, o.name == s.name))", "each source needs a name of its own"))]
    pub sources: Vec<Source>,
    /// Where clients listen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = ("self.all(r, self.exists_one(o, o.name == r.name))", "each room needs a name of its own"))]
    pub rooms: Vec<Room>,
    /// Client events that are answered to the client itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub replies: Vec<Reply>,
    /// Constants to look up in expressions: `tables.<table>[key]`; the key `default` answers for keys that are not there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::tables")]
    pub tables: BTreeMap<String, BTreeMap<String, Value>>,
    /// What goes where. All matching routes fire, in listed order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub routes: Vec<Route>,
    /// HTTP endpoints of this channel, on its listeners.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub http: Vec<Endpoint>,
    /// Who may use the built-in HTTP endpoints of this channel. Absent: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<Api>,
    /// How far back a client that was disconnected can recover what it missed.
    #[serde(default)]
    pub history: History,
    /// Where records go that this channel cannot process. Default: the gateway's topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetter>,
    /// What this channel may use at most; never more than its gateway grants its namespace.
    #[serde(default, skip_serializing_if = "Limits::say_nothing")]
    pub limits: Limits,
}

/// A gateway, or one of its listeners, as in Gateway API.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ParentRef {
    /// Name of the `NotificationGateway`.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Its namespace. Default: the channel's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: Option<String>,
    /// One of its listeners. Default: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub section_name: Option<String>,
}

/// An event for a client that has just connected.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Greeting {
    /// Name of the event.
    #[schemars(length(min = 1, max = 128))]
    pub event: String,
    /// Template of its one argument, over `socket.id`, `identity`, `handshake.auth` (what the CONNECT brought) and `now`.
    #[serde(default)]
    #[schemars(schema_with = "schema::free_form")]
    pub payload: Value,
}

/// What a client that comes back can recover: everything it missed, or, if that is no longer there, it is told so.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct History {
    /// Deliveries per room. 0 turns recovery off: no `pid`, no `aldis:ready`.
    #[serde(default = "default_history_size")]
    #[schemars(range(min = 0, max = 10000))]
    pub size: u32,
    /// For how long: seconds, minutes or hours.
    #[serde(default = "default_history_ttl")]
    #[schemars(length(min = 2, max = 8), regex(pattern = r"^[1-9][0-9]{0,5}[smh]$"))]
    pub ttl: String,
}

fn default_history_size() -> u32 {
    100
}

fn default_history_ttl() -> String {
    "10m".to_owned()
}

impl Default for History {
    fn default() -> Self {
        Self {
            size: default_history_size(),
            ttl: default_history_ttl(),
        }
    }
}

impl History {
    /// `ttl` in milliseconds; 24 hours at most.
    pub fn ttl_ms(&self) -> i64 {
        ttl_ms(&self.ttl)
    }
}

/// Where records go that a channel cannot process.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeadLetter {
    /// A Kafka topic. Never one that a channel reads.
    #[schemars(length(min = 1, max = 249), regex(pattern = r"^[A-Za-z0-9._-]+$"))]
    pub topic: String,
}
