//! The flows of `examples/bistro`, as its clients see them. That somebody gets nothing is proved by what comes after: all
//! records of a test are on one partition, so what follows can not overtake.

use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::kafka::{make_topic, repository, shared};
use crate::manifests::Manifests;
use crate::node::{Client, Node};
use crate::records::Producer;

mod events;
mod service;
mod snippets;

/// Which Kafka.
#[derive(Clone, Copy)]
enum Broker {
    Embedded,
    Real,
}

struct Bistro {
    gateway: Gateway,
    node: Node,
    producer: Producer,
    /// Topic of the orders.
    topic: String,
    // Kept for as long as the gateway runs.
    _manifests: Option<Manifests>,
    _kafka: Option<crate::kafka::Shared>,
}

impl Bistro {
    async fn open(broker: Broker) -> Self {
        let manifests = Manifests::bistro();
        let kafka = match broker {
            Broker::Embedded => None,
            Broker::Real => Some(shared().await),
        };
        let address = kafka.as_ref().map(|kafka| kafka.address());
        if let Some(address) = &address {
            make_topic(address, &manifests.topic, 4, &[]).await;
        }
        let gateway = Gateway::start(&manifests.path(), address.as_deref()).await;
        let producer = Producer::to(gateway.broker());
        let topic = manifests.topic.clone();
        Self {
            gateway,
            node: Node::start(),
            producer,
            topic,
            _manifests: Some(manifests),
            _kafka: kafka,
        }
    }

    /// The example as it stands there, with the embedded broker.
    async fn as_it_stands() -> Self {
        let gateway = Gateway::start(&repository().join("examples/bistro"), None).await;
        Self {
            producer: Producer::to(gateway.broker()),
            gateway,
            node: Node::start(),
            topic: "orders".to_owned(),
            _manifests: None,
            _kafka: None,
        }
    }

    /// Publishes to the topic of the event's family.
    async fn publish(&self, event_type: &str, data: Value) {
        let topic = match event_type.split('.').next() {
            Some("payment") => "payments",
            Some("inventory") => "inventory",
            _ => &self.topic,
        };
        self.producer
            .json(topic, 0, &json!({"event_type": event_type, "data": data}))
            .await;
    }

    async fn client(&self, user: &str, tenant: &str, kind: &str) -> Client {
        let options = json!({"query": {"user_id": user, "tenant_id": tenant, "type": kind}});
        let client = self.node.connect(&self.gateway.url("/orders"), options).await;
        client.event("connection:established").await;
        client
    }

    async fn staff(&self, user: &str, tenant: &str, rooms: &[&str]) -> Client {
        let client = self.client(user, tenant, "staff").await;
        for room in rooms {
            client
                .join(&format!("subscribe:{room}"), json!({"tenant_id": tenant}))
                .await;
        }
        client
    }
}

/// Name and order of each delivery so far, once there are `count`.
async fn orders(client: &Client, count: usize) -> Vec<(String, u64)> {
    let events = client.events(1 + count).await;
    assert_eq!(events[0].name, "connection:established");
    events[1..]
        .iter()
        .map(|event| {
            (
                event.name.clone(),
                event.payload()["data"]["order_id"].as_u64().unwrap(),
            )
        })
        .collect()
}

fn seen(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected
        .iter()
        .map(|(name, order)| ((*name).to_owned(), *order))
        .collect()
}

async fn order_created(broker: Broker) {
    let bistro = Bistro::open(broker).await;
    let office = bistro.staff("ann", "t1", &["orders"]).await;
    let kitchen = bistro.staff("ben", "t1", &["kitchen"]).await;
    let both = bistro.staff("cleo", "t1", &["orders", "kitchen"]).await;
    let nowhere = bistro.staff("dora", "t1", &[]).await;
    let other_tenant = bistro.staff("ann", "t2", &["orders", "kitchen"]).await;
    let customer = bistro.client("c-1", "t1", "customer").await;

    let items = json!([{"name": "Soup", "quantity": 1}]);
    bistro
        .publish(
            "order.created",
            json!({"order_id": 1, "tenant_id": "t1", "customer_id": "c-1", "items": items}),
        )
        .await;
    bistro
        .publish(
            "order.created",
            json!({"order_id": 2, "tenant_id": "t2", "customer_id": "c-1"}),
        )
        .await;
    bistro
        .publish(
            "order.status_changed",
            json!({"order_id": 3, "tenant_id": "t1", "customer_id": "c-1"}),
        )
        .await;

    assert_eq!(
        orders(&other_tenant, 2).await,
        seen(&[("order:created", 2), ("kitchen:order_received", 2)])
    );
    assert_eq!(orders(&customer, 1).await, seen(&[("customer:order_status", 3)]));
    assert_eq!(
        orders(&office, 2).await,
        seen(&[("order:created", 1), ("order:status_changed", 3)])
    );
    let expected = [
        ("order:created", 1),
        ("kitchen:order_received", 1),
        ("order:status_changed", 3),
    ];
    assert_eq!(orders(&both, 3).await, seen(&expected));
    let payload = office.event("order:created").await.payload().clone();
    assert_eq!(payload["eventType"], "order.created");
    assert_eq!(
        payload["data"],
        json!({"order_id": 1, "tenant_id": "t1", "customer_id": "c-1", "items": items})
    );
    // Nothing but their own comes to those two either: a join and a record after it are their fence.
    nowhere.join("subscribe:orders", json!({"tenant_id": "t1"})).await;
    bistro
        .publish("order.created", json!({"order_id": 4, "tenant_id": "t1"}))
        .await;
    assert_eq!(orders(&nowhere, 1).await, seen(&[("order:created", 4)]));
    assert_eq!(
        orders(&kitchen, 2).await,
        seen(&[("kitchen:order_received", 1), ("kitchen:order_received", 4)])
    );
}

#[tokio::test]
async fn order_created_reaches_office_and_kitchen_of_its_tenant_only_by_the_embedded_broker() {
    order_created(Broker::Embedded).await;
}

#[tokio::test]
async fn order_created_reaches_office_and_kitchen_of_its_tenant_only_by_a_real_kafka() {
    order_created(Broker::Real).await;
}

async fn order_status_changed(broker: Broker) {
    let bistro = Bistro::open(broker).await;
    let staff = bistro.staff("ann", "t1", &["orders"]).await;
    let kitchen = bistro.staff("ben", "t1", &["kitchen"]).await;
    let other_staff = bistro.staff("ann", "t2", &["orders"]).await;
    let customer = bistro.client("c-1", "t1", "customer").await;
    let other_customer = bistro.client("c-2", "t1", "customer").await;
    let namesake = bistro.client("c-1", "t2", "customer").await;

    let status = async |order: u64, tenant: &str, customer: Value| {
        let data = json!({"order_id": order, "tenant_id": tenant, "customer_id": customer, "status": "ready"});
        bistro.publish("order.status_changed", data).await;
    };
    status(1, "t1", json!("c-1")).await;
    status(2, "t1", json!("c-2")).await;
    status(3, "t2", json!("c-1")).await;
    // Without a customer: for the staff alone.
    status(4, "t1", Value::Null).await;
    bistro
        .publish(
            "order.ready",
            json!({"order_id": 5, "tenant_id": "t1", "customer_id": "c-1"}),
        )
        .await;
    status(6, "t1", json!("c-2")).await;
    status(7, "t2", json!("c-1")).await;

    assert_eq!(
        orders(&customer, 2).await,
        seen(&[("customer:order_status", 1), ("customer:order_ready", 5)])
    );
    assert_eq!(
        orders(&other_customer, 2).await,
        seen(&[("customer:order_status", 2), ("customer:order_status", 6)])
    );
    assert_eq!(
        orders(&namesake, 2).await,
        seen(&[("customer:order_status", 3), ("customer:order_status", 7)])
    );
    let changed = |orders: &[u64]| {
        orders
            .iter()
            .map(|order| ("order:status_changed".to_owned(), *order))
            .collect::<Vec<_>>()
    };
    assert_eq!(orders(&staff, 4).await, changed(&[1, 2, 4, 6]));
    assert_eq!(orders(&other_staff, 2).await, changed(&[3, 7]));
    assert_eq!(orders(&kitchen, 1).await, seen(&[("kitchen:order_ready", 5)]));
    let payload = customer.event("customer:order_status").await.payload().clone();
    assert_eq!(payload["data"]["status"], "ready");
}

#[tokio::test]
async fn order_status_changed_reaches_staff_and_exactly_its_customer_by_the_embedded_broker() {
    order_status_changed(Broker::Embedded).await;
}

#[tokio::test]
async fn order_status_changed_reaches_staff_and_exactly_its_customer_by_a_real_kafka() {
    order_status_changed(Broker::Real).await;
}

#[tokio::test]
async fn a_kitchen_display_is_in_its_room_by_its_token_alone() {
    let bistro = Bistro::open(Broker::Real).await;
    let token = bistro.gateway.channel("bistro/kitchen").token.clone().unwrap();
    let url = bistro.gateway.url("/kitchen/display");
    let display = bistro.node.connect(&url, json!({"auth": {"token": token}})).await;
    // A greeting would say that the client is in its rooms; this channel has none, an answer says it too.
    assert_eq!(display.ask("anything", json!([])).await["code"], "unknown_event");

    let items = json!([{"name": "Margherita", "quantity": 2}, {"name": "Soup", "quantity": 1}]);
    let order = |order: u64, tenant: &str| json!({"order_id": order, "tenant_id": tenant, "items": items});
    bistro.publish("order.created", order(1, "tenant-1")).await;
    bistro.publish("order.status_changed", order(2, "tenant-456")).await;
    bistro.publish("order.created", order(3, "tenant-456")).await;
    bistro.publish("order.cancelled", order(4, "tenant-456")).await;
    let events = display.events(2).await;
    let tickets: Vec<_> = events
        .iter()
        .map(|event| (event.name.as_str(), event.payload()))
        .collect();
    assert_eq!(tickets.len(), 2);
    assert_eq!(
        (tickets[0].0, &tickets[0].1["title"], &tickets[0].1["id"]),
        ("kitchen:ticket", &json!("New order 3"), &json!(3))
    );
    assert_eq!(tickets[0].1["dishes"], json!(["Margherita × 2", "Soup"]));
    assert_eq!(tickets[1].1["title"], "Cancelled 4");
}
