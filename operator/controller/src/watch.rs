//! Stores that follow the cluster.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use aldis_crds::config_object::GATEWAY_LABEL;
use aldis_crds::{
    ConfigObject, NotificationChannel, NotificationGateway, SECRET_USE_CHANNEL, SECRET_USE_GATEWAY, SECRET_USE_LABEL,
};
use aldis_operator::objects::INSTALLATION_LABEL;
use futures_util::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::watch::{Receiver, Sender};
use tokio::task::JoinSet;

mod unchanged;

/// An object that may not be what it should: one that cannot be read must not end the watch of all others.
pub type Guarded<K> = DeserializeGuard<K>;

/// What is followed. Clones share it.
#[derive(Clone)]
pub struct Stores {
    pub(crate) gateways: Store<Guarded<NotificationGateway>>,
    pub(crate) channels: Store<Guarded<NotificationChannel>>,
    pub(crate) namespaces: Store<Guarded<Namespace>>,
    /// Labelled for channels.
    pub(crate) secrets: Store<Guarded<Secret>>,
    /// Of type `kubernetes.io/tls`.
    pub(crate) certificates: Store<Guarded<Secret>>,
    /// Of this installation, as are those below.
    pub(crate) deployments: Store<Guarded<Deployment>>,
    pub(crate) configs: Store<Guarded<ConfigObject>>,
    /// By which pods acknowledge.
    pub(crate) leases: Store<Guarded<Lease>>,
}

/// The watches; they end with it.
pub struct Watches {
    tasks: JoinSet<()>,
    changed: Receiver<u64>,
}

impl Watches {
    /// The number of changes so far.
    pub fn changes(&self) -> Receiver<u64> {
        self.changed.clone()
    }

    /// Ends only when a watch does, which none should.
    pub async fn ended(&mut self) {
        self.tasks.join_next().await;
    }
}

/// Begins to follow a cluster, or one namespace of it.
pub fn start(client: &Client, namespace: Option<&str>, installation: &str) -> (Stores, Watches) {
    let (sender, changed) = tokio::sync::watch::channel(0);
    let mut watching = Watching {
        client: client.clone(),
        namespace: namespace.map(str::to_owned),
        tasks: JoinSet::new(),
        changed: Arc::new(sender),
    };
    let any = watcher::Config::default;
    let ours = || any().labels(&format!("{INSTALLATION_LABEL}={installation}"));
    let namespaces = match namespace {
        Some(name) => any().fields(&format!("metadata.name={name}")),
        None => any(),
    };
    let stores = Stores {
        gateways: watching.all(any()),
        channels: watching.all(any()),
        secrets: watching.all(any().labels(&format!(
            "{SECRET_USE_LABEL} in ({SECRET_USE_CHANNEL},{SECRET_USE_GATEWAY})"
        ))),
        certificates: watching.all(any().fields("type=kubernetes.io/tls")),
        deployments: watching.all(ours()),
        configs: watching.all(ours()),
        leases: watching.all_but(any().labels(GATEWAY_LABEL), unchanged::renewals()),
        namespaces: watching.follow(Api::all(client.clone()), namespaces, |_| true),
    };
    let Watching { tasks, .. } = watching;
    (stores, Watches { tasks, changed })
}

struct Watching {
    client: Client,
    namespace: Option<String>,
    tasks: JoinSet<()>,
    changed: Arc<Sender<u64>>,
}

impl Watching {
    fn all<K>(&mut self, config: watcher::Config) -> Store<Guarded<K>>
    where
        K: Resource<Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
        K::DynamicType: Default + Eq + Hash + Clone + Send + Sync,
    {
        self.all_but(config, |_| true)
    }

    /// Where `matters` says no to an event, it is kept, and nobody looks at it before something else has changed.
    fn all_but<K>(
        &mut self,
        config: watcher::Config,
        matters: impl FnMut(&Event<Guarded<K>>) -> bool + Send + 'static,
    ) -> Store<Guarded<K>>
    where
        K: Resource<Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
        K::DynamicType: Default + Eq + Hash + Clone + Send + Sync,
    {
        let api = match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        self.follow(api, config, matters)
    }

    fn follow<K>(
        &mut self,
        api: Api<Guarded<K>>,
        config: watcher::Config,
        mut matters: impl FnMut(&Event<Guarded<K>>) -> bool + Send + 'static,
    ) -> Store<Guarded<K>>
    where
        K: Resource + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
        K::DynamicType: Default + Eq + Hash + Clone + Send + Sync,
    {
        let (store, writer) = reflector::store();
        let changed = Arc::clone(&self.changed);
        let kind = K::kind(&K::DynamicType::default()).into_owned();
        let stream = watcher(api, config)
            .default_backoff()
            // Half of an object's metadata, and nobody reads it here.
            .modify(|object| object.managed_fields_mut().clear())
            .reflect(writer);
        self.tasks.spawn(async move {
            let mut stream = stream
                .inspect_err(|error| tracing::warn!(kind, %error, "watching failed, trying again"))
                .boxed();
            while let Some(event) = stream.next().await {
                if event.is_ok_and(|event| matters(&event)) {
                    changed.send_modify(|changes| *changes += 1);
                }
            }
        });
        store
    }
}

impl Stores {
    /// Waits until every store has been filled once: what is not in them then is not there.
    ///
    /// # Errors
    /// Where a watch has ended.
    pub async fn synced(&self) -> Result<(), reflector::store::WriterDropped> {
        self.gateways.wait_until_ready().await?;
        self.channels.wait_until_ready().await?;
        self.namespaces.wait_until_ready().await?;
        self.secrets.wait_until_ready().await?;
        self.certificates.wait_until_ready().await?;
        self.deployments.wait_until_ready().await?;
        self.configs.wait_until_ready().await?;
        self.leases.wait_until_ready().await
    }
}
