//! Server-side apply: what the operator says of an object is its own, the rest is whoever's wrote it.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use aldis_crds::config_object::GATEWAY_LABEL;
use aldis_operator::objects::{EXPOSED_KINDS, INSTALLATION_LABEL, Installation};
use aldis_operator::validate::ObjectName;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind, Status, TypeMeta};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::metrics::Metrics;
use crate::plan::Gateway;
use crate::sweep::delete;

/// Who writes objects of gateways, for the API server.
pub const FIELD_MANAGER: &str = "aldis-operator";
/// Who keeps the number of replicas while it goes over to somebody else: a field that nobody owns any more is reset.
const HANDOVER_MANAGER: &str = "aldis-operator-handover";

/// Kinds that a gateway may have one object of.
const OPTIONAL_KINDS: [(&str, &str, &str); 1] = [("autoscaling", "v2", "HorizontalPodAutoscaler")];

/// Why a gateway is not as it should be, for its conditions.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error("{kind} {name} is there already and is not of this gateway: remove or rename it, or the gateway")]
    NameTaken { kind: String, name: String },
    #[error(
        "the cluster knows no {kind}: for HTTPRoute install Gateway API, or take expose.httpRoute out of the listener; other kinds come with its own or the chart aldis-crds"
    )]
    NoKind { kind: String },
    #[error("cannot write {kind} {name}: {source}")]
    Refused {
        kind: String,
        name: String,
        source: kube::Error,
    },
}

impl ApplyError {
    fn refused(kind: &str, name: &str, source: kube::Error) -> Self {
        match &source {
            // An object that is applied is made where it is not there: what is missing is its kind.
            kube::Error::Api(status) if is_unknown_kind(status) => Self::NoKind { kind: kind.to_owned() },
            _ => Self::Refused {
                kind: kind.to_owned(),
                name: name.to_owned(),
                source,
            },
        }
    }

    /// As conditions spell it.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::NameTaken { .. } => "NameTaken",
            Self::Refused {
                source: kube::Error::Api(status),
                ..
            } if status.is_forbidden() => "Forbidden",
            Self::Refused { .. } | Self::NoKind { .. } => "ApplyFailed",
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
    /// Of kinds that not every gateway has: the names that were wanted when it was last looked whether there are others.
    looked: HashMap<(&'static str, ObjectName), BTreeSet<String>>,
}

impl Applier {
    pub(crate) fn new(client: Client, installation: &Installation) -> Self {
        Self {
            client,
            installation: installation.id.clone(),
            written: HashMap::new(),
            looked: HashMap::new(),
        }
    }

    /// Everything is written again, as after a start.
    pub(crate) fn forget(&mut self) {
        self.written.clear();
        self.looked.clear();
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
            if let Err(error) = self.object(object, &gateway.uid, first, metrics).await {
                self.written.remove(&key);
                metrics.applied.with_label_values(&[&key.0, error.reason()]).inc();
                return Err(error);
            }
            metrics.applied.with_label_values(&[&key.0, "ok"]).inc();
            self.written.insert(key, hash);
        }
        self.no_longer_wanted(gateway).await
    }

    /// Deletes what a gateway asked for once and does not any more: its autoscaler, and what led to its listeners.
    async fn no_longer_wanted(&mut self, gateway: &Gateway) -> Result<(), ApplyError> {
        for (group, version, kind) in OPTIONAL_KINDS.into_iter().chain(EXPOSED_KINDS) {
            let objects = gateway.objects.iter().filter(|object| object["kind"] == kind);
            let wanted: BTreeSet<_> = objects.map(|object| key(object).2).collect();
            let looked = (kind, gateway.name.clone());
            if self.looked.get(&looked) == Some(&wanted) {
                continue;
            }
            let namespace = &gateway.name.namespace;
            let resource = resource(&GroupVersionKind::gvk(group, version, kind));
            let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
            let labels = format!(
                "{INSTALLATION_LABEL}={},{GATEWAY_LABEL}={}",
                self.installation, gateway.name.name
            );
            let there = match api.list(&ListParams::default().labels(&labels)).await {
                // Gateway API may not be installed.
                Err(kube::Error::Api(status)) if is_unknown_kind(&status) => Vec::new(),
                there => {
                    let refused = |source| ApplyError::refused(kind, "", source);
                    there.map_err(refused)?.items
                }
            };
            for object in there {
                let name = object.name_any();
                if !wanted.contains(&name) && is_ours(&object, &self.installation, &gateway.uid) {
                    let deleted = delete(&api, &name, object.uid()).await;
                    deleted.map_err(|source| ApplyError::refused(kind, &name, source))?;
                    self.deleted(kind, namespace, &name);
                }
            }
            self.looked.insert(looked, wanted);
        }
        Ok(())
    }

    /// `first`: nobody has looked yet whose it is.
    async fn object(&self, object: &Value, uid: &str, first: bool, metrics: &Metrics) -> Result<(), ApplyError> {
        let (kind, namespace, name) = key(object);
        let refused = |source| ApplyError::refused(&kind, &name, source);
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
        let mut params = PatchParams {
            field_validation: Some(kube::api::ValidationDirective::Strict),
            ..PatchParams::apply(FIELD_MANAGER)
        };
        let patch = Patch::Apply(object);
        let overridden = match api.patch(&name, &params, &patch).await {
            // Somebody else has written a field that is the operator's: it is put right, and told whose it was.
            Err(kube::Error::Api(status)) if status.is_conflict() => status,
            written => return written.map(drop).map_err(refused),
        };
        params.force = true;
        api.patch(&name, &params, &patch).await.map_err(refused)?;
        tracing::warn!(kind, namespace, name, conflict = %overridden.message, "overridden what somebody else had written");
        metrics.overridden.with_label_values(&[&kind]).inc();
        Ok(())
    }
}

/// Whether a list, or what applies an object, found no such kind. An API server that does not know the group either says so in plain
/// text, without a reason.
pub(crate) fn is_unknown_kind(status: &Status) -> bool {
    status.code == 404
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
