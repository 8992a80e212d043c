//! The CustomResourceDefinitions, as objects and as the YAML that is checked in.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use crate::{NotificationChannel, NotificationGateway};

/// Every kind.
pub fn all() -> [CustomResourceDefinition; 2] {
    [NotificationGateway::crd(), NotificationChannel::crd()]
}

/// Plural names, as in `kubectl get <plural>`.
pub fn plurals() -> Vec<String> {
    all().into_iter().map(|crd| crd.spec.names.plural).collect()
}

/// The CRD of one kind as YAML, or `None` where no kind has that plural name.
pub fn yaml(plural: &str) -> Option<String> {
    let crd = all().into_iter().find(|crd| crd.spec.names.plural == plural)?;
    serde_json::to_string_pretty(&crd).ok()
}
