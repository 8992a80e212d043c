//! A Redis Cluster whose slots move and whose masters die: no delivery is lost, none comes twice.

use aldis_crds::contract::{RedisKeys, Secret};
use aldis_gateway::adapter::redis::{Endpoint, Link, RedisAdapter};
use aldis_gateway::adapter::{Adapter, AdapterError};

use crate::adapters::{KEEP, Lab, Seen, channel, delivery, orders, replica_at, replica_by, unit};
use crate::authority::Authority;
use crate::deadline::{until, within};
use crate::redis::Cluster;

/// Key of the channel orders in Redis.
fn key(of: &str) -> String {
    format!("aldis:{{g|orders}}:{of}")
}

/// Takes a record as soon as it can be taken.
async fn deliver(lab: &Lab<impl Adapter>, offset: i64) {
    until("the record is taken", async || {
        let units = vec![unit(0, offset, vec![delivery(&offset.to_string(), &["a"])])];
        lab.adapter.append(orders(KEEP).of(), units).await.ok()
    })
    .await;
}

async fn hears(replica: &Lab<RedisAdapter<Seen>>) {
    let mut link = replica.adapter.link();
    within("it hears all nodes", link.wait_for(|link| *link == Link::Live))
        .await
        .unwrap();
}

fn numbers(count: i64) -> Vec<String> {
    (0..count).map(|offset| offset.to_string()).collect()
}

async fn saw_each_once(seen: &Seen, count: i64) {
    seen.wait_for(count as usize).await;
    assert_eq!(seen.events(), numbers(count));
    assert!(seen.seqs().is_sorted_by(|a, b| a < b), "numbers grow");
    assert!(seen.broken.lock().unwrap().is_empty(), "nobody was told otherwise");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_whose_slot_moves_goes_on_at_its_new_node() {
    const EACH: i64 = 20;
    let redis = Cluster::of_masters().await;
    let (one, two) = (replica_by(&redis.url()), replica_by(&redis.url()));
    let hosted = one.host(&["a"]).await;
    let _hosted = two.host(&["a", "b"]).await;
    let slot = redis.slot(&key("c")).await;
    let at_first = redis.owner(slot).await;
    let mut taken = 0;
    // To the next node, to the one after it, and back to the first.
    for step in 1..=3 {
        for _ in 0..EACH {
            deliver(if taken % 2 == 0 { &one } else { &two }, taken).await;
            taken += 1;
        }
        redis.migrate(slot, (at_first + step) % 3).await;
    }
    for _ in 0..EACH {
        deliver(&two, taken).await;
        taken += 1;
    }
    saw_each_once(&one.seen, taken).await;
    saw_each_once(&two.seen, taken).await;
    // A place from before the first move is still good, and so the history is whole.
    let again = one.host(&["a"]).await;
    assert_ne!(again.at.epoch, hosted.at.epoch);
    let read = until("it can be read", async || {
        one.read(&hosted.at.epoch, &[("a", one.seen.seqs()[9])]).await.ok()
    })
    .await;
    assert_eq!(read, numbers(taken)[10..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_is_half_moved_waits_and_others_do_not() {
    let redis = Cluster::of_masters().await;
    let one = replica_by(&redis.url());
    hears(&one).await;
    let _hosted = one.host(&["a"]).await;
    for offset in 0..5 {
        deliver(&one, offset).await;
    }
    let slot = redis.slot(&key("c")).await;
    // The channel's marks and numbers have gone, its rooms have not.
    let moving = redis.begin_migration(slot, (redis.owner(slot).await + 1) % 3).await;
    moving.key(&key("c")).await;
    let refused = one
        .adapter
        .append(orders(KEEP).of(), vec![unit(0, 5, vec![delivery("5", &["a"])])])
        .await;
    // That is its own trouble: it follows by itself, and holds up no other channel of its partitions.
    assert!(matches!(refused, Err(AdapterError::Refused(_))), "{refused:?}");
    let other = channel("kitchen", KEEP);
    let taken = one.adapter.append(other.of(), vec![unit(0, 5, vec![])]).await;
    assert!(taken.is_ok(), "{taken:?}");
    moving.finish().await;
    for offset in 5..10 {
        deliver(&one, offset).await;
    }
    saw_each_once(&one.seen, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_lets_in_who_has_the_password_over_tls() {
    let authority = Authority::new();
    let redis = Cluster::over_tls(&authority).await;
    let rights = "on >hunter2 ~aldis:* &aldis:* +@read +@write +@scripting +@pubsub +@connection +info +cluster|slots +cluster|info";
    let user: Vec<_> = ["ACL", "SETUSER", "aldis"]
        .into_iter()
        .chain(rights.split(' '))
        .collect();
    for node in &redis.nodes {
        let _: String = node.ask(&user).await;
    }
    let endpoint = Endpoint::parse(&redis.tls_url().await).unwrap();
    let keys = |password: &str| RedisKeys {
        username: Some(Secret::new("aldis")),
        password: Some(Secret::new(password)),
        ca: Some(Secret::new(authority.pem.as_bytes())),
    };
    let one = replica_at(endpoint.clone().with_keys(&keys("hunter2")).unwrap());
    hears(&one).await;
    // Some channel for each of the nodes.
    for of in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        let channel = channel(of, KEEP);
        let _hosted = one.adapter.host(channel.of(), &[]).await.unwrap();
        let taken = one
            .adapter
            .append(channel.of(), vec![unit(0, 0, vec![delivery(of, &[])])])
            .await;
        assert_eq!(taken.unwrap().deliveries, 1);
    }
    one.seen.wait_for(8).await;
    let stranger = replica_at(endpoint.with_keys(&keys("hunter3")).unwrap());
    let refused = stranger
        .adapter
        .append(orders(KEEP).of(), vec![unit(0, 1, vec![])])
        .await;
    let Err(AdapterError::Unavailable(why)) = refused else {
        panic!("{refused:?}")
    };
    assert!(!why.contains("hunter"), "{why}");
}
