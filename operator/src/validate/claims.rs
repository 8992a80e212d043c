//! Claims of channels on one gateway, of what they are granted: paths of its listeners, topics to read, topics for dead letters.
//!
//! What a channel has claimed it keeps against all younger ones, even while something else about it is wrong. So a path
//! changes hands only when its owner gives it up, and one tenant's mistake never sends its clients to another tenant.

use std::collections::{BTreeMap, HashMap};

use aldis_crds::NotificationGateway;
use aldis_crds::channel::Method;
use aldis_crds::contract::{Attachment, ChannelConfig, Keys};
use aldis_crds::limits::ResolvedLimits;

use super::channel::Candidate;
use super::granted::{Granted, granted};
use super::grants::Tenancy;
use super::index::Entry;
use super::{Gateway, Object, Problem, Reason, Validated};

/// What the gateway serves of all channels (oldest first). `keys`: those of its listeners.
pub(super) fn settle(
    gateway: &Entry<'_, NotificationGateway>,
    candidates: &[Candidate],
    tenancy: &Tenancy<'_>,
    mut keys: Keys,
    problems: &mut Vec<Problem>,
) -> Validated {
    let mut claims = Claims::default();
    let mut channels = Vec::new();
    let mut tenants = BTreeMap::new();
    for candidate in candidates {
        let Some(granted) = granted(candidate, gateway, tenancy) else {
            continue;
        };
        let conflicts = claims.conflicts(gateway, candidate, &granted);
        claims.enter(candidate, &granted);
        let refused = granted.problems.iter().any(|problem| problem.parent.is_none());
        let nowhere = granted.attachments.is_empty();
        if candidate.servable && conflicts.is_empty() && !refused && !nowhere {
            let namespace = &candidate.config.channel.namespace;
            for (reference, key) in &candidate.keys {
                keys.insert(namespace, reference.clone(), key.clone());
            }
            channels.push(ChannelConfig {
                attachments: granted.attachments,
                open: granted.open,
                limits: granted.limits.within(&candidate.config.spec.limits),
                egress: granted.egress,
                ..candidate.config.clone()
            });
            if granted.limits != ResolvedLimits::default() {
                tenants.insert(namespace.clone(), granted.limits);
            }
        }
        problems.extend(granted.problems);
        problems.extend(conflicts);
    }
    Validated {
        gateway: Gateway {
            name: gateway.name.clone(),
            spec: gateway.value.spec.clone(),
        },
        channels,
        tenants,
        keys,
    }
}

/// Who has claimed what so far; the oldest, where several have.
#[derive(Default)]
struct Claims<'a> {
    attachments: HashMap<Attachment, &'a Candidate>,
    /// By listener, method and shape of the path.
    endpoints: HashMap<(String, Method, String), &'a Candidate>,
    /// By topic.
    readers: HashMap<&'a str, &'a Candidate>,
    /// By topic for dead letters.
    dead_letters: HashMap<&'a str, &'a Candidate>,
}

impl<'a> Claims<'a> {
    fn enter(&mut self, candidate: &'a Candidate, granted: &Granted<'a>) {
        for attachment in &granted.attachments {
            self.attachments.entry(attachment.clone()).or_insert(candidate);
        }
        for claim in &granted.endpoints {
            self.endpoints.entry(claim.key()).or_insert(candidate);
        }
        for (_, topic) in &granted.topics {
            self.readers.entry(topic).or_insert(candidate);
        }
        if let Some(topic) = granted.dead_letter {
            self.dead_letters.entry(topic).or_insert(candidate);
        }
    }

    /// What older channels, or the gateway itself, have claimed.
    fn conflicts(
        &self,
        gateway: &Entry<'_, NotificationGateway>,
        candidate: &Candidate,
        granted: &Granted<'_>,
    ) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut problem = |reason: Reason, field: &str, message: String, other: Object| {
            let problem = Problem::new(Object::Channel(candidate.index), reason, field, message);
            problems.push(problem.at(gateway.index).with(other));
        };
        for attachment @ Attachment { listener, path } in &granted.attachments {
            if let Some(owner) = self.attachments.get(attachment) {
                let field = candidate
                    .paths
                    .iter()
                    .find(|(_, claimed)| claimed == path)
                    .map(|(field, _)| field.as_str());
                let message = format!(
                    "conflicted: path {path} of listener {listener} belongs to {} already; choose another in spec.paths",
                    owner.config.channel
                );
                problem(
                    Reason::Conflicted,
                    field.unwrap_or("spec.paths"),
                    message,
                    Object::Channel(owner.index),
                );
            }
        }
        for claim in &granted.endpoints {
            if let Some(owner) = self.endpoints.get(&claim.key()) {
                let message = format!(
                    "conflicted: {} {} of listener {} belongs to {} already; choose another path",
                    claim.method.as_str(),
                    claim.path,
                    claim.listener,
                    owner.config.channel
                );
                problem(Reason::Conflicted, &claim.field, message, Object::Channel(owner.index));
            }
        }
        if let Some(topic) = granted.dead_letter
            && let Some(reader) = self.readers.get(topic)
        {
            let message = format!(
                "conflicted: topic {topic} is read by {}, which would get the dead letters of this channel; name a topic that no channel reads",
                reader.config.channel
            );
            problem(
                Reason::Conflicted,
                "spec.deadLetter.topic",
                message,
                Object::Channel(reader.index),
            );
        }
        if granted.dead_letter == Some(&gateway.value.spec.kafka.ingress_topic) {
            let message = format!(
                "topic {} holds what comes over HTTP for all channels of NotificationGateway {}: name another topic",
                gateway.value.spec.kafka.ingress_topic, gateway.name
            );
            problem(
                Reason::TopicNotAllowed,
                "spec.deadLetter.topic",
                message,
                Object::Gateway(gateway.index),
            );
        }
        for (field, topic) in &granted.topics {
            if *topic == gateway.value.spec.kafka.dead_letter_topic {
                let message = format!(
                    "topic {topic} takes the dead letters of NotificationGateway {}: what cannot be processed would come back for ever; read another topic",
                    gateway.name
                );
                problem(Reason::TopicNotAllowed, field, message, Object::Gateway(gateway.index));
            } else if *topic == gateway.value.spec.kafka.ingress_topic {
                let message = format!(
                    "topic {topic} holds what comes over HTTP for all channels of NotificationGateway {}: read another topic",
                    gateway.name
                );
                problem(Reason::TopicNotAllowed, field, message, Object::Gateway(gateway.index));
            } else if let Some(writer) = self.dead_letters.get(topic) {
                let message = format!(
                    "conflicted: topic {topic} takes the dead letters of {} (its spec.deadLetter.topic); read another topic",
                    writer.config.channel
                );
                problem(Reason::Conflicted, field, message, Object::Channel(writer.index));
            }
        }
        problems
    }
}
