//! One tenant at all its limits, beside another that is not.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::*;
use crate::kafka::{make_topic, shared};
use crate::records::Producer;

/// Records of the tenant that is measured, in each of both measurements.
const RECORDS: u64 = 200;

/// What a tenant may do here that does all it can.
const LIMITS: &str = "{connections: 30, clientEventsPerSecond: 50, rooms: 40, roomsPerConnection: 2, \
                      deliveriesPerSecond: 200, maxPayload: 1k, historyBytes: 64k}";

/// Publishes records one after the other, each once all `readers` have the one before; gives the times from the produce call to
/// receipt by all.
async fn measure(producer: &Producer, topic: &str, readers: &[Client], first: u64) -> Vec<Duration> {
    let mut times = Vec::new();
    for n in first..first + RECORDS {
        let begun = Instant::now();
        producer.json(topic, 0, &json!({"room": "a", "n": n})).await;
        for reader in readers {
            reader
                .wait("the record", |seen| {
                    seen.events.last().is_some_and(|event| event.args[0] == n)
                })
                .await;
        }
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    times
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_at_all_its_limits_costs_another_no_delivery() {
    let kafka = shared().await;
    let manifests = Manifests::gateway();
    let [calm, greedy] = ["calm", "greedy"].map(|tenant| format!("{}.{tenant}", manifests.topic));
    for (tenant, topic) in [("calm", &calm), ("greedy", &greedy)] {
        make_topic(&kafka.address(), topic, 1, &[]).await;
        write_channel(&manifests, tenant, &[topic]);
    }
    manifests.limit_each(&[("calm", "{}"), ("greedy", LIMITS)]);
    let gateway = Gateway::start(&manifests.path(), Some(&kafka.address())).await;
    let producer = Producer::to(&kafka.address());
    let (node, crowd) = (Node::start(), Node::start());
    let mut readers = Vec::new();
    for transport in ["websocket", "websocket", "polling"] {
        let reader = node
            .connect_as("4.8", &gateway.url("/calm"), &by(transport))
            .await
            .unwrap();
        reader.join("join", json!({"room": "a"})).await;
        readers.push(reader);
    }
    measure(&producer, &calm, &readers, 1).await;
    let alone = measure(&producer, &calm, &readers, 1 + RECORDS).await;

    // More clients than may be there, that come again and again; each of those that are in wants more rooms, sends more and larger
    // events than it may, and there are more records than are delivered each second.
    let url = gateway.url("/greedy");
    let mut busy = JoinSet::new();
    for number in 0..40 {
        let client = crowd.begin("4.8", &url, &by("websocket")).await;
        busy.spawn(async move {
            // Ten of them never are, or late.
            while client.seen().connects.is_empty() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            for round in 0_u64.. {
                let room = json!([{"room": (number * 7 + round % 5).to_string()}]);
                let large = json!([{"room": "x".repeat(1_000)}]);
                tokio::join!(client.ask("join", room), client.ask("join", large));
                // Nobody waits for these: what is told of them is not kept here either.
                for _ in 0..50 {
                    client.emit("nothing", json!([])).await;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
    }
    let (flood, topic) = (producer.clone(), greedy.clone());
    busy.spawn(async move {
        for batch in 0.. {
            let records = (0..250).map(|n| json!({"room": (n % 40).to_string(), "n": batch * 250 + n}));
            flood.all(&topic, 0, records).await;
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    });
    let at_its_limits = [
        "aldis_connects_total{channel=\"greedy/news\",outcome=\"tenant_connections\"}",
        "aldis_client_events_total{channel=\"greedy/news\",outcome=\"too_many_events\"}",
        "aldis_client_events_total{channel=\"greedy/news\",outcome=\"too_many_rooms\"}",
        "aldis_client_events_total{channel=\"greedy/news\",outcome=\"rooms_full\"}",
        "aldis_client_events_total{channel=\"greedy/news\",outcome=\"too_large\"}",
        &format!("aldis_paced_seconds_count{{topic=\"{greedy}\"}}"),
        "aldis_history_dropped_total{namespace=\"greedy\"}",
    ];
    for limit in at_its_limits {
        crate::deadline::until(limit, async || {
            (gateway.metrics().await.value(limit) > 0.0).then_some(())
        })
        .await;
    }
    let beside = measure(&producer, &calm, &readers, 1 + 2 * RECORDS).await;
    busy.abort_all();

    let all: Vec<_> = (1..=3 * RECORDS).collect();
    for reader in &readers {
        assert_eq!(numbers(reader), all, "each once and in order");
        assert!(reader.seen().disconnects.is_empty());
    }
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.value("aldis_connections{channel=\"calm/news\"}"), 3.0);
    assert!(metrics.value("aldis_connections{channel=\"greedy/news\"}") <= 30.0);
    let at = |times: &[Duration], percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1_000.0;
    for percent in [50, 99] {
        let (alone, beside) = (at(&alone, percent), at(&beside, percent));
        println!(
            "p{percent} alone {alone:.1} ms, beside {beside:.1} ms: {:.1} times",
            beside / alone
        );
    }
}
