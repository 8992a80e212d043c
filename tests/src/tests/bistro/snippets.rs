//! The client snippets of the example's page, unchanged but for the host: each is a program of stock Node.

use serde_json::{Value, json};
use tokio::process::Child;

use super::Bistro;
use crate::gateway::{Gateway, Lines};
use crate::kafka::{make_topic, shared};
use crate::manifests::Manifests;
use crate::markdown::blocks_of;
use crate::node::{node, program_at};
use crate::proxy::Proxy;
use crate::records::Producer;
use crate::redis::Redis;

/// A snippet that runs.
struct Running {
    printed: Lines,
    _child: Child,
}

impl Running {
    /// Runs `before`, the first snippet, which connects, then the one that contains `what`, if there is one, then `after`.
    async fn start(bistro: &Bistro, before: &str, what: &str, after: &str) -> Self {
        let running = Self::at(&bistro.gateway.address(), before, what, after).await;
        if what.starts_with("subscribe") {
            running.has_joined(&bistro.gateway).await;
        }
        running
    }

    /// The same, with `host:port` of whatever stands before gateways.
    async fn at(address: &str, before: &str, what: &str, after: &str) -> Self {
        let snippets: Vec<_> = blocks_of("examples/bistro/README.md".as_ref())
            .into_iter()
            .filter(|block| block.language == "js")
            .collect();
        assert_eq!(snippets.len(), 5);
        let found = snippets[1..].iter().find(|block| block.text.contains(what));
        let text = found.map_or("", |block| &block.text);
        let text = format!("{before}{}{text}{after}", snippets[0].text);
        let mut child = node(&["-e", &program_at(&text, address)]).spawn().unwrap();
        let running = Self {
            printed: Lines::of(child.stdout.take().unwrap()),
            _child: child,
        };
        running.prints("connected: ").await;
        running
    }

    async fn has_joined(&self, gateway: &Gateway) {
        let joined = "aldis_client_events_total{channel=\"bistro/orders\",outcome=\"join\"}";
        gateway.wait_for_metric(joined, 1.0).await;
    }

    /// Waits until it has printed a line that begins so; gives the rest of it.
    async fn prints(&self, beginning: &str) -> String {
        let of = |line: &str| line.strip_prefix(beginning).map(str::to_owned);
        self.printed.find(beginning, of).await
    }
}

fn order(more: Value) -> Value {
    let mut data = json!({"order_id": 7, "tenant_id": "tenant-456", "customer_id": "c-1"});
    data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    data
}

#[tokio::test]
async fn snippet_1_connects_and_hears_the_id_of_its_socket() {
    let bistro = Bistro::as_it_stands().await;
    let observe = "socket.on('connect', () => console.log('id:', socket.id));";
    let running = Running::start(&bistro, "", "none", observe).await;
    assert_eq!(running.prints("connected: ").await, running.prints("id: ").await);
}

#[tokio::test]
async fn snippet_2_sees_new_orders_and_their_status() {
    let bistro = Bistro::as_it_stands().await;
    let running = Running::start(&bistro, "", "subscribe:orders", "").await;
    bistro.publish("order.created", order(json!({"items": []}))).await;
    assert!(running.prints("new order: ").await.contains('{'));
    bistro
        .publish("order.status_changed", order(json!({"status": "cooking"})))
        .await;
    assert_eq!(running.prints("status: ").await, "cooking");
}

#[tokio::test]
async fn snippet_3_sees_what_is_to_be_cooked_and_what_is_ready() {
    let bistro = Bistro::as_it_stands().await;
    let running = Running::start(&bistro, "", "subscribe:kitchen", "").await;
    bistro.publish("order.created", order(json!({"items": []}))).await;
    running.prints("to cook: ").await;
    bistro.publish("order.ready", order(json!({}))).await;
    assert_eq!(running.prints("ready: ").await, "7");
}

#[tokio::test]
async fn snippet_4_sees_alerts_that_name_the_item_and_the_amount() {
    let bistro = Bistro::as_it_stands().await;
    let running = Running::start(&bistro, "", "subscribe:managers", "").await;
    let low = json!({"tenant_id": "tenant-456", "item_id": "i-1", "item_name": "Flour"});
    bistro.publish("inventory.low_stock", low).await;
    assert_eq!(running.prints("running low: ").await, "Flour");
    bistro
        .publish("payment.confirmed", order(json!({"amount": 12.5})))
        .await;
    assert_eq!(running.prints("paid: ").await, "12.5");
}

#[tokio::test]
async fn snippet_5_pings_every_30_s_and_is_answered_each_time() {
    let bistro = Bistro::as_it_stands().await;
    // 30 s pass in 10 ms for it.
    let clock = "const every = setInterval; setInterval = (what, ms) => every(what, ms === 30000 ? 10 : ms);\n";
    let observe = "let count = 0;
        socket.on('pong', () => console.log('pong:', ++count));
        socket.on('disconnect', (reason) => console.log('gone:', reason));";
    let running = Running::start(&bistro, clock, "'ping'", observe).await;
    running.prints("pong: 3").await;
    assert!(!running.printed.text().contains("gone:"), "{}", running.printed.text());
}

/// It emits its subscription once, outside of any handler, and nobody told it that connections end.
#[tokio::test]
async fn snippet_2_gets_its_events_again_after_the_replica_that_served_it_was_killed() {
    let (manifests, kafka, redis) = (Manifests::bistro(), shared().await, Redis::start().await);
    make_topic(&kafka.address(), &manifests.topic, 1, &[]).await;
    let mut first = Gateway::replica(&manifests.path(), &kafka.address(), &redis.url()).await;
    let second = Gateway::replica(&manifests.path(), &kafka.address(), &redis.url()).await;
    let before = Proxy::before(&first.address()).await;
    let running = Running::at(&before.address.to_string(), "", "subscribe:orders", "").await;
    running.has_joined(&first).await;

    let producer = Producer::to(&kafka.address());
    let status = |status: &str| json!({"event_type": "order.status_changed", "data": order(json!({"status": status}))});
    producer.json(&manifests.topic, 0, &status("before")).await;
    assert_eq!(running.prints("status: ").await, "before");
    before.lead_to(&second.address());
    first.kill().await;
    producer.json(&manifests.topic, 0, &status("after")).await;
    running.prints("status: after").await;
    let statuses = |line: &&str| line.starts_with("status: ");
    let printed = running.printed.text();
    let printed: Vec<_> = printed.lines().filter(statuses).collect();
    assert_eq!(printed, ["status: before", "status: after"]);
}
