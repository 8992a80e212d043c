//! `NotificationGateway`: written by the platform team.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::channel::SecretKeyRef;
use crate::schema;
use crate::status::GatewayStatus;

pub mod expose;
pub mod listener;
pub mod pods;
pub mod tenants;

pub use expose::{Expose, HttpRoute, Ingress, RouteParent};
pub use listener::{Cors, EngineSettings, Heartbeat, Listener, SecretRef, Tls, Transport};
pub use pods::{Autoscaling, PodTemplate};
pub use tenants::{LabelSelector, Tenant};

/// A gateway: the Kafka it reads, and the listeners on which clients connect.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "aldis.dev",
    version = "v1alpha1",
    kind = "NotificationGateway",
    plural = "notificationgateways",
    singular = "notificationgateway",
    shortname = "ngw",
    category = "aldis",
    namespaced,
    derive = "PartialEq",
    doc = "A gateway of notifications: the Kafka it reads and the listeners on which clients connect. Written by the platform team.",
    status = "GatewayStatus",
    printcolumn(name = "Channels", type_ = "integer", json_path = ".status.attachedChannels"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.replicas.ready"),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Programmed")].status"#
    ),
    printcolumn(name = "Kafka", type_ = "string", json_path = ".spec.kafka.bootstrapServers[0]"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    cel
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NotificationGatewaySpec {
    /// The Kafka cluster whose topics the channels read.
    pub kafka: Kafka,
    /// The Redis through which replicas share numbers, history and sessions. Without it each replica keeps them in its own
    /// memory, and clients recover only on the replica that they were connected to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<Redis>,
    /// Where clients connect. Each is one Socket.IO server.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(
        validation = ("self.all(l, self.exists_one(o, o.name == l.name))", "each listener needs a name of its own"),
        validation = ("self.all(l, self.exists_one(o, o.port == l.port))", "each listener needs a port of its own")
    )]
    pub listeners: Vec<Listener>,
    /// Who may attach here, and what each may claim. What is absent is denied: without this list nobody attaches in a
    /// cluster. `aldis dev` and `aldis validate` then let everybody attach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(validation = ("self.all(t, self.exists_one(o, o.name == t.name))", "each tenant needs a name of its own"))]
    pub tenants: Option<Vec<Tenant>>,
    /// How many pods there are. Default: 2. Ignored where `autoscaling` is there; left alone where the gateway is annotated
    /// `aldis.dev/replicas: external`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: Option<u32>,
    /// Scales with the load, in place of `replicas`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// TCP ports that pods may connect to beside those that are named here, as far as their NetworkPolicy goes: of brokers that
    /// advertise others than `bootstrapServers`, of a Redis that its Sentinels find elsewhere than at 6379.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ports")]
    pub egress_ports: Vec<u16>,
    /// What pods are made of. The only part that replaces pods when it changes.
    #[serde(default)]
    pub template: PodTemplate,
}

/// How the gateway reaches Kafka.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = ("has(self.groupId) == has(oldSelf.groupId)", "groupId is immutable: it can neither be added nor removed"))]
pub struct Kafka {
    /// Brokers to start from, `host:port`.
    #[schemars(schema_with = "schema::bootstrap_servers")]
    pub bootstrap_servers: Vec<String>,
    /// The consumer group. Default `aldis.<namespace>.<name>`. Immutable: another group would read from another place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249), regex(pattern = r"^[A-Za-z0-9._-]+$"))]
    #[x_kube(validation = ("self == oldSelf", "groupId is immutable: another group would read from another place"))]
    pub group_id: Option<String>,
    /// Where a record goes that cannot be processed and whose channel names no topic of its own.
    #[serde(default = "default_dead_letter_topic")]
    #[schemars(length(min = 1, max = 249), regex(pattern = r"^[A-Za-z0-9._-]+$"))]
    pub dead_letter_topic: String,
    /// Where events go that come over HTTP; this gateway reads it. Nobody else should be able to write to it.
    #[serde(default = "default_ingress_topic")]
    #[schemars(length(min = 1, max = 249), regex(pattern = r"^[A-Za-z0-9._-]+$"))]
    pub ingress_topic: String,
    /// Over TLS, and how the brokers' certificates are checked: `{}` for those that authorities of the web have signed. Absent: not
    /// encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTls>,
    /// As whom. Absent: brokers ask for no password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<Sasl>,
}

/// How the certificates of brokers are checked, and the gateway's own.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaTls {
    /// Certificates of the authorities that are trusted (PEM), in a Secret in the gateway's namespace, labelled
    /// `aldis.dev/use: gateway`. Default: those of the web.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
    /// What the gateway shows to brokers that ask for a certificate: a Secret of type `kubernetes.io/tls` in its namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

/// As whom the gateway comes to Kafka.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sasl {
    /// What the brokers' listener asks for. `PLAIN` shows them the password: only with `tls`.
    pub mechanism: SaslMechanism,
    /// A Secret in the gateway's namespace, labelled `aldis.dev/use: gateway`: `username` and `password`. A new one is tried, and
    /// taken up while the gateway runs.
    pub secret_ref: SecretRef,
}

/// How it is shown to brokers that the gateway knows the password.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslMechanism {
    /// The password itself.
    #[serde(rename = "PLAIN")]
    Plain,
    /// A proof of it, with SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// A proof of it, with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl SaslMechanism {
    /// As Kafka spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// How the gateway reaches Redis, 7 or later.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = ("!has(self.tls) || self.url.startsWith('rediss')", "tls is for a Redis that is reached over TLS: begin its url with rediss")
)]
pub struct Redis {
    /// `redis://host:6379`, `redis+sentinel://host:26379,host:26379/master` or `redis+cluster://host:6379,host:6379`; `rediss` instead of
    /// `redis` over TLS.
    #[schemars(
        length(min = 1, max = 1024),
        regex(pattern = r"^rediss?(\+sentinel|\+cluster)?://[^\s@]+$")
    )]
    pub url: String,
    /// A Secret in the gateway's namespace, labelled `aldis.dev/use: gateway`: `password`, and `username` where it is not the
    /// default user's. A new one is taken up by the next connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// How its certificate is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<RedisTls>,
}

/// How the certificate of a Redis is checked.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RedisTls {
    /// Certificates of the authorities that are trusted (PEM), in a Secret like that of the password. Default: those of the web.
    pub ca_secret_ref: SecretKeyRef,
}

/// The dead letter topic of a gateway that names none.
pub fn default_dead_letter_topic() -> String {
    "aldis.dead-letters".to_owned()
}

/// The topic for events that come over HTTP, of a gateway that names none.
pub fn default_ingress_topic() -> String {
    "aldis.ingress".to_owned()
}
