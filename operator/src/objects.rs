//! What runs a gateway, as objects of Kubernetes. Pure: what is here is what the operator owns of each object.
//!
//! ```text
//! NotificationGateway realtime/shared
//!     ServiceAccount, Role, RoleBinding   pods read their own configuration and keys, and no more
//!     Secret aldis-shared-keys            the keys of exactly the channels that are served
//!     GatewayConfig shared.<hash>, shared.index
//!     Deployment, Service, PodDisruptionBudget, NetworkPolicy; where asked for HorizontalPodAutoscaler, Ingress, HTTPRoute
//! ```
//! Every name is `aldis-<gateway>`, or `<gateway>.<part>` for the configuration and `aldis-<gateway>.<listener>` for
//! what leads to a listener: one template a kind, so that no two gateways
//! share one.

use aldis_crds::config_object::{GATEWAY_LABEL, index_name, keys_name, part_name};
use aldis_crds::configuration::Configuration;
use aldis_crds::contract::files::key_files;
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::validate::{ObjectName, Validated};

mod access;
mod exposed;
mod network;
mod pods;

pub use exposed::KINDS as EXPOSED_KINDS;

/// What the installation says about all gateways.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The operator's own, by which it finds what it has made: its label on every object.
    pub id: String,
    /// Image of gateways that name none.
    pub gateway_image: String,
}

/// Who a gateway is, for its objects.
pub struct Owner<'a> {
    /// Namespace and name.
    pub name: &'a ObjectName,
    /// Its uid: what belongs to another is not touched, also where that had the same name.
    pub uid: &'a str,
    /// The installation.
    pub installation: &'a Installation,
    /// Whether something else says how many replicas there are.
    pub replicas_are_external: bool,
}

/// The label of the installation that made an object.
pub const INSTALLATION_LABEL: &str = "aldis.dev/installation";

impl Owner<'_> {
    /// Name of most objects of a gateway.
    pub fn object_name(&self) -> String {
        format!("aldis-{}", self.name.name)
    }

    fn labels(&self) -> Value {
        json!({
            "app.kubernetes.io/name": "aldis-gateway",
            "app.kubernetes.io/instance": self.name.name,
            "app.kubernetes.io/managed-by": "aldis-operator",
            "app.kubernetes.io/part-of": "aldis",
            INSTALLATION_LABEL: self.installation.id,
            GATEWAY_LABEL: self.name.name,
        })
    }

    fn selector(&self) -> Value {
        json!({ "app.kubernetes.io/name": "aldis-gateway", "app.kubernetes.io/instance": self.name.name })
    }

    /// An object of this gateway: it goes when the gateway goes.
    fn object(&self, api_version: &str, kind: &str, name: &str, body: Value) -> Value {
        let mut object = json!({
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {
                "name": name,
                "namespace": self.name.namespace,
                "labels": self.labels(),
                "ownerReferences": [{
                    "apiVersion": "aldis.dev/v1alpha1", "kind": "NotificationGateway",
                    "name": self.name.name, "uid": self.uid, "controller": true, "blockOwnerDeletion": false
                }]
            }
        });
        if let (Some(object), Value::Object(body)) = (object.as_object_mut(), body) {
            object.extend(body);
        }
        object
    }
}

/// Everything that a gateway needs, in the order in which it is applied: what is read before who reads it, the parts of the
/// configuration before the index that names them.
pub fn objects(owner: &Owner<'_>, validated: &Validated, configuration: &Configuration) -> Vec<Value> {
    let mut objects = access::objects(owner);
    objects.push(keys(owner, validated));
    objects.extend(config_parts(owner, configuration));
    objects.push(config_index(owner, configuration));
    objects.extend(pods::objects(owner, &validated.gateway.spec));
    objects.push(network::policy(owner, validated));
    // Last: a cluster without Gateway API has everything else.
    objects.extend(exposed::objects(owner, &validated.gateway.spec));
    objects
}

fn keys(owner: &Owner<'_>, validated: &Validated) -> Value {
    let files = key_files(&validated.keys).into_iter();
    let data = files.map(|(name, secret)| (name, json!(ByteString(secret.expose().to_vec()))));
    let data: serde_json::Map<_, _> = data.collect();
    owner.object(
        "v1",
        "Secret",
        &keys_name(&owner.name.name),
        json!({ "type": "Opaque", "data": data }),
    )
}

fn config_parts(owner: &Owner<'_>, configuration: &Configuration) -> Vec<Value> {
    let mut parts = Vec::with_capacity(configuration.parts.len());
    for (hash, channel) in &configuration.parts {
        let spec = json!(Configuration::part_spec(channel));
        let name = part_name(&owner.name.name, hash);
        parts.push(owner.object("aldis.dev/v1alpha1", "GatewayConfig", &name, json!({ "spec": spec })));
    }
    parts
}

fn config_index(owner: &Owner<'_>, configuration: &Configuration) -> Value {
    let spec = json!(configuration.index_spec());
    let name = index_name(&owner.name.name);
    owner.object("aldis.dev/v1alpha1", "GatewayConfig", &name, json!({ "spec": spec }))
}
