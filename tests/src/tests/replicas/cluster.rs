//! A Redis Cluster whose slots move, and one of whose masters dies: stock clients do not notice.

use serde_json::json;

use super::{Clients, RECORDS, last_seq, manifests, wait_until_delivered};
use crate::deadline::until;
use crate::gateway::Gateway;
use crate::kafka::{make_topic, shared};
use crate::manifests::Manifests;
use crate::records::Producer;
use crate::redis::Cluster;

/// A Redis Cluster, two gateways on it, and two stock clients of each.
struct Scene {
    redis: Cluster,
    manifests: Manifests,
    gateways: [Gateway; 2],
    clients: Vec<Clients>,
    producer: Producer,
    /// The hash slot of the channel.
    slot: u64,
}

impl Scene {
    async fn set() -> Self {
        let (manifests, kafka, redis) = (manifests(), shared().await, Cluster::with_replicas().await);
        make_topic(&kafka.address(), &manifests.topic, 1, &[]).await;
        let gateways = [
            Gateway::replica(&manifests.path(), &kafka.address(), &redis.url()).await,
            Gateway::replica(&manifests.path(), &kafka.address(), &redis.url()).await,
        ];
        let mut clients = Vec::new();
        for gateway in &gateways {
            let job = json!({
                "library": "4.8", "url": gateway.url("/news"), "options": {"transports": ["websocket"]},
                "clients": 2, "join": {"room": "a"}, "last": RECORDS,
            });
            clients.push(Clients::start(&job).await);
        }
        let slot = slot_of_channel(&redis).await;
        Self {
            producer: Producer::to(&kafka.address()),
            redis,
            manifests,
            gateways,
            clients,
            slot,
        }
    }

    async fn publish(&self, records: std::ops::RangeInclusive<u64>) {
        for n in records {
            let record = json!({"n": n, "room": "a"});
            self.producer.json(&self.manifests.topic, 0, &record).await;
        }
    }

    async fn all_have_seen_everything_once(self) {
        for clients in self.clients {
            clients.have_seen_everything_once().await;
        }
    }
}

/// The slot of the channel that numbers deliveries.
async fn slot_of_channel(redis: &Cluster) -> u64 {
    until("the channel is in the Cluster", async || {
        for node in &redis.nodes[..3] {
            for key in node.ask::<Vec<String>>(&["KEYS", "aldis:*}:c"]).await {
                let numbers: Option<u64> = node.ask(&["HGET", &key, "seq"]).await;
                if numbers.is_some() {
                    return Some(redis.slot(&key).await);
                }
            }
        }
        None
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_do_not_notice_that_their_channel_moves_from_node_to_node_of_a_cluster() {
    let scene = Scene::set().await;
    let first = scene.redis.owner(scene.slot).await;
    let moves = async {
        for step in 1..=3 {
            let delivered = step as u64 * RECORDS / 5;
            until("some records are delivered", async || {
                (super::delivered(&scene.gateways).await >= delivered as f64).then_some(())
            })
            .await;
            scene.redis.migrate(scene.slot, (first + step) % 3).await;
        }
    };
    tokio::join!(moves, scene.publish(1..=RECORDS));
    scene.all_have_seen_everything_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_of_a_cluster_that_dies_with_the_last_writes_costs_no_client_anything() {
    let mut scene = Scene::set().await;
    let master = scene.redis.owner(scene.slot).await;
    scene.publish(1..=RECORDS / 3).await;
    wait_until_delivered(&scene.gateways, RECORDS / 3).await;
    let replica = scene.redis.replica_of(master).await;
    let _: u64 = scene.redis.nodes[master].ask(&["WAIT", "1", "0"]).await;
    scene.redis.nodes[master].cut_off_replicas().await;
    scene.publish(RECORDS / 3 + 1..=RECORDS / 2).await;
    wait_until_delivered(&scene.gateways, RECORDS / 2).await;
    let lacks = last_seq(&scene.redis.nodes[master]).await - last_seq(&scene.redis.nodes[replica]).await;
    assert_eq!(lacks, RECORDS / 2 - RECORDS / 3);
    scene.redis.nodes[master].crash();
    scene.publish(RECORDS / 2 + 1..=RECORDS).await;
    scene.all_have_seen_everything_once().await;
}
