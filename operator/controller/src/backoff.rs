//! When to try again: later each time, for each gateway by itself, and at once after a success, or where what is tried is another thing.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Before the second try.
const FIRST: Duration = Duration::from_secs(1);
/// Between tries at most: a mended quota is noticed within this.
const MOST: Duration = Duration::from_secs(120);

/// Tries that failed, by whose they were.
#[derive(Debug)]
pub(crate) struct Backoff<K>(HashMap<K, Failed>);

/// What was tried and failed.
#[derive(Debug)]
struct Failed {
    /// What it was, as a hash.
    what: u64,
    tries: u32,
    next: Instant,
}

impl<K> Default for Backoff<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq + Clone> Backoff<K> {
    /// Whether this may be tried now: it has not just failed. What it is is asked for only where something has.
    pub(crate) fn may(&self, key: &K, what: impl FnOnce() -> u64, now: Instant) -> bool {
        let failed = self.0.get(key);
        failed.is_none_or(|failed| now >= failed.next || failed.what != what())
    }

    pub(crate) fn succeeded(&mut self, key: &K) {
        self.0.remove(key);
    }

    /// `jitter` from 0 to 1: of the time to wait, so much less than all of it, by half at most.
    pub(crate) fn failed(&mut self, key: &K, what: u64, now: Instant, jitter: f64) -> Duration {
        let before = self.0.get(key).filter(|failed| failed.what == what);
        let tries = before.map_or(0, |failed| failed.tries);
        let wait = FIRST.saturating_mul(1 << tries.min(16)).min(MOST);
        let wait = wait.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0);
        let (tries, next) = (tries.saturating_add(1), now + wait);
        self.0.insert(key.clone(), Failed { what, tries, next });
        wait
    }

    /// When the next may be tried.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.values().map(|failed| failed.next).min()
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
        let seconds: Vec<_> = (0..9).map(|_| backoff.failed(&"a", 1, now, 0.0).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 120, 120]);
        assert!(!backoff.may(&"a", || 1, now) && backoff.may(&"b", || 1, now));
        assert!(backoff.may(&"a", || 1, now + MOST));
        backoff.succeeded(&"a");
        assert!(backoff.may(&"a", || 1, now));
        assert_eq!(backoff.failed(&"a", 1, now, 1.0), FIRST / 2);
        backoff.retain(|_| false);
        assert_eq!(backoff.next(), None);
    }
    #[test]
    fn what_has_changed_is_tried_at_once_and_waits_from_the_start_where_it_fails_too() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        for _ in 0..9 {
            backoff.failed(&"a", 1, now, 0.0);
        }
        assert!(!backoff.may(&"a", || 1, now) && backoff.may(&"a", || 2, now));
        assert_eq!(backoff.failed(&"a", 2, now, 0.0), FIRST);
        assert!(!backoff.may(&"a", || 2, now));
        assert_eq!(backoff.next(), Some(now + FIRST));
    }
}
