//! The catalogue: each event under its exact name, in its exact shape, for its audience and nobody else.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Bistro;
use crate::node::Client;

/// Staff and customers of a tenant, one for each room.
struct Audience {
    clients: Vec<(&'static str, Client)>,
}

impl Audience {
    async fn of(bistro: &Bistro, tenant: &str) -> Self {
        Self {
            clients: vec![
                ("orders", bistro.staff("ann", tenant, &["orders"]).await),
                ("kitchen", bistro.staff("ben", tenant, &["kitchen"]).await),
                ("managers", bistro.staff("cleo", tenant, &["managers"]).await),
                ("customer", bistro.client("c-1", tenant, "customer").await),
                ("other customer", bistro.client("c-2", tenant, "customer").await),
            ],
        }
    }

    fn client(&self, of: &str) -> &Client {
        &self.clients.iter().find(|(name, _)| *name == of).expect(of).1
    }

    /// Waits until each room has had as many events as there are for it, and has each client answered after it: what
    /// somebody got by mistake would be there by then. Gives `room event type` in alphabetical order.
    async fn heard(&self, expected: &[[&'static str; 3]]) -> Vec<[String; 3]> {
        let mut heard = Vec::new();
        for (name, client) in &self.clients {
            let count = expected.iter().filter(|[room, ..]| room == name).count();
            client.events(1 + count).await;
        }
        for (name, client) in &self.clients {
            assert_eq!(client.ask("ping", json!([{}])).await, json!({"ok": true}));
            let events = client.seen().events;
            let told = events
                .iter()
                .filter(|event| !["connection:established", "pong"].contains(&event.name.as_str()));
            heard.extend(told.map(|event| {
                let type_ = event.payload()["eventType"].as_str().unwrap_or_default();
                [(*name).to_owned(), event.name.clone(), type_.to_owned()]
            }));
        }
        heard.sort();
        heard
    }
}

fn sorted(rows: &[[&'static str; 3]]) -> Vec<[String; 3]> {
    let mut rows: Vec<_> = rows.iter().map(|row| row.map(str::to_owned)).collect();
    rows.sort();
    rows
}

/// Room, event, type of the record.
const ROUTED: [[&str; 3]; 16] = [
    ["orders", "order:created", "order.created"],
    ["kitchen", "kitchen:order_received", "order.created"],
    ["orders", "order:status_changed", "order.status_changed"],
    ["customer", "customer:order_status", "order.status_changed"],
    ["kitchen", "kitchen:order_ready", "order.ready"],
    ["customer", "customer:order_ready", "order.ready"],
    ["kitchen", "kitchen:order_serving", "order.serving"],
    ["orders", "order:completed", "order.completed"],
    ["orders", "order:cancelled", "order.cancelled"],
    ["managers", "manager:payment_confirmed", "payment.confirmed"],
    ["customer", "customer:payment_confirmed", "payment.confirmed"],
    ["customer", "customer:payment_failed", "payment.failed"],
    ["managers", "manager:alert", "payment.alert"],
    ["managers", "manager:inventory_low", "inventory.low_stock"],
    ["managers", "manager:alert", "inventory.alert"],
    ["managers", "manager:order_spike", "order_spike"],
];

#[tokio::test]
async fn every_event_of_the_catalogue_reaches_its_audience_and_nobody_else() {
    let bistro = Bistro::as_it_stands().await;
    let tenant = Audience::of(&bistro, "t1").await;
    let other = Audience::of(&bistro, "t2").await;
    let data = json!({"order_id": 1, "tenant_id": "t1", "customer_id": "c-1", "item_id": "i-1", "item_name": "Flour", "amount": 12.50});
    let mut types: Vec<_> = ROUTED.iter().map(|[.., type_]| *type_).collect();
    types.dedup();
    for type_ in types.iter().filter(|type_| type_.contains('.')) {
        bistro.publish(type_, data.clone()).await;
    }
    // The one that no record makes.
    let spike = json!({"tenant_id": "t1", "event": "order_spike", "data": data});
    assert_eq!(bistro.broadcast("managers", &spike).await.0, 202);

    assert_eq!(tenant.heard(&ROUTED).await, sorted(&ROUTED));
    assert_eq!(other.heard(&[]).await, sorted(&[]));
    for [room, name, type_] in ROUTED {
        let event = tenant.client(room).event(name).await;
        let payload = event.payload().as_object().unwrap();
        let keys: BTreeSet<_> = payload.keys().map(String::as_str).collect();
        assert_eq!(keys, ["data", "eventType", "timestamp"].into(), "{name}");
        let expected = match name {
            "manager:inventory_low" => json!({"item_id": "i-1", "item_name": "Flour"}),
            _ => data.clone(),
        };
        assert_eq!(payload["data"], expected, "{name}");
        assert_iso(&payload["timestamp"]);
        assert!(name == "manager:alert" || payload["eventType"] == type_, "{name}");
    }
}

/// `2026-11-21T09:30:00.000Z`
pub(super) fn assert_iso(time: &Value) {
    let shape: String = time
        .as_str()
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z", "{time}");
}

#[tokio::test]
async fn what_is_of_another_family_than_its_topic_or_lacks_a_field_reaches_nobody() {
    let bistro = Bistro::as_it_stands().await;
    let tenant = Audience::of(&bistro, "t1").await;
    let record = |type_: &str, data: Value| json!({"event_type": type_, "data": data});
    let data = json!({"order_id": 1, "tenant_id": "t1", "customer_id": "c-1"});
    for (topic, value) in [
        ("inventory", record("payment.confirmed", data.clone())),
        ("payments", record("order.created", data.clone())),
        ("orders", record("order.created", json!({"order_id": 1}))),
        ("orders", record("order.created", json!({"tenant_id": "t1"}))),
        ("orders", json!({"data": data})),
    ] {
        bistro.producer.json(topic, 0, &value).await;
    }
    bistro.producer.bytes("orders", 0, Some(b"{oops")).await;
    let outcomes = [("not_for_us", 2.0), ("dead_lettered", 4.0)];
    for (outcome, count) in outcomes {
        let series = format!("aldis_records_total{{channel=\"bistro/orders\",outcome=\"{outcome}\"}}");
        bistro.gateway.wait_for_metric(&series, count).await;
    }
    assert_eq!(tenant.heard(&[]).await, sorted(&[]));
}

#[tokio::test]
async fn who_unsubscribes_gets_nothing_more_and_who_asks_for_another_tenant_nothing_at_all() {
    let bistro = Bistro::as_it_stands().await;
    let rooms = ["orders", "kitchen", "managers"];
    let ann = bistro.staff("ann", "t1", &rooms).await;
    let left = bistro.staff("ben", "t1", &rooms).await;
    let customer = bistro.client("c-1", "t1", "customer").await;
    for room in rooms {
        left.join(&format!("unsubscribe:{room}"), json!({"tenant_id": "t1"}))
            .await;
        for (client, tenant) in [(&customer, "t1"), (&ann, "t2")] {
            let answer = client
                .ask(&format!("subscribe:{room}"), json!([{"tenant_id": tenant}]))
                .await;
            assert_eq!((&answer["ok"], &answer["code"]), (&json!(false), &json!("denied")));
        }
    }
    for (type_, tenant) in [("order.created", "t1"), ("order.created", "t2")] {
        bistro.publish(type_, json!({"order_id": 1, "tenant_id": tenant})).await;
    }
    let low = json!({"tenant_id": "t1", "item_id": "i-1", "item_name": "Flour"});
    bistro.publish("inventory.low_stock", low).await;
    ann.events(1 + 3).await;
    for client in [&ann, &left, &customer] {
        client.ask("ping", json!([{}])).await;
    }
    let names = |client: &Client| {
        let mut names: Vec<_> = client.seen().events.into_iter().map(|event| event.name).collect();
        names.retain(|name| !["connection:established", "pong"].contains(&name.as_str()));
        names.sort();
        names
    };
    assert_eq!(
        names(&ann),
        ["kitchen:order_received", "manager:inventory_low", "order:created"]
    );
    assert!(names(&left).is_empty() && names(&customer).is_empty());
}

#[tokio::test]
async fn each_namespace_serves_its_audience_and_all_are_one_channel() {
    let bistro = Bistro::as_it_stands().await;
    let mut clients = Vec::new();
    for room in ["orders", "kitchen", "managers"] {
        let options = json!({"query": {"user_id": "ann", "tenant_id": "t1", "type": "staff"}});
        let client = bistro
            .node
            .connect(&bistro.gateway.url(&format!("/{room}")), options)
            .await;
        client
            .join(&format!("subscribe:{room}"), json!({"tenant_id": "t1"}))
            .await;
        clients.push(client);
    }
    let data = json!({"order_id": 1, "tenant_id": "t1", "item_name": "Flour"});
    bistro.publish("order.created", data.clone()).await;
    bistro.publish("inventory.low_stock", data).await;
    for (client, name) in clients
        .iter()
        .zip(["order:created", "kitchen:order_received", "manager:inventory_low"])
    {
        client.event(name).await;
    }
    bistro.until_connected_clients(3).await;
}
