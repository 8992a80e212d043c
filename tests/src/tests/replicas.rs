//! Gateways that share Kafka and Redis: a stock client misses nothing and sees nothing twice, whichever of them dies.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::deadline::{until_equal, within};
use crate::gateway::Gateway;
use crate::kafka::{make_topic, shared};
use crate::manifests::Manifests;
use crate::node::{Node, node};
use crate::proxy::Proxy;
use crate::records::Producer;
use crate::redis::Redis;

mod answers;
mod cluster;
mod deaf;
mod limits;
mod rollback;
mod sentinels;

/// Records that flow meanwhile.
const RECORDS: u64 = 600;
/// How long clients may take for them. The partitions of a gateway that was killed wait some seconds for its group.
const PATIENCE: Duration = Duration::from_secs(90);

/// A channel press/news on `/news` whose rooms keep much.
fn manifests() -> Manifests {
    let manifests = Manifests::gateway();
    manifests.numbers("\"true\"", "  history: {size: 2000, ttl: 10m}");
    manifests
}

/// A process of stock clients that have all joined.
struct Clients {
    _process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Clients {
    async fn start(job: &Value) -> Self {
        let mut process = node(&["recovery.js", &job.to_string()]).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let joined = within("all clients have joined", lines.next_line()).await.unwrap();
        assert_eq!(joined.as_deref(), Some("{\"joined\":true}"));
        Self {
            _process: process,
            lines,
        }
    }

    /// What each has seen: the numbers of its events, and all that it tells.
    async fn seen(&mut self) -> Vec<(Vec<u64>, Value)> {
        let seen = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
        let seen = seen.expect("the clients tell what they have seen").unwrap();
        let seen: Value = serde_json::from_str(&seen.expect("the clients tell what they have seen")).unwrap();
        let numbers = |client: &Value| {
            let numbers = client["numbers"].as_array().unwrap().iter();
            numbers.filter_map(Value::as_u64).collect()
        };
        let clients = seen["clients"].as_array().unwrap().iter();
        clients.map(|client| (numbers(client), client.clone())).collect()
    }

    /// All records, in order, and nobody was ever disconnected.
    async fn have_seen_everything_once(mut self) {
        for (numbers, client) in self.seen().await {
            assert_eq!(numbers, (1..=RECORDS).collect::<Vec<_>>(), "{client}");
            assert_eq!(client["connects"], 1, "{client}");
        }
    }
}

/// How many deliveries gateways have made, of which one reads each partition.
async fn delivered(gateways: &[Gateway]) -> f64 {
    let mut delivered = 0.0;
    for gateway in gateways {
        let metrics = gateway.metrics().await;
        delivered += metrics.value("aldis_deliveries_total{channel=\"press/news\"}");
    }
    delivered
}

/// Waits until the first `count` records are delivered.
async fn wait_until_delivered(gateways: &[Gateway], count: u64) {
    until_equal("the records are delivered", count as f64, async || {
        delivered(gateways).await
    })
    .await;
}

/// The last number that a channel has given out, as this node knows it.
async fn last_seq(node: &Redis) -> u64 {
    let mut last = 0;
    for channel in node.ask_replica::<Vec<String>>(&["KEYS", "aldis:*}:c"]).await {
        let seq: Option<u64> = node.ask_replica(&["HGET", &channel, "seq"]).await;
        last = last.max(seq.unwrap_or(0));
    }
    last
}

async fn clients_survive(options: Value, library: &str) {
    let (manifests, kafka, redis) = (manifests(), shared().await, Redis::start().await);
    make_topic(&kafka.address(), &manifests.topic, 1, &[]).await;
    let mut first = Gateway::replica(&manifests.path(), &kafka.address(), &redis.url()).await;
    let second = Gateway::replica(&manifests.path(), &kafka.address(), &redis.url()).await;
    let proxy = Proxy::before(&first.address()).await;
    let job = json!({
        "library": library, "url": format!("http://{}/news", proxy.address), "options": options,
        "clients": 4, "join": {"room": "a"}, "last": RECORDS,
    });
    let mut clients = Clients::start(&job).await;

    let producer = Producer::to(&kafka.address());
    for n in 1..=RECORDS {
        producer.json(&manifests.topic, 0, &json!({"n": n, "room": "a"})).await;
        if n == RECORDS / 2 {
            // Where they come back to has never seen them.
            proxy.lead_to(&second.address());
            first.kill().await;
        }
    }
    for (numbers, client) in clients.seen().await {
        let expected: Vec<_> = (1..=RECORDS).collect();
        let lost: Vec<_> = expected.iter().filter(|n| !numbers.contains(n)).collect();
        assert!(lost.is_empty(), "lost {lost:?}: {client}");
        assert_eq!(numbers, expected, "something came twice or out of order");
        assert_eq!(client["notRecovered"], json!([]));
        assert_eq!(
            (client["connects"].as_u64(), client["recovered"].as_u64()),
            (Some(2), Some(1)),
            "{client}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_a_gateway_that_was_killed_goes_on_at_another_and_misses_nothing() {
    clients_survive(json!({"transports": ["websocket"]}), "4.8").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_polls_goes_on_at_another_gateway_too() {
    clients_survive(json!({"transports": ["polling"]}), "4.8").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_comes_back_without_its_last_writes_costs_no_client_anything() {
    let (manifests, kafka, mut redis) = (manifests(), shared().await, Redis::start().await);
    make_topic(&kafka.address(), &manifests.topic, 1, &[]).await;
    let gateway = Gateway::replica(&manifests.path(), &kafka.address(), &redis.url()).await;
    let job = json!({
        "library": "4.8", "url": gateway.url("/news"), "options": {"transports": ["websocket"]},
        "clients": 2, "join": {"room": "a"}, "last": RECORDS,
    });
    let clients = Clients::start(&job).await;

    let producer = Producer::to(&kafka.address());
    let delivered = "aldis_deliveries_total{channel=\"press/news\"}";
    for n in 1..=RECORDS {
        producer.json(&manifests.topic, 0, &json!({"n": n, "room": "a"})).await;
        if n == RECORDS / 3 {
            gateway.wait_for_metric(delivered, n as f64).await;
            let _: String = redis.ask(&["SAVE"]).await;
        }
        if n == RECORDS / 2 {
            gateway.wait_for_metric(delivered, n as f64).await;
            redis.crash();
            redis.restart().await;
        }
    }
    clients.have_seen_everything_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_redis_has_forgotten_is_written_again() {
    let (manifests, kafka, mut redis) = (manifests(), shared().await, Redis::start().await);
    make_topic(&kafka.address(), &manifests.topic, 1, &[]).await;
    let gateway = Gateway::replica(&manifests.path(), &kafka.address(), &redis.url()).await;
    let node = Node::start();
    // Its channel is there when Redis is saved, and it is not.
    let before = node.connect(&gateway.url("/news"), json!({})).await;
    before.join("join", json!({"room": "a"})).await;
    let _: String = redis.ask(&["SAVE"]).await;
    let client = node.connect(&gateway.url("/news"), json!({})).await;
    client.join("join", json!({"room": "a"})).await;
    redis.crash();
    redis.restart().await;
    client.join("join", json!({"room": "b"})).await;
    until_equal("both sessions are there", 2, async || {
        let sessions: Vec<String> = redis.ask(&["KEYS", "aldis:*}:s:*"]).await;
        sessions.len()
    })
    .await;
    let (_, ready) = client.come_back().await;
    assert_eq!(
        (&ready["recovered"], &ready["rooms"]),
        (&json!(true), &json!(["room:a", "room:b"]))
    );
}
