//! One tenant at all its limits, beside another that is not: at one gateway, and at two that share a Redis.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::*;
use crate::kafka::{make_topic, shared};
use crate::records::Producer;
use crate::redis::Redis;

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

/// Manifests of two tenants, each with a topic of its own, and those topics.
async fn tenants(kafka: &str) -> (Manifests, [String; 2]) {
    let manifests = Manifests::gateway();
    let topics = ["calm", "greedy"].map(|tenant| format!("{}.{tenant}", manifests.topic));
    for (tenant, topic) in ["calm", "greedy"].iter().zip(&topics) {
        make_topic(kafka, topic, 1, &[]).await;
        write_channel(&manifests, tenant, &[topic]);
    }
    manifests.limit_each(&[("calm", "{}"), ("greedy", LIMITS)]);
    (manifests, topics)
}

/// The sum of a metric over all gateways.
async fn sum(gateways: &[Gateway], series: &str) -> f64 {
    let mut sum = 0.0;
    for gateway in gateways {
        sum += gateway.metrics().await.value(series);
    }
    sum
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_at_all_its_limits_costs_another_no_delivery() {
    let kafka = shared().await;
    let (manifests, topics) = tenants(&kafka.address()).await;
    let gateway = Gateway::start(&manifests.path(), Some(&kafka.address())).await;
    let limits = [
        "aldis_client_events_total{channel=\"greedy/news\",outcome=\"rooms_full\"}",
        "aldis_history_dropped_total{namespace=\"greedy\"}",
    ];
    beside(&kafka.address(), &[gateway], &topics, &limits).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_at_its_limits_over_two_replicas_costs_another_no_delivery() {
    let (kafka, redis) = (shared().await, Redis::start().await);
    let (manifests, topics) = tenants(&kafka.address()).await;
    let replica = async || Gateway::replica(&manifests.path(), &kafka.address(), &redis.url()).await;
    let gateways = [replica().await, replica().await];
    for gateway in &gateways {
        gateway.wait_for_metric("aldis_replicas", 2.0).await;
    }
    // Rooms and bytes of history are counted otherwise where replicas share a Redis.
    beside(&kafka.address(), &gateways, &topics, &[]).await;
}

/// Measures the one alone, then while the other is at its limits, these among them. Clients of both are spread over all gateways.
async fn beside(kafka: &str, gateways: &[Gateway], [calm, greedy]: &[String; 2], more_limits: &[&str]) {
    let producer = Producer::to(kafka);
    let (node, crowd) = (Node::start(), Node::start());
    let mut readers = Vec::new();
    for (gateway, transport) in gateways.iter().cycle().zip(["websocket", "websocket", "polling"]) {
        let reader = node
            .connect_as("4.8", &gateway.url("/calm"), &by(transport))
            .await
            .unwrap();
        reader.join("join", json!({"room": "a"})).await;
        readers.push(reader);
    }
    measure(&producer, calm, &readers, 1).await;
    let alone = measure(&producer, calm, &readers, 1 + RECORDS).await;

    // More clients than may be there, that come again and again; each of those that are in wants more rooms, sends more and larger
    // events than it may, and there are more records than are delivered each second.
    let mut busy = JoinSet::new();
    for (number, gateway) in (0..40_u64).zip(gateways.iter().cycle()) {
        let client = crowd.begin("4.8", &gateway.url("/greedy"), &by("websocket")).await;
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
        "aldis_client_events_total{channel=\"greedy/news\",outcome=\"too_large\"}",
        &format!("aldis_paced_seconds_count{{topic=\"{greedy}\"}}"),
    ];
    for limit in at_its_limits.iter().chain(more_limits) {
        crate::deadline::until(limit, async || (sum(gateways, limit).await > 0.0).then_some(())).await;
    }
    let beside = measure(&producer, calm, &readers, 1 + 2 * RECORDS).await;
    busy.abort_all();

    let all: Vec<_> = (1..=3 * RECORDS).collect();
    for reader in &readers {
        assert_eq!(numbers(reader), all, "each once and in order");
        assert!(reader.seen().disconnects.is_empty());
    }
    assert_eq!(sum(gateways, "aldis_connections{channel=\"calm/news\"}").await, 3.0);
    // One that goes is counted for a moment longer than it has its place.
    crate::deadline::until("no more are in than may be", async || {
        (sum(gateways, "aldis_connections{channel=\"greedy/news\"}").await <= 30.0).then_some(())
    })
    .await;
    let at = |times: &[Duration], percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1_000.0;
    for percent in [50, 99] {
        let (alone, beside) = (at(&alone, percent), at(&beside, percent));
        println!(
            "p{percent} alone {alone:.1} ms, beside {beside:.1} ms: {:.1} times",
            beside / alone
        );
    }
}
