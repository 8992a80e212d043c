//! Places: so many of each key at once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts what is taken, by key. A key that nothing is taken of costs nothing.
#[derive(Debug)]
pub struct Places<K> {
    taken: Mutex<HashMap<K, u32>>,
}

/// One place that is taken, until it is dropped.
#[derive(Debug)]
pub struct Place<K: Eq + Hash> {
    places: Arc<Places<K>>,
    key: K,
}

impl<K> Default for Places<K> {
    fn default() -> Self {
        Self {
            taken: Mutex::default(),
        }
    }
}

impl<K: Eq + Hash + Clone> Places<K> {
    /// Takes a place, where fewer than `limit` are taken.
    pub fn take(self: &Arc<Self>, key: &K, limit: u32) -> Option<Place<K>> {
        let mut taken = self.lock();
        match taken.entry(key.clone()) {
            Entry::Occupied(count) if *count.get() >= limit => return None,
            Entry::Occupied(mut count) => *count.get_mut() += 1,
            Entry::Vacant(_) if limit == 0 => return None,
            Entry::Vacant(vacant) => drop(vacant.insert(1)),
        }
        Some(Place {
            places: Arc::clone(self),
            key: key.clone(),
        })
    }

    /// How many are taken of a key.
    pub fn taken(&self, key: &K) -> u32 {
        self.lock().get(key).copied().unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, u32>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_of_each_key_and_what_is_dropped_is_free_again() {
        let places = Arc::new(Places::default());
        let take = |key| places.take(&key, 2);
        let (first, second) = (take("a").unwrap(), take("a").unwrap());
        assert!(take("a").is_none());
        assert!(take("b").is_some(), "another key has places of its own");
        drop(first);
        let third = take("a").unwrap();
        assert!(take("a").is_none());
        assert!(places.take(&"c", 0).is_none());
        drop((second, third));
        assert_eq!(places.taken(&"a"), 0);
        assert!(places.lock().is_empty(), "keys that nothing is taken of are gone");
    }

    #[test]
    fn a_limit_that_is_lowered_ends_nobody_and_lets_nobody_in() {
        let places = Arc::new(Places::default());
        let kept: Vec<_> = (0..3).map(|_| places.take(&"a", 3).unwrap()).collect();
        assert!(places.take(&"a", 1).is_none());
        assert_eq!(places.taken(&"a"), 3);
        drop(kept);
        assert!(places.take(&"a", 1).is_some());
    }
}
