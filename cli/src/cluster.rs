//! What commands read of a cluster: resources, the pods of gateways, and what these say of themselves.

use std::time::Duration;

use aldis_crds::NotificationGateway;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::config::KubeConfigOptions;
use kube::{Api, Client, Config, ResourceExt as _};
use serde_json::Value;

use crate::report::Explain;

/// How long an API server or a pod may take for one answer. 10 s.
const ANSWER: Duration = Duration::from_secs(10);
/// Pods of one gateway that are asked; of more the first say enough. 20.
const MAX_PODS: usize = 20;

/// Why a cluster can not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No kubeconfig, or one that says nothing that can be done.
    #[error("there is no cluster to ask")]
    NoCluster(#[source] anyhow::Error),
    /// It does not answer, or not with that.
    #[error("cannot read {what}")]
    Unreadable {
        /// What was asked for.
        what: String,
        /// Why not.
        #[source]
        source: kube::Error,
    },
}

impl Explain for ClusterError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoCluster(_) => {
                "set KUBECONFIG, or name a context that `kubectl config get-contexts` lists".to_owned()
            }
            Self::Unreadable { .. } => "does `kubectl get notificationchannels` work?".to_owned(),
        })
    }
}

/// A cluster, and the namespace that commands are about where they name none.
pub struct Cluster {
    client: Client,
    /// Of the context.
    pub namespace: String,
}

/// Something that was looked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen<T> {
    /// It is there.
    There(T),
    /// It is not.
    Absent,
    /// Whoever asks may not know.
    Forbidden,
}

/// A pod of a gateway.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GatewayPod {
    /// Its name.
    pub name: String,
    /// Whether clients are sent to it.
    pub ready: bool,
    /// Why its container does not run, where it does not: reason and message.
    pub waiting: Option<String>,
    /// What its `/health` says, where it could be asked.
    pub health: Option<Value>,
}

impl Cluster {
    /// The one that kubectl would talk to.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn connect(context: Option<&str>) -> Result<Self, ClusterError> {
        // A process of two TLS libraries has to choose one.
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let options = KubeConfigOptions {
            context: context.map(str::to_owned),
            ..KubeConfigOptions::default()
        };
        let config = Config::from_kubeconfig(&options).await;
        let mut config = config.map_err(|error| ClusterError::NoCluster(error.into()))?;
        (config.connect_timeout, config.read_timeout) = (Some(ANSWER), Some(ANSWER));
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config).map_err(|error| ClusterError::NoCluster(error.into()))?;
        Ok(Self { client, namespace })
    }

    /// Resources of a kind in one namespace, or in all.
    ///
    /// # Errors
    /// Where the API server does not answer.
    pub async fn list<K>(&self, namespace: Option<&str>) -> Result<Seen<Vec<K>>, ClusterError>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let api: Api<K> = match namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let listed = api.list(&ListParams::default()).await;
        seen(listed.map(|list| Some(list.items)), || K::plural(&()).into_owned())
    }

    /// One resource.
    ///
    /// # Errors
    /// Where the API server does not answer.
    pub async fn get<K>(&self, namespace: &str, name: &str) -> Result<Seen<K>, ClusterError>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        seen(api.get_opt(name).await, || {
            format!("{} {namespace}/{name}", K::kind(&()))
        })
    }

    /// The pods of a gateway, each with what it says of itself.
    ///
    /// # Errors
    /// Where the API server does not answer.
    pub async fn pods(&self, gateway: &NotificationGateway) -> Result<Seen<Vec<GatewayPod>>, ClusterError> {
        let namespace = gateway.namespace().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let labels = format!(
            "app.kubernetes.io/name=aldis-gateway,app.kubernetes.io/instance={}",
            gateway.name_any()
        );
        let listed = api.list(&ListParams::default().labels(&labels)).await;
        let Seen::There(listed) = seen(listed.map(Some), || format!("pods of {namespace}"))? else {
            return Ok(Seen::Forbidden);
        };
        let mut pods = Vec::new();
        for pod in listed.items.iter().take(MAX_PODS) {
            let mut seen = gateway_pod(pod);
            if seen.ready {
                seen.health = self.health(&namespace, &seen.name).await;
            }
            pods.push(seen);
        }
        Ok(Seen::There(pods))
    }

    /// Through the API server, which asks the pod; `None` where that may not be, or nobody answers.
    async fn health(&self, namespace: &str, pod: &str) -> Option<Value> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}:9901/proxy/health");
        let request = http::Request::get(path).body(Vec::new()).ok()?;
        let answer = tokio::time::timeout(ANSWER, self.client.request_text(request)).await;
        serde_json::from_str(&answer.ok()?.ok()?).ok()
    }
}

/// What an answer means for who asks.
fn seen<T>(answer: Result<Option<T>, kube::Error>, what: impl FnOnce() -> String) -> Result<Seen<T>, ClusterError> {
    match answer {
        Ok(Some(object)) => Ok(Seen::There(object)),
        Ok(None) => Ok(Seen::Absent),
        Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(Seen::Forbidden),
        Err(source) => Err(ClusterError::Unreadable { what: what(), source }),
    }
}

fn gateway_pod(pod: &Pod) -> GatewayPod {
    let status = pod.status.clone().unwrap_or_default();
    let is_ready =
        |condition: &k8s_openapi::api::core::v1::PodCondition| condition.type_ == "Ready" && condition.status == "True";
    let ready = status.conditions.iter().flatten().any(is_ready);
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status != "True");
    let container = status
        .container_statuses
        .iter()
        .flatten()
        .find_map(|container| container.state.as_ref()?.waiting.clone());
    let told = |reason: Option<String>, message: Option<String>| {
        let told: Vec<_> = reason.into_iter().chain(message).collect();
        told.join(": ")
    };
    let waiting = container.map(|waiting| told(waiting.reason, waiting.message));
    let unscheduled = unscheduled.map(|condition| told(condition.reason.clone(), condition.message.clone()));
    GatewayPod {
        name: pod.name_any(),
        ready: ready && pod.metadata.deletion_timestamp.is_none(),
        waiting: waiting.or(unscheduled),
        health: None,
    }
}
