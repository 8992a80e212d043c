//! Kafka away: at start, and in the middle of a stream.

use std::time::Duration;

use serde_json::json;

use crate::deadline::until_equal;
use crate::gateway::Gateway;
use crate::kafka::{Kafka, make_topic};
use crate::manifests::Manifests;
use crate::node::Node;
use crate::records::Producer;

#[tokio::test]
async fn a_gateway_starts_without_kafka_lets_clients_in_and_delivers_when_kafka_comes() {
    let mut kafka = Kafka::down();
    let manifests = Manifests::news();
    let gateway = Gateway::start(&manifests.path(), Some(&kafka.address())).await;
    let node = Node::start();
    let client = node.connect(&gateway.url("/news"), json!({})).await;
    let joined = client.join("join", json!({"room": "a"})).await;
    assert!(
        joined["position"]
            .as_str()
            .is_some_and(|position| position.ends_with(":0")),
        "{joined}"
    );
    let health = gateway.health().await;
    assert_eq!(
        (&health["status"], &health["ready"]),
        (&json!("degraded"), &json!(true)),
        "{health}"
    );
    assert_eq!(health["kafka"]["connected"], false);
    let unreachable = "aldis_consumer_errors_total{reason=\"unreachable\"}";
    until_equal("it is counted", true, async || {
        gateway.metrics().await.value(unreachable) > 0.0
    })
    .await;
    assert_eq!(gateway.admin("/health/ready").await.0, 200);
    assert_eq!(gateway.admin("/health/live").await.0, 200);

    kafka.start().await;
    make_topic(&kafka.address(), &manifests.topic, 4, &[]).await;
    let producer = Producer::to(&kafka.address());
    for partition in 0..4 {
        producer
            .json(
                &manifests.topic,
                partition,
                &json!({"type": "news", "room": "a", "n": partition}),
            )
            .await;
    }
    let mut got: Vec<_> = client
        .events(4)
        .await
        .iter()
        .map(|event| event.payload()["n"].as_i64().unwrap())
        .collect();
    got.sort_unstable();
    assert_eq!(got, [0, 1, 2, 3]);
    until_equal("health is ok", json!("ok"), async || {
        gateway.health().await["status"].clone()
    })
    .await;
    assert!(client.seen().disconnects.is_empty());
}

#[tokio::test]
async fn a_broker_that_crashes_in_the_middle_of_a_stream_costs_no_record_and_doubles_none() {
    const PARTITIONS: i32 = 4;
    const RECORDS: usize = 250;
    /// So that the stream lasts longer than it takes to notice the crash.
    const PACE: Duration = Duration::from_millis(8);
    let mut kafka = Kafka::down();
    kafka.start().await;
    let manifests = Manifests::news();
    make_topic(&kafka.address(), &manifests.topic, PARTITIONS, &[]).await;
    let gateway = Gateway::start(&manifests.path(), Some(&kafka.address())).await;
    let node = Node::start();
    let client = node.connect(&gateway.url("/news"), json!({})).await;
    client.join("join", json!({"room": "a"})).await;

    let producer = Producer::to(&kafka.address());
    let topic = manifests.topic.clone();
    let publishing = tokio::spawn(async move {
        let mut pace = tokio::time::interval(PACE);
        for n in 0..RECORDS {
            pace.tick().await;
            let on = |partition: i32| {
                let (producer, topic) = (&producer, &topic);
                async move {
                    producer
                        .json(
                            topic,
                            partition,
                            &json!({"type": "news", "room": "a", "partition": partition, "n": n}),
                        )
                        .await
                }
            };
            futures_util::future::join_all((0..PARTITIONS).map(on)).await;
        }
    });
    client.events(100).await;
    kafka.crash();
    until_equal("the gateway notices", json!("degraded"), async || {
        gateway.health().await["status"].clone()
    })
    .await;
    assert!(!publishing.is_finished(), "the stream is still on");
    kafka.start().await;
    publishing.await.unwrap();

    let events = client.events(RECORDS * PARTITIONS as usize).await;
    for partition in 0..PARTITIONS {
        let of_partition = events
            .iter()
            .map(|event| event.payload())
            .filter(|payload| payload["partition"] == partition);
        let got: Vec<_> = of_partition
            .map(|payload| payload["n"].as_u64().unwrap() as usize)
            .collect();
        assert_eq!(
            got,
            (0..RECORDS).collect::<Vec<_>>(),
            "partition {partition}: all, each once, in order"
        );
    }
    let positions: Vec<_> = events.iter().map(|event| event.position().1).collect();
    assert!(positions.is_sorted_by(|a, b| a < b), "positions grow");
    assert!(client.seen().disconnects.is_empty(), "clients do not notice");
    until_equal("health is ok", json!("ok"), async || {
        gateway.health().await["status"].clone()
    })
    .await;
}
