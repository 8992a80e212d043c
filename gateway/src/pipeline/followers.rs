//! A channel that can not take a partition's records, for a reason of its own, holds up no other: it is left out of them, and
//! follows by itself, with a reader of its own from its own mark, until it has caught up.
//!
//! The group's offset goes on without it. Should this replica die meanwhile, whoever gets the partition finds the channel's mark
//! behind that, and reads again from there.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aldis_core::record::Record;
use aldis_crds::names::ChannelName;
use futures_util::FutureExt as _;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::{Routed, append};
use crate::adapter::{Adapter, ChannelRef, Mark, TopicPartition};
use crate::consume::{self, BATCH_RECORDS, TakeError};
use crate::kafka::Access;
use crate::sabotage::Rule;
use crate::sockets::Shared;

/// Partitions that channels follow by themselves at once, each with a reader. 64; beyond it the partition waits for the channel.
const MOST: usize = 64;
/// Pause before a channel tries again. 1 s: somebody has to mend it.
const PAUSE: Duration = Duration::from_secs(1);

/// Channels that follow by themselves.
pub(super) struct Followers<A> {
    shared: Arc<Shared<A>>,
    access: Access,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    behind: HashSet<(ChannelName, TopicPartition)>,
    /// Of the partitions that some follow: the offset after the last record that they were left out of.
    passed: HashMap<TopicPartition, i64>,
}

impl State {
    fn count(&self, channel: &ChannelName) -> usize {
        self.behind.iter().filter(|(name, _)| name == channel).count()
    }

    /// The channel no longer follows the partition by itself, if it has come to where the others are.
    fn rejoin(&mut self, channel: &ChannelName, partition: &TopicPartition, next: i64) -> bool {
        let has_caught_up = self.passed.get(partition).is_none_or(|passed| next >= *passed);
        if has_caught_up {
            self.behind.remove(&(channel.clone(), partition.clone()));
            if !self.behind.iter().any(|(_, of)| of == partition) {
                self.passed.remove(partition);
            }
        }
        has_caught_up
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<A: Adapter> Followers<A> {
    pub(super) fn new(shared: Arc<Shared<A>>, access: Access) -> Self {
        Self {
            shared,
            access,
            state: Arc::default(),
        }
    }

    /// Records of a partition are about to be taken without those that follow it by themselves.
    pub(super) fn pass(&self, records: &[Record]) {
        let mut state = lock(&self.state);
        if let (false, Some(last)) = (state.passed.is_empty(), records.last()) {
            let partition = (Arc::clone(&last.topic), last.partition);
            if let Some(passed) = state.passed.get_mut(&partition) {
                *passed = (*passed).max(last.offset + 1);
            }
        }
    }

    pub(super) fn is_behind(&self, channel: &ChannelName, partition: &TopicPartition) -> bool {
        let state = lock(&self.state);
        !state.behind.is_empty() && state.behind.contains(&(channel.clone(), partition.clone()))
    }

    /// A channel could not take these offsets: it follows by itself from now on. Gives false where too many do.
    pub(super) fn leave(
        &self,
        channel: &ChannelName,
        partition: &TopicPartition,
        offsets: RangeInclusive<i64>,
        reason: &str,
    ) -> bool {
        let behind = {
            let mut state = lock(&self.state);
            if !Rule::Behind.is_on() || state.behind.len() >= MOST {
                return false;
            }
            state.behind.insert((channel.clone(), partition.clone()));
            let passed = state.passed.entry(partition.clone()).or_default();
            *passed = (*passed).max(offsets.end() + 1);
            state.count(channel)
        };
        self.shared.metrics.behind(channel, behind);
        tracing::error!(
            %channel, topic = &*partition.0, partition = partition.1, ?offsets, reason,
            "a channel can not take records and follows by itself, the others go on"
        );
        let follower = Follower {
            shared: Arc::clone(&self.shared),
            access: self.access.clone(),
            state: Arc::clone(&self.state),
            channel: channel.clone(),
            partition: partition.clone(),
            from: *offsets.start(),
        };
        tokio::spawn(follower.follow());
        true
    }
}

/// One channel that follows one partition by itself.
struct Follower<A> {
    shared: Arc<Shared<A>>,
    access: Access,
    state: Arc<Mutex<State>>,
    channel: ChannelName,
    partition: TopicPartition,
    /// The first offset that it could not take.
    from: i64,
}

impl<A: Adapter> Follower<A> {
    /// Until it has caught up.
    async fn follow(self) {
        let (topic, partition) = (&*self.partition.0, self.partition.1);
        while let Err(error) = self.catch_up().await {
            tracing::debug!(channel = %self.channel, topic, partition, %error, "a channel can not take records yet");
            tokio::time::sleep(PAUSE).await;
        }
        let behind = lock(&self.state).count(&self.channel);
        self.shared.metrics.behind(&self.channel, behind);
        tracing::info!(channel = %self.channel, topic, partition, "a channel has caught up with the others");
    }

    async fn catch_up(&self) -> Result<(), TakeError> {
        let (topic, partition) = &self.partition;
        let table = self.shared.table.load_full();
        let Some(channel) = table.channels().iter().find(|channel| channel.name == self.channel) else {
            // It is gone: nobody waits for it.
            lock(&self.state).rejoin(&self.channel, &self.partition, i64::MAX);
            return Ok(());
        };
        let mark = self
            .shared
            .adapter
            .check_mark(ChannelRef::of(channel), topic, *partition, None);
        let mut next = match mark.await.map_err(TakeError::new)? {
            Mark::At(mark) => mark + 1,
            Mark::None | Mark::Dropped(_) => self.from,
        };
        let consumer = consume::reader(&self.access).map_err(TakeError::new)?;
        let mut from = TopicPartitionList::new();
        from.add_partition_offset(topic, *partition, Offset::Offset(next))
            .and_then(|()| consumer.assign(&from))
            .map_err(TakeError::new)?;
        loop {
            let mut batch = Vec::new();
            let mut received = Some(consumer.recv().await);
            while let Some(message) = received {
                match message {
                    Ok(message) => {
                        next = message.offset() + 1;
                        batch.push(consume::record(Arc::clone(topic), &message));
                    }
                    Err(KafkaError::PartitionEOF(_)) => break,
                    Err(error) => return Err(TakeError::new(error)),
                }
                received = (batch.len() < BATCH_RECORDS)
                    .then(|| consumer.recv().now_or_never())
                    .flatten();
            }
            self.take(&batch).await?;
            if lock(&self.state).rejoin(&self.channel, &self.partition, next) {
                return Ok(());
            }
        }
    }

    /// What these records make of this channel alone. Their dead letters are written already.
    async fn take(&self, records: &[Record]) -> Result<(), TakeError> {
        let table = self.shared.table.load_full();
        let now = self.shared.clock.now();
        let mut routed = Routed::default();
        for record in records {
            let mut readers = table.readers(record);
            if let Some((channel, sources)) = readers.find(|(channel, _)| channel.name == self.channel) {
                routed.add(channel, record, channel.process(sources, record, now));
            }
        }
        match routed.batches.into_values().next() {
            Some(batch) => append(&self.shared, batch).await.map_err(TakeError::new),
            None => Ok(()),
        }
    }
}
