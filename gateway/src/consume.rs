//! Kafka → the gateway: one consumer per replica over the topics of all channels, in one consumer group.
//!
//! ```text
//! librdkafka → receive loop → backlog per partition → worker per partition → Take
//!                   ↑               full: pause                 taken: store the offset, which is committed every second
//!                   └── rebalances, topics, pauses: one loop decides, and waits for nobody
//! ```
//! - **Order and repetition.** A worker hands over the records of its partition in order, in batches, and repeats a batch
//!   for ever (with backoff) until [`Take`] has taken it. An offset is committed only after that; so after a crash records
//!   come again, and none is missed. What makes a repetition harmless is the adapter's mark, not this module.
//! - **A slow partition holds only itself.** Above high water, and while its batch is being repeated, it is paused. The
//!   receive loop never waits for a worker.
//! - **Rebalance** (cooperative-sticky): only partitions that move are touched. One that is revoked gets
//!   [`REVOKE_BUDGET`] to finish the batch in hand, its offset is committed, then it is fenced: a worker that finishes
//!   later stores nothing. librdkafka pauses all partitions of a replica while it waits for that answer, so it is short.
//! - **Where a new group starts**: see [`StartAt`].
//! - **Other credentials**: see [`crate::kafka::Access`]. The consumer leaves its group and joins it anew, with what it has been told
//!   of topics so far: nothing is missed, and what is read twice marks pass over.
//! - **Kafka away**, at start or later: librdkafka keeps trying. [`ConsumerState::connected`] says so, and one line of log
//!   per change. Topics that do not exist yet are in [`ConsumerState::missing`] and are picked up when they are created.

mod again;
mod backlog;
mod context;
mod errors;
mod lag;
mod offsets;
mod rebalance;
mod receive;
mod release;
mod renew;
mod stand_in;
mod start;
mod survey;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use aldis_core::record::Record;
use aldis_crds::names::ChannelName;
use rdkafka::error::KafkaError;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::adapter::TopicPartition;
use crate::kafka::Access;

pub(crate) use self::again::reader;
pub use self::backlog::{BATCH_BYTES, BATCH_RECORDS, HIGH_WATER_BYTES, HIGH_WATER_RECORDS, Marks};
pub use self::errors::ErrorReason;
pub(crate) use self::receive::record;

/// How long the group waits for a member that does not answer before its partitions go to others. 6 s is the least that
/// brokers allow by default: after a SIGKILL another replica stands in for that long, or the
/// partitions stand still where none can.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(6);

/// How often a member says that it lives, and so how soon it hears of a rebalance: partitions of a replica that stopped
/// stand still up to that long. 1 s; librdkafka does not look more often.
pub const HEARTBEAT: Duration = Duration::from_secs(1);

/// After how long without polling a replica leaves the group, and how long a rebalance waits for it. The receive loop
/// waits for nothing, so 30 s means that it is wedged. Default of librdkafka is 5 min.
pub const MAX_POLL_INTERVAL: Duration = Duration::from_secs(30);

/// How often stored offsets are committed, so how much is read again after a crash. 1 s.
pub const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// KiB that librdkafka may read ahead over all partitions. 16 MiB; its default is 64 MiB.
pub const READ_AHEAD_KIB: usize = 16 * 1024;

/// Records of one partition that librdkafka tries to have read ahead. 1,000: the receive loop empties it at once, and a
/// pause throws it away. Its default is 100,000.
pub const READ_AHEAD_RECORDS: usize = 1000;

/// How long a broker holds a fetch that finds nothing. It is also how long a partition waits that joins a fetch (new, or
/// resumed), so 100 ms and not librdkafka's 500.
pub const FETCH_WAIT: Duration = Duration::from_millis(100);

/// How long librdkafka waits with a fetch after its read-ahead was full. 20 ms; its default is 1 s.
pub const FETCH_BACKOFF: Duration = Duration::from_millis(20);

/// First pause before a batch is handed over again, and the bound to which it doubles. Each is jittered down to half.
pub const RETRY_MIN: Duration = Duration::from_millis(100);
/// See [`RETRY_MIN`].
pub const RETRY_MAX: Duration = Duration::from_secs(5);

/// How long the batch in hand of a revoked partition may still take. 2 s: meanwhile all partitions of the replica stand.
pub const REVOKE_BUDGET: Duration = Duration::from_secs(2);

/// How long batches in hand may still take at shutdown. 5 s, well within a pod's grace period.
pub const SHUTDOWN_BUDGET: Duration = Duration::from_secs(5);

/// How long a revoke or the shutdown waits for the last commit. 2 s; without it some records come again.
pub const COMMIT_BUDGET: Duration = Duration::from_secs(2);

/// How often a replica says that it is alive, and hears of those that are not. 200 ms.
pub const ALIVE_EVERY: Duration = Duration::from_millis(200);

/// Partitions of which brokers are asked at once how far they are, each on a thread. 8: a rebalance brings many together.
pub const ASKED_AT_ONCE: usize = 8;

/// How long leaving the group may take at shutdown, after which it goes on in the background. 5 s.
pub const LEAVE_BUDGET: Duration = Duration::from_secs(5);

/// By how much [`StartAt::GatewayStart`] starts before the gateway did. 5 s: producers' clocks differ a little.
pub const START_MARGIN: Duration = Duration::from_secs(5);

/// How far channels have come in a partition: the offset of the last record of each.
pub type Reached = HashMap<ChannelName, i64>;

/// Who takes records: decode, route and the adapter behind one call.
pub trait Take: Send + Sync + 'static {
    /// Waits until records like these may be taken at all: nobody else waits for their partition. Given up when it is revoked.
    fn ready(&self, _records: &[Record]) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Takes records of one partition, in order.
    ///
    /// `Ok` means that for each of them every delivery was taken by the adapter, or the record was dead-lettered and that
    /// was acknowledged: the offsets may be committed.
    ///
    /// Called again with the same records after an error; other partitions go on meanwhile. May be dropped at any await
    /// when the partition is revoked, and a record may come again, so taking a record twice must change nothing.
    ///
    /// # Errors
    /// What may pass: the adapter or a dead letter topic cannot be reached.
    fn take(&self, records: &[Record]) -> impl Future<Output = Result<(), TakeError>> + Send;

    /// How far each channel has come in a partition.
    ///
    /// # Errors
    /// What may pass: it is asked again.
    fn reached(&self, _topic: &Arc<str>, _partition: i32) -> impl Future<Output = Result<Reached, TakeError>> + Send {
        async { Ok(Reached::new()) }
    }

    /// A partition is read from `offset` on; its log ends before `log_end`. Gives the offset from which on records are to be
    /// read again first, where some that were taken have been forgotten.
    ///
    /// `reached` was asked before the log was: so a channel that had come beyond its end had done so in another log. (After,
    /// others may have come further in this one: a replica may stand still for seconds between two questions.)
    ///
    /// # Errors
    /// What may pass: it is asked again.
    fn begin(
        &self,
        _topic: &Arc<str>,
        _partition: i32,
        _offset: i64,
        _log_end: i64,
        _reached: &Reached,
    ) -> impl Future<Output = Result<Option<i64>, TakeError>> + Send {
        async { Ok(None) }
    }

    /// Says that this replica is alive and, where they are given, which partitions the group has given it. Gives those for which
    /// it stands in until the group has noticed that their replica is dead.
    ///
    /// # Errors
    /// What may pass.
    fn stand_in(
        &self,
        _owned: Option<&[TopicPartition]>,
    ) -> impl Future<Output = Result<Vec<TopicPartition>, TakeError>> + Send {
        async { Ok(Vec::new()) }
    }

    /// Changes whenever what was taken may have been forgotten: then [`Take::begin`] is asked again.
    fn forgotten(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}

/// Records could not be taken for now, for a reason that may pass.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct TakeError {
    reason: Box<dyn Error + Send + Sync>,
    /// The offset from which on records are to be read again first.
    pub(crate) again_from: Option<i64>,
}

impl TakeError {
    /// From the reason: an error or a text.
    pub fn new(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            reason: reason.into(),
            again_from: None,
        }
    }

    /// Records from this offset on were taken, and have been forgotten: they are read again before these.
    #[must_use]
    pub fn again_from(self, offset: i64) -> Self {
        Self {
            again_from: Some(offset),
            ..self
        }
    }

    /// Of two that came of the same records: the first, and all that either wants read again.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let again_from = self.again_from.into_iter().chain(other.again_from).min();
        Self { again_from, ..self }
    }
}

/// Gets told what the consumer does, for metrics. Calls come from the hot path: count, and return.
pub trait Observe: Send + Sync + 'static {
    /// A record was received; `bytes` are those of its key, value and headers, and a little more.
    fn received(&self, _topic: &str, _partition: i32, _bytes: usize) {}
    /// A batch was taken, and its offsets may be committed; its last record was published at `_published`, in ms since 1970.
    fn taken(&self, _topic: &str, _partition: i32, _records: usize, _tries: u32, _published: i64) {}
    /// So many records of a partition have not been taken yet, as brokers say; or this replica does not read it any more.
    fn lag(&self, _topic: &str, _partition: i32, _records: Option<i64>) {}
    /// A batch could not be taken and will be repeated.
    fn retried(&self, _topic: &str, _partition: i32) {}
    /// Records of a partition were taken for a replica that is dead.
    fn stood_in(&self, _topic: &str, _records: usize) {}
    /// Records that had been taken were read and taken again.
    fn again(&self, _topic: &str, _partition: i32, _records: usize) {}
    /// What a partition holds now, after a batch.
    fn backlog(&self, _topic: &str, _partition: i32, _records: usize, _bytes: usize) {}
    /// A partition was paused, or goes on.
    fn paused(&self, _topic: &str, _partition: i32, _paused: bool) {}
    /// This replica now reads a partition, or no longer: forget its gauges.
    fn assigned(&self, _topic: &str, _partition: i32, _assigned: bool) {}
    /// The group rebalanced: so many partitions came or went.
    fn rebalanced(&self, _rebalance: Rebalance, _partitions: usize) {}
    /// The client could not do something; it tries on.
    fn failed(&self, _reason: ErrorReason) {}
    /// Brokers can be reached, or no longer.
    fn connected(&self, _connected: bool) {}
}

/// Observes nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoObserve;

impl Observe for NoObserve {}

/// What a rebalance did to this replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebalance {
    /// Partitions came.
    Assigned,
    /// Partitions were asked back.
    Revoked,
    /// Partitions are gone without asking: the group thought this replica dead.
    Lost,
}

/// Where a partition starts for which the group has committed nothing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// At the first record that is kept.
    Earliest,
    /// At what was published since the topic was subscribed, less [`START_MARGIN`]: for topics known at start that is
    /// when this gateway started, for others when a channel brought them. Partitions that are created later are read from
    /// their first record. The choice is committed before the first record is read, so it is made once per group.
    ///
    /// It needs brokers that can look up offsets by time. One that refuses is read from the earliest record; librdkafka's
    /// mock cluster answers that there is none since, so with it reading starts at the end.
    GatewayStart,
}

/// How to reach Kafka, and as who.
#[derive(Clone)]
pub struct ConsumerSettings {
    /// How brokers are reached. Where that changes, the consumer leaves its group and joins it anew.
    pub access: Access,
    /// Consumer group of all replicas of this gateway.
    pub group_id: String,
    /// Where a new group starts.
    pub start_at: StartAt,
}

/// What is so right now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerState {
    /// Brokers can be reached. False until they were for the first time.
    pub connected: bool,
    /// Partitions that this replica reads, by topic.
    pub assigned: BTreeMap<String, BTreeSet<i32>>,
    /// Topics that are wanted and do not exist (as far as brokers say).
    pub missing: BTreeSet<String>,
}

/// The settings are such that no consumer can be made of them.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a Kafka consumer for group '{group}': check bootstrapServers and groupId")]
pub struct ConsumeError {
    group: String,
    source: KafkaError,
}

/// A running consumer.
#[derive(Debug)]
pub struct ConsumerHandle {
    state: watch::Receiver<ConsumerState>,
    task: JoinHandle<()>,
}

impl ConsumerHandle {
    /// Follows its state.
    pub fn state(&self) -> watch::Receiver<ConsumerState> {
        self.state.clone()
    }

    /// Waits until it has stopped, which it does when the `shutdown` that [`spawn`] was given is cancelled.
    pub async fn join(self) {
        if let Err(error) = self.task.await
            && error.is_panic()
        {
            tracing::error!(%error, "the Kafka consumer ended by a panic");
        }
    }
}

/// Starts consuming `topics` (which may change at any time, and may be empty) into `take`.
///
/// On `shutdown` it stops receiving, lets batches in hand finish within [`SHUTDOWN_BUDGET`], commits and leaves the group,
/// so that others take over at once. Must be called within a tokio runtime.
///
/// # Errors
/// When the settings themselves are refused. That Kafka cannot be reached is not an error.
pub fn spawn<T: Take>(
    settings: ConsumerSettings,
    topics: watch::Receiver<BTreeSet<String>>,
    take: Arc<T>,
    observe: Arc<dyn Observe>,
    shutdown: CancellationToken,
) -> Result<ConsumerHandle, ConsumeError> {
    spawn_within(settings, Limits::default(), topics, take, observe, shutdown)
}

/// The bounds of this module in one place, so that tests can have smaller ones.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    marks: Marks,
    session: Duration,
    retry_min: Duration,
    retry_max: Duration,
    revoke: Duration,
    shutdown: Duration,
    lag: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            marks: Marks::default(),
            session: SESSION_TIMEOUT,
            retry_min: RETRY_MIN,
            retry_max: RETRY_MAX,
            revoke: REVOKE_BUDGET,
            shutdown: SHUTDOWN_BUDGET,
            lag: lag::LAG_EVERY,
        }
    }
}

fn spawn_within<T: Take>(
    settings: ConsumerSettings,
    limits: Limits,
    topics: watch::Receiver<BTreeSet<String>>,
    take: Arc<T>,
    observe: Arc<dyn Observe>,
    shutdown: CancellationToken,
) -> Result<ConsumerHandle, ConsumeError> {
    let (state_tx, state) = watch::channel(ConsumerState::default());
    let group = settings.group_id.clone();
    let parts = renew::Parts {
        settings,
        limits,
        topics,
        take,
        observe,
        state: state_tx,
    };
    let running = renew::start(parts, shutdown).map_err(|source| ConsumeError { group, source })?;
    let task = tokio::spawn(running);
    Ok(ConsumerHandle { state, task })
}
