//! Records that go on while everything else is broken, and what of them a client must have.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::kubernetes::until;
use crate::node::{Client, Connected, Node, Seen};
use crate::records::Producer;

pub(super) const TOPIC: &str = "orders";
pub(super) const PARTITIONS: u64 = 4;
/// Milliseconds between records: 20 a second, so that a client may be away for a while and still gets back what it missed.
const PACE: u64 = 50;
/// The same where the gateway is to be busy: 200 a second at most.
const BUSY_PACE: u64 = 5;

/// Records that are published until it is ended: numbers, from 0.
pub(super) struct Load {
    acknowledged: Arc<AtomicU64>,
    pace: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    publishing: JoinHandle<()>,
}

impl Load {
    pub(super) fn start(broker: &str) -> Self {
        let (acknowledged, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let pace = Arc::new(AtomicU64::new(PACE));
        let paced = Arc::clone(&pace);
        let (counted, stopped, producer) = (Arc::clone(&acknowledged), Arc::clone(&stop), Producer::to(broker));
        let publishing = tokio::spawn(async move {
            for number in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let partition = i32::try_from(number % PARTITIONS).unwrap();
                producer.json(TOPIC, partition, &json!({ "number": number })).await;
                counted.store(number + 1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(paced.load(Ordering::Relaxed))).await;
            }
        });
        Self {
            acknowledged,
            pace,
            stop,
            publishing,
        }
    }

    /// Whether there are many records from now on.
    pub(super) fn is_busy(&self, busy: bool) {
        let pace = if busy { BUSY_PACE } else { PACE };
        self.pace.store(pace, Ordering::Relaxed);
    }

    /// How many records there are.
    pub(super) fn published(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until a client has all that is published by now. It has each once since it connected, in the order of its
    /// partition, and was told each time it came back that it missed nothing.
    pub(super) async fn is_with(&self, step: &str, client: &Tenant) {
        // Something that was published after the step.
        let now = self.published();
        until(&format!("{step}: records go on"), async || {
            (self.published() > now + 20).then_some(())
        })
        .await;
        let end = self.published();
        until(&format!("{step}: the client has what is published"), async || {
            let last = client.partitions().map(|numbers| numbers.last().copied());
            let has_all = |last: Option<u64>| last.is_some_and(|last| last + PARTITIONS >= end);
            last.into_iter().all(has_all).then_some(())
        })
        .await;
        client.has_each_once(step);
    }

    pub(super) async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.publishing.await.unwrap();
        self.acknowledged.load(Ordering::Relaxed)
    }
}

/// A client of the tenant.
pub(super) struct Tenant(Client);

impl Tenant {
    /// Connects; gives the connect_error where it is refused for good: like a stock client it tries again where nobody answers, as
    /// where the node does not send to a pod yet. Options are those of `io()`.
    pub(super) async fn connect(node: &Node, url: &str, options: &Value) -> Result<Self, Value> {
        let mut options = options.clone();
        options["reconnectionDelayMax"] = json!(1000);
        options["forceNew"] = json!(true);
        let client = node.begin("4.8", url, &options).await;
        let refusal = |seen: &Seen| {
            seen.connect_errors
                .iter()
                .find(|error| error["active"] == false)
                .cloned()
        };
        let seen = client
            .until("connected or refused", |seen| {
                !seen.connects.is_empty() || refusal(seen).is_some()
            })
            .await;
        match refusal(&seen) {
            Some(error) if seen.connects.is_empty() => Err(error),
            _ => Ok(Self(client)),
        }
    }

    /// Whether it would be let in.
    pub(super) async fn may_connect(node: &Node, url: &str, options: &Value) -> bool {
        let mut options = options.clone();
        options["reconnection"] = json!(false);
        options["forceNew"] = json!(true);
        match node.connect_as("4.8", url, &options).await {
            Ok(client) => {
                client.disconnect().await;
                true
            }
            Err(_) => false,
        }
    }

    /// What it has received of each partition, in the order in which it came.
    pub(super) fn partitions(&self) -> [Vec<u64>; PARTITIONS as usize] {
        let mut partitions = [const { Vec::new() }; PARTITIONS as usize];
        for event in self.0.seen().events.iter().filter(|event| event.name == "placed") {
            let number = event.payload()["data"]["number"].as_u64().unwrap();
            partitions[(number % PARTITIONS) as usize].push(number);
        }
        partitions
    }

    fn has_each_once(&self, step: &str) {
        for numbers in self.partitions() {
            let wrong = numbers.windows(2).find(|pair| pair[1] != pair[0] + PARTITIONS);
            assert_eq!(wrong, None, "{step}: lost, twice or out of order");
        }
        let ready = self.0.seen().ready;
        assert!(
            ready[1..].iter().all(|info| info["recovered"] == true),
            "{step}: {ready:?}"
        );
    }

    /// How often it has connected.
    pub(super) fn connections(&self) -> usize {
        self.0.seen().connects.len()
    }

    /// Its latest connection.
    pub(super) fn connected(&self) -> Connected {
        self.0.connected()
    }

    /// What `aldis:ready` told it of its first connection.
    pub(super) async fn welcome(&self) -> Value {
        let seen = self
            .0
            .until("it is told how it stands", |seen| !seen.ready.is_empty())
            .await;
        seen.ready[0].clone()
    }

    /// The position of the last delivery that it has.
    pub(super) fn position(&self) -> String {
        let events = self.0.seen().events;
        let last = events.iter().rev().find(|event| event.name == "placed").unwrap();
        last.args[1].as_str().unwrap().to_owned()
    }

    /// Waits until it is connected no more, and will not try by itself.
    pub(super) async fn is_sent_away(&self) {
        until("the client is sent away", async || {
            let seen = self.0.seen();
            let last = seen.disconnects.last();
            let is_final = last.is_some_and(|(_, tries_again)| !tries_again);
            (is_final && seen.disconnects.len() >= seen.connects.len()).then_some(())
        })
        .await;
    }
}
