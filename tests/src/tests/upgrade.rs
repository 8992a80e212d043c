//! The default client: it polls, and goes over to WebSocket while deliveries flow.

use aldis_gateway::sabotage::Rule;
use serde_json::{Value, json};

use crate::deadline::until_equal;
use crate::gateway::Gateway;
use crate::manifests::Manifests;
use crate::raw::{Frame, Server};
use crate::records::Producer;

/// Deliveries before the upgrade begins, between its probe and its end, and after.
const EACH: u64 = 40;

/// Numbers of the deliveries in the order in which they come over the WebSocket, for a client that does not poll once it has
/// joined; and whether one came before the client said that it had upgraded.
async fn upgraded(without: Option<Rule>) -> (Vec<u64>, bool) {
    let manifests = Manifests::news();
    let gateway = Gateway::start_without(&manifests.path(), without).await;
    let server = Server::of(&gateway);
    let producer = Producer::to(gateway.broker());
    let session = server.open().await;
    session.send("40/news,").await;
    while !session
        .packets()
        .await
        .iter()
        .any(|packet| packet.contains("aldis:ready"))
    {}
    session.send("42/news,1[\"join\",{\"room\":\"a\"}]").await;
    assert!(session.packets().await[0].starts_with("43/news,1[{\"ok\":true"));

    let publish = async |from: u64| {
        let record = |n| json!({"type": "news", "room": "a", "n": n});
        producer
            .all(&manifests.topic, 0, (from + 1..=from + EACH).map(record))
            .await;
        let sends = async || {
            gateway
                .metrics()
                .await
                .value("aldis_sends_total{channel=\"press/news\"}")
        };
        let joined = "aldis_deliveries_total{channel=\"press/news\"}";
        until_equal("all are numbered", (from + EACH) as f64, async || {
            gateway.metrics().await.value(joined)
        })
        .await;
        until_equal("all are queued", true, async || sends().await >= (from + EACH) as f64).await;
    };
    publish(0).await;
    let mut socket = session.probe().await;
    publish(EACH).await;
    // What is there already came before the upgrade; a ping tells where that ends.
    let mut frames = Vec::new();
    let early = match tokio::time::timeout(std::time::Duration::from_millis(300), socket.any()).await {
        Ok(frame) => {
            frames.push(frame);
            true
        }
        Err(_) => false,
    };
    socket.send("5").await;
    publish(2 * EACH).await;
    let mut numbers = Vec::new();
    loop {
        for frame in frames.drain(..) {
            let Frame::Text(text) = frame else {
                panic!("it stays open: {frame:?}")
            };
            let Some(event) = text.strip_prefix("42/news,") else {
                continue;
            };
            let event: Value = serde_json::from_str(event).unwrap();
            numbers.extend(event[1]["n"].as_u64());
        }
        if numbers.len() as u64 == 3 * EACH {
            return (numbers, early);
        }
        frames.push(socket.next().await);
    }
}

#[tokio::test]
async fn rule_04_a_client_that_upgrades_gets_its_deliveries_in_order_from_the_upgrade_on() {
    let in_order: Vec<_> = (1..=3 * EACH).collect();
    assert_eq!(upgraded(None).await, (in_order.clone(), false));
    let (numbers, early) = upgraded(Some(Rule::Upgrade)).await;
    assert!(early, "without the rule they come before the client has upgraded");
    assert_ne!(numbers, in_order);
}
