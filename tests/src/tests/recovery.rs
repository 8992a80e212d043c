//! A client that loses its connection misses nothing and sees nothing twice; or it is told so. Some 1,000 cuts under load, over
//! all tests here.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::deadline::within;
use crate::gateway::Gateway;
use crate::manifests::Manifests;
use crate::node::node;
use crate::proxy::{Cut, Proxy};
use crate::records::Producer;

/// Records that flow while clients are cut off.
const RECORDS: u64 = 2_000;
/// How long the clients may take. One that is cut off while it pauses polling in order to upgrade waits for its own
/// heartbeat to fail, 45 s, whatever a server does.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long it takes until another record comes, once all have been sent.
const MORE: Duration = Duration::from_millis(500);
/// Clients of each kind.
const CLIENTS: usize = 8;
/// A connection is cut after so many records.
const RECORDS_PER_CUT: u64 = 5;

fn record(n: u64) -> Value {
    // Every second record is of a room that nobody is in: positions then have holes, as they have in life.
    json!({"n": n, "room": if n.is_multiple_of(2) { "a" } else { "b" }})
}

/// Runs clients of one library over one transport through a proxy that cuts them, and gives what they have seen.
async fn cut_off(library: &str, options: Value, history: &str) -> Vec<Value> {
    let manifests = Manifests::gateway();
    manifests.numbers("\"true\"", &format!("  history: {history}"));
    let gateway = Gateway::start(&manifests.path(), None).await;
    let url = gateway.url("/news");
    let address = url
        .strip_prefix("http://")
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    let proxy = Proxy::before(&address).await;
    let job = json!({
        "library": library, "url": format!("http://{}/news", proxy.address), "options": options,
        "clients": CLIENTS, "join": {"room": "a"}, "last": RECORDS,
    });
    let mut child = node(&["recovery.js", &job.to_string()]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let joined = within("all clients have joined", lines.next_line()).await.unwrap();
    assert_eq!(joined.as_deref(), Some("{\"joined\":true}"));

    let producer = Producer::to(gateway.broker());
    let mut cuts = 0;
    for n in 1..=RECORDS {
        producer.json(&manifests.topic, 0, &record(n)).await;
        if n % RECORDS_PER_CUT == 0 && n < RECORDS - 50 {
            let nth = (n / RECORDS_PER_CUT) as usize;
            cuts += usize::from(proxy.cut(nth * 7, Cut::ALL[nth % Cut::ALL.len()]));
        }
    }
    // One that was away when the last record came, and may not have it any more, gets a later one.
    let told = async {
        for n in (RECORDS + 2..).step_by(2) {
            match tokio::time::timeout(MORE, lines.next_line()).await {
                Ok(told) => return told.unwrap(),
                Err(_) => producer.json(&manifests.topic, 0, &record(n)).await,
            };
        }
        unreachable!("numbers do not end")
    };
    let seen = tokio::time::timeout(PATIENCE, told)
        .await
        .expect("the clients tell what they have seen");
    let seen: Value = serde_json::from_str(&seen.expect("the clients tell what they have seen")).unwrap();
    println!("{library} {options}: {cuts} cuts");
    assert!(cuts > 150, "only {cuts} cuts");
    let clients = seen["clients"].as_array().unwrap().clone();
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

async fn nothing_is_missed(library: &str, options: Value) {
    let mut recovered = 0;
    for client in cut_off(library, options, "{size: 10000, ttl: 10m}").await {
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
async fn beyond_history_a_client_misses_only_what_it_was_told_before_any_event() {
    let (mut told, mut recovered) = (0, 0);
    for client in cut_off("4.8", json!({"transports": ["websocket"]}), "{size: 3, ttl: 10m}").await {
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
async fn a_client_over_websocket_that_is_cut_off_gets_each_delivery_once() {
    nothing_is_missed("4.8", json!({"transports": ["websocket"]})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_polls_and_is_cut_off_gets_each_delivery_once() {
    nothing_is_missed("4.8", json!({"transports": ["polling"]})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_upgrades_and_is_cut_off_gets_each_delivery_once() {
    nothing_is_missed("4.8", json!({})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_client_that_upgrades_and_is_cut_off_gets_each_delivery_once() {
    nothing_is_missed("4.7", json!({})).await;
}
