//! A client that does not read what it is sent.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::deadline::within;
use crate::gateway::Gateway;
use crate::kafka::{make_topic, shared};
use crate::manifests::Manifests;
use crate::node::Node;
use crate::records::Producer;

/// Bytes of each payload.
const PAYLOAD: usize = 4_000;
/// Events at a time, less than a client's queue (1 MiB) holds: the quick client has read them before there are more.
const BURST: usize = 100;
/// 16 MB in all: more than the slow client's queue and the kernel's buffers take.
const EVENTS: usize = 4_000;
/// By how much the gateway may grow, in bytes: that queue, with what allocators and buffers add.
const GROWTH: f64 = 32e6;
/// How long the gateway may take to be rid of the slow client. A heartbeat that is missed would end it after 20 s.
const CLOSED_WITHIN: Duration = Duration::from_secs(10);

/// A Socket.IO client on a bare WebSocket, whose reading is in our hands.
struct Raw(WebSocketStream<TcpStream>);

impl Raw {
    /// Connects to `/news` and joins room `a`, with a receive buffer of a few KiB.
    async fn join(url: &str) -> Self {
        let address = url.strip_prefix("http://").unwrap().parse().unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(8 * 1024).unwrap();
        let stream = socket.connect(address).await.unwrap();
        let request = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
        let (stream, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        let mut raw = Self(stream);
        raw.until("0{").await;
        raw.0.send(Message::text("40/news,")).await.unwrap();
        raw.until("40/news,{").await;
        raw.0
            .send(Message::text("42/news,0[\"join\",{\"room\":\"a\"}]"))
            .await
            .unwrap();
        raw.until("43/news,0[{\"ok\":true").await;
        raw
    }

    /// Says that it lives, unasked: what asks for it is not read.
    async fn pong(&mut self) {
        // It may have been closed by now.
        self.0.send(Message::text("3")).await.ok();
    }

    async fn until(&mut self, prefix: &str) {
        while !within(prefix, self.next())
            .await
            .expect("the connection is open")
            .starts_with(prefix)
        {}
    }

    /// The next packet; none when the connection is gone.
    async fn next(&mut self) -> Option<String> {
        match self.0.next().await? {
            Ok(Message::Text(text)) => Some(text.as_str().to_owned()),
            Ok(other) => panic!("only text is sent here: {other:?}"),
            Err(_) => None,
        }
    }

    /// Numbers of the events that are left to read, until the connection is gone.
    async fn rest(&mut self) -> Vec<u64> {
        let mut numbers = Vec::new();
        while let Some(packet) = self.next().await {
            let Some(event) = packet.strip_prefix("42/news,") else {
                continue;
            };
            let event: Value = serde_json::from_str(event).unwrap();
            numbers.push(event[1]["n"].as_u64().unwrap());
        }
        numbers
    }
}

#[tokio::test]
async fn a_client_that_stops_reading_is_closed_and_costs_neither_the_others_nor_memory() {
    let kafka = shared().await;
    let manifests = Manifests::news();
    make_topic(&kafka.address(), &manifests.topic, 1, &[]).await;
    let gateway = Gateway::start(&manifests.path(), Some(&kafka.address())).await;
    let producer = Producer::to(&kafka.address());
    let node = Node::start();
    let quick = node.connect(&gateway.url("/news"), json!({})).await;
    quick.join("join", json!({"room": "a"})).await;
    let text = "x".repeat(PAYLOAD);
    let record = |n: usize| json!({"type": "news", "room": "a", "n": n, "text": text});
    producer.all(&manifests.topic, 0, (0..BURST).map(record)).await;
    quick.wait("the first burst", |seen| seen.events.len() >= BURST).await;

    let memory = async || gateway.metrics().await.value("process_resident_memory_bytes");
    let mut slow = Raw::join(&gateway.url("")).await;
    let before = memory().await;
    let mut most = before;
    for from in (BURST..EVENTS).step_by(BURST) {
        slow.pong().await;
        producer
            .all(&manifests.topic, 0, (from..from + BURST).map(record))
            .await;
        quick.wait("the burst", |seen| seen.events.len() >= from + BURST).await;
        most = most.max(memory().await);
    }
    let last_burst = Instant::now();
    gateway
        .wait_for_metric(
            "aldis_clients_closed_total{channel=\"press/news\",reason=\"slow_consumer\"}",
            1.0,
        )
        .await;
    gateway
        .wait_for_metric("aldis_connections{channel=\"press/news\"}", 1.0)
        .await;
    assert!(
        last_burst.elapsed() < CLOSED_WITHIN,
        "{:?}: not by the slow client's queue, but by its heartbeat",
        last_burst.elapsed()
    );
    let grown = most - before;
    assert!(before > 0.0 && grown < GROWTH, "the gateway grew by {grown} bytes");

    let numbers: Vec<_> = quick
        .seen()
        .events
        .iter()
        .map(|event| event.payload()["n"].as_u64().unwrap())
        .collect();
    assert_eq!(
        numbers,
        (0..EVENTS as u64).collect::<Vec<_>>(),
        "the other one has everything"
    );
    assert!(quick.seen().disconnects.is_empty());
    // Nothing was skipped before it was closed.
    let numbers = within("the slow client's connection is closed", slow.rest()).await;
    let first = BURST as u64;
    assert_eq!(numbers, (first..first + numbers.len() as u64).collect::<Vec<_>>());
    assert!(numbers.len() < EVENTS - BURST);
}
