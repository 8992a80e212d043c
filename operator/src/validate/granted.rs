//! What a channel claims on a gateway, and what of it is granted to its namespace.
//!
//! Only what is granted is claimed against others: nobody keeps a path from its owner by naming it first.

use aldis_core::egress::Egress;
use aldis_core::http::PathPattern;
use aldis_crds::NotificationGateway;
use aldis_crds::channel::{Method as HttpMethod, ParentRef};
use aldis_crds::contract::{Attachment, ChannelConfig};
use aldis_crds::gateway::tenants::Method;
use aldis_crds::limits::ResolvedLimits;
use url::Url;

use super::channel::Candidate;
use super::grants::{Rights, Tenancy};
use super::index::Entry;
use super::parents::gateway_name;
use super::{Object, Problem, Reason};

/// What a channel claims, and may.
pub(super) struct Granted<'a> {
    /// By listener as the gateway lists them, then in the paths' order, each once.
    pub(super) attachments: Vec<Attachment>,
    /// The topics that it reads, each with its field.
    pub(super) topics: Vec<(String, &'a str)>,
    /// The topic that it names for its dead letters.
    pub(super) dead_letter: Option<&'a str>,
    /// Its HTTP endpoints.
    pub(super) endpoints: Vec<EndpointClaim<'a>>,
    /// Whether they may be used by who shows no token.
    pub(super) open: bool,
    /// What all channels of its namespace may use together.
    pub(super) limits: ResolvedLimits,
    /// What its requests may reach beside public addresses over https; nothing where it makes none.
    pub(super) egress: Vec<String>,
    /// What it is refused. What concerns one parent alone keeps the others from nothing.
    pub(super) problems: Vec<Problem>,
}

/// An HTTP endpoint on one listener.
pub(super) struct EndpointClaim<'a> {
    pub(super) field: String,
    pub(super) listener: String,
    pub(super) method: HttpMethod,
    pub(super) path: &'a str,
    shape: String,
}

impl EndpointClaim<'_> {
    /// The same for all that the same requests fit.
    pub(super) fn key(&self) -> (String, HttpMethod, String) {
        (self.listener.clone(), self.method, self.shape.clone())
    }
}

/// Compares the claims of a channel with its grants; `None` where it does not name this gateway.
pub(super) fn granted<'a>(
    candidate: &'a Candidate,
    gateway: &Entry<'_, NotificationGateway>,
    tenancy: &Tenancy<'_>,
) -> Option<Granted<'a>> {
    let ChannelConfig { channel, spec, .. } = &candidate.config;
    let parents: Vec<_> = spec
        .parent_refs
        .iter()
        .enumerate()
        .filter(|(_, parent)| gateway_name(parent, &channel.namespace) == gateway.name)
        .collect();
    if parents.is_empty() {
        return None;
    }
    let rights = tenancy.rights(&channel.namespace);
    let mut refused = Refused {
        channel: candidate.index,
        gateway: gateway.index,
        problems: Vec::new(),
    };
    let mut granted = Granted {
        attachments: Vec::new(),
        topics: Vec::new(),
        dead_letter: None,
        endpoints: Vec::new(),
        open: rights.method_refusal(Method::Open).is_none(),
        limits: rights.limits(),
        egress: Vec::new(),
        problems: Vec::new(),
    };
    if let Some(why) = rights.refusal() {
        for (position, _) in parents {
            refused.parent(position, "name", why.clone());
        }
    } else {
        let listeners = listeners(&parents, gateway, &rights, &mut refused);
        granted.attachments = attachments(candidate, &listeners, &rights, &mut refused);
        granted.topics = topics(candidate, &rights, &mut refused);
        granted.dead_letter = dead_letter(candidate, &rights, &mut refused);
        granted.endpoints = endpoints(candidate, &listeners, &rights, &mut refused);
        methods(candidate, &rights, &mut refused);
        granted.egress = egress(candidate, &rights, &mut refused);
    }
    granted.problems = refused.problems;
    Some(granted)
}

/// What is refused.
struct Refused {
    channel: usize,
    gateway: usize,
    problems: Vec<Problem>,
}

impl Refused {
    fn claim(&mut self, reason: Reason, field: impl Into<String>, message: String) {
        let problem = Problem::new(Object::Channel(self.channel), reason, field, message);
        self.problems
            .push(problem.at(self.gateway).with(Object::Gateway(self.gateway)));
    }

    fn parent(&mut self, position: usize, field: &str, message: String) {
        let field = format!("spec.parentRefs[{position}].{field}");
        self.claim(Reason::TenantNotAllowed, field, message);
        if let Some(problem) = self.problems.pop() {
            self.problems.push(problem.of_parent(position));
        }
    }
}

/// The listeners that the parents name, as the gateway lists them. A parent that names none means all that are granted.
fn listeners<'g>(
    parents: &[(usize, &ParentRef)],
    gateway: &'g Entry<'_, NotificationGateway>,
    rights: &Rights<'_>,
    refused: &mut Refused,
) -> Vec<&'g str> {
    let all = || {
        gateway
            .value
            .spec
            .listeners
            .iter()
            .map(|listener| listener.name.as_str())
    };
    let mut named: Vec<&str> = Vec::new();
    for (position, parent) in parents {
        match &parent.section_name {
            Some(name) => match all().find(|listener| listener == name) {
                None => {} // Said where parents are checked.
                Some(listener) => match rights.listener_refusal(listener) {
                    None => named.push(listener),
                    Some(why) => refused.parent(*position, "sectionName", why),
                },
            },
            None => {
                let granted: Vec<&str> = all().filter(|listener| rights.has_listener(listener)).collect();
                if let (true, Some(first)) = (granted.is_empty(), all().next()) {
                    let why = rights.listener_refusal(first).unwrap_or_default();
                    refused.parent(*position, "name", why);
                }
                named.extend(granted);
            }
        }
    }
    all().filter(|listener| named.contains(listener)).collect()
}

fn attachments(
    candidate: &Candidate,
    listeners: &[&str],
    rights: &Rights<'_>,
    refused: &mut Refused,
) -> Vec<Attachment> {
    let mut attachments = Vec::new();
    let mut said = Vec::new();
    for listener in listeners {
        for (field, path) in &candidate.paths {
            match rights.path_refusal(listener, path) {
                None => attachments.push(Attachment {
                    listener: (*listener).to_owned(),
                    path: path.clone(),
                }),
                // The same on each listener.
                Some(why) if said.contains(&why) => {}
                Some(why) => {
                    said.push(why.clone());
                    refused.claim(Reason::PathNotAllowed, field, why);
                }
            }
        }
    }
    attachments
}

fn topics<'a>(candidate: &'a Candidate, rights: &Rights<'_>, refused: &mut Refused) -> Vec<(String, &'a str)> {
    let sources = candidate.config.spec.sources.iter().enumerate();
    let claimed = sources.flat_map(|(position, source)| {
        let topics = source.kafka.topics.iter().enumerate();
        topics.map(move |(index, topic)| (format!("spec.sources[{position}].kafka.topics[{index}]"), topic))
    });
    let mut granted = Vec::new();
    for (field, topic) in claimed {
        match rights.topic_refusal(topic) {
            None => granted.push((field, topic.as_str())),
            Some(why) => refused.claim(Reason::TopicNotAllowed, field, why),
        }
    }
    granted
}

fn dead_letter<'a>(candidate: &'a Candidate, rights: &Rights<'_>, refused: &mut Refused) -> Option<&'a str> {
    let topic = candidate.config.spec.dead_letter.as_ref()?.topic.as_str();
    match rights.produce_refusal(topic) {
        None => Some(topic),
        Some(why) => {
            refused.claim(Reason::TopicNotAllowed, "spec.deadLetter.topic", why);
            None
        }
    }
}

fn endpoints<'a>(
    candidate: &'a Candidate,
    listeners: &[&str],
    rights: &Rights<'_>,
    refused: &mut Refused,
) -> Vec<EndpointClaim<'a>> {
    let mut granted = Vec::new();
    for (index, endpoint) in candidate.config.spec.http.iter().enumerate() {
        let field = format!("spec.http[{index}].path");
        // What is no path is said where it is compiled.
        let Ok(pattern) = PathPattern::parse(&endpoint.path) else {
            continue;
        };
        if let Some(why) = rights.http_path_refusal(&endpoint.path) {
            refused.claim(Reason::PathNotAllowed, field, why);
            continue;
        }
        granted.extend(listeners.iter().map(|listener| EndpointClaim {
            field: field.clone(),
            listener: (*listener).to_owned(),
            method: endpoint.method,
            path: &endpoint.path,
            shape: pattern.shape().to_owned(),
        }));
    }
    granted
}

fn methods(candidate: &Candidate, rights: &Rights<'_>, refused: &mut Refused) {
    let Some(authentication) = &candidate.config.spec.authentication else {
        return;
    };
    for (is_used, method, field) in [
        (!authentication.jwt.is_empty(), Method::Jwt, "jwt"),
        (authentication.query.is_some(), Method::Query, "query"),
        (authentication.anonymous.is_some(), Method::Anonymous, "anonymous"),
    ] {
        if let (true, Some(why)) = (is_used, rights.method_refusal(method)) {
            refused.claim(Reason::MethodNotAllowed, format!("spec.authentication.{field}"), why);
        }
    }
}

/// What the servers of keys may be, as far as their URLs tell; the addresses behind a name are checked by the gateway.
fn egress(candidate: &Candidate, rights: &Rights<'_>, refused: &mut Refused) -> Vec<String> {
    let authentication = candidate.config.spec.authentication.iter();
    let methods = authentication
        .flat_map(|authentication| &authentication.jwt)
        .enumerate();
    let servers = methods.filter_map(|(index, method)| Some((index, method.jwks_uri.as_ref()?)));
    let mut servers = servers.peekable();
    if servers.peek().is_none() {
        return Vec::new();
    }
    let granted = rights.egress();
    let egress = Egress::parse(&granted).unwrap_or_default();
    for (index, uri) in servers {
        // One that is no URL is told where the channel is compiled.
        if let Some(why) = Url::parse(uri).ok().and_then(|url| egress.check_url(&url).err()) {
            let field = format!("spec.authentication.jwt[{index}].jwksUri");
            refused.claim(Reason::RefNotPermitted, field, why.to_string());
        }
    }
    granted
}
