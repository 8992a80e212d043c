//! Exact paths that a gateway grants to several namespaces: whoever came first would have them, and `/` nobody.

use std::collections::{BTreeMap, BTreeSet};

use aldis_crds::NotificationGateway;

use super::super::index::{Entry, Index};
use super::super::{Object, Problem, Reason, listed};
use super::pattern::{Kind, Pattern};

/// The path that is for one namespace alone.
const ROOT: &str = "/";

/// Who is granted `/`, by listener.
pub(super) struct Exclusive(BTreeMap<String, BTreeSet<String>>);

impl Exclusive {
    /// Finds out.
    pub(super) fn on(gateway: &Entry<'_, NotificationGateway>, index: &Index<'_>) -> Self {
        let mut namespaces: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for grant in grants(gateway, index).filter(|grant| grant.path == ROOT) {
            for listener in grant.listeners {
                namespaces
                    .entry(listener.clone())
                    .or_default()
                    .insert(grant.namespace.to_owned());
            }
        }
        Self(namespaces)
    }

    /// Who else is granted this path of a listener, where only one may be.
    pub(super) fn others(&self, listener: &str, path: &str, namespace: &str) -> Option<String> {
        let namespaces = self.0.get(listener).filter(|_| path == ROOT)?;
        let others: Vec<_> = namespaces.iter().filter(|other| *other != namespace).collect();
        (!others.is_empty()).then(|| listed(others))
    }
}

/// An exact path that a namespace is granted, by the `item`th pattern of the `tenant`th entry.
struct Grant<'a> {
    tenant: usize,
    item: usize,
    path: &'a str,
    listeners: &'a [String],
    namespace: &'a str,
}

/// Every exact path of every namespace.
fn grants<'a>(gateway: &'a Entry<'_, NotificationGateway>, index: &'a Index<'_>) -> impl Iterator<Item = Grant<'a>> {
    let tenants = gateway.value.spec.tenants.as_deref().unwrap_or_default();
    // Where nobody has an exact path, nobody is looked for.
    let any = tenants.iter().any(|tenant| exact(&tenant.paths).next().is_some());
    let namespaces = any.then_some(&index.namespaces).into_iter().flatten();
    namespaces.flat_map(move |(namespace, labels)| {
        let found = tenants
            .iter()
            .enumerate()
            .find(|(_, tenant)| tenant.namespaces.selects(labels));
        found.into_iter().flat_map(move |(tenant, declared)| {
            exact(&declared.paths).map(move |(item, path)| Grant {
                tenant,
                item,
                path,
                listeners: &declared.listeners,
                namespace,
            })
        })
    })
}

fn exact(patterns: &[String]) -> impl Iterator<Item = (usize, &str)> {
    let patterns = patterns.iter().enumerate();
    patterns.filter_map(|(item, pattern)| Some((item, Pattern::read(Kind::Path, pattern).ok()?.exact()?)))
}

/// A problem for each pattern that grants what another namespace is granted too.
pub(super) fn problems(gateway: &Entry<'_, NotificationGateway>, index: &Index<'_>) -> Vec<Problem> {
    let mut namespaces: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    let mut patterns: BTreeMap<(usize, usize), (&str, &[String])> = BTreeMap::new();
    for grant in grants(gateway, index) {
        for listener in grant.listeners {
            namespaces
                .entry((listener, grant.path))
                .or_default()
                .insert(grant.namespace);
        }
        patterns.insert((grant.tenant, grant.item), (grant.path, grant.listeners));
    }
    let mut problems = Vec::new();
    for ((tenant, item), (path, listeners)) in patterns {
        let listeners = listeners.iter();
        let granted: BTreeSet<_> = listeners
            .filter_map(|listener| namespaces.get(&(listener.as_str(), path)))
            .filter(|namespaces| namespaces.len() > 1)
            .flatten()
            .collect();
        if granted.is_empty() {
            continue;
        }
        let who = if path == ROOT {
            "none of them has it"
        } else {
            "the oldest channel has it"
        };
        problems.push(Problem::new(
            Object::Gateway(gateway.index),
            Reason::GrantsOverlap,
            format!("spec.tenants[{tenant}].paths[{item}]"),
            format!(
                "path {path} is granted to several namespaces, {}, and {who}: grant it to one",
                listed(granted)
            ),
        ));
    }
    problems
}
