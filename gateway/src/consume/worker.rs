//! One partition: what the receive loop and its worker share, and the worker.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aldis_core::record::Record;
use futures_util::FutureExt;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::backlog::{Backlog, size};
use super::context::KafkaConsumer;
use super::offsets::Progress;
use super::{Limits, Observe, Take, TakeError, again};

/// A partition that this replica reads.
pub(super) struct Partition {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    /// Finish the batch in hand, and end.
    pub(super) stop: CancellationToken,
    shared: Mutex<Shared>,
    filled: Notify,
}

struct Shared {
    backlog: Backlog,
    progress: Progress,
    /// The batch in hand is being repeated.
    held: bool,
    /// Whether the receive loop should pause the partition: `held`, or the backlog is full.
    pause: bool,
}

impl Partition {
    pub(super) fn new(topic: &str, partition: i32, limits: &Limits) -> Self {
        Self {
            topic: topic.into(),
            partition,
            stop: CancellationToken::new(),
            shared: Mutex::new(Shared {
                backlog: Backlog::new(limits.marks),
                progress: Progress::default(),
                held: false,
                pause: false,
            }),
            filled: Notify::new(),
        }
    }

    /// Adds a record that came. Says whether [`Partition::pause`] changed.
    pub(super) fn push(&self, record: Record, observe: &dyn Observe) -> bool {
        let bytes = size(&record);
        let mut shared = self.shared();
        if !shared.backlog.push(record) {
            return false;
        }
        let changed = shared.changed();
        drop(shared);
        self.filled.notify_one();
        observe.received(&self.topic, self.partition, bytes);
        changed
    }

    /// Whether the partition should not be read for now.
    pub(super) fn pause(&self) -> bool {
        self.shared().pause
    }

    /// Nothing is stored after this. Says the offset that was last stored.
    pub(super) fn fence(&self) -> Option<i64> {
        self.shared().progress.fence()
    }

    async fn batch(&self) -> Option<Vec<Record>> {
        loop {
            if self.stop.is_cancelled() {
                return None;
            }
            let batch = self.shared().backlog.batch();
            if !batch.is_empty() {
                return Some(batch);
            }
            tokio::select! {
                () = self.filled.notified() => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// The batch in hand has to be repeated. Says whether [`Partition::pause`] changed.
    fn hold(&self) -> bool {
        let mut shared = self.shared();
        shared.held = true;
        shared.changed()
    }

    /// A batch was taken: makes room and stores its offset. The store happens under the lock, so that none can come after
    /// a [`Partition::fence`]. Says whether [`Partition::pause`] changed.
    fn taken(&self, batch: &[Record], consumer: &KafkaConsumer, observe: &dyn Observe) -> bool {
        let mut shared = self.shared();
        shared.held = false;
        shared.backlog.taken(batch);
        if let Some(next) = shared.progress.taken(batch)
            && let Err(error) = store(consumer, &self.topic, self.partition, next)
        {
            tracing::debug!(topic = &*self.topic, partition = self.partition, offset = next, %error, "offset not stored");
        }
        observe.backlog(
            &self.topic,
            self.partition,
            shared.backlog.records(),
            shared.backlog.bytes(),
        );
        shared.changed()
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        // All changes are whole before anything in here can panic.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn changed(&mut self) -> bool {
        let pause = self.held || self.backlog.is_full();
        std::mem::replace(&mut self.pause, pause) != pause
    }
}

fn store(consumer: &KafkaConsumer, topic: &str, partition: i32, next: i64) -> rdkafka::error::KafkaResult<()> {
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(topic, partition, Offset::Offset(next))?;
    consumer.store_offsets(&offsets)
}

/// What a worker works with.
pub(super) struct Tools<T> {
    pub(super) take: Arc<T>,
    pub(super) consumer: Arc<KafkaConsumer>,
    pub(super) observe: Arc<dyn Observe>,
    /// Tells the receive loop that a partition is to be paused, or resumed.
    pub(super) pace: Arc<Notify>,
    pub(super) limits: Limits,
    /// What reads records again.
    pub(super) reader: ClientConfig,
}

/// Hands the partition's records over, batch by batch, until it is stopped.
pub(super) async fn work<T: Take>(partition: Arc<Partition>, tools: Tools<T>) {
    let Tools {
        consumer,
        observe,
        pace,
        limits,
        ..
    } = &tools;
    let (topic, number) = (&*partition.topic, partition.partition);
    let flow = |changed: bool| {
        if changed {
            pace.notify_one();
        }
    };
    while let Some(batch) = partition.batch().await {
        let (first, last) = (batch[0].offset, batch[batch.len() - 1].offset);
        let mut tries = 1;
        let mut again_from = None;
        while let Err(error) = tools.hand_over(&partition, &mut again_from, &batch).await {
            // What could not be read again is read again next time, with what has been forgotten meanwhile.
            again_from = again_from.into_iter().chain(error.again_from).min();
            if tries == 1 {
                tracing::warn!(topic, partition = number, offset = first, last, %error,
                    "records could not be taken, they are tried again until they are");
                flow(partition.hold());
            }
            observe.retried(topic, number);
            tokio::select! {
                () = tokio::time::sleep(backoff(limits, tries, rand::random())) => tries += 1,
                () = partition.stop.cancelled() => return,
            }
        }
        if tries > 1 {
            tracing::info!(
                topic,
                partition = number,
                offset = first,
                last,
                tries,
                "records were taken at last"
            );
        }
        flow(partition.taken(&batch, consumer, &**observe));
        observe.taken(topic, number, batch.len(), tries);
    }
}

impl<T: Take> Tools<T> {
    /// First what is to be read again, then the batch.
    async fn hand_over(
        &self,
        partition: &Partition,
        again_from: &mut Option<i64>,
        batch: &[Record],
    ) -> Result<(), TakeError> {
        if let Some(from) = *again_from {
            let offsets = from..batch[0].offset;
            again::read(
                &*self.take,
                &self.reader,
                &partition.topic,
                partition.partition,
                offsets,
            )
            .await?;
            *again_from = None;
        }
        take_caught(&*self.take, batch).await
    }
}

/// A panic while taking is a failure like another: this partition stays, the others go on.
pub(super) async fn take_caught<T: Take>(take: &T, batch: &[Record]) -> Result<(), TakeError> {
    match AssertUnwindSafe(async { take.take(batch).await }).catch_unwind().await {
        Ok(result) => result,
        Err(_) => Err(TakeError::new(
            "taking the records panicked; that is a defect of the gateway, please report it",
        )),
    }
}

/// The pause before try `tries + 1`: doubled each time within its bounds, then between a half and the whole of it.
fn backoff(limits: &Limits, tries: u32, random: f64) -> Duration {
    let whole = limits
        .retry_min
        .saturating_mul(1 << (tries - 1).min(16))
        .min(limits.retry_max);
    whole.mul_f64(0.5 + random / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_from_its_least_to_its_most_and_is_jittered() {
        let limits = Limits::default();
        let whole = |tries| backoff(&limits, tries, 1.0).as_millis();
        assert_eq!(
            [whole(1), whole(2), whole(3), whole(7), whole(4_000_000_000)],
            [100, 200, 400, 5000, 5000]
        );
        assert_eq!(backoff(&limits, 2, 0.0).as_millis(), 100);
    }
}
