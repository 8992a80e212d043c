//! What the tests with hostile input share: randomness that can be repeated, valid inputs made bad, and a witness who must not
//! notice anything.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinHandle;

use crate::gateway::Gateway;
use crate::node::{Client, Node};
use crate::records::Producer;

/// Inputs for each surface.
pub(crate) const INPUTS: u64 = 10_000;

/// Most bytes of a mutated input.
const LONGEST: usize = 64 * 1024;

/// The seeds of a run, one an input: all, or the one that `ALDIS_SEED` names.
pub(crate) fn seeds(surface: &str) -> Range<u64> {
    let one = std::env::var("ALDIS_SEED")
        .ok()
        .map(|seed| seed.parse::<u64>().expect("a number"));
    let seeds = one.map_or(0..INPUTS, |seed| seed..seed + 1);
    println!("{surface}: seeds {seeds:?}; ALDIS_SEED=n repeats one");
    seeds
}

/// SplitMix64: enough for this, and the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub(crate) fn one_in(&mut self, chance: usize) -> bool {
        self.below(chance) == 0
    }

    pub(crate) fn of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }

    /// The input with one to four faults. `tokens` are what is of meaning on its surface.
    pub(crate) fn mutated(&mut self, input: &[u8], tokens: &[&[u8]]) -> Vec<u8> {
        let mut input = input.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(input.len() + 1);
            let end = (at + 1 + self.below(12)).min(input.len());
            match self.below(8) {
                0 if at < input.len() => input[at] ^= 1 << self.below(8),
                1 if at < input.len() => input[at] = *self.of(&[&0, &0xff, &b'0', &b'{', &b'"', &b'\r', &0x1e]),
                2 => drop(input.drain(at..end)),
                3 => input.truncate(at),
                4 => {
                    let again = input[at..end].repeat(1 + self.below(3));
                    input.splice(at..at, again);
                }
                5 => {
                    let (count, token) = (1 + self.below(200) * usize::from(self.one_in(8)), self.of(tokens));
                    input.splice(at..at, token.repeat(count));
                }
                6 => drop(input.splice(at..end, self.of(tokens).to_vec())),
                _ => {
                    let (first, second) = (self.below(input.len() + 1), at);
                    let moved: Vec<_> = input.drain(first.min(second)..first.max(second)).collect();
                    input.extend(moved);
                }
            }
            input.truncate(LONGEST);
        }
        input
    }

    /// [`Random::mutated`] for text, which stays text.
    pub(crate) fn mutated_text(&mut self, input: &str, tokens: &[&str]) -> String {
        let tokens: Vec<_> = tokens.iter().map(|token| token.as_bytes()).collect();
        String::from_utf8_lossy(&self.mutated(input.as_bytes(), &tokens)).into_owned()
    }
}

/// A stock client in room `witness` of press/news, and a stream of records to it that goes on whatever else happens.
pub(crate) struct Witness {
    _node: Node,
    client: Client,
    stop: Arc<AtomicBool>,
    publishing: JoinHandle<u64>,
    memory_before: f64,
}

/// Between two records of the stream. 20 ms.
const BEAT: Duration = Duration::from_millis(20);

impl Witness {
    /// Connects and begins to publish to partition 0 of `topic`, which press/news reads.
    pub(crate) async fn start(gateway: &Gateway, topic: &str) -> Self {
        let node = Node::start();
        let client = node.connect(&gateway.url("/news"), json!({})).await;
        client.join("join", json!({"room": "witness"})).await;
        let (stop, topic) = (Arc::new(AtomicBool::new(false)), topic.to_owned());
        let producer = Producer::to(gateway.broker());
        let publishing = tokio::spawn({
            let stop = Arc::clone(&stop);
            async move {
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    let record = json!({"type": "news", "room": "witness", "n": n});
                    producer.json(&topic, 0, &record).await;
                    n += 1;
                    tokio::time::sleep(BEAT).await;
                }
                n
            }
        });
        client.events(1).await;
        Self {
            _node: node,
            client,
            stop,
            publishing,
            memory_before: resident(gateway).await,
        }
    }

    /// Each record of the stream came once and in order, over one connection, and the gateway grew by less than `growth` MB.
    pub(crate) async fn has_noticed_nothing(self, gateway: &Gateway, growth: f64) {
        self.stop.store(true, Ordering::Relaxed);
        let published = self.publishing.await.unwrap();
        let seen = self
            .client
            .until("the last record", |seen| seen.events.len() as u64 >= published)
            .await;
        let numbers: Vec<_> = seen
            .events
            .iter()
            .map(|event| event.payload()["n"].as_u64().unwrap())
            .collect();
        assert_eq!(numbers, (0..published).collect::<Vec<_>>(), "each once, in order");
        assert!(seen.disconnects.is_empty(), "{:?}", seen.disconnects);
        let after = resident(gateway).await;
        println!(
            "witness: {published} records, each once; the gateway's memory {:.1} MB before, {:.1} MB after",
            self.memory_before / 1e6,
            after / 1e6
        );
        assert!(
            after - self.memory_before < growth * 1e6,
            "it grew by more than {growth} MB"
        );
    }
}

async fn resident(gateway: &Gateway) -> f64 {
    gateway.metrics().await.value("process_resident_memory_bytes")
}
