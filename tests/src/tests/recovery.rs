//! A client that loses its connection misses nothing and sees nothing twice; or it is told so. Some 1,000 cuts under load, over
//! all tests here.

use std::time::Duration;

use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::manifests::Manifests;
use crate::node::Flock;
use crate::proxy::{Cut, Proxy};
use crate::raw::Server;
use crate::records::Producer;
use crate::repeating::RepeatingProxy;

/// Records that flow while clients are cut off.
const RECORDS: u64 = 2_000;
/// How long the clients may take. One that is cut off while it pauses polling in order to upgrade waits for its own
/// heartbeat to fail, 45 s, whatever a server does.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long it takes until another record comes, once all have been sent.
const MORE: Duration = Duration::from_millis(500);
/// Clients of each kind.
const CLIENTS: usize = 8;
/// Records between two cuts.
const RECORDS_PER_CUT: u64 = 5;
/// The same where a cut is a stall that nothing but heartbeats ends, a second later.
const RECORDS_PER_FREEZE: u64 = 20;
/// A heartbeat that notices a stall soon: clients give a silent connection up after both.
const SHORT_HEARTBEAT: &str = "heartbeat: {interval: 500ms, timeout: 500ms}";

/// What is cut, and how.
struct Cuts {
    library: &'static str,
    /// Of `io()`.
    options: Value,
    history: &'static str,
    how: &'static [Cut],
    every: u64,
    /// Between the cuts and the gateway is a proxy that asks each poll twice, and loses the first answer.
    repeated: bool,
}

impl Cuts {
    /// Of clients of 4.8 with these options, in all ways that end by themselves, within history.
    fn of(options: Value) -> Self {
        Self {
            library: "4.8",
            options,
            history: "{size: 10000, ttl: 10m}",
            how: &Cut::ALL,
            every: RECORDS_PER_CUT,
            repeated: false,
        }
    }

    /// What is beside the port of the listener.
    fn listener(&self) -> &'static str {
        match self.how.contains(&Cut::Freeze) {
            true => SHORT_HEARTBEAT,
            false => "connectTimeout: 45s",
        }
    }
}

fn record(n: u64) -> Value {
    // Every second record is of a room that nobody is in: positions then have holes, as they have in life.
    json!({"n": n, "room": if n.is_multiple_of(2) { "a" } else { "b" }})
}

/// Runs clients through a proxy that cuts them, and gives what they have seen.
async fn cut_off(cuts: &Cuts) -> Vec<Value> {
    let Cuts { library, options, .. } = cuts;
    let manifests = Manifests::gateway();
    manifests.listeners(&format!("[{{name: web, port: 3000, {}}}]", cuts.listener()));
    manifests.numbers("\"true\"", &format!("  history: {}", cuts.history));
    let gateway = Gateway::start(&manifests.path(), None).await;
    let address = Server::of(&gateway).address;
    let repeating = RepeatingProxy::before(&address).await;
    let proxy = match cuts.repeated {
        true => Proxy::before(&repeating.address.to_string()).await,
        false => Proxy::before(&address).await,
    };
    let job = json!({
        "library": library, "url": format!("http://{}/news", proxy.address), "options": options,
        "clients": CLIENTS, "join": {"room": "a"}, "last": RECORDS,
    });
    let mut flock = Flock::join(&job).await;

    repeating.repeat();
    let producer = Producer::to(gateway.broker());
    let mut made = 0;
    for n in 1..=RECORDS {
        producer.json(&manifests.topic, 0, &record(n)).await;
        if n % cuts.every == 0 && n < RECORDS - 50 {
            let nth = (n / cuts.every) as usize;
            made += u64::from(proxy.cut(nth * 7, cuts.how[nth % cuts.how.len()]));
        }
    }
    // One that was away when the last record came, and may not have it any more, gets a later one.
    let told = async {
        for n in (RECORDS + 2..).step_by(2) {
            match tokio::time::timeout(MORE, flock.told()).await {
                Ok(told) => return told,
                Err(_) => producer.json(&manifests.topic, 0, &record(n)).await,
            };
        }
        unreachable!("numbers do not end")
    };
    let clients = tokio::time::timeout(PATIENCE, told)
        .await
        .expect("the clients tell what they have seen");
    println!(
        "{library} {options}: {made} cuts, {} polls repeated",
        repeating.repeated()
    );
    // Clients that are away can not be cut: not every try finds a connection.
    assert!(made > RECORDS / cuts.every / 3, "only {made} cuts");
    // Whoever is cut off is so in the middle of a poll mostly, and not always.
    assert!(!cuts.repeated || repeating.repeated() > made / 2, "polls are repeated");
    for client in &clients {
        let seqs = integers(&client["seqs"]);
        assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
        assert_eq!(client["beforeReady"], 0, "events came before aldis:ready");
        assert_eq!(client["disagreed"], 0, "socket.recovered is what aldis:ready says");
    }
    clients
}

fn integers(list: &Value) -> Vec<u64> {
    let list = list.as_array().unwrap().iter();
    list.map(|n| n.as_u64().unwrap()).collect()
}

async fn nothing_is_missed(cuts: &Cuts) {
    let mut recovered = 0;
    for client in cut_off(cuts).await {
        let mut numbers = integers(&client["numbers"]);
        numbers.retain(|n| *n <= RECORDS);
        let expected: Vec<_> = (1..=RECORDS).filter(|n| n.is_multiple_of(2)).collect();
        let lost: Vec<_> = expected.iter().filter(|n| !numbers.contains(n)).collect();
        assert!(
            lost.is_empty(),
            "{} connects, not recovered {}, at last {}, lost {lost:?}",
            client["connects"],
            client["notRecovered"],
            client["last"]
        );
        assert_eq!(numbers, expected, "something came twice or out of order");
        assert_eq!(client["notRecovered"], json!([]));
        let (connects, times) = (
            client["connects"].as_u64().unwrap(),
            client["recovered"].as_u64().unwrap(),
        );
        println!("  {connects} connects, {times} recovered");
        recovered += times;
    }
    assert!(recovered > 10, "all clients together came back only {recovered} times");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_3_beyond_history_a_client_misses_only_what_it_was_told_before_any_event() {
    let (mut told, mut recovered) = (0, 0);
    let cuts = Cuts {
        history: "{size: 3, ttl: 10m}",
        ..Cuts::of(json!({"transports": ["websocket"]}))
    };
    for client in cut_off(&cuts).await {
        let numbers = integers(&client["numbers"]);
        let gaps = integers(&client["told"]);
        for (at, pair) in (1_u64..).zip(numbers.windows(2)) {
            let next = pair[1] == pair[0] + 2;
            assert!(
                next || gaps.contains(&at),
                "{} follows {} and nobody said so",
                pair[1],
                pair[0]
            );
        }
        let reasons = client["notRecovered"].as_array().unwrap();
        assert!(reasons.iter().all(|reason| reason == "history"), "{reasons:?}");
        told += reasons.len();
        recovered += client["recovered"].as_u64().unwrap();
    }
    println!("  told {told} times, recovered {recovered} times");
    assert!(
        told > 0 && recovered > 0,
        "told {told} times, recovered {recovered} times"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_2_a_client_over_websocket_that_is_cut_off_gets_each_delivery_once() {
    nothing_is_missed(&Cuts::of(json!({"transports": ["websocket"]}))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_2_a_client_that_polls_and_is_cut_off_gets_each_delivery_once() {
    nothing_is_missed(&Cuts::of(json!({"transports": ["polling"]}))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_2_a_client_that_upgrades_and_is_cut_off_gets_each_delivery_once() {
    nothing_is_missed(&Cuts::of(json!({}))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_2_an_older_client_that_upgrades_and_is_cut_off_gets_each_delivery_once() {
    nothing_is_missed(&Cuts {
        library: "4.7",
        ..Cuts::of(json!({}))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_2_a_client_that_is_cut_off_before_a_proxy_that_repeats_its_polls_gets_each_delivery_once() {
    nothing_is_missed(&Cuts {
        repeated: true,
        ..Cuts::of(json!({"transports": ["polling"]}))
    })
    .await;
}

/// Stalls that end only once somebody gives the connection up, among cuts in the middle of a frame, and of an upgrade.
const FROZEN: &[Cut] = &[Cut::Freeze, Cut::MidFrame];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_2_a_client_whose_connection_stalls_notices_it_and_gets_each_delivery_once() {
    let frozen = |options| Cuts {
        how: FROZEN,
        every: RECORDS_PER_FREEZE,
        ..Cuts::of(options)
    };
    nothing_is_missed(&frozen(json!({"transports": ["websocket"]}))).await;
    nothing_is_missed(&frozen(json!({}))).await;
}
