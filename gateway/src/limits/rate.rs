//! Rates: so many each second, and as many at once after a quiet second (a token bucket).

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aldis_crds::names::ChannelName;

/// Buckets that are remembered before those are forgotten that are full again. 1,024: as many as most gateways have channels.
const KEYS: usize = 1_024;

/// What is counted each second, by whom.
#[derive(Debug, Default)]
pub struct Rates {
    /// Events of all clients of a tenant.
    pub tenant_events: Rated<String>,
    /// Deliveries of all channels of a tenant.
    pub tenant_deliveries: Rated<String>,
    /// Deliveries of a channel.
    pub channel_deliveries: Rated<ChannelName>,
}

/// One bucket.
#[derive(Debug, Default)]
pub struct Rate {
    /// How many were taken and have not come back yet, at the time beside it.
    taken: f64,
    at: Option<Instant>,
    per_second: u32,
}

impl Rate {
    /// Takes one, where there is one.
    pub fn take(&mut self, per_second: u32, now: Instant) -> bool {
        self.refill(per_second, now);
        let fits = self.taken + 1.0 <= f64::from(per_second);
        if fits {
            self.taken += 1.0;
        }
        fits
    }

    /// Takes so many, whether or not they are there: what is not is owed.
    pub fn charge(&mut self, count: usize, per_second: u32, now: Instant) {
        self.refill(per_second, now);
        self.taken += count as f64;
    }

    /// How long it takes until nothing is owed.
    pub fn owed(&mut self, per_second: u32, now: Instant) -> Duration {
        self.refill(per_second, now);
        let owed = (self.taken - f64::from(per_second)).max(0.0);
        Duration::try_from_secs_f64(owed / f64::from(per_second.max(1))).unwrap_or(Duration::MAX)
    }

    fn refill(&mut self, per_second: u32, now: Instant) {
        self.per_second = per_second;
        self.taken = self.still_taken(now);
        self.at = Some(self.at.map_or(now, |at| at.max(now)));
    }

    fn still_taken(&self, now: Instant) -> f64 {
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        (self.taken - passed.as_secs_f64() * f64::from(self.per_second)).max(0.0)
    }
}

/// A bucket for each key.
#[derive(Debug)]
pub struct Rated<K>(Mutex<HashMap<K, Rate>>);

impl<K> Default for Rated<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone> Rated<K> {
    /// [`Rate::take`].
    pub fn take(&self, key: &K, per_second: u32, now: Instant) -> bool {
        self.with(key, now, |rate| rate.take(per_second, now))
    }

    /// [`Rate::charge`].
    pub fn charge(&self, key: &K, count: usize, per_second: u32, now: Instant) {
        self.with(key, now, |rate| rate.charge(count, per_second, now));
    }

    /// [`Rate::owed`].
    pub fn owed(&self, key: &K, per_second: u32, now: Instant) -> Duration {
        let mut rates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rates
            .get_mut(key)
            .map_or(Duration::ZERO, |rate| rate.owed(per_second, now))
    }

    fn with<T>(&self, key: &K, now: Instant, work: impl FnOnce(&mut Rate) -> T) -> T {
        let mut rates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rate) = rates.get_mut(key) {
            return work(rate);
        }
        if rates.len() >= KEYS {
            rates.retain(|_, rate| rate.still_taken(now) > 0.0);
        }
        work(rates.entry(key.clone()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later(begin: Instant, ms: u64) -> Instant {
        begin + Duration::from_millis(ms)
    }

    #[test]
    fn so_many_each_second_and_as_many_at_once_after_a_quiet_one() {
        let (mut rate, begin) = (Rate::default(), Instant::now());
        let mut taken = |ms| (0..100).filter(|_| rate.take(10, later(begin, ms))).count();
        assert_eq!(
            [taken(0), taken(50), taken(100), taken(500), taken(60_000)],
            [10, 0, 1, 4, 10]
        );
    }

    #[test]
    fn what_is_not_there_is_owed_and_a_raised_rate_pays_it_sooner() {
        let (mut rate, begin) = (Rate::default(), Instant::now());
        rate.charge(10, 10, begin);
        assert_eq!(rate.owed(10, begin), Duration::ZERO, "a second's worth is there");
        rate.charge(100, 10, begin);
        assert_eq!(rate.owed(10, begin), Duration::from_secs(10));
        assert_eq!(rate.owed(10, later(begin, 1_000)), Duration::from_secs(9));
        assert_eq!(rate.owed(90, later(begin, 1_000)).as_millis(), 111);
        assert_eq!(rate.owed(90, later(begin, 1_200)), Duration::ZERO);
    }

    #[test]
    fn each_key_has_a_bucket_of_its_own_and_only_full_ones_are_forgotten() {
        let (rates, begin) = (Rated::default(), Instant::now());
        assert!(rates.take(&0, 1, begin));
        assert!(!rates.take(&0, 1, begin) && rates.take(&1, 1, begin));
        rates.charge(&0, 100, 1, begin);
        for key in 2..2 * KEYS {
            rates.take(&key, 1, later(begin, 2_000 * key as u64 / KEYS as u64));
        }
        assert!(rates.0.lock().unwrap().len() <= KEYS + 1);
        assert!(!rates.take(&0, 1, later(begin, 5_000)), "it still owes");
    }
}
