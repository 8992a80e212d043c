//! Kafka records: publishing them, and reading what a topic holds.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;

use crate::deadline::{DEADLINE, within};
use crate::kafka::client;

/// Publishes records, each once whatever happens to the broker, in the order of its calls per partition.
#[derive(Clone)]
pub(crate) struct Producer(FutureProducer);

impl Producer {
    pub(crate) fn to(broker: &str) -> Self {
        let mut config = client(broker);
        config.set("enable.idempotence", "true").set("linger.ms", "1");
        Self(config.create().unwrap())
    }

    /// Publishes JSON to a partition; gives its offset.
    pub(crate) async fn json(&self, topic: &str, partition: i32, value: &Value) -> i64 {
        self.bytes(topic, partition, Some(value.to_string().as_bytes())).await
    }

    /// Publishes JSON with a header to a partition; gives its offset.
    pub(crate) async fn with_header(
        &self,
        topic: &str,
        partition: i32,
        (key, header): (&str, &str),
        value: &Value,
    ) -> i64 {
        let value = value.to_string();
        let header = Header {
            key,
            value: Some(header),
        };
        let record = FutureRecord::<str, str>::to(topic).partition(partition).payload(&value);
        let sent = self
            .0
            .send(record.headers(OwnedHeaders::new().insert(header)), DEADLINE);
        let sent = within("the record is acknowledged", sent).await;
        sent.map_err(|(error, _)| error).unwrap().offset
    }

    /// Publishes a value, or a tombstone, to a partition; gives its offset.
    pub(crate) async fn bytes(&self, topic: &str, partition: i32, value: Option<&[u8]>) -> i64 {
        let mut record = FutureRecord::<str, [u8]>::to(topic).partition(partition).key("key");
        record.payload = value;
        let sent = self.0.send(record, DEADLINE);
        within("the record is acknowledged", sent)
            .await
            .map_err(|(error, _)| error)
            .unwrap()
            .offset
    }

    /// Publishes JSON to a partition, all at once and in order; gives their offsets.
    pub(crate) async fn all(&self, topic: &str, partition: i32, values: impl IntoIterator<Item = Value>) -> Vec<i64> {
        let values: Vec<_> = values.into_iter().map(|value| value.to_string()).collect();
        let queued = values.iter().map(|value| {
            let record = FutureRecord::<str, str>::to(topic).partition(partition).payload(value);
            self.0.send_result(record).map_err(|(error, _)| error).unwrap()
        });
        let queued: Vec<_> = queued.collect();
        let mut offsets = Vec::with_capacity(queued.len());
        for sent in queued {
            let sent = within("the record is acknowledged", sent).await.unwrap();
            offsets.push(sent.map_err(|(error, _)| error).unwrap().offset);
        }
        offsets
    }
}

/// A record as it lies in its topic.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Kept {
    fn of(message: &BorrowedMessage<'_>) -> Self {
        let text = |value: Option<&[u8]>| String::from_utf8(value.unwrap_or_default().to_vec()).unwrap();
        let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
        Self {
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers
                .map(|header| (header.key.to_owned(), text(header.value)))
                .collect(),
        }
    }
}

/// The first `count` records of a topic's partition 0, once they are there.
pub(crate) async fn read(broker: &str, topic: &str, count: usize) -> Vec<Kept> {
    let mut config = client(broker);
    config
        .set("group.id", "reader")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "50");
    let topic = topic.to_owned();
    let reading = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = config.create().unwrap();
        let mut from = TopicPartitionList::new();
        from.add_partition_offset(&topic, 0, Offset::Beginning).unwrap();
        consumer.assign(&from).unwrap();
        let mut kept = Vec::new();
        let deadline = std::time::Instant::now() + DEADLINE;
        while kept.len() < count {
            assert!(
                std::time::Instant::now() < deadline,
                "{topic} holds {} of {count} records",
                kept.len()
            );
            if let Some(message) = consumer.poll(Duration::from_millis(100)) {
                kept.push(Kept::of(&message.unwrap()));
            }
        }
        kept
    });
    reading.await.unwrap()
}

/// Offset of the next record of a topic's partition 0.
pub(crate) async fn end(broker: &str, topic: &str) -> i64 {
    let (config, topic) = (client(broker), topic.to_owned());
    let asked = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = config.create().unwrap();
        consumer.fetch_watermarks(&topic, 0, DEADLINE).unwrap().1
    });
    asked.await.unwrap()
}
