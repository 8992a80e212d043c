//! What a gateway reads: everything in force, already validated, the keys beside it.
//!
//! Written by `aldis-operator`'s `translate` (and by `aldis dev` through the very same function).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::channel::{NotificationChannelSpec, SecretKeyRef};
use crate::gateway::{Listener, SaslMechanism};
use crate::limits::ResolvedLimits;
use crate::names::ChannelName;

pub mod files;

/// Version of this contract.
pub const CONTRACT_VERSION: u32 = 1;

/// One gateway's configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayConfig {
    /// [`CONTRACT_VERSION`].
    pub version: u32,
    /// How to reach Kafka.
    pub kafka: KafkaConfig,
    /// What replicas share; absent where there is one, which keeps everything in its memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisConfig>,
    /// Socket.IO servers.
    pub listeners: Vec<Listener>,
    /// Channels, in the order in which they were accepted.
    pub channels: Vec<ChannelConfig>,
    /// What the channels of a namespace may use together. One that is not here has the default.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tenants: BTreeMap<String, ResolvedLimits>,
}

/// How to reach Kafka.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KafkaConfig {
    /// `host:port` of each broker.
    pub bootstrap_servers: Vec<String>,
    /// Consumer group of all replicas.
    pub group_id: String,
    /// For records whose channel names no dead letter topic.
    pub dead_letter_topic: String,
    /// For events that come over HTTP.
    #[serde(default = "crate::gateway::default_ingress_topic")]
    pub ingress_topic: String,
    /// Over TLS; the certificates that it takes are keys.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls: bool,
    /// As whom; absent where brokers ask for no password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<SaslConfig>,
}

/// As whom the gateway comes to Kafka; user and password are keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SaslConfig {
    /// What the brokers' listener asks for.
    pub mechanism: SaslMechanism,
    /// `namespace/name` of the Secret that the keys are from, for whoever has to mend them.
    pub secret: String,
}

/// How to reach Redis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RedisConfig {
    /// `redis://`, `rediss://`, `redis+sentinel://host:port,…/master`, `redis+cluster://host:port,…`.
    pub url: String,
    /// Names of this gateway's keys: what another gateway on the same Redis never has.
    pub uid: String,
}

/// One channel that this gateway serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelConfig {
    /// Tenant and name.
    pub channel: ChannelName,
    /// What tells it from one of the same name that was deleted before. Empty where there is no API server that gives one:
    /// then the name stands for it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Where clients reach it. No two channels share one.
    pub attachments: Vec<Attachment>,
    /// What its tenant declared.
    pub spec: NotificationChannelSpec,
    /// What it may use, within what its namespace may.
    #[serde(default, skip_serializing_if = "ResolvedLimits::are_default")]
    pub limits: ResolvedLimits,
    /// Whether its HTTP endpoints may be used by who shows no token, where their `allow` lets them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub open: bool,
    /// What its requests may reach beside public addresses over https: `tenants[].egress` of the gateway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<String>,
}

impl ChannelConfig {
    /// What its data is kept under: its uid, or its name where there is none.
    pub fn uid_or_name(&self) -> String {
        match self.uid.as_str() {
            "" => self.channel.to_string(),
            uid => uid.to_owned(),
        }
    }
}

/// A Socket.IO namespace on a listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// Name of the listener.
    pub listener: String,
    /// The Socket.IO namespace.
    pub path: String,
}

/// Key material: of channels by tenant and reference, of listeners by name, Kafka's and Redis'. Never serialised with the
/// configuration, never printed; [`files`] is how it is handed over.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Keys {
    channels: BTreeMap<(String, SecretKeyRef), Secret>,
    listeners: BTreeMap<String, Certificate>,
    /// How one gets into Kafka.
    pub kafka: KafkaKeys,
    /// How one gets into Redis.
    pub redis: RedisKeys,
}

impl Keys {
    /// Adds the value of `reference` in the namespace of a tenant.
    pub fn insert(&mut self, namespace: &str, reference: SecretKeyRef, value: Secret) {
        self.channels.insert((namespace.to_owned(), reference), value);
    }

    /// The value of `reference` in the namespace of a tenant.
    pub fn get(&self, namespace: &str, reference: &SecretKeyRef) -> Option<&Secret> {
        self.channels.get(&(namespace.to_owned(), reference.clone()))
    }

    /// Adds what the listener of this name ends TLS with.
    pub fn insert_certificate(&mut self, listener: &str, certificate: Certificate) {
        self.listeners.insert(listener.to_owned(), certificate);
    }

    /// What the listener of this name ends TLS with.
    pub fn certificate(&self, listener: &str) -> Option<&Certificate> {
        self.listeners.get(listener)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (channels, listeners) = (self.channels.keys(), self.listeners.keys());
        f.debug_set()
            .entries(channels)
            .entries(listeners)
            .entries(self.kafka.parts().map(|(part, _)| format!("kafka {part}")))
            .entries(self.redis.parts().map(|(part, _)| format!("redis {part}")))
            .finish()
    }
}

/// How one gets into Kafka, and whom one trusts there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KafkaKeys {
    /// The user.
    pub username: Option<Secret>,
    /// Its password.
    pub password: Option<Secret>,
    /// Certificates of the authorities that are trusted, in PEM; those of the web where there are none.
    pub ca: Option<Secret>,
    /// What is shown to brokers that ask for a certificate.
    pub certificate: Option<Certificate>,
}

impl KafkaKeys {
    /// Those that there are, by the names that they have in a Secret.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, &Secret)> {
        let certificate = self.certificate.as_ref();
        let parts = [
            ("username", self.username.as_ref()),
            ("password", self.password.as_ref()),
            ("ca.crt", self.ca.as_ref()),
            ("tls.crt", certificate.map(|certificate| &certificate.chain)),
            ("tls.key", certificate.map(|certificate| &certificate.key)),
        ];
        parts.into_iter().filter_map(|(part, secret)| Some((part, secret?)))
    }
}

/// How one gets into Redis, and whom one trusts there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisKeys {
    /// The user; the default one where there is none.
    pub username: Option<Secret>,
    /// Its password.
    pub password: Option<Secret>,
    /// Certificates of the authorities that are trusted, in PEM; those of the web where there are none.
    pub ca: Option<Secret>,
}

impl RedisKeys {
    /// Those that there are, by the names that they have in a Secret.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, &Secret)> {
        let parts = [
            ("username", &self.username),
            ("password", &self.password),
            ("ca.crt", &self.ca),
        ];
        parts
            .into_iter()
            .filter_map(|(part, secret)| Some((part, secret.as_ref()?)))
    }
}

/// A certificate with its key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The chain, the listener's own first.
    pub chain: Secret,
    /// Its private key.
    pub key: Secret,
}

/// Bytes that do not print.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, for whoever really needs them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
