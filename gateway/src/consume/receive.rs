//! The receive loop: records into backlogs, and all that librdkafka is told (assign, pause, subscribe). It waits for nobody.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aldis_core::record::Record;
use bytes::Bytes;
use futures_util::StreamExt;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::context::{Context, KafkaConsumer, Rebalancing, accept_none, give_back};
use super::lag::Lag;
use super::offsets::Start;
use super::release::{Owned, release};
use super::renew::{Known, Parts};
use super::stand_in::{Reader, StandIn};
use super::survey::Survey;
use super::{
    ASKED_AT_ONCE, COMMIT_INTERVAL, ConsumerState, FETCH_BACKOFF, FETCH_WAIT, HEARTBEAT, LEAVE_BUDGET, Limits,
    MAX_POLL_INTERVAL, Observe, READ_AHEAD_KIB, READ_AHEAD_RECORDS, StartAt, Take,
};
use crate::kafka::{Access, Reach, millis};

/// How often brokers are asked again while they are away. 1 s.
const PROBE: Duration = Duration::from_secs(1);

/// Records that are received before other tasks get their turn. 128.
const TURN: usize = 128;

/// Answers that may wait for the receive loop. 16: lookups and one survey; who asks waits for room.
const ANSWERS: usize = 16;

/// What brokers answered to questions that were asked in the background.
pub(super) enum Answer {
    /// It is known where partitions start.
    Started(HashMap<(String, i32), Start>),
    /// Which topics exist; or no broker can be reached.
    Surveyed(KafkaResult<Survey>),
}

pub(super) struct Receiver<T> {
    pub(super) consumer: Arc<KafkaConsumer>,
    pub(super) start_at: StartAt,
    pub(super) limits: Limits,
    /// How brokers are reached by who reads beside the group.
    pub(super) access: Access,
    /// Which workers may ask brokers.
    pub(super) asking: Arc<Semaphore>,
    pub(super) take: Arc<T>,
    pub(super) observe: Arc<dyn Observe>,
    pub(super) topics: watch::Receiver<BTreeSet<String>>,
    pub(super) state: watch::Sender<ConsumerState>,
    pub(super) answers_tx: mpsc::Sender<Answer>,
    answers: mpsc::Receiver<Answer>,
    /// From librdkafka.
    rebalances: mpsc::Receiver<Rebalancing>,
    /// From workers: some partition wants to be paused, or to go on.
    pub(super) pace: Arc<Notify>,
    /// Partitions that are read, by topic.
    pub(super) owned: HashMap<Arc<str>, BTreeMap<i32, Owned>>,
    /// Partitions that were assigned and whose start is being looked up.
    pub(super) waiting: HashMap<(String, i32), Arc<AtomicBool>>,
    /// What the next consumer goes on from.
    pub(super) known: Known,
    /// Whether brokers answered when they were last asked.
    pub(super) reachable: Option<bool>,
    pub(super) surveying: bool,
    pub(super) surveyed: Option<Instant>,
    /// Error that was logged last, until the next assignment.
    pub(super) told: Option<RDKafkaErrorCode>,
    /// Partitions on their way out.
    pub(super) releases: TaskTracker,
}

impl<T: Take> Receiver<T> {
    /// A consumer that comes in by this way.
    pub(super) fn new(parts: &Parts<T>, reach: &Arc<Reach>, known: Known) -> KafkaResult<Self> {
        let Parts { settings, limits, .. } = parts;
        let (context, rebalances) = Context::new(settings.access.context(reach));
        let (answers_tx, answers) = mpsc::channel(ANSWERS);
        let consumer = Arc::new(config(reach, &settings.group_id, limits).create_with_context(context)?);
        Ok(Self {
            consumer,
            start_at: settings.start_at,
            limits: limits.clone(),
            access: settings.access.clone(),
            asking: Arc::new(Semaphore::new(ASKED_AT_ONCE)),
            take: Arc::clone(&parts.take),
            observe: Arc::clone(&parts.observe),
            topics: parts.topics.clone(),
            state: parts.state.clone(),
            answers_tx,
            answers,
            rebalances,
            pace: Arc::new(Notify::new()),
            owned: HashMap::new(),
            waiting: HashMap::new(),
            known,
            reachable: None,
            surveying: false,
            surveyed: None,
            told: None,
            releases: TaskTracker::new(),
        })
    }

    /// Until `shutdown`; gives what the next one goes on from.
    pub(super) async fn run(mut self, shutdown: CancellationToken) -> Known {
        let consumer = Arc::clone(&self.consumer);
        let mut records = consumer.stream();
        let pace = Arc::clone(&self.pace);
        let mut probe = tokio::time::interval(PROBE);
        probe.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut topics_open = true;
        let mut turn = 0;
        self.subscribe();
        let stand_in = StandIn {
            state: self.state.subscribe(),
            reader: Reader {
                take: Arc::clone(&self.take),
                observe: Arc::clone(&self.observe),
                consumer: Arc::clone(&self.consumer),
                access: self.access.clone(),
                state: self.state.subscribe(),
            },
        };
        tokio::spawn(stand_in.run(shutdown.clone()));
        let lag = Lag {
            consumer: Arc::clone(&self.consumer),
            state: self.state.subscribe(),
            observe: Arc::clone(&self.observe),
            every: self.limits.lag,
        };
        tokio::spawn(lag.run(shutdown.clone()));
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(rebalancing) = self.rebalances.recv() => match rebalancing {
                    Rebalancing::Assign(partitions) => self.assign(partitions),
                    Rebalancing::Revoke { partitions, lost } => self.revoke(&partitions, lost),
                },
                Some(answer) = self.answers.recv() => match answer {
                    Answer::Started(starts) => self.started(starts),
                    Answer::Surveyed(answer) => self.surveyed(answer),
                },
                () = pace.notified() => self.pace(),
                changed = self.topics.changed(), if topics_open => match changed {
                    Ok(()) => self.subscribe(),
                    Err(_) => topics_open = false,
                },
                _ = probe.tick() => self.probe(),
                Some(record) = records.next() => {
                    match record {
                        Ok(record) => self.receive(&record),
                        Err(error) => self.failed(&error),
                    }
                    turn += 1;
                    if turn % TURN == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
        drop(records);
        drop(consumer);
        self.close().await
    }

    fn receive(&mut self, message: &BorrowedMessage<'_>) {
        // A partition that is not here was revoked a moment ago: its next owner reads the record.
        let Some(owned) = self
            .owned
            .get_mut(message.topic())
            .and_then(|topic| topic.get_mut(&message.partition()))
        else {
            return;
        };
        let record = record(Arc::clone(&owned.partition.topic), message);
        if owned.partition.push(record, &*self.observe) {
            pace(&self.consumer, owned, &*self.observe);
        }
    }

    /// Pauses and resumes what wants it.
    fn pace(&mut self) {
        for owned in self.owned.values_mut().flat_map(BTreeMap::values_mut) {
            pace(&self.consumer, owned, &*self.observe);
        }
    }

    async fn close(mut self) -> Known {
        tracing::info!("kafka consumer stops");
        self.answers.close();
        for wanted in self.waiting.values() {
            wanted.store(false, Ordering::Release);
        }
        let owned: Vec<_> = std::mem::take(&mut self.owned)
            .into_values()
            .flat_map(BTreeMap::into_values)
            .collect();
        for Owned { partition, .. } in &owned {
            self.observe.assigned(&partition.topic, partition.partition, false);
        }
        release(owned, self.limits.shutdown, &self.consumer).await;
        self.releases.close();
        self.releases.wait().await;
        self.consumer.context().close();
        // A rebalance that came in between still waits for its answer.
        while let Ok(rebalancing) = self.rebalances.try_recv() {
            match rebalancing {
                Rebalancing::Assign(_) => accept_none(&*self.consumer),
                Rebalancing::Revoke { partitions, .. } => give_back(&*self.consumer, &partitions),
            }
        }
        self.publish_assigned();
        leave(self.consumer).await;
        self.known
    }
}

/// Leaves the group, which blocks, and within [`LEAVE_BUDGET`]; on a thread of its own, that holds no runtime back.
async fn leave(mut consumer: Arc<KafkaConsumer>) {
    let (left_tx, left) = oneshot::channel();
    std::thread::spawn(move || {
        // Lookups that still run hold it too, for some seconds at most.
        loop {
            match Arc::try_unwrap(consumer) {
                Ok(consumer) => break drop(consumer),
                Err(shared) => consumer = shared,
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = left_tx.send(());
    });
    if tokio::time::timeout(LEAVE_BUDGET, left).await.is_err() {
        tracing::warn!("leaving the Kafka group takes long; others take over after the session timeout");
    }
}

/// Pauses or resumes a partition, as it wants.
fn pace(consumer: &KafkaConsumer, owned: &mut Owned, observe: &dyn Observe) {
    let (topic, partition, pause) = (
        &*owned.partition.topic,
        owned.partition.partition,
        owned.partition.pause(),
    );
    if pause == owned.paused {
        return;
    }
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, partition);
    let done = if pause {
        consumer.pause(&list)
    } else {
        consumer.resume(&list)
    };
    match done {
        Ok(()) => {
            owned.paused = pause;
            observe.paused(topic, partition, pause);
        }
        Err(error) => tracing::warn!(topic, partition, pause, %error, "kafka partition could not be paused or resumed"),
    }
}

pub(crate) fn record(topic: Arc<str>, message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers
            .iter()
            .map(|header| (header.key.to_owned(), header.value.map(Bytes::copy_from_slice)))
            .collect()
    });
    Record {
        topic,
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(Bytes::copy_from_slice),
        headers,
        timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
        value: message.payload().map(Bytes::copy_from_slice),
    }
}

fn config(reach: &Reach, group_id: &str, limits: &Limits) -> ClientConfig {
    let mut config = reach.client("aldis-gateway");
    config
        .set("group.id", group_id)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", millis(limits.session))
        .set("heartbeat.interval.ms", millis(HEARTBEAT))
        .set("max.poll.interval.ms", millis(MAX_POLL_INTERVAL))
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", millis(COMMIT_INTERVAL))
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("allow.auto.create.topics", "false")
        .set("queued.max.messages.kbytes", READ_AHEAD_KIB.to_string())
        .set("queued.min.messages", READ_AHEAD_RECORDS.to_string())
        .set("fetch.wait.max.ms", millis(FETCH_WAIT))
        .set("fetch.queue.backoff.ms", millis(FETCH_BACKOFF));
    config
}
