//! `spec.tenants` of a gateway: which tenant a channel is of, and what that may use.

use std::collections::BTreeMap;

use aldis_crds::NotificationGateway;
use aldis_crds::gateway::Tenant;
use aldis_crds::limits::ResolvedLimits;

use super::channel::Candidate;
use super::index::Entry;
use super::{Object, Problem, Reason};

/// What a gateway without `tenants` grants. One that has the list grants what is on it, wherever it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grants {
    /// Nothing: in a cluster.
    #[default]
    Declared,
    /// Everything, with the default limits: on a laptop.
    Everything,
}

/// The label that Kubernetes itself puts on every namespace, with its name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

impl Grants {
    /// What the channels of a namespace may use together at a gateway; `None` where it is not served at all.
    pub(super) fn limits(self, gateway: &NotificationGateway, namespace: &str) -> Option<ResolvedLimits> {
        match (&gateway.spec.tenants, self) {
            (None, Self::Everything) => Some(ResolvedLimits::default()),
            (None, Self::Declared) => None,
            (Some(tenants), _) => tenant_of(tenants, namespace).map(|tenant| ResolvedLimits::granted(&tenant.limits)),
        }
    }
}

/// The first tenant that the namespace is.
fn tenant_of<'t>(tenants: &'t [Tenant], namespace: &str) -> Option<&'t Tenant> {
    let labels = BTreeMap::from([(NAME_LABEL.to_owned(), namespace.to_owned())]);
    tenants.iter().find(|tenant| tenant.namespaces.selects(&labels))
}

/// The gateway does not serve the namespace of a channel.
pub(super) fn not_allowed(gateway: &Entry<'_, NotificationGateway>, candidate: &Candidate) -> Problem {
    let message = format!(
        "NotificationGateway {} does not serve namespace {}: its owner has to add it to spec.tenants[].namespaces",
        gateway.name, candidate.config.channel.namespace
    );
    Problem::new(
        Object::Channel(candidate.index),
        Reason::TenantNotAllowed,
        "spec.parentRefs",
        message,
    )
    .at(gateway.index)
    .with(Object::Gateway(gateway.index))
}
