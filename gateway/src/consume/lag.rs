//! How far this replica is behind the ends of its partitions: asked of brokers at intervals, for people and for autoscalers. Nothing
//! that is taken waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::context::KafkaConsumer;
use super::{ConsumerState, Observe};

/// Between two rounds of questions. 10 s: as often as metrics are scraped at most.
pub(super) const LAG_EVERY: Duration = Duration::from_secs(10);

/// How long one question may take. 2 s; the first that nobody answers ends the round.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Partitions that are asked about in one round. 500: some seconds of one thread. The rounds after go on where it ended.
const MAX_ASKED: usize = 500;

/// Asks, and tells who counts.
pub(super) struct Lag {
    pub(super) consumer: Arc<KafkaConsumer>,
    pub(super) state: watch::Receiver<ConsumerState>,
    pub(super) observe: Arc<dyn Observe>,
    pub(super) every: Duration,
}

/// A topic and a partition of it.
type Place = (String, i32);

impl Lag {
    /// Until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut every = tokio::time::interval(self.every);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut told, mut turn) = (BTreeSet::new(), 0);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = every.tick() => {}
            }
            let owned = self.owned();
            self.forget(&mut told, &owned);
            if owned.is_empty() || !self.state.borrow().connected {
                continue;
            }
            turn = if turn < owned.len() { turn } else { 0 };
            let asked: Vec<_> = owned.into_iter().skip(turn).take(MAX_ASKED).collect();
            turn += asked.len();
            let (consumer, stop) = (Arc::clone(&self.consumer), stop.clone());
            let answered = tokio::task::spawn_blocking(move || ask(&consumer, &asked, &stop)).await;
            // Where brokers do not answer, what was known is as old as the consumer's other troubles, which are told.
            let Ok(Ok(lags)) = answered else { continue };
            for ((topic, partition), records) in lags {
                self.observe.lag(&topic, partition, Some(records));
                told.insert((topic, partition));
            }
            // What went while it was asked about.
            self.forget(&mut told, &self.owned());
        }
    }

    fn owned(&self) -> BTreeSet<Place> {
        let state = self.state.borrow();
        let topics = state.assigned.iter();
        topics
            .flat_map(|(topic, partitions)| partitions.iter().map(|partition| (topic.clone(), *partition)))
            .collect()
    }

    /// Another replica tells of what this one does not read any more.
    fn forget(&self, told: &mut BTreeSet<Place>, owned: &BTreeSet<Place>) {
        told.retain(|place| {
            let stays = owned.contains(place);
            if !stays {
                self.observe.lag(&place.0, place.1, None);
            }
            stays
        });
    }
}

/// Records of each partition from what the group has committed to the end. Blocks.
fn ask(consumer: &KafkaConsumer, places: &[Place], stop: &CancellationToken) -> KafkaResult<BTreeMap<Place, i64>> {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in places {
        list.add_partition(topic, *partition);
    }
    let committed = consumer.committed_offsets(list, ANSWER_TIMEOUT)?;
    let mut lags = BTreeMap::new();
    for element in committed.elements() {
        if stop.is_cancelled() {
            break;
        }
        let (topic, partition) = (element.topic(), element.partition());
        let (begin, end) = consumer.fetch_watermarks(topic, partition, ANSWER_TIMEOUT)?;
        let next = match element.offset() {
            // What has been deleted since waits for nobody.
            Offset::Offset(offset) => offset.max(begin),
            _ => begin,
        };
        lags.insert((topic.to_owned(), partition), (end - next).max(0));
    }
    Ok(lags)
}
