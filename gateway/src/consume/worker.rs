//! One partition: what the receive loop and its worker share, and the worker.

use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aldis_core::record::Record;
use futures_util::FutureExt;
use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::backlog::{Backlog, size};
use super::context::KafkaConsumer;
use super::offsets::Progress;
use super::start::{Log, ask_log};
use super::{Limits, Observe, Take, TakeError, again};
use crate::kafka::Access;

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
        shared.backlog.push(record);
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

    /// What comes next; `None` where it is stopped.
    async fn next(&self, forgotten: &mut watch::Receiver<u64>) -> Option<Work> {
        loop {
            if self.stop.is_cancelled() {
                return None;
            }
            if forgotten.has_changed().unwrap_or(false) {
                forgotten.borrow_and_update();
                return Some(Work::Begin);
            }
            let batch = self.shared().backlog.batch();
            if !batch.is_empty() {
                return Some(Work::Take(batch));
            }
            tokio::select! {
                () = self.filled.notified() => {}
                Ok(()) = forgotten.changed() => forgotten.mark_changed(),
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// The offset of the next record, where one was taken.
    fn reached(&self) -> Option<i64> {
        self.shared().progress.next()
    }

    fn begin_anew(&self) {
        self.shared().progress.begin_anew();
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

/// What a worker does.
enum Work {
    /// Compares what was taken with the log, and reads again what was forgotten.
    Begin,
    /// Hands records over.
    Take(Vec<Record>),
}

impl Work {
    /// First and last offset of what is handed over.
    fn offsets(&self) -> Option<(i64, i64)> {
        Some((self.records().first()?.offset, self.records().last()?.offset))
    }

    /// What is handed over.
    fn records(&self) -> &[Record] {
        match self {
            Work::Take(batch) => batch,
            Work::Begin => &[],
        }
    }
}

/// What a worker works with.
pub(super) struct Tools<T> {
    pub(super) take: Arc<T>,
    pub(super) consumer: Arc<KafkaConsumer>,
    pub(super) observe: Arc<dyn Observe>,
    /// Tells the receive loop that a partition is to be paused, or resumed.
    pub(super) pace: Arc<Notify>,
    pub(super) limits: Limits,
    /// How brokers are reached by who reads records again.
    pub(super) access: Access,
    /// Who may ask brokers.
    pub(super) asking: Arc<Semaphore>,
}

/// Does the work of a partition until it is stopped, each until it is done.
pub(super) async fn work<T: Take>(partition: Arc<Partition>, tools: Tools<T>) {
    let (topic, number) = (&*partition.topic, partition.partition);
    let flow = |changed: bool| {
        if changed {
            tools.pace.notify_one();
        }
    };
    let mut forgotten = tools.take.forgotten();
    let mut again_from = None;
    let mut next = Some(Work::Begin);
    while let Some(work) = next {
        tokio::select! {
            () = tools.take.ready(work.records()) => {}
            () = partition.stop.cancelled() => return,
        }
        let mut tries = 1;
        while let Err(error) = tools.attempt(&partition, &work, &mut again_from).await {
            // What could not be read again is read again next time, with what has been forgotten meanwhile.
            again_from = earliest(again_from, error.again_from);
            if tries == 1 {
                tracing::warn!(topic, partition = number, offsets = ?work.offsets(), %error,
                    "records could not be taken, they are tried again until they are");
                flow(partition.hold());
            }
            tools.observe.retried(topic, number);
            tokio::select! {
                () = tokio::time::sleep(backoff(&tools.limits, tries, rand::random())) => tries += 1,
                () = partition.stop.cancelled() => return,
            }
        }
        if tries > 1 {
            tracing::info!(topic, partition = number, offsets = ?work.offsets(), tries, "records were taken at last");
        }
        let batch = work.records();
        flow(partition.taken(batch, &tools.consumer, &*tools.observe));
        if let Some(last) = batch.last() {
            tools
                .observe
                .taken(topic, number, batch.len(), tries, last.timestamp_ms);
        }
        next = partition.next(&mut forgotten).await;
    }
}

impl<T: Take> Tools<T> {
    /// First what is to be read again, then the work.
    async fn attempt(&self, partition: &Partition, work: &Work, again_from: &mut Option<i64>) -> Result<(), TakeError> {
        let before = match work {
            Work::Take(batch) => {
                let first = batch.first().map(|record| record.offset);
                if let Some(first) = first.filter(|first| partition.reached().is_some_and(|next| *first < next)) {
                    self.go_back(partition, first).await?;
                }
                first
            }
            Work::Begin => {
                let (reached, forgotten) = self.begin(partition).await?;
                *again_from = earliest(*again_from, forgotten);
                reached
            }
        };
        if let (Some(from), Some(before)) = (*again_from, before) {
            self.read_again(partition, from..before).await?;
        }
        *again_from = None;
        match work {
            Work::Take(batch) => take_caught(&*self.take, batch).await,
            Work::Begin => Ok(()),
        }
    }

    /// The offset of the next record, and that from which on records were forgotten. Where nobody has read the partition yet
    /// there is neither.
    async fn begin(&self, partition: &Partition) -> Result<(Option<i64>, Option<i64>), TakeError> {
        let marks = self.take.reached(&partition.topic, partition.partition).await?;
        let log = self.ask(partition).await?;
        let reached = partition.reached().or(log.committed);
        let offset = reached.unwrap_or(log.end);
        let forgotten = self
            .take
            .begin(&partition.topic, partition.partition, offset, log.end, &marks);
        Ok((reached, forgotten.await?))
    }

    /// Offsets have gone back, which nobody has asked for. Where a log begins there, what was to come next was beyond its end:
    /// so it is another log. Anything else has been taken, and is refused by its mark.
    async fn go_back(&self, partition: &Partition, first: i64) -> Result<(), TakeError> {
        let marks = self.take.reached(&partition.topic, partition.partition).await?;
        let log = self.ask(partition).await?;
        if log.begin == first {
            self.take
                .begin(&partition.topic, partition.partition, first, first, &marks)
                .await?;
            partition.begin_anew();
        }
        Ok(())
    }

    async fn ask(&self, partition: &Partition) -> Result<Log, TakeError> {
        let _asking = self.asking.acquire().await.map_err(TakeError::new)?;
        let (consumer, topic, number) = (
            Arc::clone(&self.consumer),
            Arc::clone(&partition.topic),
            partition.partition,
        );
        let asked = tokio::task::spawn_blocking(move || ask_log(&consumer, &topic, number));
        asked.await.map_err(TakeError::new)?.map_err(TakeError::new)
    }

    async fn read_again(&self, partition: &Partition, offsets: Range<i64>) -> Result<(), TakeError> {
        let (topic, number) = (&partition.topic, partition.partition);
        tracing::warn!(
            topic = &**topic,
            partition = number,
            ?offsets,
            "records were taken and have been forgotten since: they are read again"
        );
        let records = again::read(&*self.take, &self.access, topic, number, offsets).await?;
        self.observe.again(topic, number, records);
        Ok(())
    }
}

/// The lower of two offsets, either of which may be missing.
fn earliest(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    one.into_iter().chain(other).min()
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
