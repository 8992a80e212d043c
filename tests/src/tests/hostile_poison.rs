//! Invariant 4: poison input stops nobody else; it is counted, logged, dead-lettered.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::gateway::Gateway;
use crate::hostile::INPUTS;
use crate::kafka::{make_topic, shared};
use crate::manifests::Manifests;
use crate::node::{Client, Node};
use crate::records::{Producer, end};

/// Deliveries that are timed, before the flood and in it.
const TIMED: usize = 200;

/// However slow the machine: a flood that is worked off before others get their turn takes many seconds.
const GENEROUS: Duration = Duration::from_secs(5);

/// Times from the publishing of a record until its client has it, one after the other.
async fn latencies(producer: &Producer, topic: &str, reader: &Client) -> Vec<Duration> {
    let mut took = Vec::with_capacity(TIMED);
    for _ in 0..TIMED {
        let (before, began) = (reader.seen().events.len(), Instant::now());
        producer.json(topic, 0, &json!({"type": "news", "room": "a"})).await;
        reader.wait("the record", |seen| seen.events.len() > before).await;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_4_a_flood_of_poison_of_one_channel_is_dead_lettered_and_another_goes_on() {
    let kafka = shared().await;
    let broker = kafka.address();
    let manifests = Manifests::news();
    let poisoned = format!("{}-poisoned", manifests.topic);
    let letters = format!("{}-flood", manifests.dead_letters);
    manifests.channel("flood", "flooded");
    let channel = std::fs::read_to_string(manifests.path().join("flood.yaml")).unwrap();
    let channel = channel.replace(&format!("[{}]", manifests.topic), &format!("[{poisoned}]"));
    manifests.write("flood.yaml", &format!("{channel}  deadLetter: {{topic: {letters}}}\n"));
    for topic in [&manifests.topic, &poisoned, &manifests.dead_letters, &letters] {
        make_topic(&broker, topic, 1, &[]).await;
    }
    let gateway = Gateway::start(&manifests.path(), Some(&broker)).await;
    let producer = Producer::to(&broker);
    let node = Node::start();
    let reader = node.connect(&gateway.url("/news"), json!({})).await;
    reader.join("join", json!({"room": "a"})).await;

    let quiet = latencies(&producer, &manifests.topic, &reader).await;
    // No room, no type: each is a reason of its own.
    let poison = (0..INPUTS).map(|n| match n % 2 {
        0 => json!({"type": "news", "n": n}),
        _ => json!({"type": null, "room": "a", "n": n}),
    });
    let began = Instant::now();
    let flood = Producer::to(&broker);
    let (_, flooded) = tokio::join!(
        flood.all(&poisoned, 0, poison),
        latencies(&producer, &manifests.topic, &reader)
    );
    let dead_lettered = "aldis_records_total{channel=\"press/flood\",outcome=\"dead_lettered\"}";
    gateway.wait_for_metric(dead_lettered, INPUTS as f64).await;
    println!("{INPUTS} poison records dead-lettered in {:?}", began.elapsed());
    let percent = |latencies: &[Duration], percent: usize| latencies[latencies.len() * percent / 100];
    for p in [50, 99] {
        let (quiet, flooded) = (percent(&quiet, p), percent(&flooded, p));
        let ratio = flooded.as_secs_f64() / quiet.as_secs_f64();
        println!("p{p} of the other channel: {quiet:?} before, {flooded:?} in the flood, ratio {ratio:.1}");
        assert!(flooded < GENEROUS, "{flooded:?}");
    }

    assert_eq!(end(&broker, &letters).await, INPUTS as i64, "each letter once");
    let metrics = gateway.metrics().await;
    for reason in ["required_field", "no_type"] {
        let series = format!("aldis_dead_letters_total{{channel=\"press/flood\",reason=\"{reason}\"}}");
        assert_eq!(metrics.value(&series), (INPUTS / 2) as f64, "{reason}");
    }
    assert_eq!(reader.seen().events.len(), 2 * TIMED);
    let lines = gateway
        .log()
        .lines()
        .filter(|line| line.contains("went to the dead letters"))
        .count();
    assert!(
        (1..2_000).contains(&lines),
        "{lines} lines of log: one a batch and reason, not one a record"
    );
}
