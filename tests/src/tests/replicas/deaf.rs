//! A replica to which nothing is pushed any more, though its connection is open: it notices, says that it is not ready, and makes up
//! for it before it is ready again.

use serde_json::json;
use tokio::time::Instant;

use super::{Clients, RECORDS, manifests, wait_until_delivered};
use crate::deadline::until_equal;
use crate::gateway::Gateway;
use crate::kafka::{make_topic, shared};
use crate::proxy::{Cut, Proxy};
use crate::records::Producer;
use crate::redis::Redis;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_deaf_says_that_it_is_not_ready_and_its_clients_miss_nothing() {
    let (manifests, kafka, redis) = (manifests(), shared().await, Redis::start().await);
    make_topic(&kafka.address(), &manifests.topic, 1, &[]).await;
    let way = Proxy::before(&redis.address()).await;
    let by_the_way = format!("redis://{}", way.address);
    let gateways = [
        Gateway::replica(&manifests.path(), &kafka.address(), &by_the_way).await,
        Gateway::replica(&manifests.path(), &kafka.address(), &redis.url()).await,
    ];
    let ready = async || gateways[0].admin("/health/ready").await.0;
    until_equal("it is ready", 200, ready).await;
    let job = json!({
        "library": "4.8", "url": gateways[0].url("/news"), "options": {"transports": ["websocket"]},
        "clients": 2, "join": {"room": "a"}, "last": RECORDS,
    });
    let clients = Clients::start(&job).await;
    let producer = Producer::to(&kafka.address());
    let publish = async |records: std::ops::RangeInclusive<u64>| {
        for n in records {
            let record = json!({"n": n, "room": "a"});
            producer.json(&manifests.topic, 0, &record).await;
        }
    };
    publish(1..=RECORDS / 3).await;
    wait_until_delivered(&gateways, RECORDS / 3).await;

    // Its subscriptions are swallowed from here on. It can not subscribe anew before it has been seen to be deaf.
    way.lead_to("127.0.0.1:1");
    let subscribers: String = redis.ask(&["CLIENT", "LIST", "TYPE", "pubsub"]).await;
    let ports = subscribers.lines().filter_map(|line| {
        let address = line.split(' ').find_map(|field| field.strip_prefix("addr="))?;
        address.rsplit_once(':')?.1.parse().ok()
    });
    let frozen = ports.filter(|port| way.cut_from(*port, Cut::Freeze)).count();
    assert_eq!(frozen, 1, "{subscribers}");
    let since = Instant::now();
    publish(RECORDS / 3 + 1..=RECORDS / 2).await;
    until_equal("it is not ready", 503, ready).await;
    println!("not ready after {:?}", since.elapsed());
    way.lead_to(&redis.address());
    until_equal("it is ready again", 200, ready).await;
    publish(RECORDS / 2 + 1..=RECORDS).await;
    clients.have_seen_everything_once().await;
}
