//! When to try again: later each time, for each gateway by itself, and at once again after a success.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Before the second try.
const FIRST: Duration = Duration::from_secs(1);
/// Between tries at most: a mended quota is noticed within this.
const MOST: Duration = Duration::from_secs(120);

/// Tries that failed, by what was tried.
#[derive(Debug)]
pub(crate) struct Backoff<K>(HashMap<K, (u32, Instant)>);

impl<K> Default for Backoff<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq + Clone> Backoff<K> {
    /// Whether it may be tried now.
    pub(crate) fn may(&self, key: &K, now: Instant) -> bool {
        self.0.get(key).is_none_or(|(_, next)| now >= *next)
    }

    pub(crate) fn succeeded(&mut self, key: &K) {
        self.0.remove(key);
    }

    /// `jitter` from 0 to 1: of the time to wait, so much less than all of it, by half at most.
    pub(crate) fn failed(&mut self, key: &K, now: Instant, jitter: f64) -> Duration {
        let (tries, next) = self.0.entry(key.clone()).or_insert((0, now));
        let wait = FIRST.saturating_mul(1 << (*tries).min(16)).min(MOST);
        let wait = wait.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0);
        *tries += 1;
        *next = now + wait;
        wait
    }

    /// When the next may be tried.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.values().map(|(_, next)| *next).min()
    }

    /// Forgets what is not there any more.
    pub(crate) fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.0.retain(|key, _| keep(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_waits_longer_by_itself_up_to_a_bound_and_begins_anew_after_a_success() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        let seconds: Vec<_> = (0..9).map(|_| backoff.failed(&"a", now, 0.0).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 120, 120]);
        assert!(!backoff.may(&"a", now) && backoff.may(&"b", now));
        assert!(backoff.may(&"a", now + MOST));
        backoff.succeeded(&"a");
        assert!(backoff.may(&"a", now));
        assert_eq!(backoff.failed(&"a", now, 1.0), FIRST / 2);
        backoff.retain(|_| false);
        assert_eq!(backoff.next(), None);
    }
}
