//! What is to be done, from what is there. No I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use aldis_crds::REPLICAS_ANNOTATION;
use aldis_crds::config_object::{CANNOT_SERVE_ANNOTATION, SERVES_ANNOTATION};
use aldis_crds::configuration::Configuration;
use aldis_crds::gateway::Autoscaling;
use aldis_crds::status::{ChannelStatus, GatewayStatus};
use aldis_operator::objects::{Installation, Owner, objects};
use aldis_operator::status::{Observed, Serving, channel_status, gateway_status, is_paused};
use aldis_operator::translate;
use aldis_operator::validate::{Compiled, ObjectName, Outcome, validate_again};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use serde_json::Value;

use crate::world::{World, by_name};

/// Configurations of a gateway that are remembered, to know what a pod that is behind serves. 16: pods are seconds behind.
const MAX_REMEMBERED: usize = 16;

/// Everything about one gateway.
pub(crate) struct Gateway {
    pub(crate) name: ObjectName,
    pub(crate) uid: String,
    pub(crate) configuration: Configuration,
    /// In the order in which they are applied.
    pub(crate) objects: Vec<Value>,
    /// Nothing of it is written.
    pub(crate) paused: bool,
    /// How it is scaled, where it is, and not by somebody else.
    pub(crate) autoscaling: Option<Autoscaling>,
    /// Whether every pod that takes clients serves the configuration: older parts can go.
    pub(crate) settled: bool,
}

impl Gateway {
    /// Changes whenever what is to be written does.
    pub(crate) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for object in &self.objects {
            object.to_string().hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// What is to be done.
pub(crate) struct Plan {
    pub(crate) gateways: Vec<Gateway>,
    outcome: Outcome,
}

/// What one pass leaves to the next.
#[derive(Default)]
pub(crate) struct Remembered {
    /// What pods may still serve: for each gateway, the hashes of its latest configurations.
    served: HashMap<ObjectName, VecDeque<Remains>>,
    compiled: Compiled,
}

/// A configuration that pods may still serve: its hash, and the names of its parts.
type Remains = (String, Arc<BTreeSet<String>>);

/// Statuses that have changed, by index of their objects.
type Changed = (Vec<(usize, GatewayStatus)>, Vec<(usize, ChannelStatus)>);

impl Remembered {
    fn add(&mut self, gateway: &ObjectName, index: &str, parts: impl Iterator<Item = String>) {
        let known = self.served.entry(gateway.clone()).or_default();
        if known.iter().any(|(hash, _)| hash == index) {
            return;
        }
        known.push_back((index.to_owned(), Arc::new(parts.chain([index.to_owned()]).collect())));
        if known.len() > MAX_REMEMBERED {
            known.pop_front();
        }
    }

    fn hashes(&self, gateway: &ObjectName, index: &str) -> Arc<BTreeSet<String>> {
        let known = self
            .served
            .get(gateway)
            .and_then(|known| known.iter().find(|(hash, _)| hash == index));
        known.map(|(_, hashes)| Arc::clone(hashes)).unwrap_or_default()
    }
}

impl Plan {
    pub(crate) fn new(world: &World, installation: &Installation, remembered: &mut Remembered, now: &Time) -> Self {
        let outcome = validate_again(&world.objects(), &mut remembered.compiled);
        let declared = by_name(&world.gateways);
        let mut gateways = Vec::new();
        for validated in &outcome.gateways {
            let name = &validated.gateway.name;
            let Some(gateway) = declared.get(name) else { continue };
            let configuration = Configuration::new(&translate(validated), &validated.keys);
            // What is in the cluster, after a restart; then what will be.
            if let Some(index) = world.index_of(name).and_then(|config| config.spec.index.as_ref()) {
                remembered.add(name, &index.hash, index.channels.iter().cloned());
            }
            remembered.add(name, &configuration.index.hash, configuration.parts.keys().cloned());
            let annotations = gateway.annotations();
            let uid = gateway.uid().unwrap_or_default();
            let owner = Owner {
                name,
                uid: &uid,
                installation,
                replicas_are_external: annotations
                    .get(REPLICAS_ANNOTATION)
                    .is_some_and(|value| value == "external"),
            };
            let seen = observed(name, world, remembered, None, now);
            let settled = seen
                .serving
                .iter()
                .all(|pod| pod.has.contains(&configuration.index.hash));
            gateways.push(Gateway {
                objects: objects(&owner, validated, &configuration),
                name: name.clone(),
                paused: is_paused(gateway),
                autoscaling: validated
                    .gateway
                    .spec
                    .autoscaling
                    .clone()
                    .filter(|_| !owner.replicas_are_external),
                uid,
                configuration,
                settled,
            });
        }
        Self { gateways, outcome }
    }

    /// The statuses that have changed, by index of their objects. `failed`: why a gateway could not be written. `limited`: why one has not
    /// as many pods as its clients ask for.
    pub(crate) fn statuses(
        &self,
        world: &World,
        remembered: &Remembered,
        failed: &BTreeMap<ObjectName, (&'static str, String)>,
        limited: &BTreeMap<ObjectName, (&'static str, String)>,
        now: &Time,
    ) -> Changed {
        let objects = world.objects();
        let seen = world.gateways.iter().map(|gateway| {
            let name = ObjectName::of(&gateway.metadata);
            let mut observed = observed(&name, world, remembered, failed.get(&name).cloned(), now);
            observed.limited = limited.get(&name).cloned();
            (name, observed)
        });
        let seen: BTreeMap<_, _> = seen.collect();
        let nothing = Observed::default();
        let planned: BTreeMap<_, _> = self
            .gateways
            .iter()
            .map(|gateway| (gateway.name.clone(), gateway))
            .collect();
        let of = |name: &ObjectName| seen.get(name).unwrap_or(&nothing);
        let gateways = world.gateways.iter().enumerate().filter_map(|(position, gateway)| {
            let name = ObjectName::of(&gateway.metadata);
            let configuration = planned.get(&name).map(|gateway| &gateway.configuration);
            let status = gateway_status(position, &objects, &self.outcome, configuration, of(&name), now)?;
            Some((position, status))
        });
        let served: BTreeMap<_, _> = planned
            .iter()
            .map(|(name, gateway)| (name.clone(), (&gateway.configuration, of(name))))
            .collect();
        let unreadable: BTreeSet<_> = world
            .unreadable_channels
            .iter()
            .map(|(metadata, _)| ObjectName::of(metadata))
            .collect();
        let channels = world.channels.iter().enumerate().filter_map(|(position, channel)| {
            // What it says of itself is not known.
            if unreadable.contains(&ObjectName::of(&channel.metadata)) {
                return None;
            }
            let status = channel_status(position, &objects, &self.outcome, &served, now)?;
            Some((position, status))
        });
        (gateways.collect(), channels.collect())
    }
}

/// What pods of a gateway are there, and what each says that it serves.
fn observed(
    gateway: &ObjectName,
    world: &World,
    remembered: &Remembered,
    failed: Option<(&'static str, String)>,
    now: &Time,
) -> Observed {
    let deployment = world.deployment_of(gateway);
    let status = deployment.and_then(|deployment| deployment.status.as_ref());
    let desired = deployment.and_then(|deployment| deployment.spec.as_ref()?.replicas);
    let serving = world.fresh_leases_of(gateway, now).filter_map(|lease| {
        let index = lease.annotations().get(SERVES_ANNOTATION)?;
        let cannot = lease.annotations().get(CANNOT_SERVE_ANNOTATION);
        Some(Serving {
            has: remembered.hashes(gateway, index),
            cannot: cannot
                .and_then(|json| serde_json::from_str(json).ok())
                .unwrap_or_default(),
        })
    });
    let count = |number: Option<i32>| u32::try_from(number.unwrap_or_default()).unwrap_or_default();
    Observed {
        desired: count(desired),
        ready: count(status.and_then(|status| status.ready_replicas)),
        serving: serving.collect(),
        failed,
        limited: None,
    }
}
