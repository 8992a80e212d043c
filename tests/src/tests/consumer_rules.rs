//! Rules 17 to 20 of exact delivery: what was taken is compared with the log, a channel that is behind holds up no other, and a dead
//! replica's partitions are read on. Each holds, and its test fails where it is switched off.

use std::time::Instant;

use aldis_gateway::sabotage::Rule;
use serde_json::json;

use crate::deadline::{until, until_equal};
use crate::gateway::{Gateway, With};
use crate::kafka::{Shared, delete_topic, make_topic, shared};
use crate::manifests::Manifests;
use crate::node::{Client, Node, Seen};
use crate::proxy::{Cut, Proxy};
use crate::records::Producer;
use crate::redis::Redis;

/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:9";

/// A channel that reads one partition, and what it runs on.
struct Lab {
    manifests: Manifests,
    kafka: Shared,
    redis: Redis,
    node: Node,
    without: Option<Rule>,
}

impl Lab {
    async fn new(without: Option<Rule>) -> Self {
        let lab = Self {
            manifests: Manifests::news(),
            kafka: shared().await,
            redis: Redis::start().await,
            node: Node::start(),
            without,
        };
        lab.make_topic().await;
        lab
    }

    async fn make_topic(&self) {
        make_topic(&self.kafka.address(), &self.manifests.topic, 1, &[]).await;
    }

    async fn gateway(&self) -> Gateway {
        let (kafka, redis) = (self.kafka.address(), self.redis.url());
        let with = With {
            kafka: Some(&kafka),
            redis: Some(&redis),
            without: self.without,
            ..With::default()
        };
        Gateway::start_with(&self.manifests.path(), with).await
    }

    async fn client(&self, url: &str) -> Client {
        let client = self.node.connect(url, json!({"transports": ["websocket"]})).await;
        client.join("join", json!({"room": "a"})).await;
        client
    }

    async fn produce(&self, numbers: std::ops::RangeInclusive<u64>) {
        let producer = Producer::to(&self.kafka.address());
        for n in numbers {
            let news = json!({"type": "news", "room": "a", "n": n});
            producer.json(&self.manifests.topic, 0, &news).await;
        }
    }
}

/// What a client has seen, once it has seen the last.
async fn numbers(client: &Client, last: u64) -> Vec<u64> {
    let of = |seen: &Seen| -> Vec<_> {
        let numbers = seen.events.iter().map(|event| event.payload()["n"].as_u64());
        numbers.map(Option::unwrap).collect()
    };
    of(&client.until("the last one", |seen| of(seen).contains(&last)).await)
}

fn all(found: Vec<u64>, expected: std::ops::RangeInclusive<u64>) -> Result<(), String> {
    match found == expected.clone().collect::<Vec<_>>() {
        true => Ok(()),
        false => Err(format!("{found:?} is not {expected:?}")),
    }
}

/// A topic is deleted and made anew while no gateway runs; marks are kept in Redis.
async fn made_anew(without: Option<Rule>) -> Result<(), String> {
    let lab = Lab::new(without).await;
    let mut gateway = lab.gateway().await;
    let client = lab.client(&gateway.url("/news")).await;
    lab.produce(1..=10).await;
    all(numbers(&client, 10).await, 1..=10)?;
    gateway.terminate().await;
    delete_topic(&lab.kafka.address(), &lab.manifests.topic).await;
    lab.make_topic().await;

    let gateway = lab.gateway().await;
    let client = lab.client(&gateway.url("/news")).await;
    lab.produce(11..=30).await;
    all(numbers(&client, 30).await, 11..=30)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_17_a_topic_that_is_made_anew_is_taken_from_its_beginning() {
    assert_eq!(made_anew(None).await, Ok(()));
    let broken = made_anew(Some(Rule::Marks)).await;
    println!("without it: {}", broken.expect_err("nobody notices"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_made_anew_while_it_is_read_is_taken_from_its_beginning() {
    let lab = Lab::new(None).await;
    let gateway = lab.gateway().await;
    let client = lab.client(&gateway.url("/news")).await;
    lab.produce(1..=10).await;
    all(numbers(&client, 10).await, 1..=10).unwrap();
    delete_topic(&lab.kafka.address(), &lab.manifests.topic).await;
    until_equal(
        "the gateway misses its topic",
        json!([lab.manifests.topic]),
        async || gateway.health().await["kafka"]["missingTopics"].clone(),
    )
    .await;
    lab.make_topic().await;
    // Fewer than before: a log that has outgrown the mark before it is read can not be told from the one before.
    lab.produce(11..=15).await;
    all(numbers(&client, 15).await, 1..=15).unwrap();
    lab.produce(16..=30).await;
    all(numbers(&client, 30).await, 1..=30).unwrap();
    let dropped = gateway
        .metrics()
        .await
        .value("aldis_marks_dropped_total{channel=\"press/news\"}");
    assert_eq!(dropped, 1.0);
}

/// Redis forgets records that the group has committed, and no gateway is there to notice.
async fn forgotten(without: Option<Rule>) -> Result<(), String> {
    let mut lab = Lab::new(without).await;
    let mut first = lab.gateway().await;
    let proxy = Proxy::before(&first.address()).await;
    let client = lab.client(&format!("http://{}/news", proxy.address)).await;
    lab.produce(1..=10).await;
    all(numbers(&client, 10).await, 1..=10)?;
    let _: String = lab.redis.ask(&["SAVE"]).await;
    proxy.lead_to(NOWHERE);
    proxy.cut(0, Cut::Reset);
    client.disconnected().await;
    lab.produce(11..=20).await;
    first
        .wait_for_metric("aldis_deliveries_total{channel=\"press/news\"}", 20.0)
        .await;
    first.terminate().await;
    lab.redis.crash();
    lab.redis.restart().await;

    let second = lab.gateway().await;
    proxy.lead_to(&second.address());
    let back = client.until("it is back", |seen| seen.ready.len() == 2).await;
    assert_eq!(back.ready[1]["recovered"], true, "{back:?}");
    lab.produce(21..=21).await;
    all(numbers(&client, 21).await, 1..=21)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_18_records_that_redis_has_forgotten_are_read_again_by_whoever_gets_the_partition() {
    assert_eq!(forgotten(None).await, Ok(()));
    let broken = forgotten(Some(Rule::StartAt)).await;
    println!("without it: {}", broken.expect_err("nobody notices"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_redis_has_forgotten_is_read_again_though_nothing_new_comes() {
    let mut lab = Lab::new(None).await;
    let gateway = lab.gateway().await;
    let proxy = Proxy::before(&gateway.address()).await;
    let client = lab.client(&format!("http://{}/news", proxy.address)).await;
    lab.produce(1..=10).await;
    all(numbers(&client, 10).await, 1..=10).unwrap();
    let _: String = lab.redis.ask(&["SAVE"]).await;
    proxy.lead_to(NOWHERE);
    proxy.cut(0, Cut::Reset);
    client.disconnected().await;
    lab.produce(11..=20).await;
    let delivered = "aldis_deliveries_total{channel=\"press/news\"}";
    gateway.wait_for_metric(delivered, 20.0).await;
    lab.redis.crash();
    lab.redis.restart().await;
    let again = format!("aldis_consumer_again_total{{topic=\"{}\"}}", lab.manifests.topic);
    gateway.wait_for_metric(&again, 10.0).await;
    proxy.lead_to(&gateway.address());
    all(numbers(&client, 20).await, 1..=20).unwrap();
    assert_eq!(client.seen().ready[1]["recovered"], true);
}

/// A replica that reads the only partition is killed; its client's deliveries come from another one.
async fn stood_in(without: Option<Rule>) -> Result<(), String> {
    let lab = Lab::new(without).await;
    let mut first = lab.gateway().await;
    until_equal("it reads the partition", true, async || assigned(&first).await).await;
    // Who comes later gets nothing: there is one partition.
    let second = lab.gateway().await;
    let client = lab.client(&second.url("/news")).await;
    lab.produce(1..=10).await;
    all(numbers(&client, 10).await, 1..=10)?;
    first.kill().await;
    let killed = Instant::now();
    lab.produce(11..=20).await;
    all(numbers(&client, 20).await, 1..=20)?;
    println!(
        "{} ms without the partition (off: {without:?})",
        killed.elapsed().as_millis()
    );
    until_equal("the group has noticed", true, async || assigned(&second).await).await;
    lab.produce(21..=30).await;
    all(numbers(&client, 30).await, 1..=30)?;
    let stood_in = format!("aldis_consumer_stood_in_total{{topic=\"{}\"}}", lab.manifests.topic);
    match second.metrics().await.value(&stood_in) > 0.0 {
        true => Ok(()),
        false => Err("the partition stood still until the group had noticed".to_owned()),
    }
}

/// Whether the group has given partitions to a replica.
async fn assigned(gateway: &Gateway) -> bool {
    let rebalances = "aldis_consumer_rebalances_total{change=\"assigned\"}";
    gateway.metrics().await.value(rebalances) > 0.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_20_the_partitions_of_a_dead_replica_are_read_before_the_group_notices() {
    assert_eq!(stood_in(None).await, Ok(()));
    let broken = stood_in(Some(Rule::Lease)).await;
    println!("without it: {}", broken.expect_err("nobody notices"));
}

/// Two channels read one partition; something of the first is broken in Redis, and mended later.
async fn one_is_behind(without: Option<Rule>) -> Result<(), String> {
    let lab = Lab::new(without).await;
    lab.manifests.channel("other", "other:published");
    let gateway = lab.gateway().await;
    let client = lab.client(&gateway.url("/news")).await;
    let other = lab.client(&gateway.url("/other")).await;
    lab.produce(1..=10).await;
    all(numbers(&client, 10).await, 1..=10)?;
    all(numbers(&other, 10).await, 1..=10)?;
    let histories: Vec<String> = lab.redis.ask(&["KEYS", "aldis:*press/news}:h:room/*"]).await;
    let [history] = &histories[..] else {
        panic!("one room of the channel has history: {histories:?}")
    };
    let _: String = lab.redis.ask(&["RENAME", history, "kept"]).await;
    let _: String = lab.redis.ask(&["SET", history, "no list"]).await;
    lab.produce(11..=20).await;
    let refused = format!("aldis_consumer_retries_total{{topic=\"{}\"}}", lab.manifests.topic);
    let last = |seen: &Seen| seen.events.last().map(|event| event.payload()["n"].clone());
    let held_up = until("the other channel goes on, or waits", async || {
        match last(&other.seen()) == Some(json!(20)) {
            true => Some(false),
            false => (gateway.metrics().await.value(&refused) > 3.0).then_some(true),
        }
    });
    if held_up.await {
        return Err("a channel holds up another".to_owned());
    }
    all(numbers(&other, 20).await, 1..=20)?;
    assert_eq!(client.seen().events.len(), 10);
    gateway
        .wait_for_metric("aldis_channel_behind{channel=\"press/news\"}", 1.0)
        .await;

    let _: String = lab.redis.ask(&["RENAME", "kept", history]).await;
    all(numbers(&client, 20).await, 1..=20)?;
    gateway
        .wait_for_metric("aldis_channel_behind{channel=\"press/news\"}", 0.0)
        .await;
    lab.produce(21..=30).await;
    all(numbers(&client, 30).await, 1..=30)?;
    all(numbers(&other, 30).await, 1..=30)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_19_a_channel_that_is_behind_holds_up_no_other() {
    assert_eq!(one_is_behind(None).await, Ok(()));
    let broken = one_is_behind(Some(Rule::Behind)).await;
    println!("without it: {}", broken.expect_err("nobody notices"));
}
