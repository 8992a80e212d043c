//! HTTP to a listener and to the admin port: requests that are none get an answer that says so, or are left, and each is counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::deadline::{until, within};
use crate::gateway::Gateway;
use crate::hostile::{Random, Witness, seeds};
use crate::manifests::Manifests;
use crate::metrics::Metrics;

/// Connections at a time.
const AT_ONCE: usize = 64;

/// How long nothing may come before the connection is given up: the request was never whole. 0.5 s.
const PATIENCE: Duration = Duration::from_millis(500);

const SEEDS: [&str; 8] = [
    "GET /socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAA HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    "POST /socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAA HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\nConnection: close\r\n\r\n40/target,",
    "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 12\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    "GET /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    "GET /metrics HTTP/1.0\r\n\r\n",
    "OPTIONS /socket.io/ HTTP/1.1\r\nHost: h\r\nOrigin: https://x\r\nAccess-Control-Request-Method: POST\r\nConnection: close\r\n\r\n",
    "DELETE /health/ready HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    "GET /%2e%2e/etc/passwd HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
];

const TOKENS: [&[u8]; 22] = [
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b":",
    b"\0",
    b"\xff",
    b"%00",
    b"%",
    b"?",
    b"HTTP/1.1",
    b"HTTP/2.0",
    b"GET ",
    b"POST ",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Host: a\r\nHost: b\r\n",
    b"Upgrade: h2c\r\n",
    b"Expect: 100-continue\r\n",
];

fn input(random: &mut Random) -> Vec<u8> {
    let many = 1 + random.below(3_000);
    let post = |headers: &str, body: &str| {
        format!(
            "POST /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: h\r\n{headers}Connection: close\r\n\r\n{body}"
        )
        .into_bytes()
    };
    match random.below(20) {
        // Floods.
        0 => format!("GET / HTTP/1.1\r\n{}\r\n", "X-Flood: 1\r\n".repeat(many)).into_bytes(),
        1 => format!(
            "GET /{} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
            "a".repeat(20 * many)
        )
        .into_bytes(),
        2 => format!(
            "GET / HTTP/1.1\r\nX-Long: {}\r\nConnection: close\r\n\r\n",
            "a".repeat(20 * many)
        )
        .into_bytes(),
        // Two lengths, two encodings, a second request hidden behind the first.
        3 => post(
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\nGET /admin HTTP/1.1\r\nHost: h\r\n\r\n",
        ),
        4 => post("Content-Length: 4\r\nContent-Length: 5\r\n", "abcde"),
        5 => post(
            random.of(&[
                "Transfer-Encoding: xchunked\r\n",
                "Transfer-Encoding : chunked\r\n",
                "Transfer-Encoding: chunked, identity\r\n",
            ]),
            "0\r\n\r\n",
        ),
        6 => post(
            "Transfer-Encoding: chunked\r\n",
            random.of(&["ffffffffffffffff\r\n", "-1\r\n\r\n", "zz\r\n", "5\r\nabc\r\n0\r\n\r\n"]),
        ),
        7 => post(&format!("Content-Length: {}\r\n", random.next() % (1 << 40)), "4"),
        // Other protocols.
        8 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        9 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        10 => (0..1 + random.below(300)).map(|_| random.next() as u8).collect(),
        _ => {
            let seed = random.of(&SEEDS).as_bytes();
            random.mutated(seed, &TOKENS)
        }
    }
}

/// What a client got for one input.
#[derive(Default)]
struct Got {
    /// Answers with a status of 400 and more, and below.
    bad: usize,
    good: usize,
}

async fn send(address: &str, input: &[u8]) -> Got {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // What can not be written any more has been answered.
    stream.write_all(input).await.ok();
    let mut answer = Vec::new();
    let whole = async { while matches!(stream.read_buf(&mut answer).await, Ok(1..)) {} };
    if tokio::time::timeout(PATIENCE, whole).await.is_err() {
        stream.shutdown().await.ok();
        within("the gateway closes", async {
            while matches!(stream.read_buf(&mut answer).await, Ok(1..)) {}
        })
        .await;
    }
    let mut got = Got::default();
    for at in answer
        .windows(9)
        .enumerate()
        .filter(|(_, window)| *window == b"HTTP/1.1 " || *window == b"HTTP/1.0 ")
        .map(|(at, _)| at)
    {
        match answer.get(at + 9) {
            Some(b'4' | b'5') => got.bad += 1,
            _ => got.good += 1,
        }
    }
    got
}

/// The metric that counts what a port refuses, and the label that is the port's, with its comma.
fn refusals(port: &str) -> (&'static str, String) {
    match port {
        "admin" => ("aldis_admin_refused_total", String::new()),
        listener => ("aldis_listener_refused_total", format!("listener=\"{listener}\",")),
    }
}

fn reasons(metrics: &Metrics, port: &str) -> BTreeMap<String, f64> {
    let (metric, label) = refusals(port);
    let all = metrics.all(metric).into_iter();
    let of_port = all.filter(|(series, _)| series.contains(&label));
    of_port
        .map(|(series, value)| {
            let reason = series.split("reason=\"").nth(1).unwrap();
            (reason.split('"').next().unwrap().to_owned(), value)
        })
        .collect()
}

/// Reasons of connections that got no answer.
const UNANSWERED: [&str; 2] = ["incomplete", "no_request_in_time"];

async fn storm(port: &str, address: impl Fn(&Gateway) -> String) {
    let manifests = Manifests::news();
    let gateway = Gateway::start_logging(&manifests.path(), None, Some("error")).await;
    let witness = Witness::start(&gateway, &manifests.topic).await;
    let address: Arc<str> = address(&gateway).into();

    let answers = stream::iter(seeds(port)).map(|seed| {
        let address = Arc::clone(&address);
        tokio::spawn(async move {
            let input = input(&mut Random::new(seed));
            // Who leaves without a word has not been refused.
            let is_something = !input.is_empty();
            (send(&address, &input).await, is_something)
        })
    });
    let (mut bad, mut silent, mut good, mut inputs) = (0.0, 0.0, 0.0, 0.0);
    let mut answers = answers.buffer_unordered(AT_ONCE);
    while let Some(got) = answers.next().await {
        let (got, is_something) = got.unwrap();
        inputs += 1.0;
        bad += got.bad as f64;
        good += f64::from(u8::from(got.good > 0));
        silent += f64::from(u8::from(is_something && got.bad + got.good == 0));
    }
    let answered = |reasons: &BTreeMap<String, f64>| {
        let answered = reasons
            .iter()
            .filter(|(reason, _)| !UNANSWERED.contains(&reason.as_str()));
        answered.map(|(_, count)| count).sum::<f64>()
    };
    let reasons = until("every refusal is counted", async || {
        let reasons = reasons(&gateway.metrics().await, port);
        (answered(&reasons) >= bad).then_some(reasons)
    })
    .await;
    println!(
        "{port}: {inputs} inputs, {bad} bad answers, {silent} without an answer, {good} with a good one: {reasons:?}"
    );
    let unanswered: f64 = UNANSWERED.iter().filter_map(|reason| reasons.get(*reason)).sum();
    let total = answered(&reasons) + unanswered;
    // A connection may be left unanswered after a good answer, too; and an HTTP/2 preface is malformed without an answer.
    assert!((bad + silent..=bad + silent + good).contains(&total), "{total} counted");
    assert!(inputs == 1.0 || bad > inputs / 4.0);
    witness.has_noticed_nothing(&gateway, 150.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_bad_requests_to_a_listener_are_refused_and_counted_and_the_others_are_served() {
    storm("web", |gateway| {
        gateway.url("").trim_start_matches("http://").to_owned()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_bad_requests_to_the_admin_port_are_refused_and_counted_and_the_others_are_served() {
    storm("admin", |gateway| gateway.admin_address().to_owned()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_headers_byte_by_byte_is_closed_and_counted_and_the_others_are_served() {
    const SLOW: usize = 100;
    let manifests = Manifests::news();
    let gateway = Gateway::start_logging(&manifests.path(), None, Some("error")).await;
    let witness = Witness::start(&gateway, &manifests.topic).await;
    let slow = |address: String| async move {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        for byte in b"GET /health HTTP/1.1\r\nX-Slow: ".iter().chain(&[b'a'; 10_000]) {
            // Some 10 s, and then it is over, whatever is still sent.
            let mut answer = [0; 256];
            let sent = stream.write_all(&[*byte]).await;
            let read = tokio::time::timeout(PATIENCE, stream.read(&mut answer)).await;
            if sent.is_err() || matches!(read, Ok(Ok(0) | Err(_))) {
                return;
            }
        }
        panic!("it was never closed");
    };
    let ports = [
        ("web", gateway.url("").trim_start_matches("http://").to_owned()),
        ("admin", gateway.admin_address().to_owned()),
    ];
    // Who has asked, and asks no more, is closed as late, and is refused nothing.
    let idle = |address: String| async move {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream
            .write_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
    };
    let idle = futures_util::future::join_all(ports.iter().map(|(_, address)| idle(address.clone())));
    let clients = ports.iter().flat_map(|(_, address)| vec![address.clone(); SLOW]);
    within(
        "slow clients are closed",
        futures_util::future::join(idle, futures_util::future::join_all(clients.map(slow))),
    )
    .await;
    for (port, _) in ports {
        let (metric, label) = refusals(port);
        let series = format!("{metric}{{{label}reason=\"no_request_in_time\"}}");
        gateway.wait_for_metric(&series, SLOW as f64).await;
    }
    witness.has_noticed_nothing(&gateway, 50.0).await;
}
