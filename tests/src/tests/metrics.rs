//! What is counted, to the last one.

use std::collections::BTreeMap;

use serde_json::json;

use crate::gateway::Gateway;
use crate::kafka::{make_topic, shared};
use crate::manifests::Manifests;
use crate::node::Node;
use crate::records::Producer;

#[tokio::test]
async fn a_known_sequence_is_counted_exactly() {
    let kafka = shared().await;
    let manifests = Manifests::news();
    make_topic(&kafka.address(), &manifests.topic, 1, &[]).await;
    make_topic(&kafka.address(), &manifests.dead_letters, 1, &[]).await;
    let gateway = Gateway::start(&manifests.path(), Some(&kafka.address())).await;
    let producer = Producer::to(&kafka.address());
    let node = Node::start();
    let (first, second) = (
        node.connect(&gateway.url("/news"), json!({})).await,
        node.connect(&gateway.url("/news"), json!({})).await,
    );
    first.join("join", json!({"room": "a"})).await;
    second.join("join", json!({"room": "a"})).await;
    second.join("join", json!({"room": "b"})).await;
    assert_eq!(first.ask("leave", json!([{"room": "zzz"}])).await["ok"], true);
    assert_eq!(first.ask("join", json!([])).await["ok"], false);

    let topic = &manifests.topic;
    producer.json(topic, 0, &json!({"type": "news", "room": "a"})).await; // to two
    producer
        .json(topic, 0, &json!({"type": "news", "room": "nobody"}))
        .await; // to none
    producer.json(topic, 0, &json!({"type": "weather", "room": "a"})).await; // no route
    producer
        .json(topic, 0, &json!({"type": "news", "room": "a", "draft": true}))
        .await; // where says no
    producer.bytes(topic, 0, None).await; // a tombstone
    producer.bytes(topic, 0, Some(b"not JSON")).await; // a dead letter
    producer.json(topic, 0, &json!({"type": "news"})).await; // another
    producer
        .json(topic, 0, &json!({"type": "news", "room": "b", "n": "last"}))
        .await; // to one
    let last = |seen: &crate::node::Seen| seen.events.iter().any(|event| event.args[0]["n"] == "last");
    second.until("the last record", last).await;
    first.disconnect().await;
    gateway
        .wait_for_metric("aldis_disconnects_total{channel=\"press/news\",reason=\"left\"}", 1.0)
        .await;
    // Those are written after what is delivered.
    gateway
        .wait_for_metric(
            "aldis_records_total{channel=\"press/news\",outcome=\"dead_lettered\"}",
            2.0,
        )
        .await;

    let metrics = gateway.metrics().await;
    let series = |metric: &str, labels: &[(&str, f64)]| {
        let full = |(label, value): &(&str, f64)| {
            let more = if label.is_empty() {
                String::new()
            } else {
                format!(",{label}")
            };
            (format!("{metric}{{channel=\"press/news\"{more}}}"), *value)
        };
        let expected: BTreeMap<_, _> = labels.iter().map(full).collect();
        let expected: BTreeMap<_, _> = expected
            .iter()
            .map(|(series, value)| (series.as_str(), *value))
            .collect();
        assert_eq!(metrics.all(metric), expected);
    };
    series(
        "aldis_records_total",
        &[
            ("outcome=\"delivered\"", 3.0),
            ("outcome=\"routed_nowhere\"", 1.0),
            ("outcome=\"not_for_us\"", 2.0),
            ("outcome=\"dead_lettered\"", 2.0),
        ],
    );
    series(
        "aldis_dead_letters_total",
        &[("reason=\"not_json\"", 1.0), ("reason=\"required_field\"", 1.0)],
    );
    series("aldis_deliveries_total", &[("", 3.0)]);
    series("aldis_sends_total", &[("", 3.0)]);
    series("aldis_connections", &[("", 1.0)]);
    series("aldis_connects_total", &[("outcome=\"accepted\"", 2.0)]);
    series("aldis_disconnects_total", &[("reason=\"left\"", 1.0)]);
    series(
        "aldis_client_events_total",
        &[
            ("outcome=\"join\"", 3.0),
            ("outcome=\"leave\"", 1.0),
            ("outcome=\"invalid_room\"", 1.0),
        ],
    );
    series("aldis_clients_closed_total", &[]);
    assert_eq!(metrics.sum("aldis_consumer_records_total"), 8.0);
    assert_eq!(metrics.sum("aldis_consumer_retries_total"), 0.0);
    assert_eq!(metrics.value("aldis_consumer_connected"), 1.0);
    assert_eq!(metrics.value("aldis_config_channels"), 1.0);
    assert_eq!(metrics.value("aldis_config_bad_channels"), 0.0);
}
