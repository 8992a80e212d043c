//! What nobody needs any more: objects of gateways that are gone, and parts that no configuration names. Only what carries this installation's label is looked at, and only that very object is deleted.

use std::collections::BTreeSet;

use aldis_crds::config_object::{index_name, part_name};
use aldis_operator::objects::INSTALLATION_LABEL;
use kube::api::{DeleteParams, DynamicObject, ListParams, Preconditions};
use kube::core::GroupVersionKind;
use kube::{Api, Client, ResourceExt as _};

use crate::apply::{Applier, is_unknown_kind, resource};
use crate::plan::Plan;
use crate::world::World;

/// Every kind that a gateway has objects of.
const KINDS: [(&str, &str, &str); 12] = [
    ("networking.k8s.io", "v1", "Ingress"),
    ("gateway.networking.k8s.io", "v1", "HTTPRoute"),
    ("apps", "v1", "Deployment"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler"),
    ("policy", "v1", "PodDisruptionBudget"),
    ("networking.k8s.io", "v1", "NetworkPolicy"),
    ("", "v1", "Service"),
    ("aldis.dev", "v1alpha1", "GatewayConfig"),
    ("", "v1", "Secret"),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding"),
    ("rbac.authorization.k8s.io", "v1", "Role"),
    ("", "v1", "ServiceAccount"),
];

/// Deletes objects whose gateway is not there. In a cluster the garbage collector is mostly first.
pub(crate) async fn orphans(
    client: &Client,
    namespace: Option<&str>,
    installation: &str,
    world: &World,
) -> Result<u64, kube::Error> {
    let alive = world.gateway_uids();
    let mut deleted = 0;
    for (group, version, kind) in KINDS {
        let resource = resource(&GroupVersionKind::gvk(group, version, kind));
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let list = ListParams::default().labels(&format!("{INSTALLATION_LABEL}={installation}"));
        let objects = match api.list_metadata(&list).await {
            // Gateway API may not be installed.
            Err(kube::Error::Api(status)) if is_unknown_kind(&status) => continue,
            objects => objects?,
        };
        for object in objects {
            // What names no owner is the operator's own.
            let owners = object.owner_references();
            if owners.is_empty() || owners.iter().any(|owner| alive.contains(&owner.uid)) {
                continue;
            }
            let own = object.namespace().unwrap_or_default();
            let api = Api::namespaced_with(client.clone(), &own, &resource);
            delete(&api, &object.name_any(), object.uid()).await?;
            tracing::info!(
                kind,
                namespace = own,
                name = object.name_any(),
                "deleted what a gateway left that is gone"
            );
            deleted += 1;
        }
    }
    Ok(deleted)
}

/// Deletes parts that neither the configuration names nor a pod may still read. They may be wanted again: then they are written anew.
pub(crate) async fn leftovers(
    client: &Client,
    world: &World,
    plan: &Plan,
    applier: &mut Applier,
) -> Result<(), kube::Error> {
    for gateway in plan
        .gateways
        .iter()
        .filter(|gateway| gateway.settled && !gateway.paused)
    {
        let parts = gateway
            .configuration
            .parts
            .keys()
            .map(|hash| part_name(&gateway.name.name, hash));
        let kept: BTreeSet<_> = parts.chain([index_name(&gateway.name.name)]).collect();
        for config in &world.configs {
            let is_its = config.owner_references().iter().any(|owner| owner.uid == gateway.uid);
            if is_its && !kept.contains(&config.name_any()) {
                let gvk = GroupVersionKind::gvk("aldis.dev", "v1alpha1", "GatewayConfig");
                let api = Api::namespaced_with(client.clone(), &gateway.name.namespace, &resource(&gvk));
                delete(&api, &config.name_any(), config.uid()).await?;
                applier.deleted("GatewayConfig", &gateway.name.namespace, &config.name_any());
            }
        }
    }
    Ok(())
}

/// Deletes that very object: one that has its name now and another uid stays.
pub(crate) async fn delete(api: &Api<DynamicObject>, name: &str, uid: Option<String>) -> Result<(), kube::Error> {
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid,
            resource_version: None,
        }),
        ..DeleteParams::background()
    };
    match api.delete(name, &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(error) => Err(error),
    }
}
