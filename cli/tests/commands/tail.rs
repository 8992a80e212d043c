//! `aldis tail` as a process.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

use crate::aldis::{run, start};
use crate::server::{Server, until};

/// The namespace as the URL's path, as Socket.IO's clients take it.
fn orders(server: &Server) -> String {
    format!("{}/bistro/orders", server.url())
}

#[tokio::test]
async fn events_of_a_joined_room_are_printed_and_count_ends_it() {
    let server = Server::start().await;
    let join = r#"subscribe:orders={"tenant_id":"t1"}"#;
    let args = [
        "tail",
        &orders(&server),
        "--emit",
        join,
        "--event",
        "order:new",
        "--count",
        "2",
        "--output",
        "json",
    ];
    let mut aldis = start(&args, &[], "").await;
    until("it joins", || server.has_joined("orders:t1")).await;
    for n in 1..=2 {
        let room = server.io.of("/bistro/orders").unwrap().within("orders:t1");
        room.emit("order:new", &(json!({"n": n}), "t:1")).await.unwrap();
    }
    let first: Value = serde_json::from_str(&aldis.line().await).unwrap();
    assert_eq!(
        (&first["event"], &first["args"]),
        (&json!("order:new"), &json!([{"n": 1}, "t:1"]))
    );
    let received_at = first["receivedAt"].as_str().unwrap();
    assert!(
        received_at.ends_with('Z') && received_at.len() == "2026-01-02T03:04:05.678Z".len(),
        "{received_at}"
    );
    let ended = aldis.end().await;
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(ended.stdout.lines().count(), 1, "{ended:?}");
    assert!(
        ended
            .stderr
            .contains(r#"subscribe:orders acknowledged: [{"ok":true,"room":"orders:t1"}]"#),
        "{ended:?}"
    );
    until("the server sees it leave", || server.connections("/bistro/orders") == 0).await;
}

#[tokio::test]
async fn a_refused_join_is_told() {
    let server = Server::start().await;
    let ended = run(
        &[
            "tail",
            &orders(&server),
            "--emit",
            "subscribe:orders={}",
            "--count",
            "1",
        ],
        &[],
        "",
    )
    .await;
    assert!(ended.stderr.contains("subscribe:orders refused: "), "{ended:?}");
}

#[tokio::test]
async fn a_permanent_refusal_ends_it_and_says_what_to_do() {
    let server = Server::start().await;
    let ended = run(&["tail", &server.url(), "--namespace", "/closed"], &[], "").await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert_eq!(
        ended.stderr,
        "error: the server refused namespace /closed: Authentication token required\n  \
         hint: give a token by ALDIS_TOKEN or --token; `aldis token` issues one to try with\n"
    );
    let ended = run(
        &["tail", &server.url(), "--namespace", "/closed"],
        &[("ALDIS_TOKEN", "hunter2")],
        "",
    )
    .await;
    assert!(ended.stderr.contains("Invalid authentication token"), "{ended:?}");
    assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
    let admitted = [
        "tail",
        &server.url(),
        "--namespace",
        "/closed",
        "--token",
        "right",
        "--count",
        "1",
    ];
    let ended = run(&admitted, &[], "").await;
    assert!(
        ended.status.success() && ended.stdout.contains(" welcome {"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_timeout_is_a_failure_that_tells_how_far_it_came() {
    let server = Server::start().await;
    let ended = run(&["tail", &orders(&server), "--count", "3", "--timeout", "1s"], &[], "").await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("error: --timeout 1s is over: 1 of 3 events received\n"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_told_at_the_timeout() {
    // Accepts (in the kernel) and stays silent.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let ended = run(&["tail", &url, "--timeout", "300ms"], &[], "").await;
    assert_eq!(
        ended.stderr,
        format!("error: --timeout 300ms is over: 0 events received; not connected: {url} has not answered yet\n")
    );
}

#[tokio::test]
async fn nobody_listening_is_tried_again_until_the_timeout() {
    let server = Server::start().await;
    let url = server.url();
    server.stop().await;
    let ended = run(&["tail", &url, "--timeout", "1s"], &[], "").await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains("connecting again in 500ms"), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("0 events received; not connected: cannot connect to 127.0.0.1:"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_dropped_connection_is_made_again_and_the_joins_repeated() {
    let server = Server::start().await;
    let port = server.port;
    let join = r#"subscribe:orders={"tenant_id":"t1"}"#;
    let args = [
        "tail",
        &orders(&server),
        "--emit",
        join,
        "--event",
        "order:new",
        "--count",
        "1",
    ];
    let aldis = start(&args, &[], "").await;
    until("it joins", || server.has_joined("orders:t1")).await;
    server.stop().await;
    let server = Server::start_on(port).await;
    until("it joins again", || server.has_joined("orders:t1")).await;
    server
        .io
        .of("/bistro/orders")
        .unwrap()
        .emit("order:new", &1)
        .await
        .unwrap();
    let ended = aldis.end().await;
    assert!(ended.status.success(), "{ended:?}");
    assert!(ended.stdout.trim_end().ends_with(" order:new 1"), "{ended:?}");
    assert!(
        ended.stderr.contains("disconnected: transport close; connecting again"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_disconnect_by_the_server_ends_it() {
    let server = Server::start().await;
    let ended = run(&["tail", &orders(&server), "--emit", "kick me"], &[], "").await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("error: the server disconnected this client (io server disconnect)"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn ctrl_c_ends_it_successfully_and_leaves_the_namespace() {
    let server = Server::start().await;
    let mut aldis = start(&["tail", &orders(&server)], &[], "").await;
    assert!(aldis.line().await.contains(" welcome "));
    aldis.interrupt().await;
    let ended = aldis.end().await;
    assert!(ended.status.success(), "{ended:?}");
    until("the server sees it leave", || server.connections("/bistro/orders") == 0).await;
}

#[tokio::test]
async fn a_session_is_taken_up_again_with_pid_and_offset_and_joins_are_not_repeated() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        // What the client sent on each connection, joins included.
        let mut sent = Vec::new();
        for event in [r#"42["order:new",{},"offset-1"]"#, r#"42["order:new",{},"offset-2"]"#] {
            let (tcp, _) = listener.accept().await.unwrap();
            let mut socket = tokio_tungstenite::accept_async(tcp).await.unwrap();
            let open = r#"0{"sid":"e","pingInterval":25000,"pingTimeout":20000}"#;
            socket.send(Message::text(open)).await.unwrap();
            sent.push(socket.next().await.unwrap().unwrap().into_text().unwrap().to_string());
            socket
                .send(Message::text(r#"40{"sid":"s","pid":"pid-1"}"#))
                .await
                .unwrap();
            if sent.len() == 1 {
                sent.push(socket.next().await.unwrap().unwrap().into_text().unwrap().to_string());
                socket.send(Message::text("430[]")).await.unwrap();
            }
            socket.send(Message::text(event)).await.unwrap();
            socket.close(None).await.unwrap();
        }
        sent
    });
    let ended = run(
        &["tail", &url, "--token", "t", "--emit", "join", "--count", "2"],
        &[],
        "",
    )
    .await;
    assert!(ended.status.success(), "{ended:?}");
    assert!(ended.stderr.contains("connected again to / as s"), "{ended:?}");
    assert_eq!(
        server.await.unwrap(),
        [
            r#"40{"token":"t"}"#,
            r#"420["join"]"#,
            r#"40{"offset":"offset-1","pid":"pid-1","token":"t"}"#
        ]
    );
}
