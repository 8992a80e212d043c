//! A herd: all clients of a gateway lose their connections at once, and come back within a second and a half.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::deadline;
use crate::gateway::Gateway;
use crate::manifests::Manifests;
use crate::node::{Flock, Node};
use crate::proxy::{Cut, Proxy};
use crate::raw::Server;
use crate::records::Producer;

/// Node processes, and clients of each.
const FLOCKS: usize = 4;
const EACH: usize = 250;
/// Records for all of them, and after how many they are cut off.
const RECORDS: u64 = 60;
const BEFORE: u64 = 10;
/// Between two of them.
const BEAT: Duration = Duration::from_millis(200);

/// A stock client that did not lose its connection.
struct Witness {
    stop: Arc<AtomicBool>,
    watching: tokio::task::JoinHandle<Vec<(Instant, Duration)>>,
}

impl Witness {
    /// Publishes to its room, each record once the one before has come.
    async fn start(node: &Node, gateway: &Gateway, topic: &str) -> Self {
        let client = node.connect(&gateway.url("/news"), json!({})).await;
        client.join("join", json!({"room": "witness"})).await;
        let (producer, topic) = (Producer::to(gateway.broker()), topic.to_owned());
        let stop = Arc::new(AtomicBool::new(false));
        let watching = tokio::spawn({
            let stop = Arc::clone(&stop);
            async move {
                let mut took = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let begin = Instant::now();
                    let record = json!({"room": "witness", "n": took.len()});
                    producer.json(&topic, 0, &record).await;
                    client.wait("its record", |seen| seen.events.len() > took.len()).await;
                    took.push((begin, begin.elapsed()));
                }
                let seen = client.seen();
                let numbers: Vec<_> = seen.events.iter().map(|event| event.payload().clone()).collect();
                let expected: Vec<_> = (0..took.len()).map(|n| json!(n)).collect();
                assert_eq!(numbers, expected, "each once, in order");
                assert_eq!((seen.connects.len(), seen.disconnects.len()), (1, 0));
                took
            }
        });
        Self { stop, watching }
    }

    async fn stop(self) -> Vec<(Instant, Duration)> {
        self.stop.store(true, Ordering::Relaxed);
        self.watching.await.unwrap()
    }
}

/// The time within which so many of a hundred came.
fn percentile(took: &[Duration], percent: usize) -> Duration {
    let mut sorted = took.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_that_come_back_at_once_are_all_recovered_and_miss_nothing() {
    let manifests = Manifests::gateway();
    manifests.numbers("\"true\"", "  history: {size: 1000}");
    let gateway = Gateway::start_logging(&manifests.path(), None, Some("error")).await;
    let proxy = Proxy::before(&Server::of(&gateway).address).await;
    // As stock clients come back where nothing is said.
    let options = json!({
        "transports": ["websocket"],
        "reconnectionDelay": 1_000, "reconnectionDelayMax": 5_000, "timeout": 20_000,
    });
    let job = json!({
        "library": "4.8", "url": format!("http://{}/news", proxy.address), "options": options,
        "clients": EACH, "join": {"room": "herd"}, "last": RECORDS,
    });
    let mut flocks = Vec::new();
    for _ in 0..FLOCKS {
        flocks.push(Flock::join(&job).await);
    }
    let node = Node::start();
    let witness = Witness::start(&node, &gateway, &manifests.topic).await;

    let (producer, topic) = (Producer::to(gateway.broker()), manifests.topic.clone());
    let (sent, mut sending) = tokio::sync::watch::channel(0);
    let publishing = tokio::spawn(async move {
        for n in 1..=RECORDS {
            producer.json(&topic, 0, &json!({"room": "herd", "n": n})).await;
            sent.send_replace(n);
            tokio::time::sleep(BEAT).await;
        }
    });
    sending.wait_for(|sent| *sent >= BEFORE).await.unwrap();
    let cut = Instant::now();
    assert_eq!(proxy.cut_all(Cut::Reset), FLOCKS * EACH);
    let recovered = "aldis_sessions_total{channel=\"press/news\",outcome=\"recovered\"}";
    gateway.wait_for_metric(recovered, (FLOCKS * EACH) as f64).await;
    let back = Instant::now();
    publishing.await.unwrap();
    let took = witness.stop().await;

    let expected: Vec<_> = (1..=RECORDS).collect();
    for mut flock in flocks {
        for client in deadline::within("all have the last record", flock.told()).await {
            assert_eq!(client["numbers"], json!(expected), "each once, in order");
            assert_eq!(
                (&client["connects"], &client["recovered"], &client["notRecovered"]),
                (&json!(2), &json!(1), &json!([]))
            );
        }
    }
    let within = |from: Instant, to: Instant| -> Vec<_> {
        let within = took.iter().filter(|(begin, _)| *begin >= from && *begin < to);
        within.map(|(_, took)| *took).collect()
    };
    let (before, during) = (within(took[0].0, cut), within(cut, back));
    println!("{} clients came back in {:?}", FLOCKS * EACH, back - cut);
    for percent in [50, 99] {
        let (before, during) = (percentile(&before, percent), percentile(&during, percent));
        println!(
            "a record to the witness, {percent} of 100 within: {before:?} before, {during:?} meanwhile, {:.1} times",
            during.as_secs_f64() / before.as_secs_f64()
        );
    }
}
