//! What clients send: how much each second, how large, and into how many rooms.

use std::collections::BTreeMap;

use super::*;
use crate::deadline::until;

const RELOADS: &str = "aldis_config_reloads_total";

/// Puts other limits in force.
async fn limit(gateway: &Gateway, manifests: &Manifests, limits: &str) {
    let reloads = gateway.metrics().await.value(RELOADS);
    manifests.limit(limits);
    gateway.wait_for_metric(RELOADS, reloads + 1.0).await;
}

/// Sends so many events at once that no channel has; gives how many were acknowledged with which code.
async fn send(client: &Client, count: usize) -> BTreeMap<String, usize> {
    let asked = (0..count).map(|_| client.ask("nothing", json!([])));
    let mut codes = BTreeMap::new();
    for answer in futures_util::future::join_all(asked).await {
        *codes.entry(code(&answer)).or_default() += 1;
    }
    codes
}

fn code(answer: &Value) -> String {
    answer["code"].as_str().unwrap_or("ok").to_owned()
}

async fn counted(gateway: &Gateway, outcome: &str) -> f64 {
    let series = format!("aldis_client_events_total{{channel=\"press/news\",outcome=\"{outcome}\"}}");
    gateway.metrics().await.value(&series)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_sends_too_much_is_told_so_and_no_other_client_is() {
    let manifests = Manifests::news();
    manifests.limit("{clientEventsPerSecond: 5}");
    let gateway = Gateway::start(&manifests.path(), None).await;
    let (node, url) = (Node::start(), gateway.url("/news"));
    let (busy, quiet) = (node.connect(&url, json!({})).await, node.connect(&url, json!({})).await);
    let codes = send(&busy, 200).await;
    assert!(
        codes["too_many_events"] > 100 && codes["unknown_event"] >= 5,
        "{codes:?}"
    );
    assert_eq!(
        codes.values().sum::<usize>(),
        200,
        "each is acknowledged once: {codes:?}"
    );
    assert_eq!(send(&quiet, 1).await["unknown_event"], 1);
    // Those without an id have nobody to tell: they are counted.
    for _ in 0..200 {
        busy.emit("nothing", json!([])).await;
    }
    let all = async || counted(&gateway, "too_many_events").await + counted(&gateway, "unknown_event").await;
    crate::deadline::until_equal("all are counted", 401.0, all).await;
    assert!(counted(&gateway, "too_many_events").await > 200.0);
    limit(&gateway, &manifests, "{clientEventsPerSecond: 10000}").await;
    assert_eq!(send(&busy, 200).await["unknown_event"], 200);
    assert!(busy.seen().disconnects.is_empty() && quiet.seen().disconnects.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_are_bounded_for_a_client_and_for_all_channels_of_a_tenant() {
    let manifests = Manifests::news();
    manifests.channel("sport", "sport:published");
    manifests.limit("{rooms: 3, roomsPerConnection: 2}");
    let gateway = Gateway::start(&manifests.path(), None).await;
    let node = Node::start();
    let connect = async |channel: &str, auth: Value| {
        let url = gateway.url(&format!("/{channel}"));
        node.connect(&url, json!({"auth": auth})).await
    };
    let join = async |client: &Client, room: &str| code(&client.ask("join", json!([{"room": room}])).await);
    let (ann, bob) = (connect("news", json!({})).await, connect("news", json!({})).await);
    assert_eq!([join(&ann, "a").await, join(&ann, "b").await], ["ok", "ok"]);
    assert_eq!(join(&ann, "c").await, "too_many_rooms");
    assert_eq!(join(&ann, "a").await, "ok", "it is in that one already");
    assert_eq!([join(&bob, "a").await, join(&bob, "c").await], ["ok", "ok"]);
    let cid = connect("sport", json!({})).await;
    assert_eq!(join(&cid, "a").await, "rooms_full", "rooms of all channels count");
    let joins = json!({"joins": [["join", {"room": "a"}], ["join", {"room": "b"}], ["join", {"room": "c"}]]});
    let dora = connect("news", joins).await;
    let ready = dora.until("ready", |seen| !seen.ready.is_empty()).await.ready.remove(0);
    let answers = ready["joins"].as_array().unwrap().iter().map(code);
    assert_eq!(answers.collect::<Vec<_>>(), ["ok", "ok", "too_many_rooms"]);
    dora.disconnect().await;
    ann.disconnect().await;
    until("a room is free", async || (join(&cid, "a").await == "ok").then_some(())).await;
    assert_eq!(join(&cid, "b").await, "rooms_full");
    limit(&gateway, &manifests, "{rooms: 4, roomsPerConnection: 3}").await;
    assert_eq!([join(&cid, "b").await, join(&cid, "c").await], ["ok", "rooms_full"]);
    assert!(counted(&gateway, "too_many_rooms").await >= 1.0);
    // Whoever wants a room that has no place is not told so for good: it comes in once there is one.
    let options = json!({"transports": ["websocket"], "forceNew": true, "reconnectionDelay": 100,
        "auth": {"joins": [["join", {"room": "z"}]]}});
    let eve = node.begin("4.8", &gateway.url("/news"), &options).await;
    gateway
        .wait_for_metric(
            "aldis_connects_total{channel=\"press/news\",outcome=\"rooms_full\"}",
            2.0,
        )
        .await;
    assert!(eve.seen().connects.is_empty());
    bob.disconnect().await;
    eve.until("in", |seen| !seen.connects.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_too_large_for_its_tenant_is_refused_and_the_client_stays() {
    let manifests = Manifests::news();
    manifests.limit("{maxPayload: 1k}");
    let gateway = Gateway::start(&manifests.path(), None).await;
    let client = Node::start();
    let client = client.connect(&gateway.url("/news"), json!({})).await;
    let join = async |bytes: usize| {
        code(
            &client
                .ask("join", json!([{"room": "a", "more": "x".repeat(bytes)}]))
                .await,
        )
    };
    assert_eq!([join(900).await, join(1_000).await], ["ok", "too_large"]);
    limit(&gateway, &manifests, "{maxPayload: 2k}").await;
    assert_eq!([join(1_000).await, join(2_000).await], ["ok", "too_large"]);
    assert!(client.seen().disconnects.is_empty());
    assert_eq!(counted(&gateway, "too_large").await, 2.0);
}
