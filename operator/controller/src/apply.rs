//! Server-side apply: what the operator says of an object is its own, the rest is whoever's wrote it.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use aldis_operator::objects::{INSTALLATION_LABEL, Installation};
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind, TypeMeta};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::metrics::Metrics;
use crate::plan::Gateway;
use crate::sweep::delete;

/// Who writes objects of gateways, for the API server.
pub const FIELD_MANAGER: &str = "aldis-operator";
/// Who keeps the number of replicas while it goes over to somebody else: a field that nobody owns any more is reset.
const HANDOVER_MANAGER: &str = "aldis-operator-handover";

/// Why a gateway is not as it should be, for its conditions.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error("{kind} {name} is there already and is not of this gateway: remove or rename it, or the gateway")]
    NameTaken { kind: String, name: String },
    #[error("cannot write {kind} {name}: {source}")]
    Refused {
        kind: String,
        name: String,
        source: kube::Error,
    },
}

impl ApplyError {
    /// As conditions spell it.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::NameTaken { .. } => "NameTaken",
            Self::Refused {
                source: kube::Error::Api(status),
                ..
            } if status.is_forbidden() => "Forbidden",
            Self::Refused { .. } => "ApplyFailed",
        }
    }
}

/// Kind, namespace and name.
type Key = (String, String, String);

/// Writes what has changed since it was written last.
pub(crate) struct Applier {
    client: Client,
    installation: String,
    /// The hash of what was written last. Forgotten now and then, so that what others changed is mended.
    written: HashMap<Key, u64>,
    /// Autoscalers that are known not to be there.
    absent: HashSet<Key>,
}

impl Applier {
    pub(crate) fn new(client: Client, installation: &Installation) -> Self {
        Self {
            client,
            installation: installation.id.clone(),
            written: HashMap::new(),
            absent: HashSet::new(),
        }
    }

    /// Everything is written again, as after a start.
    pub(crate) fn forget(&mut self) {
        self.written.clear();
        self.absent.clear();
    }

    /// An object that was written is not there any more.
    pub(crate) fn deleted(&mut self, kind: &str, namespace: &str, name: &str) {
        self.written
            .remove(&(kind.to_owned(), namespace.to_owned(), name.to_owned()));
    }

    /// Writes the objects of a gateway, in order; the first that fails ends it.
    pub(crate) async fn gateway(&mut self, gateway: &Gateway, metrics: &Metrics) -> Result<(), ApplyError> {
        for object in &gateway.objects {
            let key = key(object);
            let hash = hash(object);
            if self.written.get(&key) == Some(&hash) {
                continue;
            }
            let first = !self.written.contains_key(&key);
            if let Err(error) = self.object(object, &gateway.uid, first).await {
                self.written.remove(&key);
                metrics.applied.with_label_values(&[&key.0, error.reason()]).inc();
                return Err(error);
            }
            metrics.applied.with_label_values(&[&key.0, "ok"]).inc();
            self.absent.remove(&key);
            self.written.insert(key, hash);
        }
        self.no_autoscaler(gateway).await
    }

    /// Deletes the autoscaler of a gateway that asks for none any more.
    async fn no_autoscaler(&mut self, gateway: &Gateway) -> Result<(), ApplyError> {
        const KIND: &str = "HorizontalPodAutoscaler";
        let (namespace, name) = (&gateway.name.namespace, format!("aldis-{}", gateway.name.name));
        let key = (KIND.to_owned(), namespace.clone(), name.clone());
        let wanted = gateway.objects.iter().any(|object| object["kind"] == KIND);
        if wanted || self.absent.contains(&key) {
            return Ok(());
        }
        let refused = |source| ApplyError::Refused {
            kind: KIND.to_owned(),
            name: name.clone(),
            source,
        };
        let resource = resource(&GroupVersionKind::gvk("autoscaling", "v2", KIND));
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
        if let Some(there) = api.get_opt(&name).await.map_err(refused)?
            && is_ours(&there, &self.installation, &gateway.uid)
        {
            delete(&api, &name, there.uid()).await.map_err(refused)?;
        }
        self.written.remove(&key);
        self.absent.insert(key);
        Ok(())
    }

    /// `first`: nobody has looked yet whose it is.
    async fn object(&self, object: &Value, uid: &str, first: bool) -> Result<(), ApplyError> {
        let (kind, namespace, name) = key(object);
        let refused = |source| ApplyError::Refused {
            kind: kind.clone(),
            name: name.clone(),
            source,
        };
        let api = api(&self.client, object, &namespace);
        let hands_over = kind == "Deployment" && object["spec"]["replicas"].is_null();
        if (first || hands_over)
            && let Some(there) = api.get_opt(&name).await.map_err(refused)?
        {
            if !is_ours(&there, &self.installation, uid) {
                return Err(ApplyError::NameTaken { kind, name });
            }
            if hands_over && owns_replicas(&there) {
                hand_over(&api, &there).await.map_err(refused)?;
            }
        }
        let params = PatchParams {
            field_validation: Some(kube::api::ValidationDirective::Strict),
            ..PatchParams::apply(FIELD_MANAGER).force()
        };
        api.patch(&name, &params, &Patch::Apply(object))
            .await
            .map_err(refused)?;
        Ok(())
    }
}

/// Of this installation and this very gateway: not of one that had its name before.
fn is_ours(object: &DynamicObject, installation: &str, uid: &str) -> bool {
    let labelled = object
        .labels()
        .get(INSTALLATION_LABEL)
        .is_some_and(|label| label == installation);
    labelled && object.owner_references().iter().any(|owner| owner.uid == uid)
}

fn owns_replicas(deployment: &DynamicObject) -> bool {
    deployment.managed_fields().iter().any(|entry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0["f:spec"]["f:replicas"]);
        entry.manager.as_deref() == Some(FIELD_MANAGER) && fields.is_some_and(|field| !field.is_null())
    })
}

/// Another manager owns the number too, so that it stays when ours lets go.
async fn hand_over(api: &Api<DynamicObject>, deployment: &DynamicObject) -> Result<(), kube::Error> {
    let replicas = &deployment.data["spec"]["replicas"];
    let patch = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": deployment.name_any() }, "spec": { "replicas": replicas } });
    let params = PatchParams::apply(HANDOVER_MANAGER).force();
    api.patch(&deployment.name_any(), &params, &Patch::Apply(patch)).await?;
    Ok(())
}

fn key(object: &Value) -> Key {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    (
        text(&object["kind"]),
        text(&metadata["namespace"]),
        text(&metadata["name"]),
    )
}

fn hash(object: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    object.to_string().hash(&mut hasher);
    hasher.finish()
}

fn api(client: &Client, object: &Value, namespace: &str) -> Api<DynamicObject> {
    let text = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
    let types = TypeMeta {
        api_version: text("apiVersion"),
        kind: text("kind"),
    };
    // Every object of ours has a good apiVersion; one that had not would be refused by the API server.
    let gvk = GroupVersionKind::try_from(types).unwrap_or_else(|_| GroupVersionKind::gvk("", "", ""));
    Api::namespaced_with(client.clone(), namespace, &resource(&gvk))
}

/// The kind with its plural, which the guess of English plurals gets right for all of ours but one.
pub(crate) fn resource(gvk: &GroupVersionKind) -> ApiResource {
    match gvk.kind.as_str() {
        "NetworkPolicy" => ApiResource::from_gvk_with_plural(gvk, "networkpolicies"),
        _ => ApiResource::from_gvk(gvk),
    }
}
