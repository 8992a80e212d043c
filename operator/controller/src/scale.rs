//! Scales gateways on their connections, through the subresource `scale` of their Deployments: the number belongs to nobody who
//! applies the Deployment.
//!
//! Pods say in their Leases how many clients they have, and renewals make no pass: it is looked at in each pass, so once in 10 s at least.

use std::collections::{BTreeMap, HashMap};

use aldis_crds::NotificationGateway;
use aldis_crds::config_object::{CONNECTIONS_ANNOTATION, SERVES_ANNOTATION};
use aldis_operator::scale::{Decision, Limited, Load, Report, Wanted, decide};
use aldis_operator::validate::ObjectName;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use serde_json::json;

use crate::metrics::Metrics;
use crate::plan::Gateway;
use crate::world::World;

/// Who writes numbers of pods, for the API server.
const FIELD_MANAGER: &str = "aldis-operator-scale";

/// What earlier looks leave.
#[derive(Default)]
pub(crate) struct Scaler {
    wanted: HashMap<ObjectName, Wanted>,
    /// Why a gateway has not as many pods as its clients ask for, by reason and message.
    pub(crate) limited: BTreeMap<ObjectName, (&'static str, String)>,
}

impl Scaler {
    /// Forgets a gateway that is not scaled now. When it is again, all is looked at for a while before there are fewer pods.
    pub(crate) fn forget(&mut self, name: &ObjectName) {
        self.wanted.remove(name);
        self.limited.remove(name);
    }

    /// Forgets what is not there any more.
    pub(crate) fn retain(&mut self, keep: impl Fn(&ObjectName) -> bool) {
        self.wanted.retain(|name, _| keep(name));
        self.limited.retain(|name, _| keep(name));
    }

    /// Looks at one gateway, and gives it the pods that it should have.
    pub(crate) async fn gateway(
        &mut self,
        client: &Client,
        (recorder, metrics): (&Recorder, &Metrics),
        gateway: &Gateway,
        world: &World,
        now: &Time,
    ) {
        let name = &gateway.name;
        let deployment = world.deployment_of(name);
        let is_its = |deployment: &&Deployment| {
            deployment
                .owner_references()
                .iter()
                .any(|owner| owner.uid == gateway.uid)
        };
        let (Some(autoscaling), Some(deployment)) = (&gateway.autoscaling, deployment.filter(is_its)) else {
            return self.forget(name);
        };
        let load = load(deployment, name, world, now);
        let wanted = self.wanted.entry(name.clone()).or_default();
        let Some(decision) = decide(autoscaling, &load, wanted, now.0) else {
            return self.forget(name);
        };
        match decision.limited {
            Some(limited) => self
                .limited
                .insert(name.clone(), told(limited, autoscaling.max_replicas)),
            None => self.limited.remove(name),
        };
        if decision.replicas == load.current {
            return;
        }
        let result = match write(client, deployment, name, decision.replicas).await {
            Ok(()) if decision.replicas > load.current => "up",
            Ok(()) => "down",
            // It was changed since: the next pass sees how.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => return,
            Err(error) => {
                tracing::warn!(gateway = %name, %error, "cannot scale, trying again");
                let reason = match &error {
                    kube::Error::Api(status) if status.is_forbidden() => "Forbidden",
                    _ => "ApplyFailed",
                };
                let message = format!("cannot scale Deployment aldis-{}: {error}", name.name);
                self.limited.insert(name.clone(), (reason, message));
                metrics.scaled.with_label_values(&["failed"]).inc();
                return;
            }
        };
        metrics.scaled.with_label_values(&[result]).inc();
        let target = autoscaling.target_connections_per_replica.unwrap_or_default();
        let note = note(&load, &decision, target);
        tracing::info!(gateway = %name, from = load.current, to = decision.replicas, connections = decision.connections, "scaled");
        let declared = world
            .gateways
            .iter()
            .find(|declared| ObjectName::of(&declared.metadata) == *name);
        if let Some(declared) = declared {
            publish(recorder, declared, deployment, note).await;
        }
    }
}

/// What there is of a gateway.
fn load(deployment: &Deployment, name: &ObjectName, world: &World, now: &Time) -> Load {
    let count = |number: Option<i32>| u32::try_from(number.unwrap_or_default()).unwrap_or_default();
    let reports = world.fresh_leases_of(name, now).filter_map(|lease| {
        let said = lease.annotations();
        // One that stops serves nothing: its clients are counted where they go.
        if said.get(SERVES_ANNOTATION)?.is_empty() {
            return None;
        }
        let connections = said.get(CONNECTIONS_ANNOTATION)?.parse().ok()?;
        let at = lease.spec.as_ref()?.renew_time.as_ref()?.0;
        Some(Report { connections, at })
    });
    Load {
        current: count(deployment.spec.as_ref().and_then(|spec| spec.replicas)),
        ready: count(deployment.status.as_ref().and_then(|status| status.ready_replicas)),
        reports: reports.collect(),
    }
}

async fn write(client: &Client, deployment: &Deployment, name: &ObjectName, replicas: u32) -> Result<(), kube::Error> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), &name.namespace);
    // The resource version makes it a conflict where somebody was faster.
    let patch =
        json!({ "metadata": { "resourceVersion": deployment.resource_version() }, "spec": { "replicas": replicas } });
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    api.patch_scale(&deployment.name_any(), &params, &Patch::Merge(patch))
        .await?;
    Ok(())
}

/// For conditions. Without numbers that change all the time: each would be a write.
fn told(limited: Limited, max: u32) -> (&'static str, String) {
    match limited {
        Limited::TooManyConnections => (
            "TooManyConnections",
            format!("its clients ask for more pods than spec.autoscaling.maxReplicas, which is {max}"),
        ),
        Limited::ConnectionsUnknown => (
            "ConnectionsUnknown",
            "not every pod that takes clients says how many it has, so there will not be fewer: look at the log of the pods, and whether \
             their image fits the operator"
                .to_owned(),
        ),
    }
}

fn note(load: &Load, decision: &Decision, target: u32) -> String {
    format!(
        "replicas {} → {}: {} clients on {} pods, {target} aimed at for each",
        load.current, decision.replicas, decision.connections, load.ready
    )
}

async fn publish(recorder: &Recorder, gateway: &NotificationGateway, deployment: &Deployment, note: String) {
    let event = Event {
        type_: EventType::Normal,
        reason: "Scaled".to_owned(),
        note: Some(note),
        action: "Scaling".to_owned(),
        // As it was: events that differ in nothing but their note are counted, and the first note is shown.
        secondary: Some(ObjectReference {
            resource_version: deployment.resource_version(),
            ..deployment.object_ref(&())
        }),
    };
    if let Err(error) = recorder.publish(&event, &gateway.object_ref(&())).await {
        tracing::debug!(%error, "cannot publish an event");
    }
}
