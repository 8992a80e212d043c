//! What the operator says about a resource: conditions, as in Gateway API, and a few figures.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::channel::ParentRef;
use crate::schema;

/// The name of this operator in [`ParentStatus::controller_name`].
pub const CONTROLLER_NAME: &str = "aldis.dev/operator";

/// How a channel is doing.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ChannelStatus {
    /// At all its parents together: True where it is True at each, else as at the first that is not.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// At each parent.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub parents: Vec<ParentStatus>,
}

/// How a channel is doing at one parent.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ParentStatus {
    /// The parent, as the channel names it.
    pub parent_ref: ParentRef,
    /// Who says so.
    #[schemars(length(min = 1, max = 253))]
    pub controller_name: String,
    /// `Accepted`, `ResolvedRefs` and `Programmed`.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// How a gateway is doing.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GatewayStatus {
    /// `Accepted`, `ResolvedRefs` and `Programmed`; `Degraded` where something is.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// Channels that it serves.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub attached_channels: u32,
    /// Its pods.
    #[serde(default)]
    pub replicas: Replicas,
    /// Where clients reach it inside the cluster.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub addresses: Vec<Address>,
    /// The consumer group by which Kafka knows it, where it can be served.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 249))]
    pub consumer_group: String,
    /// Each of its listeners.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub listeners: Vec<ListenerStatus>,
}

/// How one listener of a gateway is doing.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Channels that are served on it.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub attached_channels: u32,
    /// `Accepted`, `ResolvedRefs` and `Programmed`.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// The pods of a gateway.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Replicas {
    /// That there should be.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10_000))]
    pub desired: u32,
    /// That take clients.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10_000))]
    pub ready: u32,
    /// That take clients with the configuration that is wanted now.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10_000))]
    pub serving: u32,
}

/// Where a gateway is reached.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// Host name.
    #[schemars(length(min = 1, max = 253))]
    pub value: String,
}
