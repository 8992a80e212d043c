//! A replica that is killed holds its partitions until the group notices, seconds later. Another one stands in for it meanwhile:
//! it reads them beside the group, and commits nothing. Marks make that harmless: what two take changes nothing the second time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aldis_core::record::Record;
use futures_util::FutureExt as _;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::again::reader;
use super::context::KafkaConsumer;
use super::receive::record;
use super::worker::take_caught;
use super::{ALIVE_EVERY, BATCH_RECORDS, ConsumerState, Observe, Reached, Take, TakeError};
use crate::adapter::TopicPartition;
use crate::kafka::Access;
use crate::sabotage::Rule;

/// Every so many times it is said which partitions are owned though nothing has changed: it may be forgotten. 10, each 2 s.
const SAY_ALL: u32 = 10;
/// How long brokers may take to say what the group has committed. 3 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Stands in for replicas that are dead.
pub(super) struct StandIn<T> {
    pub(super) state: watch::Receiver<ConsumerState>,
    pub(super) reader: Reader<T>,
}

/// Reads partitions that the group has not given to this replica.
pub(super) struct Reader<T> {
    pub(super) take: Arc<T>,
    pub(super) observe: Arc<dyn Observe>,
    /// Knows the group.
    pub(super) consumer: Arc<KafkaConsumer>,
    /// How one outside of the group gets in.
    pub(super) access: Access,
    /// What the group has given to this replica.
    pub(super) state: watch::Receiver<ConsumerState>,
}

impl<T: Take> StandIn<T> {
    /// Until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut every = tokio::time::interval(ALIVE_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reads: Option<(BTreeSet<TopicPartition>, AbortOnDropHandle<()>)> = None;
        let mut round = 0_u32;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = every.tick() => {}
            }
            // Where nobody can say who is alive, it goes on as before.
            let Some(wanted) = self.ask(round).await else { continue };
            round = round.wrapping_add(1);
            let goes_on = reads
                .as_ref()
                .is_some_and(|(of, task)| *of == wanted && !task.is_finished());
            if !goes_on {
                // One that ends leaves nothing out: whoever is next begins where the group is.
                reads = (!wanted.is_empty()).then(|| {
                    let reading = self.reader.clone().read(wanted.clone());
                    (wanted, AbortOnDropHandle::new(tokio::spawn(reading)))
                });
            }
        }
        let take = Arc::clone(&self.reader.take);
        drop((reads, self));
        // What it had is nobody's from now on: the group gives it to others at once.
        take.stand_in(Some(&[])).await.ok();
    }

    /// Says that this replica is alive; gives what it stands in for, where that is known.
    async fn ask(&mut self, round: u32) -> Option<BTreeSet<TopicPartition>> {
        if !Rule::Lease.is_on() {
            return None;
        }
        let say_all = self.state.has_changed().unwrap_or(false) || round.is_multiple_of(SAY_ALL);
        let owned: Option<Vec<TopicPartition>> = say_all.then(|| {
            let state = self.state.borrow_and_update();
            let topics = state.assigned.iter().flat_map(|(topic, partitions)| {
                let topic: Arc<str> = Arc::from(topic.as_str());
                partitions.iter().map(move |partition| (Arc::clone(&topic), *partition))
            });
            topics.collect()
        });
        let wanted = self.reader.take.stand_in(owned.as_deref()).await;
        if wanted.is_err() && owned.is_some() {
            self.state.mark_changed();
        }
        Some(wanted.ok()?.into_iter().collect())
    }
}

impl<T> Clone for Reader<T> {
    fn clone(&self) -> Self {
        Self {
            take: Arc::clone(&self.take),
            observe: Arc::clone(&self.observe),
            consumer: Arc::clone(&self.consumer),
            access: self.access.clone(),
            state: self.state.clone(),
        }
    }
}

impl<T: Take> Reader<T> {
    async fn read(self, partitions: BTreeSet<TopicPartition>) {
        tracing::warn!(
            ?partitions,
            "another replica is dead, this one stands in for it until the group has noticed"
        );
        if let Err(error) = self.try_read(&partitions).await {
            tracing::warn!(?partitions, %error, "what another replica has left can not be taken, it is tried again");
        }
    }

    async fn try_read(&self, partitions: &BTreeSet<TopicPartition>) -> Result<(), TakeError> {
        let consumer = reader(&self.access).map_err(TakeError::new)?;
        let mut from = TopicPartitionList::new();
        for (topic, partition, committed) in self.committed(partitions).await? {
            // It begins where the group does: before what is forgotten, as whoever gets the partition.
            let forgotten = self
                .take
                .begin(&topic, partition, committed, i64::MAX, &Reached::new())
                .await?;
            let offset = Offset::Offset(forgotten.unwrap_or(committed));
            from.add_partition_offset(&topic, partition, offset)
                .map_err(TakeError::new)?;
        }
        consumer.assign(&from).map_err(TakeError::new)?;
        let mut batch: Vec<Record> = Vec::new();
        loop {
            let message = match batch.is_empty() {
                true => Some(consumer.recv().await),
                false => consumer.recv().now_or_never(),
            };
            let next = match message {
                Some(Ok(message)) => Some(record(Arc::from(message.topic()), &message)),
                Some(Err(KafkaError::PartitionEOF(_))) | None => None,
                Some(Err(error)) => return Err(TakeError::new(error)),
            };
            let goes_on = match (&next, batch.last()) {
                (Some(next), Some(last)) => next.topic == last.topic && next.partition == last.partition,
                (next, _) => next.is_some(),
            };
            if !goes_on || batch.len() >= BATCH_RECORDS {
                // Its worker knows how far it is, and what has to be read again; here that would be lost.
                if batch.first().is_some_and(|first| self.is_own(first)) {
                    return Ok(());
                }
                self.take(&batch).await?;
                batch.clear();
            }
            batch.extend(next);
        }
    }

    /// Whether the group has given the record's partition to this replica meanwhile.
    fn is_own(&self, record: &Record) -> bool {
        let state = self.state.borrow();
        let partitions = state.assigned.get(&*record.topic);
        partitions.is_some_and(|partitions| partitions.contains(&record.partition))
    }

    async fn take(&self, batch: &[Record]) -> Result<(), TakeError> {
        let Some(first) = batch.first() else { return Ok(()) };
        take_caught(&*self.take, batch).await?;
        self.observe.stood_in(&first.topic, batch.len());
        Ok(())
    }

    /// What the group has committed. A partition that nobody has read yet is not among them: whoever gets it decides where it begins.
    async fn committed(&self, of: &BTreeSet<TopicPartition>) -> Result<Vec<(Arc<str>, i32, i64)>, TakeError> {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in of {
            list.add_partition(topic, *partition);
        }
        let consumer = Arc::clone(&self.consumer);
        let asked = tokio::task::spawn_blocking(move || consumer.committed_offsets(list, ANSWER_TIMEOUT));
        let committed = asked.await.map_err(TakeError::new)?.map_err(TakeError::new)?;
        let elements = committed.elements().into_iter();
        let known = elements.filter_map(|element| match element.offset() {
            Offset::Offset(offset) => Some((Arc::from(element.topic()), element.partition(), offset)),
            _ => None,
        });
        Ok(known.collect())
    }
}
