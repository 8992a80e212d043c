//! scale: how many pods a gateway should have, from the clients that its pods say they have. Pure: the time is an argument, and what
//! one look leaves to the next is a value.
//!
//! ```text
//! clients of all pods ÷ targetConnectionsPerReplica, rounded up, within minReplicas and maxReplicas
//!     more than there are    at once
//!     less than there are    the most that was wanted within STABILIZATION, and only while every pod says how many it has
//! ```
//! As a HorizontalPodAutoscaler does it, with the same tolerance and window. Clients are counted, not averaged: a pod that has just
//! started and has none yet does not make the others look idle.

use std::collections::VecDeque;

use aldis_crds::gateway::Autoscaling;
use jiff::{SignedDuration, Timestamp};

/// How long fewer pods have to be enough before there are fewer. 300 s, as a HorizontalPodAutoscaler has it by default: clients
/// that went with a network come back within it, and each pod that stops makes its own connect anew.
pub const STABILIZATION: SignedDuration = SignedDuration::from_secs(300);
/// In percent, how far clients may be from what is aimed at before anything changes. 10, as a HorizontalPodAutoscaler has it: clients come
/// and go, and pods should not with them.
pub const TOLERANCE_PERCENT: u64 = 10;

/// What a pod says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Clients that are connected to it.
    pub connections: u64,
    /// When it said so.
    pub at: Timestamp,
}

/// What there is.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// Pods that the Deployment asks for.
    pub current: u32,
    /// Pods that take clients.
    pub ready: u32,
    /// What pods that serve have said lately.
    pub reports: Vec<Report>,
}

impl Load {
    /// Clients of all pods, and whether every pod that takes clients has said how many it has.
    fn connections(&self) -> (u64, bool) {
        let ready = usize::try_from(self.ready).unwrap_or(usize::MAX);
        let mut reports = self.reports.clone();
        // Of a pod that is gone the last word counts for a while yet, and its clients are counted where they are now too. The oldest is of
        // such a one.
        reports.sort_by_key(|report| std::cmp::Reverse(report.at));
        reports.truncate(ready);
        let connections = reports.iter().map(|report| report.connections);
        let is_whole = ready > 0 && self.reports.len() == ready;
        (connections.fold(0, u64::saturating_add), is_whole)
    }
}

/// What looks leave behind, for one gateway. At most one entry for each number of pods.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// When how many pods were wanted: within [`STABILIZATION`], and only what is more than all that came later.
    most: VecDeque<(Timestamp, u32)>,
    /// Since when not every pod has said how many clients it has.
    blind_since: Option<Timestamp>,
}

impl Wanted {
    fn add(&mut self, now: Timestamp, replicas: u32) {
        while self.most.back().is_some_and(|(_, earlier)| *earlier <= replicas) {
            self.most.pop_back();
        }
        self.most.push_back((now, replicas));
        while self.most.len() > 1 && self.most.front().is_some_and(|(at, _)| is_over(*at, now)) {
            self.most.pop_front();
        }
    }

    fn most(&self) -> u32 {
        self.most.front().map_or(0, |(_, replicas)| *replicas)
    }
}

fn is_over(at: Timestamp, now: Timestamp) -> bool {
    now.duration_since(at) >= STABILIZATION
}

/// Why a gateway has not as many pods as its clients ask for, for as long as it is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// They ask for more than `maxReplicas`.
    TooManyConnections,
    /// Some pods have not said for [`STABILIZATION`] how many they have: there will not be fewer pods.
    ConnectionsUnknown,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// How many pods there should be now.
    pub replicas: u32,
    /// Clients that were counted.
    pub connections: u64,
    /// What keeps it from being what the clients ask for.
    pub limited: Option<Limited>,
}

/// How many pods there should be. `None` where `autoscaling` aims at no connections.
pub fn decide(autoscaling: &Autoscaling, load: &Load, wanted: &mut Wanted, now: Timestamp) -> Option<Decision> {
    let target = u64::from(autoscaling.target_connections_per_replica?).max(1);
    let (min, max) = (
        autoscaling.min_replicas,
        autoscaling.max_replicas.max(autoscaling.min_replicas),
    );
    let (connections, is_whole) = load.connections();
    let current = load.current;
    let asked = asked(connections, target, current);
    // What is not known may be anything: it makes no pod go.
    let asked = if is_whole { asked } else { asked.max(current) };
    if wanted.most.is_empty() {
        // Who has just begun to look knows nothing of the time before.
        wanted.add(now, current);
    }
    wanted.add(now, asked.clamp(min, max));
    wanted.blind_since = match is_whole {
        true => None,
        false => wanted.blind_since.or(Some(now)),
    };
    let replicas = if asked >= current {
        asked
    } else {
        wanted.most().min(current)
    };
    let limited = if asked > max {
        Some(Limited::TooManyConnections)
    } else {
        let is_blind = wanted.blind_since.is_some_and(|since| is_over(since, now));
        is_blind.then_some(Limited::ConnectionsUnknown)
    };
    Some(Decision {
        replicas: replicas.clamp(min, max),
        connections,
        limited,
    })
}

/// As many pods as the clients ask for; as many as there are where that is near enough.
fn asked(connections: u64, target: u64, current: u32) -> u32 {
    let aimed = target.saturating_mul(u64::from(current));
    if u128::from(connections.abs_diff(aimed)) * 100 <= u128::from(aimed) * u128::from(TOLERANCE_PERCENT) {
        return current;
    }
    u32::try_from(connections.div_ceil(target)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
