//! Rebalances: partitions that come, and partitions that go.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio_util::task::AbortOnDropHandle;

use super::context::{accept_none, give_back};
use super::offsets::Start;
use super::receive::Receiver;
use super::release::{Owned, forfeit, release};
use super::start::{Waiting, look_up};
use super::survey::now_ms;
use super::worker::{Partition, Tools, work};
use super::{Rebalance, START_MARGIN, StartAt, Take};

impl<T: Take> Receiver<T> {
    pub(super) fn assign(&mut self, partitions: Vec<(String, i32)>) {
        self.told = None;
        // A rebalance that gives nothing is usual: a first round takes from others.
        if !partitions.is_empty() {
            tracing::info!(partitions = %list(&partitions), "kafka partitions assigned");
            self.observe.rebalanced(Rebalance::Assigned, partitions.len());
        }
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
            tokio::spawn(look_up(waiting, Arc::clone(&self.consumer), self.answers_tx.clone()));
        }
    }

    fn wait(&mut self, topic: String, partition: i32) -> Waiting {
        let wanted = Arc::new(AtomicBool::new(true));
        self.waiting.insert((topic.clone(), partition), Arc::clone(&wanted));
        let since_ms =
            self.known.subscribed.get(&topic).copied().unwrap_or_else(now_ms) - START_MARGIN.as_millis() as i64;
        let number = usize::try_from(partition).unwrap_or_default();
        let existed = self.known.first_seen.get(&topic).is_none_or(|count| number < *count);
        Waiting {
            topic,
            partition,
            since_ms,
            existed,
            wanted,
        }
    }

    /// It is known where these start: those that are still wanted do.
    pub(super) fn started(&mut self, starts: HashMap<(String, i32), Start>) {
        let wanted = |(key, start): ((String, i32), Start)| {
            self.waiting
                .remove(&key)
                .map(|_| (key.0, key.1, Offset::Offset(start.offset())))
        };
        let starts = starts.into_iter().filter_map(wanted).collect();
        self.begin(starts);
    }

    /// Starts workers, then reading.
    fn begin(&mut self, starts: Vec<(String, i32, Offset)>) {
        let assigned: TopicPartitionList = starts.iter().cloned().collect();
        for (topic, partition, _) in &starts {
            let partition = Arc::new(Partition::new(topic, *partition, &self.limits));
            let worker = AbortOnDropHandle::new(tokio::spawn(work(
                Arc::clone(&partition),
                Tools {
                    take: Arc::clone(&self.take),
                    consumer: Arc::clone(&self.consumer),
                    observe: Arc::clone(&self.observe),
                    pace: Arc::clone(&self.pace),
                    limits: self.limits.clone(),
                    access: self.access.clone(),
                    asking: Arc::clone(&self.asking),
                },
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

    pub(super) fn revoke(&mut self, partitions: &[(String, i32)], lost: bool) {
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

    pub(super) fn publish_assigned(&self) {
        let by_topic = |(topic, partitions): (&Arc<str>, &BTreeMap<i32, Owned>)| {
            (topic.to_string(), partitions.keys().copied().collect::<BTreeSet<_>>())
        };
        let assigned = self.owned.iter().map(by_topic).collect();
        self.state.send_modify(|state| state.assigned = assigned);
    }
}

fn list(partitions: &[(String, i32)]) -> String {
    partitions
        .iter()
        .map(|(topic, partition)| format!("{topic}/{partition}"))
        .collect::<Vec<_>>()
        .join(" ")
}
