//! Clients that poll: through a proxy that repeats itself, and slowly.

use std::time::Duration;

use aldis_gateway::sabotage::Rule;
use serde_json::{Value, json};

use crate::deadline::until;
use crate::gateway::Gateway;
use crate::manifests::Manifests;
use crate::node::Node;
use crate::raw::{Polling, Server};
use crate::records::Producer;
use crate::repeating::RepeatingProxy;

/// Records that count.
const RECORDS: u64 = 60;
/// Between two of them: so that they come by many polls.
const PAUSE: Duration = Duration::from_millis(10);

/// Numbers of the events that a stock client gets through a proxy that loses replies and asks again; `None` where the client
/// was disconnected meanwhile.
async fn through_a_proxy_that_repeats(without: Option<Rule>) -> Option<Vec<u64>> {
    let manifests = Manifests::news();
    let gateway = Gateway::start_without(&manifests.path(), without).await;
    let proxy = RepeatingProxy::before(&Server::of(&gateway).address).await;
    let node = Node::start();
    let url = format!("http://{}/news", proxy.address);
    let client = node
        .connect_as("4.8", &url, &json!({"transports": ["polling"]}))
        .await
        .unwrap();
    client.join("join", json!({"room": "a"})).await;
    proxy.repeat();
    let producer = Producer::to(gateway.broker());
    let record = |n: u64| json!({"type": "news", "room": "a", "n": n});
    for n in 1..=RECORDS {
        producer.json(&manifests.topic, 0, &record(n)).await;
        tokio::time::sleep(PAUSE).await;
    }
    // More of them, until one has come: then all before have, or never will.
    let number = |event: &crate::node::Event| event.payload()["n"].as_u64().unwrap();
    let mut next = RECORDS;
    let seen = until("an event after the last that counts", async || {
        next += 1;
        producer.json(&manifests.topic, 0, &record(next)).await;
        let seen = client.seen();
        seen.events.iter().any(|event| number(event) > RECORDS).then_some(seen)
    })
    .await;
    assert!(
        proxy.repeated() > 5,
        "it has asked again only {} times",
        proxy.repeated()
    );
    let numbers = seen.events.iter().map(number).filter(|n| *n <= RECORDS);
    seen.disconnects.is_empty().then(|| numbers.collect())
}

#[tokio::test]
async fn rule_06_a_poll_that_is_asked_again_loses_and_doubles_nothing() {
    let all: Vec<_> = (1..=RECORDS).collect();
    assert_eq!(through_a_proxy_that_repeats(None).await, Some(all.clone()));
    assert_ne!(
        through_a_proxy_that_repeats(Some(Rule::Polling)).await,
        Some(all),
        "without the rule it is the proxy that gets the events"
    );
}

/// A client that polls by hand, on `/news`; with the pid of its session, its first position, and whether it was recovered.
async fn connect(server: &Server, auth: &Value) -> (Polling, String, String, bool) {
    let session = server.open().await;
    session.send(&format!("40/news,{auth}")).await;
    let (mut pid, mut ready) = (None, None);
    while ready.is_none() {
        for packet in session.packets().await {
            if let Some(connect) = packet.strip_prefix("40/news,") {
                let connect: Value = serde_json::from_str(connect).unwrap();
                pid = connect["pid"].as_str().map(str::to_owned);
            } else if packet.contains("aldis:ready") {
                ready = Some(serde_json::from_str::<Value>(packet.strip_prefix("42/news,").unwrap()).unwrap());
            }
        }
    }
    let ready = ready.unwrap();
    let position = ready[2].as_str().unwrap().to_owned();
    (session, pid.unwrap(), position, ready[1]["recovered"] == true)
}

/// Bytes of each payload, and how many: 2 MB, twice what may wait.
const PAYLOAD: usize = 10_000;
const EVENTS: u64 = 200;

#[tokio::test]
async fn a_client_that_does_not_poll_is_closed_at_a_bound_in_bytes_and_recovers() {
    let manifests = Manifests::gateway();
    manifests.channel("news", "news:published");
    let text = std::fs::read_to_string(manifests.path().join("news.yaml")).unwrap();
    manifests.write("news.yaml", &format!("{text}  history: {{size: 1000}}\n"));
    let gateway = Gateway::start(&manifests.path(), None).await;
    let server = Server::of(&gateway);
    let (slow, pid, position, _) = connect(&server, &json!({})).await;
    slow.send("42/news,1[\"join\",{\"room\":\"a\"}]").await;
    assert!(slow.packets().await[0].starts_with("43/news,1[{\"ok\":true"));
    let producer = Producer::to(gateway.broker());
    let text = "x".repeat(PAYLOAD);
    for n in 1..=EVENTS {
        let record = json!({"type": "news", "room": "a", "n": n, "text": text});
        producer.json(&manifests.topic, 0, &record).await;
    }
    gateway
        .wait_for_metric(
            "aldis_clients_closed_total{channel=\"press/news\",reason=\"slow_consumer\"}",
            1.0,
        )
        .await;
    assert_eq!(slow.poll().await.status, 400);

    let auth = json!({"pid": pid, "offset": position});
    let session = server.open().await;
    session.send(&format!("40/news,{auth}")).await;
    let mut numbers = Vec::new();
    let mut recovered = false;
    while numbers.last() != Some(&EVENTS) {
        for packet in session.packets().await {
            let Some(event) = packet.strip_prefix("42/news,") else {
                continue;
            };
            let event: Value = serde_json::from_str(event).unwrap();
            match event[0].as_str().unwrap() {
                "aldis:ready" => recovered = event[1]["recovered"] == true,
                _ => numbers.push(event[1]["n"].as_u64().unwrap()),
            }
        }
    }
    assert!(recovered);
    assert_eq!(numbers, (1..=EVENTS).collect::<Vec<_>>());
}

#[tokio::test]
async fn replies_that_are_not_fetched_are_bounded_too() {
    let manifests = Manifests::gateway();
    manifests.write(
        "news.yaml",
        "apiVersion: aldis.dev/v1alpha1
kind: NotificationChannel
metadata: {name: news, namespace: press}
spec:
  parentRefs: [{name: shared}]
  paths: [/news]
  authentication: {anonymous: {}}
  replies: [{event: echo, ack: \"{args}\", allow: \"true\"}]
",
    );
    let gateway = Gateway::start(&manifests.path(), None).await;
    let (session, ..) = connect(&Server::of(&gateway), &json!({})).await;
    let event = format!("42/news,1[\"echo\",\"{}\"]", "x".repeat(90_000));
    let mut sent = 0;
    while session.push(&event).await.status == 200 {
        sent += 1;
        assert!(sent <= 13, "more than 1 MiB waits");
    }
    assert!(sent >= 11, "{sent}");
    assert_eq!(session.poll().await.status, 400);
}
