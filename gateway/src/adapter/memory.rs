//! The adapter in memory, for one process: `aldis dev`, and the twin that other adapters are compared with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aldis_core::room::RoomKey;
use aldis_crds::names::ChannelName;

use super::census::Census;
use super::{
    Adapter, AdapterError, Appended, Bound, ChannelRef, Hosted, Incomplete, Keep, Mark, Missed, Numbered, Position,
    Publish, Since, Source, Unit,
};
use crate::clock::Clock;

mod history;
mod tenants;

use history::History;
use tenants::{Kept, Tenants};

/// A name for the numbering of this process: what is in memory is never continued.
pub fn new_epoch() -> Arc<str> {
    format!("{:016x}", rand::random::<u64>()).into()
}

/// Numbers per channel. The lock of a channel is held while its deliveries are published: that is what keeps their order.
pub struct MemoryAdapter<P> {
    epoch: Arc<str>,
    channels: Mutex<HashMap<ChannelName, Arc<Mutex<Numbers>>>>,
    tenants: Tenants,
    publish: Arc<P>,
    clock: Clock,
    /// How the next appends fail, in their order.
    #[cfg(test)]
    pub(crate) failures: Mutex<std::collections::VecDeque<AdapterError>>,
}

/// Numbers of one channel.
struct Numbers {
    seq: u64,
    /// Last offset taken, by topic and partition: as many as the channel's topics have partitions.
    marks: HashMap<(Arc<str>, i32), i64>,
    history: History,
    /// What its tenant keeps, and what was counted there of this channel.
    tenant: Arc<Kept>,
    counted: usize,
}

fn lock(numbers: &Mutex<Numbers>) -> MutexGuard<'_, Numbers> {
    numbers.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<P: Publish> MemoryAdapter<P> {
    /// An adapter whose numbering begins now, in `epoch`, which no other run may have used ([`new_epoch`]).
    pub fn new(epoch: Arc<str>, publish: Arc<P>, clock: Clock) -> Self {
        Self {
            epoch,
            channels: Mutex::default(),
            tenants: Tenants::default(),
            publish,
            clock,
            #[cfg(test)]
            failures: Mutex::default(),
        }
    }

    fn numbers(&self, channel: &ChannelName) -> Arc<Mutex<Numbers>> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let numbers = channels.entry(channel.clone()).or_insert_with(|| {
            Arc::new(Mutex::new(Numbers {
                seq: 0,
                marks: HashMap::new(),
                history: History::default(),
                tenant: self.tenants.of(&channel.namespace),
                counted: 0,
            }))
        });
        Arc::clone(numbers)
    }

    /// Counts what a channel keeps and has dropped, and drops the oldest of all of its tenant's where these keep more than they may.
    fn bound(&self, mut numbers: MutexGuard<'_, Numbers>, namespace: &str) {
        numbers.count();
        let (tenant, forgot) = (Arc::clone(&numbers.tenant), numbers.history.take_forgot());
        drop(numbers);
        if forgot > 0 {
            self.publish.forgot(namespace, forgot);
        }
        if !tenant.is_too_much() {
            return;
        }
        let of_tenant: Vec<_> = {
            let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
            let channels = channels.iter().filter(|(channel, _)| channel.namespace == namespace);
            channels.map(|(_, numbers)| Arc::clone(numbers)).collect()
        };
        self.publish.forgot(namespace, tenant.bound(&of_tenant));
    }

    fn position(&self, seq: u64) -> Position {
        Position {
            epoch: Arc::clone(&self.epoch),
            seq,
        }
    }

    fn take(&self, channel: &ChannelName, keep: Keep, units: Vec<Unit>) -> Appended {
        let numbers = self.numbers(channel);
        let mut numbers = lock(&numbers);
        let now = self.clock.now();
        let mut appended = Appended::default();
        for unit in units {
            if !numbers.pass_mark(&unit) {
                appended.refused += 1;
                continue;
            }
            for (index, delivery) in (0..).zip(unit.deliveries) {
                numbers.seq += 1;
                appended.deliveries += 1;
                let numbered = Arc::new(Numbered {
                    position: self.position(numbers.seq),
                    delivery,
                    source: Some(Source {
                        topic: Arc::clone(&unit.topic),
                        partition: unit.partition,
                        offset: unit.offset,
                        index,
                    }),
                });
                numbers.history.push(&numbered, keep, now);
                self.publish.publish(channel, &numbered);
            }
        }
        self.bound(numbers, &channel.namespace);
        appended
    }
}

impl Numbers {
    /// Counts what it keeps.
    fn count(&mut self) {
        let now = self.history.bytes();
        self.tenant.changed(std::mem::replace(&mut self.counted, now), now);
    }

    /// Moves the mark to this record, or says that it had passed it already.
    fn pass_mark(&mut self, unit: &Unit) -> bool {
        let mark = self
            .marks
            .entry((Arc::clone(&unit.topic), unit.partition))
            .or_insert(-1);
        let new = unit.offset > *mark;
        if new {
            *mark = unit.offset;
        }
        new
    }
}

impl<P: Publish> Census for MemoryAdapter<P> {}

impl<P: Publish> Adapter for MemoryAdapter<P> {
    async fn host(&self, channel: ChannelRef<'_>, _: &[RoomKey]) -> Result<Hosted, AdapterError> {
        let numbers = self.numbers(channel.name);
        let seq = lock(&numbers).seq;
        Ok(Hosted::new(self.position(seq), None))
    }

    async fn append(&self, channel: ChannelRef<'_>, units: Vec<Unit>) -> Result<Appended, AdapterError> {
        #[cfg(test)]
        if let Some(failure) = self.failures.lock().unwrap().pop_front() {
            return Err(failure);
        }
        Ok(self.take(channel.name, channel.keep, units))
    }

    async fn check_mark(
        &self,
        channel: ChannelRef<'_>,
        topic: &Arc<str>,
        partition: i32,
        gone: Option<i64>,
    ) -> Result<Mark, AdapterError> {
        let numbers = self.numbers(channel.name);
        let marks = &mut numbers.lock().unwrap_or_else(PoisonError::into_inner).marks;
        let key = (Arc::clone(topic), partition);
        Ok(match marks.get(&key).copied() {
            None => Mark::None,
            Some(mark) if Some(mark) == gone => {
                marks.remove(&key);
                Mark::Dropped(mark)
            }
            Some(mark) => Mark::At(mark),
        })
    }

    async fn read(
        &self,
        channel: ChannelRef<'_>,
        epoch: &str,
        since: &Since,
        bound: Bound,
    ) -> Result<Missed, Incomplete> {
        if *epoch != *self.epoch {
            return Err(Incomplete::Epoch);
        }
        let numbers = self.numbers(channel.name);
        let numbers = lock(&numbers);
        // A place that has not been reached is none of this numbering.
        if since.everyone > numbers.seq {
            return Err(Incomplete::Epoch);
        }
        numbers.history.read(since, bound)
    }

    fn set_history_bytes(&self, tenants: HashMap<String, usize>) {
        self.tenants.set(tenants);
    }

    async fn forget(&self, channel: ChannelRef<'_>) {
        let numbers = self.numbers(channel.name);
        let mut numbers = lock(&numbers);
        numbers.history = History::default();
        let seq = numbers.seq;
        numbers.history.forget_up_to(seq);
        numbers.count();
    }

    async fn drop_old(&self, channel: ChannelRef<'_>) {
        let numbers = self.numbers(channel.name);
        let mut numbers = lock(&numbers);
        numbers.history.drop_old(channel.keep, self.clock.now());
        self.bound(numbers, &channel.name.namespace);
    }
}

#[cfg(test)]
mod tests;
