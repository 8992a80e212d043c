//! Order and exactness: many clients, several partitions, several producers.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};

use crate::deadline::within;
use crate::gateway::Gateway;
use crate::kafka::{make_topic, shared};
use crate::manifests::Manifests;
use crate::node::{Client, Node, node};
use crate::records::Producer;

const CLIENTS: usize = 20;
const ROOMS: usize = 4;
const PRODUCERS: usize = 2;
const PARTITIONS: usize = 4;
/// Records of each producer on each partition.
const RECORDS: usize = 375;

/// Record by record: who published it, where, as which.
type Id = (usize, usize, usize);

fn id(payload: &Value) -> Id {
    let number = |name: &str| usize::try_from(payload[name].as_u64().unwrap()).unwrap();
    (number("producer"), number("partition"), number("n"))
}

fn room(number: usize) -> String {
    format!("room-{}", number % ROOMS)
}

#[tokio::test]
async fn each_client_sees_its_rooms_records_exactly_once_and_in_order_per_partition() {
    let kafka = shared().await;
    let manifests = Manifests::news();
    make_topic(&kafka.address(), &manifests.topic, PARTITIONS as i32, &[]).await;
    let gateway = Gateway::start(&manifests.path(), Some(&kafka.address())).await;
    let node = Node::start();
    let mut clients: Vec<(String, Client)> = Vec::new();
    for number in 0..CLIENTS {
        // All versions and transports take part in every room.
        let library = if (number / ROOMS).is_multiple_of(2) {
            "4.7"
        } else {
            "4.8"
        };
        let transport = if number < ROOMS { "polling" } else { "websocket" };
        let options = json!({"transports": [transport], "forceNew": true});
        let client = node.connect_as(library, &gateway.url("/news"), &options).await.unwrap();
        client.join("join", json!({"room": room(number)})).await;
        clients.push((room(number), client));
    }

    let published = (0..PRODUCERS).flat_map(|producer| (0..PARTITIONS).map(move |partition| (producer, partition)));
    let producers: Vec<_> = (0..PRODUCERS).map(|_| Producer::to(&kafka.address())).collect();
    let publishing = published.map(|(producer, partition)| {
        let (connection, topic) = (producers[producer].clone(), manifests.topic.clone());
        async move {
            let record = |n: usize| json!({"type": "news", "room": room(n), "producer": producer, "partition": partition, "n": n});
            let offsets = connection.all(&topic, partition as i32, (0..RECORDS).map(record)).await;
            offsets.into_iter().enumerate().map(move |(n, offset)| ((producer, partition, n), offset)).collect::<Vec<_>>()
        }
    });
    let offsets: HashMap<Id, i64> = futures_util::future::join_all(publishing)
        .await
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(offsets.len(), PRODUCERS * PARTITIONS * RECORDS);

    for (room_name, client) in &clients {
        let expected: BTreeSet<Id> = offsets
            .keys()
            .copied()
            .filter(|(_, _, n)| room(*n) == *room_name)
            .collect();
        let events = client.events(expected.len()).await;
        let got: Vec<Id> = events.iter().map(|event| id(event.payload())).collect();
        assert_eq!(got.len(), expected.len(), "{room_name}: each once");
        assert_eq!(
            got.iter().copied().collect::<BTreeSet<_>>(),
            expected,
            "{room_name}: all of its own and nothing else"
        );
        for partition in 0..PARTITIONS {
            let of_partition = got.iter().filter(|id| id.1 == partition).map(|id| offsets[id]);
            assert!(
                of_partition.is_sorted_by(|a, b| a < b),
                "{room_name}, partition {partition}: in the order of Kafka"
            );
        }
        let positions: Vec<_> = events.iter().map(crate::node::Event::position).collect();
        assert!(positions.iter().all(|(epoch, _)| *epoch == positions[0].0), "one epoch");
        assert!(positions.is_sorted_by(|a, b| a.1 < b.1), "positions grow");
    }
    // All is done, so what would be too much would have come before this.
    for partition in 0..PARTITIONS {
        producers[0]
            .json(
                &manifests.topic,
                partition as i32,
                &json!({"type": "news", "room": room(0), "last": true}),
            )
            .await;
    }
    let each = RECORDS * PRODUCERS * PARTITIONS;
    let series = "aldis_deliveries_total{channel=\"press/news\"}";
    gateway.wait_for_metric(series, (each + PARTITIONS) as f64).await;
    let first = &clients[0].1;
    let all = first.until("the last of each partition", |seen| {
        seen.events.iter().filter(|event| event.args[0]["last"] == true).count() >= PARTITIONS
    });
    let expected = offsets.keys().filter(|(_, _, n)| room(*n) == room(0)).count() + PARTITIONS;
    assert_eq!(all.await.events.len(), expected);
}

/// Clients that send at once, and events of each.
const SENDERS: usize = 6;
const EVENTS: usize = 2_000;

#[tokio::test]
async fn two_thousand_events_of_each_client_are_answered_in_order_while_records_flow() {
    let manifests = Manifests::gateway();
    manifests.numbers(
        "\"true\"",
        "  replies: [{event: echo, ack: \"{args}\", allow: \"true\"}]",
    );
    manifests.limit("{clientEventsPerSecond: 10000}");
    let gateway = Gateway::start_logging(&manifests.path(), None, Some("error")).await;
    let node_process = Node::start();
    let reader = node_process.connect(&gateway.url("/news"), json!({})).await;
    reader.join("join", json!({"room": "a"})).await;
    let (producer, topic) = (Producer::to(gateway.broker()), manifests.topic.clone());
    let records = tokio::spawn(async move {
        for n in 0_u64.. {
            producer.json(&topic, 0, &json!({"room": "a", "n": n})).await;
        }
    });
    let job = json!({"library": "4.8", "url": gateway.url("/news"), "clients": SENDERS, "events": EVENTS});
    let output = within("all are answered", node(&["burst.js", &job.to_string()]).output())
        .await
        .unwrap();
    records.abort();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected: Vec<_> = (0..EVENTS).collect();
    for answers in told["clients"].as_array().unwrap() {
        assert_eq!(*answers, json!(expected));
    }
    let seen = reader.seen();
    println!(
        "{SENDERS} clients with {EVENTS} events each, beside {} deliveries",
        seen.events.len()
    );
    assert!(seen.disconnects.is_empty() && !seen.events.is_empty());
}
