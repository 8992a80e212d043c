//! What channels that are gone have left in Redis is erased, and nothing else is.

use std::collections::BTreeSet;
use std::time::Duration;

use aldis_gateway::adapter::Adapter as _;
use serde_json::json;

use crate::adapters::{KEEP, channel, delivery, replica, rooms, unit};
use crate::deadline::{until, until_equal};
use crate::manifests::Manifests;
use crate::node::Node;
use crate::redis::Redis;
use crate::standalone::Standalone;

/// Longer than any test runs.
const LONG: Duration = Duration::from_secs(3_600);
/// The shortest that there is.
const SHORT: Duration = Duration::from_secs(1);

/// The names in Redis that look so.
async fn keys(redis: &Redis, pattern: &str) -> BTreeSet<String> {
    redis.ask(&["KEYS", pattern]).await
}

fn uids(uids: &[&str]) -> Vec<String> {
    uids.iter().map(|uid| (*uid).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_is_erased_once_no_replica_says_that_it_is_in_force_and_nothing_of_others_is() {
    let redis = Redis::start().await;
    let (first, second) = (replica(&redis), replica(&redis));
    for of in ["gone", "stays"] {
        let of = channel(of, KEEP);
        let hosted = first.adapter.host(of.of(), &rooms(&["a", "b"])).await.unwrap();
        let taken = vec![unit(0, 1, vec![delivery("x", &["a"]), delivery("y", &["b"])])];
        first.adapter.append(of.of(), taken).await.unwrap();
        drop(hosted);
    }
    // Another gateway's, and so many of others that they are looked at in several steps.
    let foreign = "for n = 1, 5000 do redis.call('SET', 'other:' .. n, 'aldis:{g|gone}:') end redis.call('SET', 'aldis:{h|gone}:c', 1)";
    let _: Option<String> = redis.ask(&["EVAL", foreign, "0"]).await;
    let (gone, stays) = (
        keys(&redis, "aldis:{g|gone}:*").await,
        keys(&redis, "aldis:{g|stays}:*").await,
    );
    // State, deliveries, their order, the place and the history of both rooms, and the place of everyone.
    assert_eq!((gone.len(), stays.len()), (8, 8), "{gone:?} {stays:?}");

    // It has just been said to be in force, though the second replica has not heard of it.
    assert_eq!(
        first.adapter.erase_gone(&uids(&["gone", "stays"]), LONG).await.unwrap(),
        0
    );
    assert_eq!(second.adapter.erase_gone(&uids(&["stays"]), LONG).await.unwrap(), 0);
    assert_eq!(keys(&redis, "aldis:{g|gone}:*").await, gone);

    until("it is erased", async || {
        let erased = second.adapter.erase_gone(&uids(&["stays"]), SHORT).await.unwrap();
        (erased == 1).then_some(())
    })
    .await;
    assert_eq!(keys(&redis, "aldis:{g|gone}:*").await, BTreeSet::new());
    assert_eq!(keys(&redis, "aldis:{g|stays}:*").await, stays);
    assert_eq!(keys(&redis, "aldis:{h|gone}:*").await.len(), 1);
    assert_eq!(keys(&redis, "other:*").await.len(), 5_000);
    assert_eq!(
        second.adapter.erase_gone(&uids(&["stays"]), SHORT).await.unwrap(),
        0,
        "it is known no more"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_erases_a_channel_that_was_deleted_and_keeps_those_that_it_serves() {
    let redis = Redis::start().await;
    // What docs/replicas.md asks for, and no more.
    let rights = "on >hunter2 ~aldis:* &aldis:* +@read +@write +@scripting +@pubsub +@connection +info";
    let user: Vec<_> = ["ACL", "SETUSER", "aldis"]
        .into_iter()
        .chain(rights.split(' '))
        .collect();
    let _: String = redis.ask(&user).await;
    let manifests = Manifests::news();
    manifests.channel("sport", "sport:published");
    manifests.gateway_with(&format!(
        "redis: {{url: \"{}\", secretRef: {{name: redis}}}}\n  listeners: [{{name: web, port: 3000}}]",
        redis.url()
    ));
    manifests.write(
        "redis.yaml",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: redis, namespace: press, labels: {aldis.dev/use: gateway}}\nstringData: {username: aldis, password: hunter2}\n",
    );
    let gateway = Standalone::start(&manifests, &["--port", "web=0", "--erase-after", "5"]).await;
    let (node, address) = (Node::start(), gateway.listener("web").await);
    let connect = async |path: &str| {
        let client = node.connect(&format!("http://{address}{path}"), json!({})).await;
        client.join("join", json!({ "room": "a" })).await;
        client
    };
    let (news, sport) = (connect("/news").await, connect("/sport").await);
    let left = async |of: &str| keys(&redis, &format!("aldis:{{*|press/{of}}}:*")).await.len();
    assert!(left("news").await > 0 && left("sport").await > 0);

    std::fs::remove_file(manifests.path().join("sport.yaml")).unwrap();
    gateway.follow(&manifests).await;
    sport.disconnected().await;
    until_equal("keys of a channel that is gone", 0, async || left("sport").await).await;
    gateway.wait_for_metric("aldis_channels_erased_total", 1.0).await;
    assert!(left("news").await > 0);
    assert_eq!(news.join("join", json!({ "room": "b" })).await["ok"], true);
    assert!(news.seen().disconnects.is_empty());
}
