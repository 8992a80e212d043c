//! `spec.tenants` of a gateway: who may attach there, and what each may claim.
//!
//! The first entry whose selector fits a namespace is its tenant, there and nowhere else. What that entry does not list is
//! denied; a pattern that cannot be read grants nothing and is a problem of the gateway.

use aldis_core::egress::Grant;
use aldis_crds::NotificationGateway;
use aldis_crds::gateway::Tenant;
use aldis_crds::gateway::tenants::Method;
use aldis_crds::limits::ResolvedLimits;

use super::index::{Entry, Index};
use super::{Object, Problem, Reason, listed};

mod overlaps;
mod pattern;

use pattern::{Kind, Pattern};

use overlaps::Exclusive;

/// What a gateway without `tenants` grants. One that has the list grants what is on it, wherever it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grants {
    /// Nothing: in a cluster, where what is absent is denied.
    #[default]
    Declared,
    /// Everything, with the default limits: in a directory, where one owner wrote the gateway and the channels.
    Everything,
}

/// The tenants of one gateway.
pub(super) struct Tenancy<'a> {
    gateway: &'a Entry<'a, NotificationGateway>,
    index: &'a Index<'a>,
    grants: Grants,
    exclusive: Exclusive,
}

/// What one namespace may claim there.
pub(super) struct Rights<'a> {
    gateway: &'a Entry<'a, NotificationGateway>,
    exclusive: &'a Exclusive,
    namespace: &'a str,
    tenant: Found<'a>,
}

enum Found<'a> {
    /// The gateway has one owner, who may claim everything.
    Owner,
    Tenant(&'a Tenant),
    /// Why there is none.
    None(String),
}

impl<'a> Tenancy<'a> {
    pub(super) fn new(gateway: &'a Entry<'a, NotificationGateway>, index: &'a Index<'a>, grants: Grants) -> Self {
        Self {
            gateway,
            index,
            grants,
            exclusive: Exclusive::on(gateway, index),
        }
    }

    /// Finds the tenant that a namespace is.
    pub(super) fn rights(&'a self, namespace: &'a str) -> Rights<'a> {
        let tenants = &self.gateway.value.spec.tenants;
        let tenant = match (tenants, self.index.namespaces.get(namespace)) {
            (None, _) if self.grants == Grants::Everything => Found::Owner,
            (None, _) => Found::None("it has no spec.tenants, without which nobody may".to_owned()),
            (Some(_), None) => Found::None(format!("namespace {namespace} is not known yet")),
            (Some(tenants), Some(labels)) => match tenants.iter().find(|tenant| tenant.namespaces.selects(labels)) {
                Some(tenant) => Found::Tenant(tenant),
                None => Found::None(format!("no entry of its spec.tenants selects namespace {namespace}")),
            },
        };
        Rights {
            gateway: self.gateway,
            exclusive: &self.exclusive,
            namespace,
            tenant,
        }
    }
}

impl Rights<'_> {
    /// Why the namespace may not attach at all.
    pub(super) fn refusal(&self) -> Option<String> {
        let Found::None(why) = &self.tenant else { return None };
        Some(format!(
            "namespace {} may not attach to NotificationGateway {}: {why}; who writes that gateway can add it",
            self.namespace, self.gateway.name
        ))
    }

    /// What all channels of the namespace may use together.
    pub(super) fn limits(&self) -> ResolvedLimits {
        match self.tenant {
            Found::Tenant(tenant) => ResolvedLimits::granted(&tenant.limits),
            Found::Owner | Found::None(_) => ResolvedLimits::default(),
        }
    }

    /// What requests of the channels may reach beside public addresses over https.
    pub(super) fn egress(&self) -> Vec<String> {
        match self.tenant {
            Found::Owner => vec!["http://*".to_owned()],
            Found::Tenant(tenant) => {
                let readable = tenant.egress.iter().filter(|grant| grant.parse::<Grant>().is_ok());
                readable.cloned().collect()
            }
            Found::None(_) => Vec::new(),
        }
    }

    /// Whether channels may attach to this listener.
    pub(super) fn has_listener(&self, name: &str) -> bool {
        self.lists(|tenant| tenant.listeners.iter().any(|listener| listener == name))
    }

    /// Why a channel may not attach to this listener, which exists.
    pub(super) fn listener_refusal(&self, name: &str) -> Option<String> {
        if self.has_listener(name) {
            return None;
        }
        Some(self.refused("listener", name, "listeners", |tenant| tenant.listeners.clone()))
    }

    /// Why a channel may not have this path of a listener that it may attach to.
    pub(super) fn path_refusal(&self, listener: &str, path: &str) -> Option<String> {
        if !self.covers(Kind::Path, path, |tenant| &tenant.paths) {
            return Some(self.refused("path", path, "paths", |tenant| self.expanded(Kind::Path, &tenant.paths)));
        }
        let others = self.exclusive.others(listener, path, self.namespace)?;
        Some(format!(
            "path {path} of listener {listener} is granted to namespaces {others} too on NotificationGateway {}, and / is for one alone",
            self.gateway.name
        ))
    }

    /// Why a channel may not have this path of HTTP.
    pub(super) fn http_path_refusal(&self, path: &str) -> Option<String> {
        let granted = self.covers(Kind::HttpPath, path, |tenant| &tenant.http_paths);
        (!granted).then(|| {
            self.refused("HTTP path", path, "httpPaths", |tenant| {
                self.expanded(Kind::HttpPath, &tenant.http_paths)
            })
        })
    }

    /// Why a channel may not read this topic.
    pub(super) fn topic_refusal(&self, topic: &str) -> Option<String> {
        let granted = self.covers(Kind::Topic, topic, |tenant| &tenant.topics);
        (!granted).then(|| {
            self.refused("topic", topic, "topics", |tenant| {
                self.expanded(Kind::Topic, &tenant.topics)
            })
        })
    }

    /// Why a channel may not write this topic.
    pub(super) fn produce_refusal(&self, topic: &str) -> Option<String> {
        let granted = self.covers(Kind::Topic, topic, |tenant| &tenant.produce_topics);
        (!granted).then(|| {
            self.refused("topic", topic, "produceTopics", |tenant| {
                self.expanded(Kind::Topic, &tenant.produce_topics)
            })
        })
    }

    /// Why a channel may not let clients in this way.
    pub(super) fn method_refusal(&self, method: Method) -> Option<String> {
        if self.lists(|tenant| tenant.authentication.contains(&method)) {
            return None;
        }
        let names = |tenant: &Tenant| {
            tenant
                .authentication
                .iter()
                .map(|&method| method_name(method))
                .collect()
        };
        Some(self.refused("authentication by", method_name(method), "authentication", names))
    }

    fn lists(&self, holds: impl Fn(&Tenant) -> bool) -> bool {
        match self.tenant {
            Found::Owner => true,
            Found::Tenant(tenant) => holds(tenant),
            Found::None(_) => false,
        }
    }

    fn covers(&self, kind: Kind, claimed: &str, patterns: impl Fn(&Tenant) -> &[String]) -> bool {
        self.lists(|tenant| {
            let patterns = patterns(tenant).iter();
            patterns
                .filter_map(|pattern| Pattern::read(kind, pattern).ok())
                .any(|pattern| pattern.covers(self.namespace, claimed))
        })
    }

    fn expanded(&self, kind: Kind, patterns: &[String]) -> Vec<String> {
        patterns
            .iter()
            .filter(|pattern| Pattern::read(kind, pattern).is_ok())
            .map(|pattern| pattern.replace(pattern::NAMESPACE, self.namespace))
            .collect()
    }

    fn refused<T: AsRef<str>>(
        &self,
        what: &str,
        claimed: &str,
        list: &str,
        granted: impl Fn(&Tenant) -> Vec<T>,
    ) -> String {
        let (tenant, granted) = match self.tenant {
            Found::Tenant(tenant) => (tenant.name.as_str(), granted(tenant)),
            Found::Owner | Found::None(_) => ("", Vec::new()),
        };
        let granted = if granted.is_empty() {
            format!("it lists no {list}")
        } else {
            format!("it lists {}", listed(granted.iter().map(AsRef::as_ref)))
        };
        format!(
            "{what} {claimed} is not granted to namespace {}, which is tenant {tenant} of NotificationGateway {}: {granted}",
            self.namespace, self.gateway.name
        )
    }
}

fn method_name(method: Method) -> &'static str {
    match method {
        Method::Jwt => "jwt",
        Method::Query => "query",
        Method::Anonymous => "anonymous",
        Method::Open => "open",
    }
}

/// What is wrong with the grants of a gateway. The others still hold.
pub(super) fn problems(gateway: &Entry<'_, NotificationGateway>, index: &Index<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let tenants = gateway.value.spec.tenants.iter().flatten();
    for (position, tenant) in tenants.enumerate() {
        let mut problem = |list: &str, item: usize, message: String| {
            let field = format!("spec.tenants[{position}].{list}[{item}]");
            problems.push(Problem::new(
                Object::Gateway(gateway.index),
                Reason::InvalidGrant,
                field,
                message,
            ));
        };
        for (list, kind, patterns) in [
            ("paths", Kind::Path, &tenant.paths),
            ("httpPaths", Kind::HttpPath, &tenant.http_paths),
            ("topics", Kind::Topic, &tenant.topics),
            ("produceTopics", Kind::Topic, &tenant.produce_topics),
        ] {
            for (item, pattern) in patterns.iter().enumerate() {
                if let Err(message) = Pattern::read(kind, pattern) {
                    problem(list, item, message);
                }
            }
        }
        for (item, grant) in tenant.egress.iter().enumerate() {
            if let Err(message) = grant.parse::<Grant>() {
                problem("egress", item, message);
            }
        }
        let known = &gateway.value.spec.listeners;
        for (item, name) in tenant.listeners.iter().enumerate() {
            if !known.iter().any(|listener| listener.name == *name) {
                let known = listed(known.iter().map(|listener| &listener.name));
                problem(
                    "listeners",
                    item,
                    format!("there is no listener {name:?}; there are: {known}"),
                );
            }
        }
    }
    problems.extend(overlaps::problems(gateway, index));
    problems
}
