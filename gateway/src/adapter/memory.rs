//! The adapter in memory, for one process: `aldis dev`, and the twin that other adapters are compared with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aldis_crds::names::ChannelName;

use super::{Adapter, AdapterError, Appended, Numbered, Position, Publish, Unit};

/// A name for the numbering of this process: what is in memory is never continued.
pub fn new_epoch() -> Arc<str> {
    format!("{:016x}", rand::random::<u64>()).into()
}

/// Numbers per channel. The lock of a channel is held while its deliveries are published: that is what keeps their order.
pub struct MemoryAdapter<P> {
    epoch: Arc<str>,
    channels: Mutex<HashMap<ChannelName, Arc<Mutex<Numbers>>>>,
    publish: Arc<P>,
}

/// Numbers of one channel.
#[derive(Default)]
struct Numbers {
    seq: u64,
    /// Last offset taken, by topic and partition: as many as the channel's topics have partitions.
    marks: HashMap<(Arc<str>, i32), i64>,
}

impl<P: Publish> MemoryAdapter<P> {
    /// An adapter whose numbering begins now, in `epoch`, which no other run may have used ([`new_epoch`]).
    pub fn new(epoch: Arc<str>, publish: Arc<P>) -> Self {
        Self {
            epoch,
            channels: Mutex::default(),
            publish,
        }
    }

    fn take(&self, channel: &ChannelName, units: Vec<Unit>) -> Appended {
        let numbers = {
            let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(channels.entry(channel.clone()).or_default())
        };
        let mut numbers = numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut appended = Appended::default();
        for unit in units {
            if !numbers.pass_mark(&unit) {
                appended.refused += 1;
                continue;
            }
            for delivery in unit.deliveries {
                numbers.seq += 1;
                appended.deliveries += 1;
                let position = Position {
                    epoch: Arc::clone(&self.epoch),
                    seq: numbers.seq,
                };
                self.publish.publish(channel, Numbered { position, delivery });
            }
        }
        appended
    }
}

impl Numbers {
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

impl<P: Publish> Adapter for MemoryAdapter<P> {
    async fn append(&self, channel: &ChannelName, units: Vec<Unit>) -> Result<Appended, AdapterError> {
        Ok(self.take(channel, units))
    }
}

#[cfg(test)]
mod tests;
