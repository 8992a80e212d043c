//! The receive loop: records into backlogs, and all that librdkafka is told (assign, pause, subscribe). It waits for nobody.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aldis_core::record::Record;
use bytes::Bytes;
use futures_util::StreamExt;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::context::{Context, KafkaConsumer, accept_none, give_back};
use super::offsets::Start;
use super::release::{Owned, forfeit, release};
use super::start::{Waiting, look_up};
use super::survey::{Survey, survey};
use super::worker::{Partition, work};
use super::{
    COMMIT_INTERVAL, ConsumerSettings, ConsumerState, FETCH_BACKOFF, FETCH_WAIT, HEARTBEAT, LEAVE_BUDGET, Limits,
    MAX_POLL_INTERVAL, Observe, READ_AHEAD_KIB, READ_AHEAD_RECORDS, Rebalance, START_MARGIN, StartAt, Take,
};
use crate::kafka::{METADATA_REFRESH, client, millis};

/// How often brokers are asked again while they are away. 1 s.
const PROBE: Duration = Duration::from_secs(1);

/// Records that are received before other tasks get their turn. 128.
const TURN: usize = 128;

/// What the receive loop is told.
pub(super) enum Event {
    /// librdkafka: these partitions came, say where they start.
    Assign(Vec<(String, i32)>),
    /// librdkafka: give these back. `lost`: the group has given them to others already.
    Revoke { partitions: Vec<(String, i32)>, lost: bool },
    /// It is known where partitions start.
    Started(HashMap<(String, i32), Start>),
    /// A worker: whether to pause has changed.
    Flow { topic: Arc<str>, partition: i32 },
    /// Brokers answered, or did not.
    Surveyed(KafkaResult<Survey>),
}

pub(super) struct Receiver<T> {
    consumer: Arc<KafkaConsumer>,
    start_at: StartAt,
    limits: Limits,
    take: Arc<T>,
    observe: Arc<dyn Observe>,
    topics: watch::Receiver<BTreeSet<String>>,
    state: watch::Sender<ConsumerState>,
    events_tx: mpsc::UnboundedSender<Event>,
    events: mpsc::UnboundedReceiver<Event>,
    /// Partitions that are read, by topic.
    owned: HashMap<Arc<str>, BTreeMap<i32, Owned>>,
    /// Partitions that were assigned and whose start is being looked up.
    waiting: HashMap<(String, i32), Arc<AtomicBool>>,
    /// Since when each topic is subscribed, ms since 1970.
    subscribed: BTreeMap<String, i64>,
    /// How many partitions each topic had when it was first looked at.
    first_seen: BTreeMap<String, usize>,
    /// Whether brokers answered when they were last asked.
    reachable: Option<bool>,
    surveying: bool,
    surveyed: Option<Instant>,
    /// Error that was logged last, until the next assignment.
    told: Option<RDKafkaErrorCode>,
    /// Partitions on their way out.
    releases: TaskTracker,
}

impl<T: Take> Receiver<T> {
    pub(super) fn new(
        settings: ConsumerSettings,
        limits: Limits,
        topics: watch::Receiver<BTreeSet<String>>,
        take: Arc<T>,
        observe: Arc<dyn Observe>,
        state: watch::Sender<ConsumerState>,
    ) -> KafkaResult<Self> {
        let (events_tx, events) = mpsc::unbounded_channel();
        let consumer = Arc::new(config(&settings, &limits).create_with_context(Context::new(events_tx.clone()))?);
        Ok(Self {
            consumer,
            start_at: settings.start_at,
            limits,
            take,
            observe,
            topics,
            state,
            events_tx,
            events,
            owned: HashMap::new(),
            waiting: HashMap::new(),
            subscribed: BTreeMap::new(),
            first_seen: BTreeMap::new(),
            reachable: None,
            surveying: false,
            surveyed: None,
            told: None,
            releases: TaskTracker::new(),
        })
    }

    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let consumer = Arc::clone(&self.consumer);
        let mut records = consumer.stream();
        let mut probe = tokio::time::interval(PROBE);
        probe.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut topics_open = true;
        let mut turn = 0;
        self.subscribe();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(event) = self.events.recv() => self.handle(event),
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
        self.close().await;
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

    fn handle(&mut self, event: Event) {
        match event {
            Event::Assign(partitions) => self.assign(partitions),
            Event::Revoke { partitions, lost } => self.revoke(&partitions, lost),
            Event::Started(starts) => {
                let wanted = |(key, start): ((String, i32), Start)| {
                    self.waiting
                        .remove(&key)
                        .map(|_| (key.0, key.1, Offset::Offset(start.offset())))
                };
                let starts = starts.into_iter().filter_map(wanted).collect();
                self.begin(starts);
            }
            Event::Flow { topic, partition } => {
                if let Some(owned) = self.owned.get_mut(&topic).and_then(|topic| topic.get_mut(&partition)) {
                    pace(&self.consumer, owned, &*self.observe);
                }
            }
            Event::Surveyed(answer) => self.surveyed(answer),
        }
    }

    // === rebalances ===

    fn assign(&mut self, partitions: Vec<(String, i32)>) {
        tracing::info!(partitions = %list(&partitions), "kafka partitions assigned");
        self.told = None;
        self.observe.rebalanced(Rebalance::Assigned, partitions.len());
        if self.start_at == StartAt::Earliest {
            // Without a committed offset, auto.offset.reset decides.
            return self.begin(
                partitions
                    .into_iter()
                    .map(|(topic, partition)| (topic, partition, Offset::Stored))
                    .collect(),
            );
        }
        accept_none(&*self.consumer);
        let waiting: Vec<_> = partitions
            .into_iter()
            .map(|(topic, partition)| self.wait(topic, partition))
            .collect();
        if !waiting.is_empty() {
            tokio::spawn(look_up(waiting, Arc::clone(&self.consumer), self.events_tx.clone()));
        }
    }

    fn wait(&mut self, topic: String, partition: i32) -> Waiting {
        let wanted = Arc::new(AtomicBool::new(true));
        self.waiting.insert((topic.clone(), partition), Arc::clone(&wanted));
        let since_ms = self.subscribed.get(&topic).copied().unwrap_or_else(now_ms) - START_MARGIN.as_millis() as i64;
        let number = usize::try_from(partition).unwrap_or_default();
        let existed = self.first_seen.get(&topic).is_none_or(|count| number < *count);
        Waiting {
            topic,
            partition,
            since_ms,
            existed,
            wanted,
        }
    }

    /// Starts workers, then reading.
    fn begin(&mut self, starts: Vec<(String, i32, Offset)>) {
        let assigned: TopicPartitionList = starts.iter().cloned().collect();
        for (topic, partition, _) in &starts {
            let partition = Arc::new(Partition::new(topic, *partition, &self.limits));
            let worker = AbortOnDropHandle::new(tokio::spawn(work(
                Arc::clone(&partition),
                Arc::clone(&self.take),
                Arc::clone(&self.consumer),
                Arc::clone(&self.observe),
                self.events_tx.clone(),
                self.limits.clone(),
            )));
            let (topic, number) = (Arc::clone(&partition.topic), partition.partition);
            self.observe.assigned(&topic, number, true);
            self.owned.entry(topic).or_default().insert(
                number,
                Owned {
                    partition,
                    worker,
                    paused: false,
                },
            );
        }
        if let Err(error) = self.consumer.incremental_assign(&assigned) {
            tracing::error!(%error, "kafka partitions could not be taken up; they stand still until the next rebalance");
        }
        // A pause outlives its assignment inside librdkafka.
        if let Err(error) = self.consumer.resume(&assigned) {
            tracing::debug!(%error, "kafka partitions could not be resumed");
        }
        self.publish_assigned();
    }

    fn revoke(&mut self, partitions: &[(String, i32)], lost: bool) {
        tracing::info!(partitions = %list(partitions), lost, "kafka partitions revoked");
        self.observe.rebalanced(
            if lost { Rebalance::Lost } else { Rebalance::Revoked },
            partitions.len(),
        );
        let mut going = Vec::new();
        for (topic, partition) in partitions {
            if let Some(wanted) = self.waiting.remove(&(topic.clone(), *partition)) {
                wanted.store(false, Ordering::Release);
            }
            going.extend(
                self.owned
                    .get_mut(topic.as_str())
                    .and_then(|topic| topic.remove(partition)),
            );
            self.observe.assigned(topic, *partition, false);
        }
        self.owned.retain(|_, partitions| !partitions.is_empty());
        self.publish_assigned();
        if lost {
            forfeit(going);
            return give_back(&*self.consumer, partitions);
        }
        let (consumer, budget, partitions) = (Arc::clone(&self.consumer), self.limits.revoke, partitions.to_vec());
        self.releases.spawn(async move {
            release(going, budget, &consumer).await;
            give_back(&*consumer, &partitions);
        });
    }

    fn publish_assigned(&self) {
        let by_topic = |(topic, partitions): (&Arc<str>, &BTreeMap<i32, Owned>)| {
            (topic.to_string(), partitions.keys().copied().collect::<BTreeSet<_>>())
        };
        let assigned = self.owned.iter().map(by_topic).collect();
        self.state.send_modify(|state| state.assigned = assigned);
    }

    // === topics and brokers ===

    fn subscribe(&mut self) {
        let topics = self.topics.borrow_and_update().clone();
        let now = now_ms();
        self.subscribed.retain(|topic, _| topics.contains(topic));
        self.first_seen.retain(|topic, _| topics.contains(topic));
        for topic in &topics {
            self.subscribed.entry(topic.clone()).or_insert(now);
        }
        self.state
            .send_modify(|state| state.missing.retain(|topic| topics.contains(topic)));
        tracing::info!(topics = topics.len(), "kafka subscription set");
        let names: Vec<_> = topics.iter().map(String::as_str).collect();
        if names.is_empty() {
            self.consumer.unsubscribe();
        } else if let Err(error) = self.consumer.subscribe(&names) {
            tracing::error!(%error, "kafka topics could not be subscribed, check their names");
        }
        self.survey();
    }

    fn probe(&mut self) {
        let due = {
            let state = self.state.borrow();
            let again = self.surveyed.is_none_or(|at| at.elapsed() >= METADATA_REFRESH);
            let unseen = self.subscribed.keys().any(|topic| !self.first_seen.contains_key(topic));
            !state.connected || unseen || (again && !state.missing.is_empty())
        };
        if due {
            self.survey();
        }
    }

    fn survey(&mut self) {
        if std::mem::replace(&mut self.surveying, true) {
            return;
        }
        let topics = self.subscribed.keys().cloned().collect();
        let (consumer, events) = (Arc::clone(&self.consumer), self.events_tx.clone());
        tokio::task::spawn_blocking(move || {
            let _ = events.send(Event::Surveyed(survey(&consumer, &topics)));
        });
    }

    fn surveyed(&mut self, answer: KafkaResult<Survey>) {
        self.surveying = false;
        self.surveyed = Some(Instant::now());
        let found = match answer {
            Ok(found) => found,
            Err(error) => return self.connected(Err(&error)),
        };
        self.connected(Ok(()));
        let found: Survey = found
            .into_iter()
            .filter(|(topic, _)| self.subscribed.contains_key(topic))
            .collect();
        let missing: BTreeSet<_> = found
            .iter()
            .filter(|(_, count)| **count == 0)
            .map(|(topic, _)| topic.clone())
            .collect();
        for (topic, count) in found {
            self.first_seen.entry(topic).or_insert(count);
        }
        self.state.send_if_modified(|state| {
            if state.missing == missing {
                return false;
            }
            for topic in missing.difference(&state.missing) {
                tracing::warn!(topic, "kafka topic does not exist, it is read once it is created");
            }
            for topic in state.missing.difference(&missing) {
                tracing::info!(topic, "kafka topic exists now");
            }
            state.missing = missing;
            true
        });
    }

    fn connected(&mut self, answer: Result<(), &KafkaError>) {
        let connected = answer.is_ok();
        if self.reachable.replace(connected) == Some(connected) {
            return;
        }
        match answer {
            Ok(()) => tracing::info!("kafka can be reached"),
            Err(error) => tracing::warn!(%error, "kafka cannot be reached, trying on"),
        }
        self.state.send_modify(|state| state.connected = connected);
        self.observe.connected(connected);
    }

    fn failed(&mut self, error: &KafkaError) {
        use RDKafkaErrorCode as Code;
        let code = error.rdkafka_error_code();
        match code {
            // A survey tells what there is to it.
            Some(Code::AllBrokersDown | Code::BrokerTransportFailure | Code::Resolve) => self.survey(),
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => self.survey(),
            _ if matches!(error, KafkaError::MessageConsumptionFatal(_)) => {
                tracing::error!(%error, "the Kafka consumer has ended for good, restart the gateway");
            }
            code if code != self.told => {
                tracing::warn!(%error, "kafka consumer error, trying on");
                self.told = code;
            }
            _ => {}
        }
    }

    // === the end ===

    async fn close(mut self) {
        tracing::info!("kafka consumer stops");
        for wanted in self.waiting.values() {
            wanted.store(false, Ordering::Release);
        }
        let owned = std::mem::take(&mut self.owned)
            .into_values()
            .flat_map(BTreeMap::into_values)
            .collect();
        release(owned, self.limits.shutdown, &self.consumer).await;
        self.releases.close();
        self.releases.wait().await;
        self.consumer.context().close();
        // A rebalance that came in between still waits for its answer.
        while let Ok(event) = self.events.try_recv() {
            match event {
                Event::Assign(_) => accept_none(&*self.consumer),
                Event::Revoke { partitions, .. } => give_back(&*self.consumer, &partitions),
                _ => {}
            }
        }
        self.publish_assigned();
        leave(self.consumer).await;
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

fn record(topic: Arc<str>, message: &BorrowedMessage<'_>) -> Record {
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

fn config(settings: &ConsumerSettings, limits: &Limits) -> ClientConfig {
    let mut config = client(&settings.bootstrap_servers, "aldis-gateway");
    config
        .set("group.id", &settings.group_id)
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

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn list(partitions: &[(String, i32)]) -> String {
    partitions
        .iter()
        .map(|(topic, partition)| format!("{topic}/{partition}"))
        .collect::<Vec<_>>()
        .join(" ")
}
