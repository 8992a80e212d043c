//! What is there now: objects that can be read, and names of those that cannot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aldis_crds::config_object::{GATEWAY_LABEL, index_name};
use aldis_crds::{ConfigObject, NotificationChannel, NotificationGateway};
use aldis_operator::validate::{Grants, ObjectName, Objects, Others};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::ObjectMeta;
use kube::{Resource, ResourceExt as _};

use crate::watch::{Guarded, Stores};

/// The cluster at one moment. Owned, so that a pass sees one and the same.
pub(crate) struct World {
    pub(crate) gateways: Vec<NotificationGateway>,
    pub(crate) channels: Vec<NotificationChannel>,
    secrets: Vec<Secret>,
    namespaces: Vec<Namespace>,
    pub(crate) deployments: Vec<Deployment>,
    pub(crate) configs: Vec<ConfigObject>,
    pub(crate) leases: Vec<Lease>,
    /// Gateways that cannot be read, and why: nothing about them is changed.
    pub(crate) unreadable_gateways: Vec<(ObjectMeta, String)>,
    /// Channels that cannot be read, and why. What was last served of them goes on.
    pub(crate) unreadable_channels: Vec<(ObjectMeta, String)>,
}

/// Objects that can be read; metadata of the others, and why.
fn readable<K: Resource + Clone>(objects: Vec<Arc<Guarded<K>>>) -> (Vec<K>, Vec<(ObjectMeta, String)>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for object in objects {
        match &object.0 {
            Ok(object) => good.push(object.clone()),
            Err(error) => bad.push((error.metadata.clone(), error.error.clone())),
        }
    }
    (good, bad)
}

impl World {
    pub(crate) fn now(stores: &Stores) -> Self {
        let (gateways, unreadable_gateways) = readable(stores.gateways.state());
        let (mut channels, unreadable_channels) = readable(stores.channels.state());
        let (configs, _) = readable(stores.configs.state());
        let last_served = unreadable_channels
            .iter()
            .filter_map(|(metadata, _)| last_served(metadata, &configs));
        channels.extend(last_served);
        let (mut secrets, _) = readable(stores.secrets.state());
        secrets.extend(readable(stores.certificates.state()).0);
        let mut seen = BTreeSet::new();
        secrets.retain(|secret| seen.insert(secret.uid()));
        Self {
            gateways,
            channels,
            secrets,
            namespaces: readable(stores.namespaces.state()).0,
            deployments: readable(stores.deployments.state()).0,
            configs,
            leases: readable(stores.leases.state()).0,
            unreadable_gateways,
            unreadable_channels,
        }
    }

    /// As the pure steps take it.
    pub(crate) fn objects(&self) -> Objects<'_> {
        let unreadable = self
            .unreadable_gateways
            .iter()
            .map(|(metadata, _)| ObjectName::of(metadata));
        Objects {
            gateways: self.gateways.iter().collect(),
            channels: self.channels.iter().collect(),
            secrets: self.secrets.iter().collect(),
            namespaces: self.namespaces.iter().collect(),
            grants: Grants::Declared,
            other_gateways: Others::Named(unreadable.collect()),
            other_secrets: Others::None,
        }
    }

    /// Every gateway that there is, by uid.
    pub(crate) fn gateway_uids(&self) -> BTreeSet<String> {
        let readable = self.gateways.iter().filter_map(|gateway| gateway.uid());
        let unreadable = self
            .unreadable_gateways
            .iter()
            .filter_map(|(metadata, _)| metadata.uid.clone());
        readable.chain(unreadable).collect()
    }

    /// The index of a gateway as it is in the cluster.
    pub(crate) fn index_of(&self, gateway: &ObjectName) -> Option<&ConfigObject> {
        let name = index_name(&gateway.name);
        self.configs
            .iter()
            .find(|config| config.name_any() == name && config.namespace().as_ref() == Some(&gateway.namespace))
    }
}

impl World {
    /// What runs the pods of a gateway.
    pub(crate) fn deployment_of(&self, gateway: &ObjectName) -> Option<&Deployment> {
        let name = ObjectName::new(&gateway.namespace, format!("aldis-{}", gateway.name));
        self.deployments
            .iter()
            .find(|deployment| ObjectName::of(&deployment.metadata) == name)
    }

    /// What pods of a gateway say that still renew their Lease.
    pub(crate) fn fresh_leases_of<'w>(
        &'w self,
        gateway: &'w ObjectName,
        now: &'w Time,
    ) -> impl Iterator<Item = &'w Lease> {
        self.leases.iter().filter(move |lease| {
            let is_its = lease.labels().get(GATEWAY_LABEL) == Some(&gateway.name);
            is_its && lease.namespace().as_ref() == Some(&gateway.namespace) && is_fresh(lease, now)
        })
    }
}

/// Whether a pod still renews its Lease. One that does not has gone, or hangs.
fn is_fresh(lease: &Lease, now: &Time) -> bool {
    let Some(spec) = &lease.spec else { return false };
    let (Some(renewed), Some(seconds)) = (&spec.renew_time, spec.lease_duration_seconds) else {
        return false;
    };
    now.0.duration_since(renewed.0).as_secs() <= i64::from(seconds)
}

/// A channel that cannot be read, as it was served last.
fn last_served(metadata: &ObjectMeta, configs: &[ConfigObject]) -> Option<NotificationChannel> {
    let mut served = configs.iter().filter_map(|config| config.spec.channel.as_ref());
    let config = served.find(|config| {
        Some(&config.channel.namespace) == metadata.namespace.as_ref()
            && Some(&config.channel.name) == metadata.name.as_ref()
    })?;
    let mut channel = NotificationChannel::new(&config.channel.name, config.spec.clone());
    channel.metadata = metadata.clone();
    Some(channel)
}

/// Objects by namespace and name.
pub(crate) fn by_name<K: Resource>(objects: &[K]) -> BTreeMap<ObjectName, &K> {
    objects
        .iter()
        .map(|object| (ObjectName::of(object.meta()), object))
        .collect()
}
