//! A Redis that Sentinels watch: another node takes over, also one that has not got all, and stock clients do not notice.

use serde_json::json;

use super::{Clients, RECORDS, last_seq, manifests, wait_until_delivered};
use crate::gateway::Gateway;
use crate::kafka::{make_topic, shared};
use crate::records::Producer;
use crate::redis::{Redis, Sentinels};

/// Kills the master in the middle of the stream; where `loses_the_tail`, what it took last is on no replica of it.
async fn clients_outlive_the_master(loses_the_tail: bool) {
    let (manifests, kafka, mut redis) = (manifests(), shared().await, Sentinels::start().await);
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

    let producer = Producer::to(&kafka.address());
    for n in 1..=RECORDS {
        producer.json(&manifests.topic, 0, &json!({"n": n, "room": "a"})).await;
        if n == RECORDS / 3 {
            wait_until_delivered(&gateways, n).await;
            if loses_the_tail {
                all_replicas_have_everything(&redis.nodes[0]).await;
                redis.nodes[0].cut_off_replicas().await;
            }
        }
        if n == RECORDS / 2 {
            wait_until_delivered(&gateways, n).await;
            if loses_the_tail {
                let last = last_seq(&redis.nodes[0]).await;
                for replica in &redis.nodes[1..] {
                    assert_eq!(last_seq(replica).await, last - (RECORDS / 2 - RECORDS / 3));
                }
            }
            redis.nodes[0].crash();
        }
    }
    let promoted = redis.promoted().await;
    println!("{} has taken over", promoted.address());
    for clients in clients {
        clients.have_seen_everything_once().await;
    }
}

async fn all_replicas_have_everything(master: &Redis) {
    let replicas: u64 = master.ask(&["WAIT", "2", "0"]).await;
    assert_eq!(replicas, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_do_not_notice_that_sentinels_have_named_another_master() {
    clients_outlive_the_master(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_master_that_lacks_the_last_writes_costs_no_client_anything() {
    clients_outlive_the_master(true).await;
}
