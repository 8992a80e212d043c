//! Thousands of short histories of adapter, hub, sessions and clients, in one thread: a seeded scheduler chooses what happens next, also
//! between the steps of an arrival, a join or an append. What each client saw is compared with what was published.
//!
//! `ALDIS_SEED=n` repeats one history.

use std::collections::BTreeMap;

use super::*;

mod adapter;
mod client;
mod connection;
mod server;

use client::StockClient;
use server::{ROOMS, Server};

/// Histories of a run, and how many things happen in each.
const HISTORIES: u64 = 2_000;
const STEPS: usize = 400;
const CLIENTS: usize = 3;

/// The same numbers for the same seed (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }

    /// One of the rooms, or everyone.
    fn audience(&mut self) -> Vec<&'static str> {
        match self.below(6) {
            0 => Vec::new(),
            1 => vec!["a", "b"],
            _ => vec![ROOMS[self.below(ROOMS.len())]],
        }
    }
}

/// What happened in some histories, to be sure that it did.
#[derive(Default, Debug)]
struct Tally(BTreeMap<&'static str, usize>);

impl Tally {
    fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }
}

/// One history. Gives what is wrong with it.
fn history(seed: u64, tally: &mut Tally) -> Result<(), String> {
    let mut random = Random(seed);
    let keeps = [3, 10, 100][random.below(3)];
    let mut server = Server::keeping(seed, keeps);
    let mut clients: [StockClient; CLIENTS] = Default::default();
    for _ in 0..STEPS {
        let client = &mut clients[random.below(CLIENTS)];
        match random.below(24) {
            0..=2 => server.produce(random.below(2), &random.audience()),
            3..=5 => server.consume(random.below(2), random.below(2), 1 + random.below(3)),
            6 => server.assign(random.below(2), random.below(2), random.below(4)),
            7..=12 => (0..3).for_each(|_| server.go_on(random.below(usize::MAX))),
            13..=15 => server.welcome(random.below(usize::MAX)),
            16..=18 if client.is_cut() => client.connect(&mut server),
            16..=18 => client.receive_up_to(random.below(6), tally)?,
            19..=20 => client.asks(&mut server, ROOMS[random.below(ROOMS.len())], random.below(3) > 0),
            21 if random.below(2) == 0 => client.cut(),
            22 => server.notice(random.below(usize::MAX)),
            23 if random.below(8) == 0 => client.say_goodbye(&mut server),
            _ => server.beacon(),
        }
    }
    // No more faults: everybody comes back, and has everything.
    server.finish();
    for client in &mut clients {
        client.settle(&mut server, tally)?;
        client.has_everything(&server)?;
    }
    server.published_each_once()
}

/// Runs histories until one goes wrong; gives its seed and what was wrong.
fn run(histories: u64) -> Result<Tally, (u64, String)> {
    let one = std::env::var("ALDIS_SEED")
        .ok()
        .map(|seed| seed.parse().expect("a number"));
    let mut tally = Tally::default();
    for seed in one.map_or(0..histories, |seed: u64| seed..seed + 1) {
        history(seed, &mut tally).map_err(|wrong| (seed, wrong))?;
    }
    Ok(tally)
}

#[test]
fn in_no_history_of_thousands_does_a_client_lose_a_delivery_or_see_it_twice() {
    let tally = run(HISTORIES).unwrap_or_else(|(seed, wrong)| panic!("ALDIS_SEED={seed}: {wrong}"));
    println!("{HISTORIES} histories: {tally:?}");
    if std::env::var("ALDIS_SEED").is_err() {
        for what in ["received", "recovered", "not recovered", "closed by the gateway"] {
            assert!(tally.0.get(what).is_some_and(|times| *times > 100), "{what}: {tally:?}");
        }
    }
}

#[cfg(feature = "sabotage")]
mod rules {
    use super::*;

    /// A rule that is off is found.
    fn is_found(rule: Rule) {
        rule.switch_off();
        let (seed, wrong) = run(HISTORIES).expect_err("a history goes wrong");
        println!("{rule:?}: seed {seed}: {wrong}");
    }

    #[test]
    fn histories_find_that_deliveries_overtake_each_other() {
        is_found(Rule::OneOrder);
    }

    #[test]
    fn histories_find_that_two_generations_share_a_session() {
        is_found(Rule::Generation);
    }

    #[test]
    fn histories_find_that_recovered_is_said_too_early() {
        is_found(Rule::CompleteOrTold);
    }
}
