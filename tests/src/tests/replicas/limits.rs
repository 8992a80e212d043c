//! Limits hold over all replicas, and are right again after one was killed or paused, or Redis has lost everything.

use std::time::Instant;

use super::*;
use crate::deadline::until;
use crate::gateway::With;
use crate::node::Client;

/// Clients of a stock library that come back soon.
fn options(user: &str) -> Value {
    json!({
        "transports": ["websocket"], "forceNew": true, "reconnectionDelay": 100, "reconnectionDelayMax": 500, "query": {"user": user},
    })
}

/// A channel press/news on `/news` whose clients say who they are, and whose tenant may have so much.
fn limited(limits: &str) -> Manifests {
    let manifests = Manifests::gateway();
    manifests.numbers("\"true\"", "");
    let file = manifests.path().join("news.yaml");
    let declared = std::fs::read_to_string(file).unwrap();
    let by_query = "authentication: {query: {required: [user], identity: {user: query.user}}}";
    manifests.write(
        "news.yaml",
        &declared.replace("authentication: {anonymous: {}}", by_query),
    );
    manifests.limit(limits);
    manifests
}

/// A replica on this Redis; no records flow, so each has a broker of its own.
pub(super) async fn replica(manifests: &Manifests, redis: &Redis) -> Gateway {
    replica_at(manifests, &redis.url()).await
}

/// The same, by the URL of whatever Redis there is.
pub(super) async fn replica_at(manifests: &Manifests, url: &str) -> Gateway {
    let with = With {
        redis: Some(url),
        ..With::default()
    };
    Gateway::start_with(&manifests.path(), with).await
}

/// Connects a client, and waits until it is in.
async fn enter(node: &Node, url: &str, user: &str) -> Client {
    let client = node.begin("4.8", url, &options(user)).await;
    client.wait("it is in", |seen| !seen.connects.is_empty()).await;
    client
}

/// Connects a client that finds no room: it is held, and turned away. It tries again for as long as it is there.
async fn is_turned_away(node: &Node, url: &str, user: &str) -> Client {
    let client = node.begin("4.8", url, &options(user)).await;
    let seen = client
        .until("it is turned away", |seen| !seen.disconnects.is_empty())
        .await;
    assert!(seen.connects.is_empty(), "{user} found room");
    client
}

/// What all replicas together say that they have of a name, in Redis.
async fn counted(redis: &Redis, name: &str) -> u64 {
    let mut sum = 0;
    let replicas: Vec<String> = redis.ask(&["KEYS", "aldis:*|@press}:n:*"]).await;
    for replica in replicas {
        sum += redis.ask::<Option<u64>>(&["HGET", &replica, name]).await.unwrap_or(0);
    }
    sum
}

async fn until_counted(redis: &Redis, name: &str, expected: u64) {
    until_equal(&format!("{name} is counted"), expected, async || {
        counted(redis, name).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_holds_over_all_replicas_and_who_loses_one_of_them_has_its_place_at_another() {
    let (manifests, redis) = (limited("{connections: 4, connectionsPerUser: 3}"), Redis::start().await);
    let mut first = replica(&manifests, &redis).await;
    let second = replica(&manifests, &redis).await;
    let (node, proxy) = (Node::start(), Proxy::before(&first.address()).await);
    let (by_proxy, url) = (format!("http://{}/news", proxy.address), second.url("/news"));
    let of_first = [
        enter(&node, &by_proxy, "ann").await,
        enter(&node, &by_proxy, "ann").await,
    ];
    let of_second = [enter(&node, &url, "ann").await];
    // Ann has three connections over both, bob is the fourth of the tenant.
    for (at, user) in [(&by_proxy, "ann"), (&url, "ann")] {
        is_turned_away(&node, at, user).await.disconnect().await;
    }
    let bob = enter(&node, &url, "bob").await;
    for at in [&by_proxy, &url] {
        is_turned_away(&node, at, "eve").await.disconnect().await;
    }
    let turned_away = |metrics: &crate::metrics::Metrics, why: &str| {
        metrics.value(&format!(
            "aldis_connects_total{{channel=\"press/news\",outcome=\"{why}\"}}"
        ))
    };
    for gateway in [&first, &second] {
        let metrics = gateway.metrics().await;
        assert!(turned_away(&metrics, "user_connections") >= 1.0);
        assert!(turned_away(&metrics, "tenant_connections") >= 1.0);
        assert_eq!(metrics.sum("aldis_connects_alone_total"), 0.0);
    }

    // Its clients take their places with them.
    proxy.lead_to(&second.address());
    first.kill().await;
    for client in &of_first {
        let seen = client.until("it has come back", |seen| seen.connects.len() > 1).await;
        assert!(seen.connects[1].recovered, "{seen:?}");
    }
    until_counted(&redis, "t", 4).await;
    until_counted(&redis, "u/news/ann", 3).await;
    let eve = is_turned_away(&node, &url, "eve").await;
    bob.disconnect().await;
    eve.wait("there is room for it", |seen| !seen.connects.is_empty()).await;
    drop(of_second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_paused_keeps_nobody_out_and_counts_again_when_it_goes_on() {
    let (manifests, redis) = (limited("{connections: 2}"), Redis::start().await);
    let (first, second) = (replica(&manifests, &redis).await, replica(&manifests, &redis).await);
    let node = Node::start();
    let url = second.url("/news");
    let _of_first = [
        enter(&node, &first.url("/news"), "ann").await,
        enter(&node, &first.url("/news"), "ann").await,
    ];
    let _waits = is_turned_away(&node, &url, "bob").await;
    first.pause().await;
    let begun = Instant::now();
    _waits
        .wait("there is room for it", |seen| !seen.connects.is_empty())
        .await;
    println!("in {:.1} s after a replica was paused", begun.elapsed().as_secs_f64());
    let next = enter(&node, &url, "bob").await;
    first.resume().await;
    // There are more than there may be: nobody is closed, and nobody comes in.
    until_counted(&redis, "t", 4).await;
    let eve = is_turned_away(&node, &url, "eve").await;
    next.disconnect().await;
    until_counted(&redis, "t", 3).await;
    assert!(eve.seen().connects.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_holds_again_after_redis_has_lost_everything() {
    let (manifests, mut redis) = (limited("{connections: 2}"), Redis::start().await);
    let (first, second) = (replica(&manifests, &redis).await, replica(&manifests, &redis).await);
    let node = Node::start();
    let clients = [
        enter(&node, &first.url("/news"), "ann").await,
        enter(&node, &second.url("/news"), "ann").await,
    ];
    redis.crash();
    redis.restart().await;
    // They are told that they are not recovered, and are counted, each once.
    for client in &clients {
        client.wait("it is back", |seen| seen.connects.len() > 1).await;
    }
    until_counted(&redis, "t", 2).await;
    until_counted(&redis, "c/news", 2).await;
    for gateway in [&first, &second] {
        is_turned_away(&node, &gateway.url("/news"), "eve")
            .await
            .disconnect()
            .await;
    }
}

/// Deliveries each second that the tenant is granted, and records in each of two partitions.
const RATE: u64 = 200;
const RECORDS_OF_EACH: u64 = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_share_the_deliveries_that_a_tenant_may_have_each_second() {
    let (manifests, kafka, redis) = (manifests(), shared().await, Redis::start().await);
    manifests.limit(&format!("{{deliveriesPerSecond: {RATE}}}"));
    make_topic(&kafka.address(), &manifests.topic, 2, &[]).await;
    let first = Gateway::replica(&manifests.path(), &kafka.address(), &redis.url()).await;
    let second = Gateway::replica(&manifests.path(), &kafka.address(), &redis.url()).await;
    let producer = Producer::to(&kafka.address());
    let received = format!("aldis_consumer_records_total{{topic=\"{}\"}}", manifests.topic);
    until("each reads a partition, and knows of the other", async || {
        for partition in [0, 1] {
            producer
                .json(&manifests.topic, partition, &json!({"n": 0, "room": "b"}))
                .await;
        }
        let (first, second) = (first.metrics().await, second.metrics().await);
        let ready = [first, second]
            .iter()
            .all(|metrics| metrics.value(&received) > 0.0 && metrics.value("aldis_replicas") == 2.0);
        ready.then_some(())
    })
    .await;
    let job = json!({
        "library": "4.8", "url": first.url("/news"), "options": {"transports": ["websocket"]},
        "clients": 1, "join": {"room": "a"}, "last": RECORDS_OF_EACH,
    });
    let _clients = Clients::start(&job).await;
    let begun = Instant::now();
    for partition in [0, 1] {
        let records = (1..=RECORDS_OF_EACH).map(|n| json!({"n": n, "room": "a"}));
        producer.all(&manifests.topic, partition, records).await;
    }
    let delivered = "aldis_deliveries_total{channel=\"press/news\"}";
    until("all is delivered", async || {
        let of_both = first.metrics().await.value(delivered) + second.metrics().await.value(delivered);
        (of_both >= (2 * RECORDS_OF_EACH) as f64).then_some(())
    })
    .await;
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{} deliveries by two replicas in {seconds:.1} s, {RATE} each second are granted",
        2 * RECORDS_OF_EACH
    );
    // Slowness only makes it longer. Each may have a second's worth and a batch at once; if each had the whole rate, or
    // only one of them were held, it would be 4 s.
    let at_once = 2 * 256 + RATE;
    assert!(
        seconds > (2 * RECORDS_OF_EACH - at_once) as f64 / RATE as f64 * 0.8,
        "{seconds} s"
    );
}
