//! Engine.IO 4 by hand: handshakes, heartbeats, closing, upgrades, and what is no Engine.IO. The ground that the protocol's
//! public test suite covers, and some beyond it.

use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::manifests::Manifests;
use crate::raw::{Frame, Polling, Reply, Server};

/// The listener of `examples/protocol`, with times that no test waits for.
async fn server() -> ((Manifests, Gateway), Server) {
    server_with("connectTimeout: 45s").await
}

/// The same with these times.
async fn server_with(times: &str) -> ((Manifests, Gateway), Server) {
    let manifests = Manifests::protocol(times);
    let gateway = Gateway::start(&manifests.path(), None).await;
    let server = Server::of(&gateway);
    ((manifests, gateway), server)
}

fn assert_handshake(handshake: &Value, upgrades: &Value) {
    let mut keys: Vec<_> = handshake.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["maxPayload", "pingInterval", "pingTimeout", "sid", "upgrades"]);
    assert!(handshake["sid"].is_string());
    assert_eq!(handshake["upgrades"], *upgrades);
}

/// The session is gone: its polls are refused.
async fn assert_gone(session: &Polling) {
    let reply = session.poll().await;
    assert_eq!(reply.status, 400, "{reply:?}");
}

#[tokio::test]
async fn a_handshake_says_how_the_session_is_kept() {
    let (_running, server) = server().await;
    assert_handshake(&server.open().await.handshake, &json!(["websocket"]));
    assert_handshake(&server.connect().await.1, &json!([]));
}

#[tokio::test]
async fn a_handshake_that_is_none_is_refused() {
    let (_running, server) = server().await;
    for query in [
        "transport=polling",
        "EIO=abc&transport=polling",
        "EIO=3&transport=polling",
        "EIO=4",
        "EIO=4&transport=abc",
        "",
        "EIO=4&transport=polling&sid=",
        "EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAA",
        "EIO=4&transport=polling&sid=../../..",
        // No upgrade at all.
        "EIO=4&transport=websocket",
        "transport=websocket",
    ] {
        assert_eq!(server.get(query).await.status, 400, "{query}");
    }
    for method in ["POST", "PUT", "DELETE"] {
        let reply = server.request(method, "EIO=4&transport=polling", "").await;
        assert_eq!(reply.status, 400, "{method}");
    }
    for query in [
        "transport=websocket",
        "EIO=abc&transport=websocket",
        "EIO=4",
        "EIO=4&transport=abc",
    ] {
        assert!(server.websocket(query).await.is_err(), "{query}");
    }
}

#[tokio::test]
async fn a_client_may_close_its_session() {
    let (_running, server) = server().await;
    let session = server.open().await;
    let (poll, push) = tokio::join!(session.poll(), session.push("1"));
    assert_eq!(push, Reply::ok("ok"));
    // Where the close came first there was no poll to end.
    assert!(poll == Reply::ok("6") || poll.status == 400, "{poll:?}");
    assert_gone(&session).await;
    let (mut socket, _) = server.connect().await;
    socket.send("1").await;
    socket.closed().await;
}

#[tokio::test]
async fn what_is_no_packet_ends_the_session() {
    let (_running, server) = server().await;
    for bad in ["abc", "b!", "4hello", "9"] {
        let session = server.open().await;
        session.push(bad).await;
        assert_gone(&session).await;
    }
    for bad in ["abc", "b!", "4hello", "9"] {
        let (mut socket, _) = server.connect().await;
        socket.send(bad).await;
        socket.closed().await;
    }
}

#[tokio::test]
async fn a_session_polls_once_at_a_time_but_may_ask_the_same_again() {
    let (_running, server) = server().await;
    let session = server.open().await;
    let (first, again, _) = tokio::join!(session.poll_as("a"), session.poll_as("a"), session.push("40"));
    assert_eq!((&first, first.status), (&again, 200));
    assert!(first.body.starts_with("40{\"sid\""), "{first:?}");
    assert_eq!(session.poll_as("a").await, first, "also later");

    if !first.body.contains("auth") {
        session.poll().await;
    }
    let (first, second) = tokio::join!(session.poll_as("b"), session.poll_as("c"));
    // Which of the two comes first is not ours to say.
    let mut statuses = [first.status, second.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400]);
    let closed = if first.status == 200 { first } else { second };
    assert_eq!(closed.packets().last(), Some(&"1"));
    assert_gone(&session).await;
}

#[tokio::test]
async fn a_session_goes_over_to_websocket() {
    let (_running, server) = server().await;
    let session = server.open().await;
    session.send("40").await;
    let connected = session.packets().await;
    assert!(connected[0].starts_with("40{\"sid\":"), "{connected:?}");
    let mut socket = session.probe().await;
    // A poll ends at once, for as long as the upgrade is under way.
    assert!(session.poll().await.packets().contains(&"6"));
    assert_eq!(session.poll().await, Reply::ok("6"));
    socket.send("5").await;
    socket.send("42[\"message\",1]").await;
    let mut texts = Vec::new();
    while !texts.iter().any(|text| text == "42[\"message-back\",1]") {
        texts.push(socket.text().await);
    }
    assert_gone(&session).await;
    let query = format!("EIO=4&transport=websocket&sid={}", session.sid);
    if let Ok(mut second) = server.websocket(&query).await {
        second.send("2probe").await;
        second.closed().await;
    }
    socket.send("42[\"message\",2]").await;
    assert_eq!(socket.text().await, "42[\"message-back\",2]", "the first one goes on");
}

/// Pings that a client waits for, one after the other.
const PINGS: usize = 3;

#[tokio::test]
async fn who_answers_its_pings_is_pinged_again_and_kept() {
    let (_running, server) = server_with("heartbeat: {interval: 100ms, timeout: 20s}").await;
    let (mut socket, _) = server.connect().await;
    let session = server.open().await;
    for _ in 0..PINGS {
        assert_eq!(socket.any().await, Frame::text("2"));
        socket.send("3").await;
        assert_eq!(session.poll().await, Reply::ok("2"));
        session.send("3").await;
    }
    socket.send("40").await;
    assert!(socket.text().await.starts_with("40{"));
    session.send("40").await;
    assert!(session.packets().await[0].starts_with("40{"));
}

#[tokio::test]
async fn who_does_not_answer_a_ping_is_closed_and_counted() {
    let ((_manifests, gateway), server) = server_with("heartbeat: {interval: 200ms, timeout: 200ms}").await;
    let (mut socket, _) = server.connect().await;
    socket.send("40").await;
    let mut pings = 0;
    loop {
        match socket.any().await {
            Frame::Text(ping) if ping == "2" => pings += 1,
            Frame::Text(_) => {}
            other => break assert_eq!(other, Frame::Closed),
        }
    }
    assert_eq!(pings, 1, "the one that it did not answer");

    let session = server.open().await;
    session.send("40").await;
    let mut polled = Vec::new();
    let mut reply = session.poll().await;
    while reply.status == 200 {
        polled.extend(reply.packets().into_iter().map(str::to_owned));
        reply = session.poll().await;
    }
    assert_eq!(polled.iter().filter(|packet| *packet == "2").count(), 1, "{polled:?}");
    gateway
        .wait_for_metric(
            "aldis_disconnects_total{channel=\"protocol/echo\",reason=\"heartbeat\"}",
            2.0,
        )
        .await;
}

#[tokio::test]
async fn who_connects_to_no_namespace_is_closed_and_others_stay() {
    let (_running, server) = server_with("connectTimeout: 500ms").await;
    let (mut stays, _) = server.connect().await;
    stays.send("40").await;
    assert!(stays.text().await.starts_with("40{"));
    assert_eq!(stays.text().await, "42[\"auth\",{}]");
    let (mut socket, _) = server.connect().await;
    let session = server.open().await;
    socket.closed().await;
    let reply = session.poll().await;
    assert!(reply.status == 400 || reply == Reply::ok("1"), "{reply:?}");
    assert_gone(&session).await;
    stays.send("42[\"message\",1]").await;
    assert_eq!(stays.text().await, "42[\"message-back\",1]");
}
