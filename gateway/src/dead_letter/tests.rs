//! Dead letters against librdkafka's mock cluster.

use std::time::Duration;

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Message, OwnedMessage};
use rdkafka::mocking::MockCluster;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;

fn record(value: Option<Bytes>) -> Record {
    Record {
        topic: "orders".into(),
        partition: 3,
        offset: 42,
        key: Some(Bytes::from_static(b"\xff key")),
        headers: vec![
            ("trace".to_owned(), Some(Bytes::from_static(b"\x00\x01"))),
            ("empty".to_owned(), None),
            (
                "aldis-dead-letter-reason".to_owned(),
                Some(Bytes::from_static(b"of last time")),
            ),
        ],
        timestamp_ms: 1_700_000_000_123,
        value,
    }
}

fn why() -> Why {
    Why {
        channel: "bistro/orders".to_owned(),
        reason: "undecodable",
        detail: "expected value at line 1 column 1".to_owned(),
        at: "sources[0]".to_owned(),
    }
}

fn access(mock: &MockCluster<'_, rdkafka::producer::DefaultProducerContext>) -> Access {
    Access::plain(&[mock.bootstrap_servers()])
}

/// The first record of a topic's only partition. Blocks.
fn read(mock: &MockCluster<'_, rdkafka::producer::DefaultProducerContext>, topic: &str, offset: i64) -> OwnedMessage {
    let mut config = crate::kafka::client(&[mock.bootstrap_servers()], "test");
    let consumer: BaseConsumer = config.set("group.id", "test").create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(offset)).unwrap();
    consumer.assign(&list).unwrap();
    let message = consumer
        .poll(Duration::from_secs(20))
        .expect("nothing came in time")
        .unwrap();
    message.detach()
}

fn headers_of(message: &OwnedMessage) -> Vec<(String, Option<String>)> {
    use rdkafka::message::Headers;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    message
        .headers()
        .unwrap()
        .iter()
        .map(|header| (header.key.to_owned(), header.value.map(text)))
        .collect()
}

fn header(message: &OwnedMessage, name: &str) -> Option<String> {
    headers_of(message)
        .into_iter()
        .find(|(key, _)| key == name)
        .and_then(|(_, value)| value)
}

#[tokio::test]
async fn a_dead_letter_keeps_the_record_and_says_why() {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("dead", 1, 1).unwrap();
    let dead_letters = DeadLetters::new(&access(&mock)).unwrap();
    dead_letters
        .send("dead", &record(Some(Bytes::from_static(b"{not json"))), &why())
        .await
        .unwrap();

    let letter = read(&mock, "dead", 0);
    assert_eq!(letter.key(), Some(&b"\xff key"[..]));
    assert_eq!(letter.payload(), Some(&b"{not json"[..]));
    let text = |text: &str| Some(text.to_owned());
    let expected = [
        ("trace", text("\u{0}\u{1}")),
        ("empty", None),
        ("aldis-dead-letter-reason", text("undecodable")),
        ("aldis-dead-letter-detail", text("expected value at line 1 column 1")),
        ("aldis-dead-letter-at", text("sources[0]")),
        ("aldis-dead-letter-channel", text("bistro/orders")),
        ("aldis-dead-letter-topic", text("orders")),
        ("aldis-dead-letter-partition", text("3")),
        ("aldis-dead-letter-offset", text("42")),
        ("aldis-dead-letter-timestamp", text("1700000000123")),
    ];
    assert_eq!(
        headers_of(&letter),
        expected.map(|(name, value)| (name.to_owned(), value))
    );
    assert!(
        letter.timestamp().to_millis().unwrap() > 1_750_000_000_000,
        "its own time is now"
    );
}

#[tokio::test]
async fn a_record_too_large_for_the_topic_goes_without_its_value() {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("dead", 1, 1).unwrap();
    let dead_letters = DeadLetters::new(&access(&mock)).unwrap();
    let large = record(Some(Bytes::from(vec![b'x'; MESSAGE_MAX + 1])));
    dead_letters.send("dead", &large, &why()).await.unwrap();
    let letter = read(&mock, "dead", 0);
    assert_eq!((letter.payload(), letter.key()), (None, Some(&b"\xff key"[..])));
    assert_eq!(header(&letter, "aldis-dead-letter-truncated").as_deref(), Some("true"));
    assert_eq!(header(&letter, "aldis-dead-letter-offset").as_deref(), Some("42"));
    assert!(header(&letter, "trace").is_some());

    // The same when it is the broker that says so: to what was written together, to it alone, and without its value.
    let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    mock.request_errors(RDKafkaApiKey::Produce, &[refusal, refusal, refusal]);
    dead_letters
        .send("dead", &record(Some(Bytes::from_static(b"small"))), &why())
        .await
        .unwrap();
    let letter = read(&mock, "dead", 1);
    assert_eq!((letter.payload(), letter.key()), (None, None));
    assert_eq!(header(&letter, "aldis-dead-letter-truncated").as_deref(), Some("true"));
    assert_eq!(header(&letter, "trace"), None);
}

#[tokio::test]
async fn a_topic_that_may_not_be_written_is_told_apart_from_kafka_being_away() {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("dead", 1, 1).unwrap();
    let dead_letters = DeadLetters::within(Duration::from_secs(2), &access(&mock)).unwrap();
    mock.topic_error(
        "forbidden",
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
    )
    .unwrap();
    let refused = dead_letters.send("forbidden", &record(None), &why()).await.unwrap_err();
    assert!(matches!(refused, DeadLetterError::Refused { .. }), "{refused:?}");
    assert!(refused.to_string().contains("'forbidden'"), "{refused}");

    mock.broker_down(-1).unwrap();
    let away = dead_letters.send("dead", &record(None), &why()).await.unwrap_err();
    assert!(matches!(away, DeadLetterError::Unavailable { .. }), "{away:?}");
    mock.broker_up(-1).unwrap();
    dead_letters.send("dead", &record(None), &why()).await.unwrap();
}

#[test]
fn a_long_detail_is_cut_between_characters() {
    assert_eq!(bounded("short"), "short");
    let cut = bounded(&"ä".repeat(DETAIL_MAX));
    assert!(cut.len() <= DETAIL_MAX && cut.len() > DETAIL_MAX - 5, "{}", cut.len());
    assert!(cut.ends_with("ä…"));
}
