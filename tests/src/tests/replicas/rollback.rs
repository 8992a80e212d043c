//! Redis goes on without its last writes under two replicas, and clients change replicas before what it has forgotten has been read
//! again from Kafka: nobody there knows what they have had but they themselves.

use std::ops::RangeInclusive;

use aldis_gateway::sabotage::Rule;

use super::*;
use crate::gateway::With;
use crate::kafka::Kafka;
use crate::node::{Client, Seen};
use crate::proxy::Cut;

/// Records that Redis keeps, that it forgets, that come while what it has forgotten is read again, and when all is over.
const KEPT: RangeInclusive<u64> = 1..=10;
const FORGOTTEN: RangeInclusive<u64> = 11..=20;
const LATER: RangeInclusive<u64> = 21..=30;
const LAST: RangeInclusive<u64> = 31..=35;
/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:9";

/// Two replicas on one Redis and one Kafka.
struct Scene {
    manifests: Manifests,
    kafka: Kafka,
    redis: Redis,
    gateways: [Gateway; 2],
    node: Node,
    producer: Producer,
}

impl Scene {
    async fn set(without: Option<Rule>) -> Self {
        let (manifests, mut kafka, redis) = (manifests(), Kafka::down(), Redis::start().await);
        kafka.start().await;
        make_topic(&kafka.address(), &manifests.topic, 1, &[]).await;
        let (broker, url) = (kafka.address(), redis.url());
        let start = async || {
            let with = With {
                kafka: Some(&broker),
                redis: Some(&url),
                without,
                ..With::default()
            };
            Gateway::start_with(&manifests.path(), with).await
        };
        Self {
            gateways: [start().await, start().await],
            node: Node::start(),
            producer: Producer::to(&broker),
            manifests,
            kafka,
            redis,
        }
    }

    /// Two clients of each replica, each behind the proxy of its replica.
    async fn clients(&self) -> ([Proxy; 2], Vec<Client>) {
        let [one, two] = &self.gateways;
        let proxies = [Proxy::before(&one.address()).await, Proxy::before(&two.address()).await];
        let mut clients = Vec::new();
        for proxy in &proxies {
            for (library, transport) in [("4.8", "websocket"), ("4.7", "polling")] {
                let options = json!({
                    "transports": [transport], "forceNew": true, "reconnectionDelay": 100, "reconnectionDelayMax": 500,
                });
                let at = format!("http://{}/news", proxy.address);
                let client = self.node.connect_as(library, &at, &options).await.unwrap();
                client.join("join", json!({"room": "a"})).await;
                clients.push(client);
            }
        }
        (proxies, clients)
    }

    /// Each proxy leads to the other replica than before.
    fn swap(&self, proxies: &[Proxy; 2]) {
        let [one, two] = &self.gateways;
        proxies[0].lead_to(&two.address());
        proxies[1].lead_to(&one.address());
    }

    async fn publish(&self, records: RangeInclusive<u64>) {
        for n in records {
            let record = json!({"n": n, "room": "a"});
            self.producer.json(&self.manifests.topic, 0, &record).await;
        }
    }
}

fn numbers(seen: &Seen) -> Vec<u64> {
    let news = seen.events.iter().filter(|event| event.name == "news");
    news.filter_map(|event| event.args[0].as_u64()).collect()
}

async fn have(clients: &[Client], last: &u64) {
    for client in clients {
        client
            .until("it has the last", |seen| numbers(seen).contains(last))
            .await;
    }
}

/// Gives what was broken of what clients are promised.
async fn rolled_back(without: Option<Rule>) -> Result<(), String> {
    let begun = std::time::Instant::now();
    let at = |what: &str| println!("{:5.1} s: {what}", begun.elapsed().as_secs_f64());
    let mut scene = Scene::set(without).await;
    at("all runs");
    // Who is away while that is delivered which Redis then forgets, who goes to the other replica afterwards, and who stays.
    let (away, absent) = scene.clients().await;
    let (between, moving) = scene.clients().await;
    let (_stay, staying) = scene.clients().await;
    scene.publish(KEPT).await;
    for clients in [&absent, &moving, &staying] {
        have(clients, KEPT.end()).await;
    }
    for proxy in &away {
        proxy.lead_to(NOWHERE);
        proxy.cut_all(Cut::Reset);
    }
    for client in &absent {
        client.disconnected().await;
    }
    let _: String = scene.redis.ask(&["SAVE"]).await;
    scene.publish(FORGOTTEN).await;
    for clients in [&moving, &staying] {
        have(clients, FORGOTTEN.end()).await;
    }

    at("all are where they are to be");
    // While Kafka is down nothing is read again.
    scene.kafka.crash();
    scene.redis.crash();
    scene.redis.restart().await;
    for proxies in [&away, &between] {
        scene.swap(proxies);
    }
    for proxy in &between {
        proxy.cut_all(Cut::Reset);
    }
    for client in &moving {
        client.disconnected().await;
    }
    let forks = "aldis_redis_forks_total{channel=\"press/news\"}";
    for gateway in &scene.gateways {
        gateway.wait_for_metric(forks, 1.0).await;
    }
    at("both have noticed, and clients change replicas");
    scene.kafka.start().await;
    at("Kafka runs again");
    scene.publish(LATER).await;
    for client in absent.iter().chain(&moving) {
        client
            .until("it is at the other one", |seen| seen.ready.len() >= 2)
            .await;
    }
    at("all are back");
    scene.publish(LAST).await;

    for (who, clients) in [("was away", &absent), ("moved", &moving), ("stayed", &staying)] {
        have(clients, LAST.end()).await;
        at(&format!("who {who} has the last"));
        for client in clients {
            let (seen, is_told) = (client.seen(), |ready: &Value| ready["recovered"] == false);
            let numbers = numbers(&seen);
            let told = seen.ready.iter().skip(1).filter(|ready| is_told(ready)).count();
            println!(
                "who {who} ({} connections, told: {told}): {numbers:?}",
                seen.connects.len()
            );
            let everything: Vec<_> = (*KEPT.start()..=*LAST.end()).collect();
            // Another session, which begins somewhere and goes on without a gap.
            let (before, after) = numbers.split_at(*FORGOTTEN.end() as usize);
            let goes_on = everything.starts_with(before) && everything.ends_with(after);
            if numbers != everything && !(told > 0 && goes_on) {
                return Err(format!("who {who} has {numbers:?}, told: {told}"));
            }
            // Only who has had what Redis has forgotten may have to be told: where nobody knows that, or Kafka is away for long.
            if told > 0 && who == "was away" {
                return Err(format!("who {who} is told: {:?}", seen.ready));
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_change_replicas_after_redis_has_forgotten_lose_nothing_and_have_nothing_twice() {
    assert_eq!(rolled_back(None).await, Ok(()));
}
