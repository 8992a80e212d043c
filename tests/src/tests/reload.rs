//! Manifests that change while `aldis dev` runs them.

use serde_json::json;

use crate::deadline::until;
use crate::gateway::Gateway;
use crate::kafka::{Shared, make_topic, shared};
use crate::manifests::Manifests;
use crate::node::{Client, Node};
use crate::records::Producer;

struct Press {
    gateway: Gateway,
    manifests: Manifests,
    node: Node,
    producer: Producer,
    _kafka: Shared,
}

impl Press {
    async fn open() -> Self {
        let kafka = shared().await;
        let manifests = Manifests::news();
        make_topic(&kafka.address(), &manifests.topic, 1, &[]).await;
        let gateway = Gateway::start(&manifests.path(), Some(&kafka.address())).await;
        let producer = Producer::to(&kafka.address());
        Self {
            gateway,
            manifests,
            node: Node::start(),
            producer,
            _kafka: kafka,
        }
    }

    async fn reader(&self, channel: &str) -> Client {
        let client = self
            .node
            .connect(&self.gateway.url(&format!("/{channel}")), json!({}))
            .await;
        client.join("join", json!({"room": "a"})).await;
        client
    }

    async fn publish(&self, n: u32) {
        self.producer
            .json(&self.manifests.topic, 0, &json!({"type": "news", "room": "a", "n": n}))
            .await;
    }
}

#[tokio::test]
async fn invariant_5_a_changed_route_is_in_force_for_clients_that_stay_connected() {
    let mut press = Press::open().await;
    let client = press.reader("news").await;
    press.publish(1).await;
    client.events(1).await;
    press.manifests.channel("news", "news:flash");
    press.gateway.wait_for_output("# reloaded").await;
    press.publish(2).await;
    let seen = client.until("two events", |seen| seen.events.len() >= 2).await;
    assert_eq!(seen.names(), ["news:published", "news:flash"], "still in its room");
    assert_eq!((seen.disconnects.len(), seen.connects.len()), (0, 1));
}

#[tokio::test]
async fn a_file_with_a_problem_is_shown_and_the_last_good_configuration_stays() {
    let mut press = Press::open().await;
    let client = press.reader("news").await;
    press.manifests.channel("news", "news:{event.nonsense(}");
    press.gateway.wait_for_log("# not reloaded").await;
    let log = press.gateway.log();
    assert!(
        log.contains("news.yaml:") && log.contains("spec.routes[0].emit[0].event"),
        "file, line and field: {log}"
    );
    press.publish(1).await;
    press.manifests.write("news.yaml", "kind: [");
    press.publish(2).await;
    client.events(2).await;
    press.manifests.channel("news", "news:flash");
    press.gateway.wait_for_output("# reloaded").await;
    press.publish(3).await;
    let seen = client.until("three events", |seen| seen.events.len() >= 3).await;
    assert_eq!(seen.names(), ["news:published", "news:published", "news:flash"]);
    assert!(seen.disconnects.is_empty());
}

#[tokio::test]
async fn a_removed_channel_disconnects_its_clients_only_and_an_added_one_takes_clients() {
    let mut press = Press::open().await;
    let stays = press.reader("news").await;
    press.manifests.channel("sport", "sport:published");
    press.gateway.wait_for_output("# reloaded; channels in force: 2").await;
    let goes = press.reader("sport").await;
    press.publish(1).await;
    assert_eq!(goes.events(1).await[0].name, "sport:published");

    press.manifests.remove("sport.yaml");
    let (reason, _) = goes.disconnected().await;
    assert_eq!(reason, "io server disconnect");
    let options = json!({"forceNew": true});
    let refused = press
        .node
        .connect_as("4.8", &press.gateway.url("/sport"), &options)
        .await
        .err();
    assert_eq!(refused.expect("the channel is gone")["message"], "Invalid namespace");
    press.publish(2).await;
    stays.events(2).await;
    assert!(stays.seen().disconnects.is_empty());
    let shown = async |name: &str| press.gateway.admin("/metrics").await.1.contains(name);
    until("its series are gone", async || {
        (!shown("press/sport").await).then_some(())
    })
    .await;
    assert!(shown("press/news").await);

    // And once more: the name is free again.
    press.manifests.channel("sport", "sport:again");
    let back = crate::deadline::until("the channel is served again", async || {
        press
            .node
            .connect_as("4.8", &press.gateway.url("/sport"), &options)
            .await
            .ok()
    });
    let back = back.await;
    back.join("join", json!({"room": "a"})).await;
    press.publish(3).await;
    assert_eq!(back.events(1).await[0].name, "sport:again");
}
