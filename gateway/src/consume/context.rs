//! librdkafka's callbacks, turned into events for the receive loop.
//!
//! The callbacks run inside the receive loop's own poll, so they only note what happened. librdkafka does not need its
//! answer to a rebalance within the callback: it waits for the call to incrementally assign or unassign, which comes when
//! workers have finished.

use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::mpsc;

use crate::kafka;

/// A consumer with our callbacks.
pub(super) type KafkaConsumer = rdkafka::consumer::StreamConsumer<Context>;

/// Rebalances that may wait for the receive loop. librdkafka waits for the answer to one before it sends the next, so 4 is
/// plenty.
const REBALANCES: usize = 4;

/// What librdkafka asks for.
pub(super) enum Rebalancing {
    /// These partitions came: say where they start.
    Assign(Vec<(String, i32)>),
    /// Give these back. `lost`: the group has given them to others already.
    Revoke { partitions: Vec<(String, i32)>, lost: bool },
}

pub(super) struct Context {
    /// Is told when brokers do not let the consumer in.
    heard: kafka::Context,
    rebalances: mpsc::Sender<Rebalancing>,
    /// Nobody listens for events any more: what is still assigned is given back at once.
    closing: AtomicBool,
}

impl Context {
    pub(super) fn new(heard: kafka::Context) -> (Self, mpsc::Receiver<Rebalancing>) {
        let (rebalances, receiver) = mpsc::channel(REBALANCES);
        let context = Self {
            heard,
            rebalances,
            closing: AtomicBool::new(false),
        };
        (context, receiver)
    }

    /// From now on callbacks answer themselves.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        kafka::log(level, facility, line);
    }

    /// The same error comes out of the poll, where it is handled; here is the text to it.
    fn error(&self, error: KafkaError, reason: &str) {
        self.heard.heard(&error, reason);
        tracing::debug!(%error, reason, "kafka client error");
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let assign = code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        let rebalancing = if assign {
            Rebalancing::Assign(named(partitions))
        } else {
            Rebalancing::Revoke {
                partitions: named(partitions),
                lost: consumer.assignment_lost(),
            }
        };
        let unheard = self.closing.load(Ordering::Acquire) || self.rebalances.try_send(rebalancing).is_err();
        if unheard {
            if assign {
                accept_none(consumer)
            } else {
                give_back(consumer, &named(partitions))
            }
        }
    }
}

/// Answers an assignment with nothing for now. Partitions may be added at any later time.
pub(super) fn accept_none(consumer: &impl Consumer<Context>) {
    if let Err(error) = consumer.incremental_assign(&TopicPartitionList::new()) {
        tracing::warn!(%error, "kafka assignment could not be answered");
    }
}

/// Answers a revocation: of `partitions` what is assigned goes.
pub(super) fn give_back(consumer: &impl Consumer<Context>, partitions: &[(String, i32)]) {
    let assigned = consumer.assignment().unwrap_or_default();
    let mut going = TopicPartitionList::new();
    for (topic, partition) in partitions {
        if assigned.find_partition(topic, *partition).is_some() {
            going.add_partition(topic, *partition);
        }
    }
    if let Err(error) = consumer.incremental_unassign(&going) {
        tracing::warn!(%error, "kafka partitions could not be given back; the group takes them itself");
    }
}

fn named(partitions: &TopicPartitionList) -> Vec<(String, i32)> {
    partitions
        .elements()
        .iter()
        .map(|element| (element.topic().to_owned(), element.partition()))
        .collect()
}
