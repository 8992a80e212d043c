//! A channel by itself, wherever it is attached: everything but who came first.

use std::collections::HashMap;

use aldis_core::http::PathPattern;
use aldis_crds::NotificationChannel;
use aldis_crds::channel::SecretKeyRef;
use aldis_crds::contract::{ChannelConfig, Keys, Secret as Key};
use aldis_crds::limits::ResolvedLimits;
use aldis_crds::names::ChannelName;

use super::compiled::Compiled;
use super::index::{Entry, Index};
use super::secrets::Found;
use super::{Object, Objects, Problem, Reason, parents, secrets};

/// A channel that wants to be served.
pub(super) struct Candidate {
    /// In [`Objects::channels`].
    pub(super) index: usize,
    /// Not attached yet.
    pub(super) config: ChannelConfig,
    /// Its well-formed Socket.IO namespaces, each with the field that says so.
    pub(super) paths: Vec<(String, String)>,
    /// Its keys.
    pub(super) keys: Vec<(SecretKeyRef, Key)>,
    /// Whether nothing is wrong with it by itself. What is wrong still counts where others want the same: to mend a
    /// mistake must not cost a channel its path.
    pub(super) servable: bool,
}

/// All channels, oldest first.
pub(super) fn candidates(
    index: &Index<'_>,
    objects: &Objects<'_>,
    compiled: &mut Compiled,
    problems: &mut Vec<Problem>,
) -> Vec<Candidate> {
    let mut keys = Vec::with_capacity(index.channels.len());
    let mut candidates = Vec::with_capacity(index.channels.len());
    for channel in &index.channels {
        problems.extend(parents::problems(channel, index, &objects.other_gateways));
        let (candidate, keys_to_compile_with) = candidate(channel, index, objects, problems);
        candidates.push(candidate);
        keys.push(keys_to_compile_with);
    }
    let compiling = index.channels.iter().zip(&candidates).zip(&keys);
    let compiling = compiling.map(|((channel, candidate), keys)| (channel.value, &candidate.config, keys));
    let compiled = compiled.problems(compiling);
    for (candidate, wrong) in candidates.iter_mut().zip(compiled) {
        candidate.servable &= wrong.is_empty();
        problems.extend(wrong.into_iter().map(|problem| {
            Problem::new(
                Object::Channel(candidate.index),
                Reason::Invalid,
                problem.field,
                problem.message,
            )
        }));
    }
    candidates
}

fn candidate(
    channel: &Entry<'_, NotificationChannel>,
    index: &Index<'_>,
    objects: &Objects<'_>,
    problems: &mut Vec<Problem>,
) -> (Candidate, Keys) {
    let mut wrong = Vec::new();
    let mut readable = true;
    let mut keys = Vec::new();
    let mut keys_to_compile_with = Keys::default();
    let namespace = &channel.name.namespace;
    for found in secrets::find(channel, index, &objects.other_secrets) {
        // Where there is no key, another takes its place, so that everything else is checked.
        let stand_in = || Key::new(*b"stand-in");
        match found {
            Found::Key(reference, key) => {
                keys_to_compile_with.insert(namespace, reference.clone(), key.clone());
                keys.push((reference, key));
            }
            Found::Unreadable(reference) => {
                readable = false;
                keys_to_compile_with.insert(namespace, reference, stand_in());
            }
            Found::Missing(reference, problem) => {
                keys_to_compile_with.insert(namespace, reference, stand_in());
                wrong.push(problem);
            }
        }
    }
    let object = Object::Channel(channel.index);
    wrong.extend(too_large(channel));
    let mut invalid = |field: String, message: String| {
        wrong.push(Problem::new(object, Reason::Invalid, field, message));
    };
    let paths = paths(channel, &mut invalid);
    topics(channel, &mut invalid);
    endpoints(channel, &mut invalid);
    let candidate = Candidate {
        index: channel.index,
        config: ChannelConfig {
            channel: ChannelName {
                namespace: namespace.clone(),
                name: channel.name.name.clone(),
            },
            uid: channel.value.metadata.uid.clone().unwrap_or_default(),
            attachments: Vec::new(),
            limits: ResolvedLimits::default(),
            open: false,
            spec: channel.value.spec.clone(),
            egress: Vec::new(),
        },
        paths,
        keys,
        servable: wrong.is_empty() && readable,
    };
    problems.extend(wrong);
    (candidate, keys_to_compile_with)
}

/// Most bytes of a channel's `spec`, as JSON. 200 KiB: an API server takes 1.5 MiB, and a gateway keeps every channel it serves.
const MAX_SPEC_BYTES: usize = 200 << 10;

fn too_large(channel: &Entry<'_, NotificationChannel>) -> Option<Problem> {
    let bytes = serde_json::to_vec(&channel.value.spec).map_or(usize::MAX, |json| json.len());
    let message =
        format!("spec has {bytes} bytes as JSON, and a gateway takes {MAX_SPEC_BYTES}: make several channels of it");
    (bytes > MAX_SPEC_BYTES).then(|| Problem::new(Object::Channel(channel.index), Reason::TooLarge, "spec", message))
}

/// The Socket.IO namespaces of a channel, each once, each with its field. The default is `/<namespace>/<name>`.
fn paths(channel: &Entry<'_, NotificationChannel>, invalid: &mut impl FnMut(String, String)) -> Vec<(String, String)> {
    let default = || format!("/{}", channel.name);
    let Some(declared) = &channel.value.spec.paths else {
        return vec![("spec.paths".to_owned(), default())];
    };
    if declared.is_empty() {
        let message = format!("name at least one path, or leave paths out for {}", default());
        invalid("spec.paths".to_owned(), message);
    }
    let mut paths = Vec::with_capacity(declared.len());
    let mut seen = HashMap::new();
    for (index, path) in declared.iter().enumerate() {
        let field = format!("spec.paths[{index}]");
        if let Some(message) = path_problem(path) {
            invalid(field, message);
        } else if let Some(first) = seen.insert(path, index) {
            invalid(
                field,
                format!("path {path} is spec.paths[{first}] already: remove one of them"),
            );
            seen.insert(path, first);
        } else {
            paths.push((field, path.clone()));
        }
    }
    paths
}

/// Paths of requests that are never a channel's: Socket.IO's own, and Aldis'.
const RESERVED: [&str; 2] = ["/socket.io", "/aldis"];

/// Endpoints that nobody could reach, or that are there twice.
fn endpoints(channel: &Entry<'_, NotificationChannel>, invalid: &mut impl FnMut(String, String)) {
    let mut seen = HashMap::new();
    for (index, endpoint) in channel.value.spec.http.iter().enumerate() {
        // What is no path at all is said where it is compiled.
        let Ok(pattern) = PathPattern::parse(&endpoint.path) else {
            continue;
        };
        let field = format!("spec.http[{index}].path");
        let path = &endpoint.path;
        let is_below = |root: &&str| {
            path.strip_prefix(root)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if let Some(root) = RESERVED.iter().find(|root| is_below(root)) {
            invalid(
                field,
                format!("path {path} is below {root}, which is Aldis' own: choose another"),
            );
        } else if pattern.shape().starts_with("/{") {
            let message = format!(
                "path {path} begins with a parameter and would take every path: begin with a segment of your own"
            );
            invalid(field, message);
        } else if let Some(first) = seen.insert((endpoint.method, pattern.shape().to_owned()), index) {
            let method = endpoint.method.as_str();
            let message = format!("{method} {path} is spec.http[{first}] already: remove one of them");
            invalid(field, message);
            seen.insert((endpoint.method, pattern.shape().to_owned()), first);
        }
    }
}

/// Why no client could reach this Socket.IO namespace. A packet ends it with `,` and a URL with `?` or `#`.
fn path_problem(path: &str) -> Option<String> {
    if !path.starts_with('/') {
        return Some(format!(
            "path {path:?} does not begin with /: write {:?}",
            format!("/{path}")
        ));
    }
    let bad = path
        .chars()
        .find(|c| matches!(c, '#' | '?' | ',') || c.is_control() || c.is_whitespace())?;
    Some(format!(
        "path {path:?} holds {bad:?}, with which no Socket.IO client can reach it: leave it out"
    ))
}

/// Topics that are read twice by a source, or read and given this channel's own dead letters.
fn topics(channel: &Entry<'_, NotificationChannel>, invalid: &mut impl FnMut(String, String)) {
    let spec = &channel.value.spec;
    let dead_letter_topic = spec.dead_letter.as_ref().map(|dead_letter| &dead_letter.topic);
    for (position, source) in spec.sources.iter().enumerate() {
        let topics = &source.kafka.topics;
        for (index, topic) in topics.iter().enumerate() {
            let field = || format!("spec.sources[{position}].kafka.topics[{index}]");
            if let Some(first) = topics[..index].iter().position(|earlier| earlier == topic) {
                let message = format!("topic {topic} is topics[{first}] of this source already: remove one of them");
                invalid(field(), message);
            } else if dead_letter_topic == Some(topic) {
                let message = format!(
                    "topic {topic} is read by {}: what cannot be processed would come back for ever; name a topic that no channel reads",
                    field()
                );
                invalid("spec.deadLetter.topic".to_owned(), message);
            }
        }
    }
}
