//! What a directory declares, checked: manifests as kubectl reads them, then the step that decides in a cluster what is
//! served. `aldis validate` shows it, `aldis dev` runs it.

use std::collections::BTreeSet;
use std::fmt;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use aldis_crds::NotificationChannel;
use aldis_crds::gateway::SaslMechanism;
use aldis_crds::names::ChannelName;
use aldis_manifest::{Located, Manifests, Origin, Problem, read_dir};
use aldis_operator::validate::{Grants, Object, ObjectName, Objects, Others, Outcome, Reason, validate};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Everything in a directory, what can be served of it, and everything that is wrong.
pub struct Declared {
    /// The objects, and where they stand.
    pub manifests: Manifests,
    /// What can be served.
    pub outcome: Outcome,
    /// By file, line and column; each once.
    pub findings: Vec<Finding>,
    /// What can be served, and is hardly meant.
    pub warnings: Vec<Problem>,
}

/// Kinds of which objects may be kept somewhere else: those that are referred to are taken for present.
#[derive(Clone, Copy, Debug, Default)]
pub struct Elsewhere {
    /// NotificationGateways.
    pub gateways: bool,
    /// Secrets.
    pub secrets: bool,
}

/// A problem, and the reason that a condition in the cluster would give, if it got there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What and where.
    pub problem: Problem,
    /// `None`: an API server would not take the object at all.
    pub reason: Option<Reason>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.problem.to_string()))
    }
}

impl Declared {
    /// Reads and checks a directory, or a single file.
    ///
    /// # Errors
    /// Where it can not be read.
    pub fn read(dir: &Path, elsewhere: Elsewhere) -> io::Result<Self> {
        let manifests = read_dir(dir)?;
        let Manifests {
            gateways,
            channels,
            secrets,
            namespaces,
            problems,
        } = &manifests;
        let implied = implied_namespaces(channels, namespaces);
        let outcome = validate(&Objects {
            gateways: gateways.iter().map(|located| &located.value).collect(),
            channels: channels.iter().map(|located| &located.value).collect(),
            secrets: secrets.iter().map(|located| &located.value).collect(),
            other_gateways: others(elsewhere.gateways, "NotificationGateway", problems),
            other_secrets: others(elsewhere.secrets, "Secret", problems),
            namespaces: namespaces
                .iter()
                .map(|located| &located.value)
                .chain(&implied)
                .collect(),
            grants: Grants::Everything,
        });
        let in_files = problems.iter().map(|problem| Finding {
            problem: problem.clone(),
            reason: None,
        });
        let between_objects = outcome.problems.iter().map(|problem| {
            let (object, origin) = locate(&manifests, problem.object);
            let mut message = problem.message.clone();
            if let Some(other) = problem.other {
                let (_, origin) = locate(&manifests, other);
                let line = origin.position("metadata.name").0;
                let _ = write!(message, " (see {}:{line})", origin.file.display());
            }
            Finding {
                problem: origin.problem(&object, &problem.field, message),
                reason: Some(problem.reason),
            }
        });
        let mut findings: Vec<_> = in_files.chain(between_objects).collect();
        findings.sort_by(|a, b| order(&a.problem).cmp(&order(&b.problem)));
        // What is wrong at two gateways is still one line to mend.
        findings.dedup();
        Ok(Self {
            warnings: warnings(&manifests),
            manifests,
            outcome,
            findings,
        })
    }

    /// An annotation of a channel.
    pub fn annotation(&self, channel: &ChannelName, name: &str) -> Option<&str> {
        let metadata = self
            .manifests
            .channels
            .iter()
            .map(|located| &located.value.metadata)
            .find(|metadata| {
                metadata.name.as_ref() == Some(&channel.name) && metadata.namespace.as_ref() == Some(&channel.namespace)
            })?;
        metadata.annotations.as_ref()?.get(name).map(String::as_str)
    }

    /// Whether there is nothing at all.
    pub fn is_empty(&self) -> bool {
        let Manifests {
            gateways,
            channels,
            secrets,
            problems,
            ..
        } = &self.manifests;
        gateways.is_empty() && channels.is_empty() && secrets.is_empty() && problems.is_empty()
    }
}

/// Channels that nobody can connect to: that is a default to be safe by, and mostly a field that was forgotten. And gateways that
/// show a password to whoever is on the way.
fn warnings(manifests: &Manifests) -> Vec<Problem> {
    let gateways = manifests.gateways.iter().enumerate();
    let in_clear = gateways.filter_map(|(index, gateway)| {
        let kafka = &gateway.value.spec.kafka;
        let sasl = kafka.sasl.as_ref().filter(|_| kafka.tls.is_none())?;
        let shown = match sasl.mechanism {
            SaslMechanism::Plain => "the password goes over the network as it is, and so do records",
            SaslMechanism::ScramSha256 | SaslMechanism::ScramSha512 => {
                "records go over the network in the clear, and nobody checks who the brokers are"
            }
        };
        let (object, origin) = locate(manifests, Object::Gateway(index));
        let message = format!("{shown}: add `tls: {{}}` with the brokers' TLS listener");
        Some(origin.problem(&object, "spec.kafka.sasl", message))
    });
    let channels = manifests.channels.iter().enumerate();
    let closed = channels.filter(|(_, channel)| channel.value.spec.authentication.is_none());
    let warning = |(index, _)| {
        let (object, origin) = locate(manifests, Object::Channel(index));
        origin.problem(
            &object,
            "spec.authentication",
            "nobody may connect: name who may by `jwt` or `query`, or write `anonymous: {}` for everybody".to_owned(),
        )
    };
    in_clear.chain(closed.map(warning)).collect()
}

/// The namespaces that channels are in and no file declares: each has the one label that a cluster gives it.
fn implied_namespaces(channels: &[Located<NotificationChannel>], declared: &[Located<Namespace>]) -> Vec<Namespace> {
    let used = channels
        .iter()
        .filter_map(|channel| channel.value.metadata.namespace.clone());
    let is_declared = |name: &String| {
        declared
            .iter()
            .any(|located| located.value.metadata.name.as_ref() == Some(name))
    };
    let implied: BTreeSet<String> = used.filter(|name| !is_declared(name)).collect();
    let named = |name| Namespace {
        metadata: ObjectMeta {
            name: Some(name),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    implied.into_iter().map(named).collect()
}

fn order(problem: &Problem) -> (&Path, usize, usize, &str, &str) {
    (
        &problem.file,
        problem.line,
        problem.column,
        &problem.field,
        &problem.message,
    )
}

/// Objects that are there, but not to be read: any, if so asked; else those with a problem of their own, about which
/// nobody who refers to them needs to hear.
fn others(any: bool, kind: &str, problems: &[Problem]) -> Others {
    if any {
        return Others::Any;
    }
    let name = |problem: &Problem| {
        let (namespace, name) = problem.object.strip_prefix(kind)?.strip_prefix(' ')?.split_once('/')?;
        Some(ObjectName::new(namespace, name))
    };
    Others::Named(problems.iter().filter_map(name).collect::<BTreeSet<_>>())
}

/// An object as problems name it, and where it stands.
fn locate(manifests: &Manifests, object: Object) -> (String, &Origin) {
    let (kind, metadata, origin) = match object {
        Object::Gateway(index) => {
            let Located { value, origin } = &manifests.gateways[index];
            ("NotificationGateway", &value.metadata, origin)
        }
        Object::Channel(index) => {
            let Located { value, origin } = &manifests.channels[index];
            ("NotificationChannel", &value.metadata, origin)
        }
        Object::Secret(index) => {
            let Located { value, origin } = &manifests.secrets[index];
            ("Secret", &value.metadata, origin)
        }
    };
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    (
        format!("{kind} {}/{}", part(&metadata.namespace), part(&metadata.name)),
        origin,
    )
}

/// The text without what would steer a terminal or begin another line.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}
