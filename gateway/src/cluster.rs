//! cluster: the configuration of a gateway as objects of Kubernetes, as `aldis-operator` writes them.
//!
//! ```text
//! watch → whole? → parse → in force, or rejected: then the last good one stays
//! ```
//! What is watched is kept when the API server goes away, and read again when it is back. A set that is half written is waited
//! for: the index names its parts and the fingerprint of its keys.

use std::fmt::Debug;
use std::hash::Hash;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aldis_crds::config_object::{
    ConfigIndex, ConfigObject, ConfigSpec, GATEWAY_LABEL, index_name, keys_name, part_name,
};
use aldis_crds::configuration::{Revision, fingerprint};
use aldis_crds::contract::files::keys_of;
use aldis_crds::contract::{CONTRACT_VERSION, Keys, Secret};
use futures_util::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Secret as SecretObject;
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::metrics::Metrics;

/// After a change, before it is looked at: what is written together is read together. 50 ms.
const SETTLE: Duration = Duration::from_millis(50);
/// How long a set may be half written before that is told, and before keys that are not those of the index are taken. 10 s: the
/// operator writes all of it within one.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which gateway this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl FromStr for GatewayName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => Ok(Self {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }),
            _ => Err("expected NAMESPACE/NAME, such as realtime/shared"),
        }
    }
}

/// Why what is in the cluster can not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// Not what it should be.
    #[error("GatewayConfig {object}: {message}")]
    Malformed {
        /// Its name.
        object: String,
        /// What, with its place.
        message: String,
    },
    /// Written by another generation of the operator.
    #[error(
        "GatewayConfig {object} has version {found} of the contract, and this gateway reads version {CONTRACT_VERSION}: give it the image that fits the operator"
    )]
    Version {
        /// Its name.
        object: String,
        /// What it says.
        found: u64,
    },
    /// Something is missing, and has been for [`PATIENCE`].
    #[error("the operator has not written all of it: {0}; is it running, and may it write there?")]
    Missing(String),
}

/// What a look has found.
struct Look {
    /// Whether it is whole. What is not may be in a moment.
    is_whole: bool,
    found: Result<Revision, ClusterError>,
}

/// What of it is told, and when.
#[derive(Default)]
struct Judge {
    /// What was told last; the same is not told again.
    told: Option<Result<String, ClusterError>>,
    /// Since when what is there is not whole.
    half_since: Option<Instant>,
}

impl Judge {
    /// What is to be told now of what was found.
    fn tell(&mut self, look: Look, now: Instant) -> Option<Result<Revision, ClusterError>> {
        if look.is_whole {
            self.half_since = None;
        } else if now < *self.half_since.get_or_insert(now) + PATIENCE {
            return None;
        }
        let told = look.found.as_ref().map(|revision| revision.hash.clone());
        let told = Some(told.map_err(Clone::clone));
        if self.told == told {
            return None;
        }
        self.told = told;
        Some(look.found)
    }

    /// When patience ends, where it has not.
    fn ends(&self, now: Instant) -> Option<Instant> {
        self.half_since.map(|since| since + PATIENCE).filter(|end| *end > now)
    }
}

/// The configuration of a gateway in its cluster, followed.
pub struct Cluster {
    gateway: GatewayName,
    configs: Store<DynamicObject>,
    secrets: Store<SecretObject>,
    changed: watch::Receiver<u64>,
    judge: Judge,
    failures: Failures,
    _watches: JoinSet<()>,
}

/// Who counts failures of watches, once there is somebody.
type Failures = Arc<OnceLock<Arc<Metrics>>>;

impl Cluster {
    /// Begins to follow.
    pub fn follow(client: &Client, gateway: GatewayName) -> Self {
        let namespace = &gateway.namespace;
        let resource = ApiResource::erase::<ConfigObject>(&());
        let configs = Writer::new(resource.clone());
        let secrets = Writer::default();
        let stores = (configs.as_reader(), secrets.as_reader());
        let (sender, changed) = watch::channel(0);
        let (changes, failures) = (Arc::new(sender), Failures::default());
        let labelled = watcher::Config::default().labels(&format!("{GATEWAY_LABEL}={}", gateway.name));
        let named = watcher::Config::default().fields(&format!("metadata.name={}", keys_name(&gateway.name)));
        let mut watches = JoinSet::new();
        let api = Api::namespaced_with(client.clone(), namespace, &resource);
        let (counted, failed) = (Arc::clone(&changes), Arc::clone(&failures));
        watches.spawn(watch_all(api, labelled, configs, counted, failed));
        let api = Api::namespaced(client.clone(), namespace);
        watches.spawn(watch_all(api, named, secrets, changes, Arc::clone(&failures)));
        Self {
            gateway,
            configs: stores.0,
            secrets: stores.1,
            changed,
            judge: Judge::default(),
            failures,
            _watches: watches,
        }
    }

    /// From now on failures are counted there.
    pub fn count_in(&self, metrics: Arc<Metrics>) {
        self.failures.set(metrics).ok();
    }

    /// Waits for what is not known yet: a configuration, or why the newest one can not be used.
    ///
    /// # Errors
    /// Where it can not.
    pub async fn next(&mut self) -> Result<Revision, ClusterError> {
        loop {
            self.changed.mark_unchanged();
            let now = Instant::now();
            if let Some(told) = self.judge.tell(self.look(), now) {
                return told;
            }
            let patience = self.judge.ends(now);
            tokio::select! {
                changed = self.changed.changed() => match changed {
                    Ok(()) => sleep(SETTLE).await,
                    // Without a watch nothing new is ever seen; none ends by itself.
                    Err(_) => std::future::pending().await,
                },
                () = sleep_until(patience.unwrap_or(now)), if patience.is_some() => {}
            }
        }
    }

    fn look(&self) -> Look {
        let data = self.secrets.state().first().and_then(|secret| secret.data.clone());
        let keys = data.unwrap_or_default().into_iter();
        let keys = keys_of(keys.map(|(name, value)| (name, Secret::new(value.0))));
        look(&self.gateway.name, keys, |name| {
            let reference = ObjectRef::new_with(name, ApiResource::erase::<ConfigObject>(&()));
            let object = self.configs.get(&reference.within(&self.gateway.namespace))?;
            Some(object.data["spec"].clone())
        })
    }
}

/// Puts together what is there. `find` gives the spec of a GatewayConfig by its name.
fn look(gateway: &str, keys: Keys, find: impl Fn(&str) -> Option<Value>) -> Look {
    let half = |missing: String| Look {
        is_whole: false,
        found: Err(ClusterError::Missing(missing)),
    };
    let whole = |found| Look { is_whole: true, found };
    let name = index_name(gateway);
    let Some(spec) = find(&name) else {
        return half(format!("there is no GatewayConfig {name}"));
    };
    let index = match read(&name, spec).map(|spec| spec.index) {
        Ok(Some(index)) => index,
        Ok(None) => return whole(Err(malformed(&name, "it is no index"))),
        Err(error) => return whole(Err(error)),
    };
    let mut channels = Vec::with_capacity(index.channels.len());
    for hash in &index.channels {
        let name = part_name(gateway, hash);
        let Some(spec) = find(&name) else {
            return half(format!(
                "there is no GatewayConfig {name}, which {} names",
                index_name(gateway)
            ));
        };
        match read(&name, spec).map(|spec| spec.channel) {
            Ok(Some(channel)) => channels.push(channel),
            Ok(None) => return whole(Err(malformed(&name, "it is no channel"))),
            Err(error) => return whole(Err(error)),
        }
    }
    let ConfigIndex {
        hash,
        keys: wanted,
        channels: parts,
        ..
    } = index.clone();
    let config = index.with(channels);
    let is_whole = wanted.is_empty() || wanted == fingerprint(&keys);
    let found = match is_whole {
        // Not what this version would make of it: what the operator knows it by.
        true => Revision {
            config,
            keys,
            hash,
            parts,
        },
        // Keys of a configuration that is not written yet, or never will be.
        false => Revision::new(config, keys),
    };
    Look {
        is_whole,
        found: Ok(found),
    }
}

/// Reads a spec, if it is of this version.
fn read(object: &str, spec: Value) -> Result<ConfigSpec, ClusterError> {
    let found = spec["contractVersion"].as_u64().unwrap_or_default();
    if found != u64::from(CONTRACT_VERSION) {
        let object = object.to_owned();
        return Err(ClusterError::Version { object, found });
    }
    serde_path_to_error::deserialize(spec)
        .map_err(|error| malformed(object, &format!("spec.{}: {}", error.path(), error.inner())))
}

fn malformed(object: &str, message: &str) -> ClusterError {
    ClusterError::Malformed {
        object: object.to_owned(),
        message: message.to_owned(),
    }
}

/// Keeps a store as the cluster is. Ends never: it waits and begins again, later each time, up to half a minute.
async fn watch_all<K>(
    api: Api<K>,
    config: watcher::Config,
    store: Writer<K>,
    changes: Arc<watch::Sender<u64>>,
    failures: Failures,
) where
    K: Resource + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone + Send + Sync,
{
    let stream = watcher(api, config)
        .default_backoff()
        .modify(|object| object.managed_fields_mut().clear())
        .reflect(store);
    let mut stream = stream
        .inspect_err(|error| {
            tracing::warn!(%error, "the API server can not be followed, trying again; what is in force stays");
            if let Some(metrics) = failures.get() {
                metrics.watch_failed();
            }
        })
        .boxed();
    while let Some(event) = stream.next().await {
        if event.is_ok() {
            changes.send_modify(|changes| *changes += 1);
        }
    }
}

#[cfg(test)]
mod tests;
