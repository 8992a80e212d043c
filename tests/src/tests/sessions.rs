//! Sessions of stock clients: who has them, what keeps them fresh, and which rooms are in them.

use aldis_gateway::sabotage::Rule;
use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::manifests::Manifests;
use crate::node::{Client, Node, position};
use crate::records::Producer;

/// A gateway with the channel press/news on `/news`, and Node clients.
struct Press {
    gateway: Gateway,
    manifests: Manifests,
    producer: Producer,
    node: Node,
}

impl Press {
    /// What the channel says beside sources, routes and rooms.
    async fn open(more: &str, without: Option<Rule>) -> Self {
        let manifests = Manifests::gateway();
        manifests.numbers("\"true\"", more);
        Self::run(manifests, without).await
    }

    async fn run(manifests: Manifests, without: Option<Rule>) -> Self {
        let gateway = Gateway::start_without(&manifests.path(), without).await;
        Self {
            producer: Producer::to(gateway.broker()),
            gateway,
            manifests,
            node: Node::start(),
        }
    }

    async fn client(&self, options: Value) -> Client {
        self.node.connect(&self.gateway.url("/news"), options).await
    }

    /// A client of which nobody waits whether it gets in.
    async fn begin(&self, options: &Value) -> Client {
        self.node.begin("4.8", &self.gateway.url("/news"), options).await
    }

    async fn publish(&self, room: &str, n: u32) {
        let record = json!({"room": room, "n": n});
        self.producer.json(&self.manifests.topic, 0, &record).await;
    }
}

/// What a client has received of the channel's events.
fn numbers(client: &Client) -> Vec<u64> {
    let events = client.seen().events;
    let news = events.iter().filter(|event| event.name == "news");
    news.map(|event| event.args[0].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn rule_02_a_reply_that_ends_in_a_string_does_not_become_the_offset() {
    let comes_back = async |without: Option<Rule>| {
        let replies = "  replies: [{event: ping, emit: {event: pong, payload: \"2026-11-21\"}, ack: {ok: true}, allow: \"true\"}]";
        let press = Press::open(replies, without).await;
        let client = press.client(json!({})).await;
        client.join("join", json!({"room": "a"})).await;
        press.publish("a", 1).await;
        client.event("news").await;
        client.ask("ping", json!([])).await;
        client.event("pong").await;
        let (connected, info) = client.come_back().await;
        press.publish("a", 2).await;
        client.until("the second", |_| numbers(&client).len() >= 2).await;
        assert_eq!(numbers(&client), [1, 2]);
        (connected.recovered, info["reason"].clone())
    };
    assert_eq!(comes_back(None).await, (true, Value::Null));
    assert_eq!(
        comes_back(Some(Rule::OnlyPositionsAreStrings)).await,
        (false, json!("offset"))
    );
}

/// Two clients with the session of one that is gone, which both have claimed it before either is let in. Gives what they get of
/// one record, together.
async fn two_come_back_at_once(without: Option<Rule>) -> Vec<u64> {
    let manifests = Manifests::gateway();
    manifests.numbers("\"true\"", "");
    // Two others have the only places, so that these two wait for one with the session claimed.
    manifests.limit("{connections: 2}");
    let press = Press::run(manifests, without).await;
    let once = json!({"reconnection": false});
    let first = press.client(once.clone()).await;
    let joined = first.join("join", json!({"room": "a"})).await;
    let mut options = once;
    options["auth"] = json!({"pid": first.connected().pid, "offset": joined["position"]});
    options["transports"] = json!(["websocket"]);
    options["forceNew"] = json!(true);
    first.break_off().await;
    let connections = "aldis_connections{channel=\"press/news\"}";
    press.gateway.wait_for_metric(connections, 0.0).await;
    let others = [press.client(json!({})).await, press.client(json!({})).await];
    let both = <[Client; 2]>::from(tokio::join!(press.begin(&options), press.begin(&options)));
    let waiting = "aldis_connects_waiting{for=\"permit\"}";
    press.gateway.wait_for_metric(waiting, 2.0).await;
    for other in others {
        other.disconnect().await;
    }
    for client in &both {
        client
            .wait("in, or closed", |seen| {
                !seen.ready.is_empty() || !seen.disconnects.is_empty()
            })
            .await;
    }
    press.publish("a", 1).await;
    let sends = "aldis_sends_total{channel=\"press/news\"}";
    crate::deadline::until_equal("whom it is sent to has it", true, async || {
        let sent = press.gateway.metrics().await.value(sends);
        let got: usize = both.iter().map(|client| numbers(client).len()).sum();
        got > 0 && got as f64 == sent
    })
    .await;
    both.iter().flat_map(numbers).collect()
}

#[tokio::test]
async fn rule_08_of_two_clients_that_come_back_at_once_one_stays_and_gets_each_delivery_once() {
    assert_eq!(two_come_back_at_once(None).await, [1]);
    assert_eq!(
        two_come_back_at_once(Some(Rule::Generation)).await,
        [1, 1],
        "both are in"
    );
}

#[tokio::test]
async fn a_session_that_two_take_from_a_live_client_has_one_who_gets_each_delivery_once() {
    let press = Press::open("", None).await;
    let once = json!({"reconnection": false});
    let first = press.client(once.clone()).await;
    let joined = first.join("join", json!({"room": "a"})).await;
    let auth = json!({"pid": first.connected().pid, "offset": joined["position"]});
    let mut options = once;
    options["auth"] = auth;
    options["transports"] = json!(["websocket"]);
    options["forceNew"] = json!(true);
    let (second, third) = tokio::join!(press.begin(&options), press.begin(&options));
    // The first is closed, and of the others the earlier, maybe before it has heard that it is connected.
    let all = [&first, &second, &third];
    let gone = |client: &Client| !client.seen().disconnects.is_empty();
    crate::deadline::until_equal("one is left, and in", (1, true), async || {
        let left: Vec<_> = all.iter().filter(|client| !gone(client)).collect();
        (left.len(), left.iter().all(|client| !client.seen().ready.is_empty()))
    })
    .await;
    press
        .gateway
        .wait_for_metric("aldis_connections{channel=\"press/news\"}", 1.0)
        .await;
    assert!(gone(&first), "its session has another connection");
    let left = all.into_iter().find(|client| !gone(client)).unwrap();
    assert_eq!(left.seen().ready[0], json!({"recovered": true, "rooms": ["room:a"]}));
    press.publish("a", 1).await;
    left.event("news").await;
    assert_eq!(all.map(numbers).concat(), [1], "nobody else gets it");
}

#[tokio::test]
async fn an_idle_client_hears_where_the_channel_stands_and_comes_back_after_several_ttls() {
    let press = Press::open("  history: {size: 10, ttl: 1s}", None).await;
    let client = press.client(json!({})).await;
    client.join("join", json!({"room": "quiet"})).await;
    // Others are busy, until the client has heard of it for five half ttls.
    let mut n = 0;
    while client.seen().beacons.len() < 5 {
        n += 1;
        assert!(n < 2_000, "{:?}", client.seen().beacons);
        press.publish("busy", n).await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let beacons: Vec<_> = client.seen().beacons.iter().map(|beacon| position(beacon).1).collect();
    assert!(beacons.is_sorted_by(|a, b| a < b), "{beacons:?}");
    let (connected, _) = client.come_back().await;
    assert!(connected.recovered);
    press.publish("quiet", 1).await;
    client.event("news").await;
    assert_eq!(numbers(&client), [1]);
}

#[tokio::test]
async fn when_the_rules_change_a_member_leaves_hears_so_and_nobody_is_disconnected() {
    let mut press = Press::open("", None).await;
    let client = press.client(json!({})).await;
    for room in ["a", "b"] {
        client.join("join", json!({"room": room})).await;
    }
    press.manifests.numbers("\"args.room != 'a'\"", "");
    press.gateway.wait_for_output("# reloaded").await;
    let left = client.event("aldis:left").await;
    assert_eq!(left.args[0], json!({"room": "room:a", "reason": "denied"}));
    press.publish("a", 1).await;
    press.publish("b", 2).await;
    client.event("news").await;
    let (connected, info) = client.come_back().await;
    assert_eq!((connected.recovered, &info["rooms"]), (true, &json!(["room:b"])));
    assert_eq!(numbers(&client), [2]);
    let seen = client.seen();
    assert_eq!(
        (seen.connects.len(), seen.disconnects.len()),
        (2, 1),
        "only when it broke off itself"
    );
}

#[tokio::test]
async fn a_client_without_a_session_goes_on_from_a_position() {
    let press = Press::open("", None).await;
    let witness = press.client(json!({})).await;
    witness.join("join", json!({"room": "a"})).await;
    for n in 1..=3 {
        press.publish("a", n).await;
    }
    let first = witness.events(3).await[0].args[1].clone();
    let auth = json!({"position": first, "joins": [["join", {"room": "a"}], ["join", {"room": 1.5}]]});
    let client = press.client(json!({"auth": auth})).await;
    client.events(2).await;
    assert_eq!(numbers(&client), [2, 3]);
    let info = &client.seen().ready[0];
    assert_eq!((&info["recovered"], &info["rooms"]), (&json!(true), &json!(["room:a"])));
    assert_eq!(info["joins"][0], json!({"ok": true, "room": "room:a"}));
    assert_eq!(info["joins"][1]["code"], "invalid_room");

    let stale = json!({"position": "another-epoch:1", "joins": [["join", {"room": "a"}]]});
    let told = press.client(json!({"auth": stale})).await;
    let told = told.until("aldis:ready", |seen| !seen.ready.is_empty()).await;
    assert_eq!(told.ready[0]["reason"], "epoch");
}

#[tokio::test]
async fn whatever_the_gateway_sends_ends_in_a_position_or_in_no_string() {
    let more = "  greeting: {event: hello, payload: \"just a text\"}
  replies:
  - {event: when, emit: {event: then, payload: \"2026-11-21\"}, ack: \"2026-11-21\", allow: \"true\"}
  - {event: echo, emit: {event: back, args: \"{args}\"}, ack: {ok: true}, allow: \"true\"}";
    let press = Press::open(more, None).await;
    for transports in [
        json!(["websocket"]),
        json!(["polling"]),
        json!(["polling", "websocket"]),
    ] {
        let options = json!({"transports": transports, "forceNew": true});
        let client = press
            .node
            .connect_as("4.8", &press.gateway.url("/news"), &options)
            .await
            .unwrap();
        client.join("join", json!({"room": "a"})).await;
        assert_eq!(
            client.ask("when", json!([])).await,
            "2026-11-21",
            "an acknowledgement is no event"
        );
        for args in [
            json!([]),
            json!(["text"]),
            json!([1, "text"]),
            json!(["text", {"a": "b"}]),
        ] {
            client.ask("echo", args).await;
        }
        press.publish("a", 1).await;
        client.event("news").await;
        let events = client.until("all", |seen| seen.events.len() >= 7).await.events;
        let epoch = position(&events.iter().find(|event| event.name == "news").unwrap().args[1]).0;
        for event in &events {
            let last = event.args.last().unwrap_or_else(|| panic!("{event:?} has no argument"));
            let is_position = last.as_str().is_some_and(|last| last.starts_with(&format!("{epoch}:")));
            assert!(is_position || !last.is_string(), "{event:?} over {transports}");
        }
        let of = |name: &str| {
            let named = events.iter().filter(|event| event.name == name);
            named.map(|event| json!(event.args)).collect::<Vec<_>>()
        };
        assert_eq!(of("hello"), [json!(["just a text", null])]);
        assert_eq!(of("then"), [json!(["2026-11-21", null])]);
        let back = [
            json!([null]),
            json!(["text", null]),
            json!([1, "text", null]),
            json!(["text", {"a": "b"}]),
        ];
        assert_eq!(of("back"), back);
        client.disconnect().await;
    }
}
