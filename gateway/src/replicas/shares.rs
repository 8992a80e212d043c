//! How replicas share a rate: each says which part of it it wants, and takes what all of them, who know the same, give it.

use std::collections::{BTreeSet, HashMap};

/// What a replica wants of each rate, as a part of it: 1 for all that it can get.
pub type Demands = HashMap<String, f64>;

/// Part of an even share that is kept for a replica that wants nothing, so that it can begin. A tenth.
const KEPT: f64 = 0.1;
/// How much more than it has used a replica is given, while there is more. A quarter: it may grow without being held.
const SPARE: f64 = 1.25;

/// The part of each rate that this replica takes beside live peers, of all rates that one of them wants something of. Of any other
/// rate it is [`even`].
pub fn shares(mine: &Demands, peers: &[Demands]) -> HashMap<String, f64> {
    let rates: BTreeSet<&String> = mine.keys().chain(peers.iter().flat_map(HashMap::keys)).collect();
    let wants = |demands: &Demands, rate| demands.get(rate).copied().unwrap_or(0.0);
    let shares = rates.into_iter().map(|rate| {
        let others: Vec<f64> = peers.iter().map(|peer| wants(peer, rate)).collect();
        (rate.clone(), share(wants(mine, rate), &others))
    });
    shares.collect()
}

/// The part of a rate that each of so many replicas takes while none of them wants much of it.
pub fn even(replicas: usize) -> f64 {
    1.0 / replicas.max(1) as f64
}

/// How little a replica uses that need not say so: it has that anyway.
pub fn unsaid(replicas: usize) -> f64 {
    KEPT * even(replicas) / SPARE
}

/// Who wants little has it, and the others share the rest evenly; what nobody wants is shared evenly too. All parts are 1 together.
fn share(mine: f64, others: &[f64]) -> f64 {
    let replicas = others.len() + 1;
    let kept = KEPT * even(replicas);
    let wanted = |demand: f64| (demand * SPARE).clamp(kept, 1.0);
    let mine = wanted(mine);
    let mut all: Vec<f64> = others.iter().copied().map(wanted).chain([mine]).collect();
    all.sort_by(f64::total_cmp);
    let mut left = 1.0;
    for (at, wanted) in all.iter().enumerate() {
        let even = left / (replicas - at) as f64;
        if *wanted > even {
            // All who are left want more than there is.
            return mine.min(even);
        }
        left -= wanted;
    }
    mine + left / replicas as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each takes.
    fn all(demands: &[f64]) -> Vec<f64> {
        let others = |me: usize| {
            let others = demands.iter().enumerate().filter(|(at, _)| *at != me);
            others.map(|(_, demand)| *demand).collect::<Vec<_>>()
        };
        let shares = demands
            .iter()
            .enumerate()
            .map(|(me, demand)| share(*demand, &others(me)));
        shares.map(|share| (share * 1_000.0).round() / 1_000.0).collect()
    }

    #[test]
    fn the_parts_of_all_replicas_are_the_whole_rate_whatever_they_want() {
        for demands in [
            &[0.0][..],
            &[1.0],
            &[0.0, 0.0, 0.0],
            &[1.0, 0.0],
            &[1.0, 1.0, 1.0],
            &[0.3, 1.0, 0.01, 0.9],
            &[0.2, 0.2],
            &[f64::MAX, -1.0],
        ] {
            let sum: f64 = all(demands).iter().sum();
            assert!((sum - 1.0).abs() < 0.01, "{demands:?}: {:?}", all(demands));
        }
    }

    #[test]
    fn who_wants_little_has_it_and_the_others_share_the_rest() {
        assert_eq!(all(&[1.0]), [1.0], "alone it has all");
        assert_eq!(all(&[1.0, 0.0]), [0.95, 0.05], "who wants nothing can begin");
        assert_eq!(all(&[1.0, 1.0]), [0.5, 0.5]);
        assert_eq!(all(&[1.0, 0.2]), [0.75, 0.25]);
        assert_eq!(all(&[0.1, 1.0, 1.0]), [0.125, 0.438, 0.438]);
        assert_eq!(all(&[0.0, 0.0]), [0.5, 0.5]);
        assert_eq!(all(&[0.4, 0.08]), [0.7, 0.3], "what nobody wants is shared too");
    }

    #[test]
    fn a_rate_that_only_another_wants_is_left_to_it() {
        let wants = |rate: &str, part| Demands::from([(rate.to_owned(), part)]);
        let shares = shares(&wants("a", 1.0), &[wants("b", 1.0)]);
        assert_eq!(shares.len(), 2);
        assert!((shares["a"] - 0.95).abs() < 0.001 && (shares["b"] - 0.05).abs() < 0.001);
        assert!((even(4) - 0.25).abs() < f64::EPSILON && unsaid(2) < 0.05);
    }
}
