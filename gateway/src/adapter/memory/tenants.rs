//! What the channels of each tenant keep together: no more than it may, the oldest of all of them go first.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aldis_crds::limits::ResolvedLimits;

use super::{Numbers, lock};

/// What one tenant keeps.
#[derive(Debug)]
pub(super) struct Kept {
    bytes: AtomicUsize,
    limit: AtomicUsize,
}

/// By namespace.
#[derive(Debug, Default)]
pub(super) struct Tenants(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    limits: HashMap<String, usize>,
    kept: HashMap<String, Arc<Kept>>,
}

impl State {
    fn limit(&self, namespace: &str) -> usize {
        let default = || usize::try_from(ResolvedLimits::default().history_bytes).unwrap_or(usize::MAX);
        self.limits.get(namespace).copied().unwrap_or_else(default)
    }
}

impl Tenants {
    /// From now on these count.
    pub(super) fn set(&self, limits: HashMap<String, usize>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.limits = limits;
        for (namespace, kept) in &state.kept {
            kept.limit.store(state.limit(namespace), Ordering::Relaxed);
        }
    }

    pub(super) fn of(&self, namespace: &str) -> Arc<Kept> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = state.limit(namespace);
        let kept = state.kept.entry(namespace.to_owned()).or_insert_with(|| {
            Arc::new(Kept {
                bytes: AtomicUsize::new(0),
                limit: AtomicUsize::new(limit),
            })
        });
        Arc::clone(kept)
    }
}

impl Kept {
    /// One of its channels keeps `now` bytes, and kept `before`.
    pub(super) fn changed(&self, before: usize, now: usize) {
        match now >= before {
            true => self.bytes.fetch_add(now - before, Ordering::Relaxed),
            false => self.bytes.fetch_sub(before - now, Ordering::Relaxed),
        };
    }

    pub(super) fn is_too_much(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.limit.load(Ordering::Relaxed)
    }

    /// Whether there is more than what is left behind where something is dropped: a 16th of the limit is room, so that not every
    /// delivery looks at all channels.
    fn leaves_no_room(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        self.bytes.load(Ordering::Relaxed) > limit - limit / 16
    }

    /// Drops what is too much from the channels of this tenant; gives how many deliveries. Locks one channel at a time.
    pub(super) fn bound(&self, channels: &[Arc<Mutex<Numbers>>]) -> usize {
        let oldest = |(index, numbers): (usize, &Arc<Mutex<Numbers>>)| {
            let at = lock(numbers).history.oldest()?;
            Some(Reverse((at, index)))
        };
        let mut heap: BinaryHeap<_> = channels.iter().enumerate().filter_map(oldest).collect();
        let mut dropped = 0;
        while let Some(Reverse((_, index))) = heap.pop() {
            let others = heap.peek().map(|Reverse((at, _))| *at);
            let mut numbers = lock(&channels[index]);
            while self.leaves_no_room() {
                match numbers.history.oldest() {
                    Some(at) if others.is_none_or(|others| at <= others) => {
                        numbers.history.drop_one();
                        numbers.count();
                        dropped += 1;
                    }
                    Some(at) => {
                        heap.push(Reverse((at, index)));
                        break;
                    }
                    None => break,
                }
            }
            if !self.leaves_no_room() {
                break;
            }
        }
        dropped
    }
}
