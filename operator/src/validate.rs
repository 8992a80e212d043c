//! validate: from what people declared to what gateways can serve, with everything that is wrong.
//!
//! ```text
//! Objects → index      each object once, channels by age
//!         → gateway    can it be served at all? are its grants sound?
//!         → channel    parents, paths, secrets, topics; then everything that the gateway would compile
//!         → claims     per gateway: what each channel is granted, then who came first: paths, topics, dead letters
//!         → Outcome
//! ```
//! A channel that has a problem is left out, and all others are served. A parent that does not resolve is the one
//! exception: it concerns that parent alone, so that deleting one gateway takes nothing down on another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use aldis_crds::contract::{ChannelConfig, Keys};
use aldis_crds::limits::ResolvedLimits;
use aldis_crds::{NotificationChannel, NotificationGateway, NotificationGatewaySpec};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::core::ObjectMeta;

mod index;

mod gateway;
mod gateway_keys;

mod channel;
mod compiled;
mod parents;
mod secrets;

mod claims;
mod granted;
mod grants;

pub use compiled::Compiled;
pub use grants::Grants;
use grants::Tenancy;
use index::Index;

/// Everything that was declared in one place: a cluster, or a directory.
#[derive(Clone, Default)]
pub struct Objects<'a> {
    /// All gateways.
    pub gateways: Vec<&'a NotificationGateway>,
    /// All channels.
    pub channels: Vec<&'a NotificationChannel>,
    /// Secrets. Only those are read that are referred to, and belong to a channel's namespace and are labelled for it, or to
    /// a gateway's and are of type `kubernetes.io/tls`.
    pub secrets: Vec<&'a Secret>,
    /// The namespaces of the channels. One that is not here is granted nothing where a gateway has `tenants`.
    pub namespaces: Vec<&'a Namespace>,
    /// What a gateway that has no `tenants` grants.
    pub grants: Grants,
    /// Gateways that exist but are not in `gateways`, because they cannot be read or are somewhere else.
    pub other_gateways: Others,
    /// Secrets that exist but are not in `secrets`. A channel that refers to one is checked, and not served.
    pub other_secrets: Others,
}

/// Objects that are known to exist, and no more.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Others {
    /// There are none.
    #[default]
    None,
    /// These.
    Named(BTreeSet<ObjectName>),
    /// Whichever is asked for.
    Any,
}

impl Others {
    /// Whether there is one of this name.
    pub fn have(&self, name: &ObjectName) -> bool {
        match self {
            Self::None => false,
            Self::Named(names) => names.contains(name),
            Self::Any => true,
        }
    }
}

/// Namespace and name of an object. Shown as `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectName {
    /// Both parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// Of an object. An API server always gives both; a file may leave out the namespace, and then means `default`.
    pub fn of(metadata: &ObjectMeta) -> Self {
        Self::new(
            metadata.namespace.as_deref().unwrap_or("default"),
            metadata.name.as_deref().unwrap_or_default(),
        )
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What came out.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Every gateway that can be served, by name.
    pub gateways: Vec<Validated>,
    /// Everything that is wrong, in no particular order.
    pub problems: Vec<Problem>,
}

/// What one gateway can serve. Later steps take only this, and cannot fail.
#[derive(Clone, Debug)]
pub struct Validated {
    /// The gateway.
    pub gateway: Gateway,
    /// The channels that it serves, oldest first. No two have an attachment in common.
    pub channels: Vec<ChannelConfig>,
    /// What the channels of a namespace may use together, where that is not the default.
    pub tenants: BTreeMap<String, ResolvedLimits>,
    /// The keys of exactly these channels, and of the gateway's listeners.
    pub keys: Keys,
}

/// A gateway that can be served.
#[derive(Clone, Debug, PartialEq)]
pub struct Gateway {
    /// Namespace and name.
    pub name: ObjectName,
    /// What was declared: at least one broker and one listener, names and ports of listeners unique.
    pub spec: NotificationGatewaySpec,
}

/// One of the given objects, by its index in the list of its kind in [`Objects`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Object {
    /// In [`Objects::gateways`].
    Gateway(usize),
    /// In [`Objects::channels`].
    Channel(usize),
    /// In [`Objects::secrets`].
    Secret(usize),
}

/// Something wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// With which.
    pub object: Object,
    /// At which gateway; `None`: wherever the object is used. Index in [`Objects::gateways`].
    pub gateway: Option<usize>,
    /// With which of the channel's `parentRefs`; `None`: with all that name this gateway.
    pub parent: Option<usize>,
    /// For programs.
    pub reason: Reason,
    /// Field path as kubectl writes it, from the object's root: `spec.parentRefs[0].sectionName`.
    pub field: String,
    /// What is wrong, and what to do. Never holds a Secret's data.
    pub message: String,
    /// The object that is in the way.
    pub other: Option<Object>,
}

impl Problem {
    fn new(object: Object, reason: Reason, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            object,
            gateway: None,
            parent: None,
            reason,
            field: field.into(),
            message: message.into(),
            other: None,
        }
    }

    fn at(self, gateway: usize) -> Self {
        Self {
            gateway: Some(gateway),
            ..self
        }
    }

    fn of_parent(self, parent: usize) -> Self {
        Self {
            parent: Some(parent),
            ..self
        }
    }

    fn with(self, other: Object) -> Self {
        Self {
            other: Some(other),
            ..self
        }
    }
}

/// Why an object is not served, as its conditions name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// An older object, or an earlier listener, has what this one wants.
    Conflicted,
    /// A parent names a gateway or a listener that does not exist.
    GatewayNotFound,
    /// A gateway grants one path to several namespaces. It is served all the same.
    GrantsOverlap,
    /// The object is wrong by itself.
    Invalid,
    /// A grant of a gateway that cannot be read, and grants nothing. The gateway is served all the same.
    InvalidGrant,
    /// A way in that the channel is not granted.
    MethodNotAllowed,
    /// A path that the channel is not granted.
    PathNotAllowed,
    /// A Secret exists that is not labelled for channels.
    RefNotPermitted,
    /// A Secret, or the key in it, does not exist.
    SecretNotFound,
    /// The channel's namespace may not attach to the gateway, or to the listener.
    TenantNotAllowed,
    /// The channel is larger than a gateway takes.
    TooLarge,
    /// A topic that this channel must not read or write.
    TopicNotAllowed,
}

impl Reason {
    /// As conditions spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Conflicted => "Conflicted",
            Self::GatewayNotFound => "GatewayNotFound",
            Self::GrantsOverlap => "GrantsOverlap",
            Self::Invalid => "Invalid",
            Self::InvalidGrant => "InvalidGrant",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::PathNotAllowed => "PathNotAllowed",
            Self::RefNotPermitted => "RefNotPermitted",
            Self::SecretNotFound => "SecretNotFound",
            Self::TenantNotAllowed => "TenantNotAllowed",
            Self::TooLarge => "TooLarge",
            Self::TopicNotAllowed => "TopicNotAllowed",
        }
    }
}

/// What all gateways of a place can serve, and everything that is wrong. Same objects, same outcome.
pub fn validate(objects: &Objects<'_>) -> Outcome {
    validate_again(objects, &mut Compiled::default())
}

/// The same, by who looks again and again: what was compiled is remembered.
pub fn validate_again(objects: &Objects<'_>, compiled: &mut Compiled) -> Outcome {
    let mut problems = Vec::new();
    let index = Index::new(objects, &mut problems);
    let candidates = channel::candidates(&index, objects, compiled, &mut problems);
    let mut gateways = Vec::new();
    for gateway in index.gateways.values() {
        let wrong = gateway::problems(gateway);
        if wrong.is_empty() {
            let keys = gateway_keys::keys(gateway, &index, &objects.other_secrets, &mut problems);
            let tenancy = Tenancy::new(gateway, &index, objects.grants);
            gateways.push(claims::settle(gateway, &candidates, &tenancy, keys, &mut problems));
            problems.extend(grants::problems(gateway, &index));
        }
        problems.extend(wrong);
    }
    Outcome { gateways, problems }
}

/// Most names that a message lists.
const MAX_LISTED: usize = 8;

/// `a, b, c`, and how many more there are.
fn listed(names: impl IntoIterator<Item = impl fmt::Display>) -> String {
    let mut names = names.into_iter();
    let shown: Vec<String> = names.by_ref().take(MAX_LISTED).map(|name| name.to_string()).collect();
    match names.count() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests;
