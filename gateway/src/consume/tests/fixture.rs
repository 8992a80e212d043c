//! A mock cluster, a replica, and a `Take` that does as it is told.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aldis_core::record::Record;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::consume::{
    ConsumerHandle, ConsumerSettings, ConsumerState, Limits, Observe, StartAt, Take, TakeError, spawn_within,
};
use crate::kafka::{Access, client};

/// However slow the machine is.
const DEADLINE: Duration = Duration::from_secs(40);

pub(super) fn topics(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Waits until something is so that cannot be awaited.
pub(super) async fn until(what: impl Fn() -> bool) {
    let met = async {
        while !tokio::task::block_in_place(&what) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, met)
        .await
        .expect("condition was not met in time");
}

// === Kafka ===

pub(super) struct Kafka {
    pub(super) mock: MockCluster<'static, DefaultProducerContext>,
    pub(super) bootstrap: Vec<String>,
    producer: FutureProducer,
}

impl Kafka {
    pub(super) fn new(topics: &[(&str, i32)]) -> Self {
        let mock = MockCluster::new(1).unwrap();
        let bootstrap = vec![mock.bootstrap_servers()];
        let producer = client(&bootstrap, "test").create().unwrap();
        let kafka = Self {
            mock,
            bootstrap,
            producer,
        };
        for (topic, partitions) in topics {
            kafka.create(topic, *partitions);
        }
        kafka
    }

    pub(super) fn create(&self, topic: &str, partitions: i32) {
        self.mock.create_topic(topic, partitions, 1).unwrap();
    }

    /// One record for each number, whose text is the value.
    pub(super) async fn publish(&self, topic: &str, partition: i32, numbers: Range<i64>) {
        let sent = numbers.map(|number| {
            let headers = OwnedHeaders::new()
                .insert(Header {
                    key: "type",
                    value: Some("order.created"),
                })
                .insert(Header {
                    key: "empty",
                    value: None::<&str>,
                });
            let value = number.to_string();
            let record = FutureRecord::to(topic)
                .partition(partition)
                .key("key")
                .payload(&value)
                .headers(headers);
            self.producer.send_result(record).map_err(|(error, _)| error).unwrap()
        });
        for acknowledged in sent.collect::<Vec<_>>() {
            acknowledged.await.unwrap().unwrap();
        }
    }

    /// What a group has committed. Blocks.
    pub(super) fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        let consumer: BaseConsumer = client(&self.bootstrap, "test").set("group.id", group).create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        let list = consumer.committed_offsets(list, DEADLINE).unwrap();
        match list.elements()[0].offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    }
}

// === Replica ===

pub(super) struct Replica {
    pub(super) topics: watch::Sender<BTreeSet<String>>,
    pub(super) observed: Arc<Observed>,
    pub(super) handle: ConsumerHandle,
    pub(super) access: Access,
    shutdown: CancellationToken,
}

impl Replica {
    pub(super) fn start(kafka: &Kafka, group: &str, names: &[&str], taker: &Arc<Taker>) -> Self {
        Self::start_at(kafka, group, names, taker, StartAt::Earliest)
    }

    pub(super) fn start_within(kafka: &Kafka, group: &str, names: &[&str], taker: &Arc<Taker>, limits: Limits) -> Self {
        Self::start_as(kafka, group, names, taker, StartAt::Earliest, limits)
    }

    pub(super) fn start_at(kafka: &Kafka, group: &str, names: &[&str], taker: &Arc<Taker>, start_at: StartAt) -> Self {
        Self::start_as(kafka, group, names, taker, start_at, Self::limits())
    }

    fn start_as(
        kafka: &Kafka,
        group: &str,
        names: &[&str],
        taker: &Arc<Taker>,
        start_at: StartAt,
        limits: Limits,
    ) -> Self {
        let access = Access::plain(&kafka.bootstrap);
        let settings = ConsumerSettings {
            access: access.clone(),
            group_id: group.to_owned(),
            start_at,
        };
        let (topics_tx, topics_rx) = watch::channel(topics(names));
        let observed = Arc::new(Observed::default());
        let shutdown = CancellationToken::new();
        let observe = Arc::clone(&observed) as Arc<dyn Observe>;
        let handle = spawn_within(
            settings,
            limits,
            topics_rx,
            Arc::clone(taker),
            observe,
            shutdown.clone(),
        )
        .unwrap();
        Self {
            topics: topics_tx,
            observed,
            handle,
            access,
            shutdown,
        }
    }

    /// As in production, with faster retries, and a session so short that the mock cluster's rebalances are too (they
    /// take a second less).
    pub(super) fn limits() -> Limits {
        Limits {
            session: Duration::from_millis(2500),
            retry_min: Duration::from_millis(10),
            retry_max: Duration::from_millis(100),
            ..Limits::default()
        }
    }

    pub(super) async fn until(&self, met: impl FnMut(&ConsumerState) -> bool) {
        let mut state = self.handle.state();
        let met = tokio::time::timeout(DEADLINE, state.wait_for(met)).await;
        assert!(met.is_ok(), "state was not reached: {:?}", self.handle.state().borrow());
    }

    pub(super) async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(DEADLINE, self.handle.join())
            .await
            .expect("did not stop in time");
    }

    /// Ends it where it is, as far as one process can: nothing is finished or committed that was not before.
    pub(super) fn crash(self) {
        self.handle.task.abort();
    }
}

// === Take ===

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Take,
    Fail,
    Hang,
    Panic,
}

type Rule = dyn Fn(&Record) -> Verdict + Send + Sync;

pub(super) struct Taker {
    rule: watch::Sender<Arc<Rule>>,
    seen: watch::Sender<Vec<Record>>,
    largest: AtomicU32,
}

impl Taker {
    pub(super) fn new(rule: impl Fn(&Record) -> Verdict + Send + Sync + 'static) -> Arc<Self> {
        let rule: Arc<Rule> = Arc::new(rule);
        Arc::new(Self {
            rule: watch::Sender::new(rule),
            seen: watch::Sender::default(),
            largest: AtomicU32::new(0),
        })
    }

    /// From now on another rule; who hangs looks again.
    pub(super) fn set(&self, rule: impl Fn(&Record) -> Verdict + Send + Sync + 'static) {
        self.rule.send_replace(Arc::new(rule));
    }

    /// Waits until so many records were taken.
    pub(super) async fn until(&self, count: usize) {
        let mut seen = self.seen.subscribe();
        let met = tokio::time::timeout(DEADLINE, seen.wait_for(|seen| seen.len() >= count)).await;
        assert!(
            met.is_ok(),
            "{} of {count} records were taken in time",
            self.seen.borrow().len()
        );
    }

    /// Offsets and values of what was taken of a partition, in the order in which it was.
    pub(super) fn seen(&self, topic: &str, partition: i32) -> Vec<(i64, String)> {
        let text = |record: &Record| String::from_utf8(record.value.clone().unwrap_or_default().to_vec()).unwrap();
        let seen = self.seen.borrow();
        let of = seen
            .iter()
            .filter(|record| &*record.topic == topic && record.partition == partition);
        of.map(|record| (record.offset, text(record))).collect()
    }

    pub(super) fn first(&self) -> Record {
        self.seen.borrow()[0].clone()
    }

    pub(super) fn largest_batch(&self) -> u32 {
        self.largest.load(Ordering::Relaxed)
    }
}

impl Take for Taker {
    async fn take(&self, records: &[Record]) -> Result<(), TakeError> {
        let mut rule = self.rule.subscribe();
        self.largest
            .fetch_max(u32::try_from(records.len()).unwrap(), Ordering::Relaxed);
        loop {
            let judge = Arc::clone(&rule.borrow_and_update());
            let verdicts: Vec<_> = records.iter().map(|record| judge(record)).collect();
            assert!(!verdicts.contains(&Verdict::Panic), "told to panic");
            if verdicts.contains(&Verdict::Fail) {
                return Err(TakeError::new("told to fail"));
            }
            if !verdicts.contains(&Verdict::Hang) {
                self.seen.send_modify(|seen| seen.extend_from_slice(records));
                return Ok(());
            }
            if rule.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

// === Observe ===

#[derive(Default)]
pub(super) struct Observed {
    pub(super) retried: AtomicU32,
    partitions: Mutex<HashMap<(String, i32), Counts>>,
}

#[derive(Default)]
struct Counts {
    received: usize,
    lag: Option<i64>,
    paused: bool,
    revoked: bool,
}

impl Observed {
    pub(super) fn is_paused(&self, topic: &str, partition: i32) -> bool {
        self.counts(topic, partition, |counts| counts.paused)
    }

    pub(super) fn lag(&self, topic: &str, partition: i32) -> Option<i64> {
        self.counts(topic, partition, |counts| counts.lag)
    }

    pub(super) fn received(&self, topic: &str, partition: i32) -> usize {
        self.counts(topic, partition, |counts| counts.received)
    }

    /// Partitions that were ever revoked.
    pub(super) fn revoked(&self) -> BTreeSet<(String, i32)> {
        let partitions = self.partitions.lock().unwrap();
        partitions
            .iter()
            .filter(|(_, counts)| counts.revoked)
            .map(|(key, _)| key.clone())
            .collect()
    }

    fn counts<R>(&self, topic: &str, partition: i32, with: impl FnOnce(&mut Counts) -> R) -> R {
        with(
            self.partitions
                .lock()
                .unwrap()
                .entry((topic.to_owned(), partition))
                .or_default(),
        )
    }
}

impl Observe for Observed {
    fn received(&self, topic: &str, partition: i32, _: usize) {
        self.counts(topic, partition, |counts| counts.received += 1);
    }

    fn retried(&self, _: &str, _: i32) {
        self.retried.fetch_add(1, Ordering::Relaxed);
    }

    fn lag(&self, topic: &str, partition: i32, records: Option<i64>) {
        self.counts(topic, partition, |counts| counts.lag = records);
    }

    fn paused(&self, topic: &str, partition: i32, paused: bool) {
        self.counts(topic, partition, |counts| counts.paused = paused);
    }

    fn assigned(&self, topic: &str, partition: i32, assigned: bool) {
        self.counts(topic, partition, |counts| counts.revoked |= !assigned);
    }
}
