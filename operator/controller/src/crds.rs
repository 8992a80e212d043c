//! The cluster's CRDs, which somebody else installs: whether they can carry what this operator writes and reads. Where a field is not
//! in them an API server drops it, from what people declare and from what is said of it; so nothing is written before they fit.

use std::collections::BTreeMap;
use std::time::Duration;

use aldis_crds::crd::{self, VERSION, VERSION_ANNOTATION, misfits};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, ResourceExt as _};

/// Between two looks. 5 s: what is written meanwhile is written again once they fit.
pub(crate) const LOOK: Duration = Duration::from_secs(5);
/// Misfits that a message names; it says how many there are beyond. 5: more say no more.
const MAX_NAMED: usize = 5;

/// Why nothing is written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Misfit {
    #[error("the cluster has no CRD {name}: helm install aldis-crds charts/aldis-crds")]
    Missing { name: String },
    #[error(
        "CRD {name} of the cluster, of version {there}, does not fit this operator, of version {VERSION}: {lacks}. Nothing is written until it does: helm upgrade aldis-crds charts/aldis-crds, of the operator's version"
    )]
    Older { name: String, there: String, lacks: String },
    #[error("CRD {name} may not be read, which the chart's ClusterRole permits: {message}")]
    Forbidden { name: String, message: String },
    #[error("CRD {name} can not be read: {source}")]
    Unread { name: String, source: kube::Error },
}

impl Misfit {
    /// Whether it tells of the CRDs, rather than of an API server that is away.
    pub(crate) fn is_certain(&self) -> bool {
        !matches!(self, Self::Unread { .. })
    }
}

/// What is known of them.
pub(crate) struct Crds {
    api: Api<CustomResourceDefinition>,
    own: Vec<CustomResourceDefinition>,
    /// The generation of each that was found to fit: its spec need not be read again.
    fitting: BTreeMap<String, i64>,
}

impl Crds {
    pub(crate) fn new(client: &Client) -> Self {
        Self {
            api: Api::all(client.clone()),
            own: crd::all().into(),
            fitting: BTreeMap::new(),
        }
    }

    /// Looks whether they fit.
    ///
    /// # Errors
    /// The first that does not.
    pub(crate) async fn look(&mut self) -> Result<(), Misfit> {
        for own in &self.own {
            let name = own.name_any();
            let refused = |error| refused(&name, error);
            let there = self.api.get_metadata(&name).await.map_err(refused)?;
            let generation = there.metadata.generation;
            if generation.is_some() && self.fitting.get(&name) == generation.as_ref() {
                continue;
            }
            self.fitting.remove(&name);
            let there = self.api.get(&name).await.map_err(refused)?;
            let lacks = misfits(own, &there);
            if !lacks.is_empty() {
                let version = there.annotations().get(VERSION_ANNOTATION);
                return Err(Misfit::Older {
                    name,
                    there: version.cloned().unwrap_or_else(|| "unknown".to_owned()),
                    lacks: shortened(&lacks),
                });
            }
            self.fitting
                .extend(there.metadata.generation.map(|generation| (name, generation)));
        }
        Ok(())
    }
}

fn shortened(lacks: &[String]) -> String {
    let named = lacks.iter().take(MAX_NAMED).cloned().collect::<Vec<_>>().join(", ");
    match lacks.len().saturating_sub(MAX_NAMED) {
        0 => named,
        more => format!("{named}, and {more} more"),
    }
}

fn refused(name: &str, error: kube::Error) -> Misfit {
    let name = name.to_owned();
    match error {
        kube::Error::Api(status) if status.is_not_found() => Misfit::Missing { name },
        kube::Error::Api(status) if status.is_forbidden() => Misfit::Forbidden {
            name,
            message: status.message,
        },
        source => Misfit::Unread { name, source },
    }
}

#[cfg(test)]
mod tests {
    use super::shortened;

    #[test]
    fn a_message_names_a_few_and_counts_the_rest() {
        let lacks = |count: usize| (1..=count).map(|n| format!("f{n}")).collect::<Vec<_>>();
        assert_eq!(shortened(&lacks(2)), "f1, f2");
        assert_eq!(shortened(&lacks(5)), "f1, f2, f3, f4, f5");
        assert_eq!(shortened(&lacks(9)), "f1, f2, f3, f4, f5, and 4 more");
    }
}
