//! `aldis publish` as a process, against librdkafka's mock cluster.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use tokio::net::TcpListener;

use crate::aldis::run;
use crate::server::DEADLINE;

const TOPIC: &str = "orders";

fn cluster() -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 1, 1).unwrap();
    cluster
}

/// A consumer at the start of the topic's only partition.
fn consumer(broker: &str) -> StreamConsumer {
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("group.id", "test")
        .create()
        .unwrap();
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(TOPIC, 0, Offset::Beginning).unwrap();
    consumer.assign(&partitions).unwrap();
    consumer
}

async fn record(consumer: &StreamConsumer) -> BorrowedMessage<'_> {
    tokio::time::timeout(DEADLINE, consumer.recv())
        .await
        .expect("no record came")
        .unwrap()
}

#[tokio::test]
async fn a_record_is_published_with_key_and_headers_and_its_place_is_printed() {
    let cluster = cluster();
    let broker = cluster.bootstrap_servers();
    let args = [
        "publish", "--broker", &broker, "--topic", TOPIC, "--key", "t1", "--header", "a=1", "--header", "b=x=y",
    ];
    for place in ["orders/0/0\n", "orders/0/1\n"] {
        let ended = run(&[&args[..], &[r#"{"n": 1.0}"#]].concat(), &[], "").await;
        assert!(ended.status.success(), "{ended:?}");
        assert_eq!(ended.stdout, place);
    }
    let consumer = consumer(&broker);
    let record = record(&consumer).await;
    assert_eq!(record.payload(), Some(&br#"{"n": 1.0}"#[..]));
    assert_eq!(record.key(), Some(&b"t1"[..]));
    let headers: Vec<_> = record
        .headers()
        .unwrap()
        .iter()
        .map(|header| (header.key, header.value.unwrap()))
        .collect();
    assert_eq!(headers, [("a", &b"1"[..]), ("b", &b"x=y"[..])]);
}

#[tokio::test]
async fn standard_input_is_published_line_by_line_in_order() {
    let cluster = cluster();
    let broker = cluster.bootstrap_servers();
    let count = 2_000;
    let input: String = (0..count).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let ended = run(&["publish", "--broker", &broker, "--topic", TOPIC], &[], &input).await;
    assert!(ended.status.success(), "{ended:?}");
    let places: String = (0..count).map(|n| format!("orders/0/{n}\n")).collect();
    assert_eq!(ended.stdout, places);
    let consumer = consumer(&broker);
    for n in 0..count {
        assert_eq!(
            record(&consumer).await.payload().unwrap(),
            format!("{{\"n\":{n}}}").as_bytes()
        );
    }
}

#[tokio::test]
async fn what_is_not_json_is_refused_with_its_position_and_published_raw() {
    let cluster = cluster();
    let broker = cluster.bootstrap_servers();
    let args = ["publish", "--broker", &broker, "--topic", TOPIC, "-"];
    let ended = run(&args, &[], "not json\n").await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert_eq!(
        ended.stderr,
        "error: the record is not JSON: expected ident at line 1, column 2\n  hint: give --raw to publish what is not JSON\n"
    );
    let ended = run(&[&args[..], &["--raw"]].concat(), &[], "not json\n").await;
    assert_eq!(ended.stdout, "orders/0/0\n", "nothing was published before: {ended:?}");
}

#[tokio::test]
async fn an_unreachable_broker_is_given_up_with_what_was_tried() {
    let port = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let broker = format!("127.0.0.1:{port}");
    let ended = run(
        &[
            "publish",
            "--broker",
            &broker,
            "--topic",
            TOPIC,
            "--timeout",
            "1s",
            "{}",
        ],
        &[],
        "",
    )
    .await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    for part in [
        &*broker,
        TOPIC,
        "1s",
        "Connection refused",
        "hint: check that the broker is reachable",
    ] {
        assert!(ended.stderr.contains(part), "{part} in {ended:?}");
    }
}

#[tokio::test]
async fn a_slow_broker_s_acknowledgement_is_waited_for() {
    let cluster = cluster();
    cluster.broker_round_trip_time(1, Duration::from_millis(300)).unwrap();
    let broker = cluster.bootstrap_servers();
    let ended = run(&["publish", "--broker", &broker, "--topic", TOPIC, "{}"], &[], "").await;
    assert_eq!(ended.stdout, "orders/0/0\n", "{ended:?}");
}

#[tokio::test]
async fn a_topic_that_does_not_exist_is_told_as_such() {
    let cluster = cluster();
    cluster
        .topic_error("nowhere", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
        .unwrap();
    let broker = cluster.bootstrap_servers();
    let ended = run(
        &[
            "publish",
            "--broker",
            &broker,
            "--topic",
            "nowhere",
            "--timeout",
            "4s",
            "{}",
        ],
        &[],
        "",
    )
    .await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains("hint: create the topic"), "{ended:?}");
}
