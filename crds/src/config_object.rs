//! `GatewayConfig`: how [`contract`](crate::contract) travels in a cluster. Only the operator writes it, only gateways read it.
//!
//! ```text
//! <gateway>.index     what is in force, and which channels; changed in one step
//! <gateway>.<hash>    one channel; never changed, its name is the hash of what it holds
//! ```
//! The name of a gateway may hold `.`, an index or a hash may not: each name means one thing. A change of one channel writes
//! that channel and the index, however many others there are, and no object comes near the size that an API server refuses.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::contract::{CONTRACT_VERSION, ChannelConfig, GatewayConfig, KafkaConfig, RedisConfig};
use crate::gateway::Listener;
use crate::limits::ResolvedLimits;
use crate::schema;

/// A part of a gateway's configuration: its index, or one of its channels.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "aldis.dev",
    version = "v1alpha1",
    kind = "GatewayConfig",
    plural = "gatewayconfigs",
    singular = "gatewayconfig",
    root = "ConfigObject",
    namespaced,
    derive = "PartialEq",
    doc = "Internal: a part of what a gateway serves. The operator writes it; do not edit.",
    printcolumn(name = "Contract", type_ = "integer", json_path = ".spec.contractVersion"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ConfigSpec {
    /// The version of the contract that this is written in.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub contract_version: u32,
    /// What is in force. Absent in a channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::free_form")]
    pub index: Option<ConfigIndex>,
    /// A channel. Absent in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::free_form")]
    pub channel: Option<ChannelConfig>,
}

/// What is in force on a gateway.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConfigIndex {
    /// The hash of all the rest: a pod that serves it says so.
    pub hash: String,
    /// The [fingerprint](crate::configuration::fingerprint) of the keys that belong to it. Empty: of any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub keys: String,
    /// How to reach Kafka.
    pub kafka: KafkaConfig,
    /// What replicas share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisConfig>,
    /// Socket.IO servers.
    pub listeners: Vec<Listener>,
    /// What the channels of a namespace may use together. One that is not here has the default.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tenants: BTreeMap<String, ResolvedLimits>,
    /// The hash of each channel, in the order in which they were accepted.
    pub channels: Vec<String>,
}

impl ConfigIndex {
    /// The configuration that it is with its channels, in their order.
    pub fn with(self, channels: Vec<ChannelConfig>) -> GatewayConfig {
        GatewayConfig {
            version: CONTRACT_VERSION,
            kafka: self.kafka,
            redis: self.redis,
            listeners: self.listeners,
            channels,
            tenants: self.tenants,
        }
    }
}

/// The label of objects with the gateway that they belong to: parts of its configuration, and Leases of its pods.
pub const GATEWAY_LABEL: &str = "aldis.dev/gateway";
/// The annotation of a pod's Lease with the hash of what it serves; empty: nothing.
pub const SERVES_ANNOTATION: &str = "aldis.dev/serves";
/// The annotation of a pod's Lease with what of that it can not serve: a JSON object from the hash of a channel, or of all, to
/// what is wrong.
pub const CANNOT_SERVE_ANNOTATION: &str = "aldis.dev/cannot-serve";
/// The annotation of a pod's Lease with how many clients are connected to it: a decimal number. It says nothing new about what is
/// served: a Lease of which only this has changed is a renewal.
pub const CONNECTIONS_ANNOTATION: &str = "aldis.dev/connections";

/// Name of the Secret with the keys of a gateway.
pub fn keys_name(gateway: &str) -> String {
    format!("aldis-{gateway}-keys")
}

/// Name of the index of a gateway.
pub fn index_name(gateway: &str) -> String {
    format!("{gateway}.index")
}

/// Name of a channel of a gateway.
pub fn part_name(gateway: &str, hash: &str) -> String {
    format!("{gateway}.{hash}")
}
