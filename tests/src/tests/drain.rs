//! A gateway that is told to stop.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use serde_json::json;
use tokio::net::TcpStream;

use crate::deadline::{until, until_equal};
use crate::manifests::Manifests;
use crate::node::{Client, Node};
use crate::request::request;
use crate::standalone::Standalone;

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

/// Clients of each transport.
const CLIENTS: usize = 8;
/// Far more than grace, spread and the bounds of what follows them; a stop without bounds takes longer, or for ever.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

async fn clients(node: &Node, url: &str) -> Vec<Client> {
    let mut clients = Vec::new();
    for transports in [
        json!(["websocket"]),
        json!(["polling"]),
        json!(["polling", "websocket"]),
    ] {
        for _ in 0..CLIENTS {
            let options = json!({"transports": transports, "forceNew": true, "reconnectionDelay": 100, "reconnectionDelayMax": 500});
            let client = node.connect_as("4.8", url, &options).await.unwrap();
            client.join("join", json!({"room": "a"})).await;
            clients.push(client);
        }
    }
    clients
}

#[tokio::test]
async fn a_drain_closes_clients_one_by_one_and_they_come_back_to_who_serves_then() {
    let manifests = Manifests::news();
    let mut first = Standalone::start(
        &manifests,
        &["--port", "web=0", "--drain-grace", "2", "--drain-spread", "4"],
    )
    .await;
    let web = first.listener("web").await;
    let node = Node::start();
    let clients = clients(&node, &format!("http://{web}/news")).await;
    // One that never reads, and one that never says a word: neither may hold the stop up.
    let (_stalled, _) = tokio_tungstenite::connect_async(format!("ws://{web}/socket.io/?EIO=4&transport=websocket"))
        .await
        .unwrap();
    let _silent = TcpStream::connect(web).await.unwrap();
    assert_eq!(first.admin("/health/ready", &[]).await.status, 200);

    let begin = Instant::now();
    first.signal().await;
    until_equal("not ready", 503, async || {
        first.admin("/health/ready", &[]).await.status
    })
    .await;
    assert_eq!(
        first.admin("/health/live", &[]).await.status,
        200,
        "it is not killed for that"
    );
    // In its grace it serves, for those that come before everybody has heard of it.
    let late = node.connect(&format!("http://{web}/news"), json!({})).await;
    late.join("join", json!({"room": "a"})).await;

    let gone = || {
        clients
            .iter()
            .filter(|client| !client.seen().disconnects.is_empty())
            .count()
    };
    until("the first is closed", async || (gone() > 0).then_some(())).await;
    assert!(gone() < clients.len() / 2, "they are not closed at once: {}", gone());
    let refusal = request(web, "GET", POLLING, &[], "").await;
    assert_eq!(refusal.status, 503, "nobody begins where all others leave: {refusal:?}");
    assert!(first.ended().await.success());
    assert!(begin.elapsed() < ENDS_WITHIN, "{:?}", begin.elapsed());
    for client in &clients {
        let (reason, active) = client.disconnected().await;
        assert_eq!(
            (reason.as_str(), active),
            ("transport close", true),
            "it tries again by itself"
        );
    }

    let port = format!("web={}", web.port());
    let _second = Standalone::start(&manifests, &["--port", &port]).await;
    for client in &clients {
        let seen = client.until("it is back", |seen| seen.ready.len() == 2).await;
        assert_eq!(
            seen.ready[1]["recovered"], false,
            "memory is gone with the process, and it is told so: {seen:?}"
        );
        client.join("join", json!({"room": "a"})).await;
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_does_not_hold_up_a_stop() {
    let manifests = Manifests::news();
    let mut gateway = Standalone::start(
        &manifests,
        &["--port", "web=0", "--drain-grace", "0", "--drain-spread", "0"],
    )
    .await;
    let web = gateway.listener("web").await;
    let url = format!("ws://{web}/socket.io/?EIO=4&transport=websocket");
    let mut clients = Vec::new();
    for _ in 0..4 {
        let (mut client, _) = tokio_tungstenite::connect_async(&url).await.unwrap();
        assert!(
            client
                .next()
                .await
                .unwrap()
                .unwrap()
                .to_text()
                .unwrap()
                .starts_with("0{")
        );
        clients.push(client);
    }
    let begin = Instant::now();
    gateway.signal().await;
    assert!(gateway.ended().await.success());
    assert!(begin.elapsed() < ENDS_WITHIN, "{:?}", begin.elapsed());
    drop(clients);
}
