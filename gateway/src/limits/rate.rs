//! Rates: so many each second, and as many at once after a quiet second (a token bucket).

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aldis_crds::names::ChannelName;

/// Buckets that are remembered before those are forgotten that are full again. 1,024: as many as most gateways have channels.
const KEYS: usize = 1_024;

/// What is counted each second, by whom. Where replicas share a rate, this one takes its part of it.
#[derive(Debug, Default)]
pub struct Rates {
    /// Events of all clients of a tenant.
    pub tenant_events: Rated<String>,
    /// Deliveries of all channels of a tenant.
    pub tenant_deliveries: Rated<String>,
    /// Deliveries of a channel.
    pub channel_deliveries: Rated<ChannelName>,
}

/// Prefixes of the names by which replicas speak of rates.
const PREFIXES: [&str; 3] = ["events/", "deliveries/", "channel/"];

impl Rates {
    /// What this replica has used of each rate since it was last asked, as a part of the rate; 1 where there was not enough. Those
    /// of which it was no more than `unsaid` are left out.
    pub fn demands(&self, now: Instant, unsaid: f64) -> HashMap<String, f64> {
        let [events, deliveries, channels] = PREFIXES;
        let mut demands = HashMap::new();
        self.tenant_events.demands(events, now, unsaid, &mut demands);
        self.tenant_deliveries.demands(deliveries, now, unsaid, &mut demands);
        self.channel_deliveries.demands(channels, now, unsaid, &mut demands);
        demands
    }

    /// From now on this replica takes these parts of rates, and `rest` of all others.
    pub fn share(&self, shares: &HashMap<String, f64>, rest: f64) {
        let [events, deliveries, channels] = PREFIXES;
        self.tenant_events.share(events, shares, rest);
        self.tenant_deliveries.share(deliveries, shares, rest);
        self.channel_deliveries.share(channels, shares, rest);
    }
}

/// One bucket.
#[derive(Debug, Default)]
pub struct Rate {
    /// How many were taken and have not come back yet, at the time beside it.
    taken: f64,
    at: Option<Instant>,
    per_second: f64,
    /// How many were taken since it was last asked, and whether there were not enough.
    used: f64,
    is_short: bool,
}

impl Rate {
    /// Takes one, where there is one.
    pub fn take(&mut self, per_second: impl Into<f64>, now: Instant) -> bool {
        self.refill(per_second.into(), now);
        let fits = self.taken + 1.0 <= self.per_second;
        if fits {
            self.taken += 1.0;
            self.used += 1.0;
        }
        self.is_short |= !fits;
        fits
    }

    /// Takes so many, whether or not they are there: what is not is owed.
    pub fn charge(&mut self, count: usize, per_second: impl Into<f64>, now: Instant) {
        self.refill(per_second.into(), now);
        self.taken += count as f64;
        self.used += count as f64;
        self.is_short |= self.taken > self.per_second;
    }

    /// How long it takes until nothing is owed.
    pub fn owed(&mut self, per_second: impl Into<f64>, now: Instant) -> Duration {
        self.refill(per_second.into(), now);
        let owed = (self.taken - self.per_second).max(0.0);
        self.is_short |= owed > 0.0;
        Duration::try_from_secs_f64(owed / self.per_second.max(f64::MIN_POSITIVE)).unwrap_or(Duration::MAX)
    }

    fn refill(&mut self, per_second: f64, now: Instant) {
        self.per_second = per_second;
        self.taken = self.still_taken(now);
        self.at = Some(self.at.map_or(now, |at| at.max(now)));
    }

    fn still_taken(&self, now: Instant) -> f64 {
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        (self.taken - passed.as_secs_f64() * self.per_second).max(0.0)
    }
}

/// A bucket for each key.
#[derive(Debug)]
pub struct Rated<K>(Mutex<Buckets<K>>);

#[derive(Debug)]
struct Buckets<K> {
    rates: HashMap<K, Rate>,
    /// Part of the whole rate that this replica takes, by key.
    shares: HashMap<K, f64>,
    /// The same for all others.
    rest: f64,
    /// When it was last asked what is used.
    asked: Option<Instant>,
}

impl<K> Default for Rated<K> {
    fn default() -> Self {
        Self(Mutex::new(Buckets {
            rates: HashMap::new(),
            shares: HashMap::new(),
            rest: 1.0,
            asked: None,
        }))
    }
}

impl<K: Eq + Hash + Clone + Display> Rated<K> {
    /// [`Rate::take`], of this replica's part of the rate.
    pub fn take(&self, key: &K, per_second: u32, now: Instant) -> bool {
        let mut buckets = self.lock();
        let part = buckets.part(key, per_second);
        buckets.rate(key, now).take(part, now)
    }

    /// [`Rate::charge`], to this replica's part of the rate.
    pub fn charge(&self, key: &K, count: usize, per_second: u32, now: Instant) {
        let mut buckets = self.lock();
        let part = buckets.part(key, per_second);
        buckets.rate(key, now).charge(count, part, now);
    }

    /// [`Rate::owed`], by this replica's part of the rate.
    pub fn owed(&self, key: &K, per_second: u32, now: Instant) -> Duration {
        let mut buckets = self.lock();
        let part = buckets.part(key, per_second);
        let rate = buckets.rates.get_mut(key);
        rate.map_or(Duration::ZERO, |rate| rate.owed(part, now))
    }

    fn demands(&self, prefix: &str, now: Instant, unsaid: f64, demands: &mut HashMap<String, f64>) {
        let mut buckets = self.lock();
        let Buckets {
            rates,
            shares,
            rest,
            asked,
        } = &mut *buckets;
        let passed = asked
            .replace(now)
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        for (key, rate) in rates {
            let share = shares.get(key).copied().unwrap_or(*rest);
            let whole = rate.per_second / share.max(f64::MIN_POSITIVE) * passed.as_secs_f64();
            let part = if rate.is_short {
                1.0
            } else {
                (rate.used / whole.max(1.0)).min(1.0)
            };
            (rate.used, rate.is_short) = (0.0, false);
            if part > unsaid {
                demands.insert(format!("{prefix}{key}"), part);
            }
        }
    }

    fn share(&self, prefix: &str, all: &HashMap<String, f64>, rest: f64) {
        let mut buckets = self.lock();
        // Of what is not used here it is known when it is.
        let shares = buckets
            .rates
            .keys()
            .filter_map(|key| Some((key.clone(), *all.get(&format!("{prefix}{key}"))?)));
        buckets.shares = shares.collect();
        buckets.rest = rest;
    }

    fn lock(&self) -> MutexGuard<'_, Buckets<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash + Clone> Buckets<K> {
    fn part(&self, key: &K, per_second: u32) -> f64 {
        f64::from(per_second) * self.shares.get(key).copied().unwrap_or(self.rest)
    }

    fn rate(&mut self, key: &K, now: Instant) -> &mut Rate {
        if !self.rates.contains_key(key) && self.rates.len() >= KEYS {
            self.rates.retain(|_, rate| rate.still_taken(now) > 0.0);
        }
        self.rates.entry(key.clone()).or_default()
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
        let mut taken = |ms| (0..100).filter(|_| rate.take(10.0, later(begin, ms))).count();
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
        assert!(rates.lock().rates.len() <= KEYS + 1);
        assert!(!rates.take(&0, 1, later(begin, 5_000)), "it still owes");
    }

    #[test]
    fn a_replica_says_which_part_of_a_rate_it_uses_and_takes_its_share() {
        let (rates, begin) = (Rates::default(), Instant::now());
        let demands = |ms| rates.demands(later(begin, ms), 0.01);
        assert!(demands(0).is_empty());
        let (small, large) = ("small".to_owned(), "large".to_owned());
        rates.tenant_deliveries.charge(&small, 25, 100, begin);
        rates.tenant_deliveries.charge(&large, 101, 100, begin);
        let said = demands(500);
        assert_eq!((said["deliveries/small"], said["deliveries/large"]), (0.5, 1.0));
        assert!(demands(1_000).is_empty(), "nothing since");

        // Half of it, and another tenant's as it was: what was taken comes back half as fast.
        rates.share(&HashMap::from([("deliveries/large".to_owned(), 0.5)]), 1.0);
        rates.tenant_deliveries.charge(&large, 100, 100, later(begin, 10_000));
        let owed = |tenant, ms| rates.tenant_deliveries.owed(tenant, 100, later(begin, ms)).as_millis();
        assert_eq!((owed(&large, 10_000), owed(&large, 11_000)), (1_000, 0));
        assert_eq!(demands(11_000)["deliveries/large"], 1.0, "there was not enough");
        rates.tenant_deliveries.charge(&small, 100, 100, later(begin, 12_000));
        assert_eq!(owed(&small, 12_000), 0);
        rates.share(&HashMap::new(), 0.25);
        assert_eq!(owed(&small, 12_000), 3_000, "of all others a quarter");
    }
}
