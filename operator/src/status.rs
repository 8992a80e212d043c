//! status: what people read about their resources, from what came out of validate and what was seen in the cluster.
//!
//! Every condition says for which generation it speaks. A status that says what is there already is `None`: nothing is
//! written. So is one for a generation older than what is there: a status never goes backwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::validate::{Problem, Reason};

mod channel;
mod gateway;
mod listener;

pub use channel::channel_status;
pub use gateway::{gateway_status, is_paused};

/// What was seen of one gateway in the cluster.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Pods that there should be.
    pub desired: u32,
    /// Pods that take clients.
    pub ready: u32,
    /// Each pod that says what it serves.
    pub serving: Vec<Serving>,
    /// Why the objects of this gateway could not be written, by the reason and the API server's message.
    pub failed: Option<(&'static str, String)>,
    /// Why there are not as many pods as its clients ask for, by reason and message.
    pub limited: Option<(&'static str, String)>,
}

/// What a pod says.
#[derive(Clone, Debug, Default)]
pub struct Serving {
    /// The hashes of the index that it has, and of each of its parts.
    pub has: Arc<BTreeSet<String>>,
    /// By hash: what of that it can not serve, and why.
    pub cannot: BTreeMap<String, String>,
}

impl Serving {
    fn serves(&self, hash: &str) -> bool {
        self.has.contains(hash) && !self.cannot.contains_key(hash)
    }

    fn problem(&self, hash: &str) -> Option<&String> {
        self.cannot.get(hash).filter(|_| self.has.contains(hash))
    }
}

impl Observed {
    /// How many of the pods serve this.
    fn serves(&self, hash: &str) -> u32 {
        let pods = self.serving.iter().filter(|pod| pod.serves(hash)).count();
        u32::try_from(pods).unwrap_or(u32::MAX).min(self.ready)
    }

    /// Whether every pod that takes clients serves this; reason and message.
    fn programmed(&self, hash: &str) -> Verdict {
        let serving = self.serves(hash);
        if let Some((reason, message)) = &self.failed {
            Verdict::no(reason, message.clone())
        } else if self.ready == 0 {
            let message = format!(
                "no pod of the gateway takes clients yet; {} should be there",
                self.desired
            );
            Verdict::no("NoReplicas", message)
        } else if let Some(problem) = self.serving.iter().find_map(|pod| pod.problem(hash)) {
            let problem: String = problem.chars().take(MAX_CHARS).collect();
            Verdict::no("Rejected", format!("a pod of the gateway can not serve it: {problem}"))
        } else if serving < self.ready {
            let message = format!("{serving} of {} pods serve this generation", self.ready);
            Verdict::no("Pending", message)
        } else {
            Verdict::yes("Programmed", format!("all {} pods serve this generation", self.ready))
        }
    }
}

/// Of a message. An API server takes 32768 bytes.
const MAX_CHARS: usize = 4096;

/// A condition without its type and times.
struct Verdict {
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn yes(reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            holds: true,
            reason,
            message,
        }
    }

    fn no(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            holds: false,
            ..Self::yes(reason, message)
        }
    }

    /// From problems: the first gives the reason, and all are told. `positive` is the reason where there is none.
    fn of<'p>(problems: impl Iterator<Item = &'p Problem>, positive: &'static str) -> Self {
        /// More would not be read; the rest comes up when these are mended.
        const MAX_PROBLEMS: usize = 8;
        let problems: Vec<_> = problems.collect();
        let Some(first) = problems.first() else {
            return Self::yes(positive, "");
        };
        let told = problems.iter().take(MAX_PROBLEMS);
        let told: Vec<_> = told
            .map(|problem| format!("{}: {}", problem.field, problem.message))
            .collect();
        let more = problems.len() - told.len();
        let mut message: String = told.join("; ").chars().take(MAX_CHARS).collect();
        if more > 0 {
            message.push_str(&format!("; and {more} more"));
        }
        Self::no(first.reason.as_str(), message)
    }

    fn condition(self, type_: &str, generation: Option<i64>, now: &Time) -> Condition {
        Condition {
            type_: type_.to_owned(),
            status: if self.holds { "True" } else { "False" }.to_owned(),
            reason: self.reason.to_owned(),
            message: self.message,
            observed_generation: generation,
            last_transition_time: now.clone(),
        }
    }
}

/// Which condition says it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Concern {
    Accepted,
    ResolvedRefs,
    Degraded,
}

fn concern(reason: Reason) -> Concern {
    match reason {
        Reason::RefNotPermitted | Reason::SecretNotFound => Concern::ResolvedRefs,
        Reason::GrantsOverlap | Reason::InvalidGrant => Concern::Degraded,
        Reason::Conflicted
        | Reason::GatewayNotFound
        | Reason::Invalid
        | Reason::MethodNotAllowed
        | Reason::PathNotAllowed
        | Reason::TenantNotAllowed
        | Reason::TooLarge
        | Reason::TopicNotAllowed => Concern::Accepted,
    }
}

/// A condition that says the same as before keeps the time since when it does.
fn keep_times(conditions: &mut [Condition], before: &[Condition]) {
    for condition in conditions {
        let same = |old: &&Condition| old.type_ == condition.type_ && old.status == condition.status;
        if let Some(old) = before.iter().find(same) {
            condition.last_transition_time = old.last_transition_time.clone();
        }
    }
}

/// Whether these conditions speak for a generation that is newer than the object at hand, which is an old copy.
fn is_newer(conditions: &[Condition], generation: Option<i64>) -> bool {
    conditions
        .iter()
        .any(|condition| condition.observed_generation > generation)
}

#[cfg(test)]
mod tests;
