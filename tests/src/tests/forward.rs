//! Three replicas behind a proxy that sends each request to the next one: a session is served whichever of them is asked.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::deadline::until;
use crate::gateway::Gateway;
use crate::kafka::{make_topic, shared};
use crate::manifests::Manifests;
use crate::node::{Flock, Node};
use crate::raw::{Reply, Server};
use crate::records::Producer;
use crate::redis::Redis;
use crate::round_robin::RoundRobin;

/// Records that flow meanwhile.
const RECORDS: u64 = 300;
/// Between two of them: so that they come by many polls.
const PAUSE: Duration = Duration::from_millis(5);
/// Polls with a session, as their first lines tell.
const POLLS: [&str; 3] = ["GET ", "transport=polling", "sid="];

struct Replicas {
    gateways: Vec<Gateway>,
    proxy: RoundRobin,
    manifests: Manifests,
    kafka: String,
    redis: Redis,
}

impl Replicas {
    async fn start() -> Self {
        let (kafka, redis) = (shared().await, Redis::start().await);
        let manifests = Manifests::gateway();
        manifests.numbers("\"true\"", "  history: {size: 2000, ttl: 10m}");
        make_topic(&kafka.address(), &manifests.topic, 1, &[]).await;
        let (path, address, url) = (manifests.path(), kafka.address(), redis.url());
        let gateways = join_all((0..3).map(|_| Gateway::replica(&path, &address, &url))).await;
        let proxy = RoundRobin::before(gateways.iter().map(Gateway::address).collect()).await;
        let replicas = Self {
            gateways,
            proxy,
            manifests,
            kafka: address,
            redis,
        };
        until("every replica has said where it is", async || {
            (replicas.places().await.len() == 3).then_some(())
        })
        .await;
        replicas
    }

    /// What replicas have said in Redis.
    async fn places(&self) -> Vec<Value> {
        let names: Vec<String> = self.redis.ask(&["KEYS", "aldis:*}:t:*"]).await;
        let mut places = Vec::new();
        for name in names {
            let place: String = self.redis.ask(&["GET", &name]).await;
            places.push(serde_json::from_str(&place).unwrap());
        }
        places
    }

    /// A proxy's URL of `/news`.
    fn url(&self) -> String {
        format!("http://{}/news", self.proxy.address)
    }

    async fn publish(&self, numbers: impl Iterator<Item = u64>) {
        let producer = Producer::to(&self.kafka);
        for n in numbers {
            producer
                .json(&self.manifests.topic, 0, &json!({"n": n, "room": "a"}))
                .await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Requests that a replica has passed on, with this outcome.
    async fn passed_on(&self, gateway: usize, outcome: &str) -> f64 {
        let series = format!("aldis_forwarded_total{{listener=\"web\",outcome=\"{outcome}\"}}");
        self.gateways[gateway].metrics().await.value(&series)
    }

    async fn flock(&self, options: &Value) -> Flock {
        let job = json!({
            "library": "4.8", "url": self.url(), "options": options,
            "clients": 4, "join": {"room": "a"}, "last": RECORDS,
        });
        Flock::join(&job).await
    }
}

/// That each client has all numbers, in their order and once, and was never told that it is not recovered.
fn assert_all(clients: &[Value]) {
    for client in clients {
        let numbers = client["numbers"].as_array().unwrap().iter();
        let numbers: Vec<_> = numbers.filter_map(Value::as_u64).collect();
        assert_eq!(numbers, (1..=RECORDS).collect::<Vec<_>>(), "{client}");
        assert_eq!(client["notRecovered"], json!([]), "{client}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_polls_stays_connected_whichever_replica_each_request_reaches() {
    let replicas = Replicas::start().await;
    let mut flock = replicas.flock(&json!({"transports": ["polling"]})).await;
    replicas.publish(1..=RECORDS).await;
    let clients = flock.told().await;
    assert_all(&clients);
    for client in clients {
        assert_eq!(client["connects"], 1, "{client}");
    }
    assert_eq!(replicas.proxy.asked(&POLLS), 3, "polls have reached all replicas");
    for gateway in 0..3 {
        assert!(replicas.passed_on(gateway, "answered").await > 0.0);
        assert_eq!(replicas.passed_on(gateway, "unreachable").await, 0.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sessions_of_a_replica_that_dies_are_recovered_on_others() {
    let mut replicas = Replicas::start().await;
    let mut flock = replicas.flock(&json!({"transports": ["polling"]})).await;
    replicas.publish(1..=RECORDS / 2).await;
    replicas.gateways[0].kill().await;
    replicas.publish(RECORDS / 2 + 1..=RECORDS).await;
    assert_all(&flock.told().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_upgrades_through_another_replica_and_recovers_when_that_one_stops() {
    let mut replicas = Replicas::start().await;
    let node = Node::start();
    // Which replica an upgrade reaches is the proxy's: until it was another than the session's.
    let mut clients = Vec::new();
    let (through, client) = loop {
        let client = node
            .connect_as("4.8", &replicas.url(), &json!({"forceNew": true}))
            .await
            .unwrap();
        client.join("join", json!({"room": "a"})).await;
        until("it has upgraded", async || {
            (client.seen().transports.last().map(String::as_str) == Some("websocket")).then_some(())
        })
        .await;
        let asked = replicas.proxy.last(&["transport=websocket", "sid="]).unwrap();
        if replicas.passed_on(asked, "upgraded").await > 0.0 {
            break (asked, client);
        }
        clients.push(client);
        assert!(clients.len() < 30, "the proxy leads all upgrades to their sessions");
    };
    let number = |event: &crate::node::Event| event.payload().as_u64().unwrap();
    let numbers = |seen: &crate::node::Seen| seen.events.iter().map(number).collect::<Vec<_>>();
    replicas.publish(1..=20).await;
    until("events come over the WebSocket", async || {
        (client.seen().events.len() == 20).then_some(())
    })
    .await;
    assert_eq!(client.seen().connects.len(), 1);
    replicas.gateways[through].terminate().await;
    replicas.publish(21..=40).await;
    let seen = until("it has come back", async || {
        let seen = client.seen();
        (seen.events.len() >= 40).then_some(seen)
    })
    .await;
    assert_eq!(numbers(&seen), (1..=40).collect::<Vec<_>>());
    assert!(seen.connects.last().unwrap().recovered, "{:?}", seen.connects);
    // An error, where the proxy still had something from the client.
    let (reason, tries_again) = &seen.disconnects[0];
    assert!(reason.starts_with("transport ") && *tries_again, "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn marks_that_are_made_up_and_peers_without_the_token_get_nothing() {
    let replicas = Replicas::start().await;
    let server = Server::of(&replicas.gateways[0]);
    let session = server.open().await;
    let (id, mark) = session.sid.split_at(16);
    let query = |sid: &str| format!("EIO=4&transport=polling&sid={sid}");
    // Of no replica, of this one and unknown, and of another one and unknown there.
    let other = Server::of(&replicas.gateways[1]).open().await;
    let others = other.sid.split_at(16).1;
    for sid in [
        format!("{id}-AAAAAAAA"),
        format!("AAAAAAAAAAAAAAAA{mark}"),
        format!("{id}{others}"),
    ] {
        let reply = server.get(&query(&sid)).await;
        assert_eq!(reply.status, 400, "{sid}: {reply:?}");
        assert!(reply.body.contains("Session ID unknown"), "{sid}: {reply:?}");
    }
    assert_eq!(replicas.passed_on(0, "unknown").await, 1.0);
    // It is still there, through another replica too.
    let through = Server::of(&replicas.gateways[1]);
    assert_eq!(
        through.request("POST", &session.query(), "40/news,").await,
        Reply::ok("ok")
    );
    assert!(through.get(&session.query()).await.body.contains("40/news,"));

    for place in replicas.places().await {
        let peer = Server {
            address: place["address"].as_str().unwrap().to_owned(),
        };
        assert_eq!(peer.get(&session.query()).await.status, 401);
        let token = place["token"].as_str().unwrap();
        assert_eq!(token.len(), 43);
        for gateway in &replicas.gateways {
            assert!(!gateway.log().contains(token), "the token is in a log");
        }
    }
    let refused = "aldis_peers_refused_total{reason=\"unauthorized\"}";
    assert_eq!(replicas.gateways[0].metrics().await.value(refused), 1.0);
}
