//! The Socket.IO client against socketioxide.

use std::time::{Duration, Instant};

use aldis_cli::client::{Client, ClientError, Connect, ConnectError, DisconnectReason, Event, Incoming};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::server::{DEADLINE, Server, until};

/// Longer than the server waits for a pong: a connection that lives so long has answered.
const STEADY: Duration = Duration::from_millis(4500);

async fn connect(server: &Server, namespace: &str) -> Client {
    let mut client = Client::connect(Connect {
        namespace: namespace.into(),
        ..Connect::to(server.url())
    })
    .await
    .unwrap();
    assert_eq!(event(&mut client).await.name(), "welcome");
    client
}

async fn next(client: &mut Client) -> Incoming {
    timeout(DEADLINE, client.next()).await.expect("nothing came").unwrap()
}

async fn event(client: &mut Client) -> Event {
    match next(client).await {
        Incoming::Event(event) => event,
        other => panic!("{other:?}"),
    }
}

async fn disconnected(client: &mut Client) -> DisconnectReason {
    match next(client).await {
        Incoming::Disconnected { reason } => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn connecting_gives_the_namespace_s_socket_id() {
    let server = Server::start().await;
    for namespace in ["/", "/bistro/orders"] {
        let client = connect(&server, namespace).await;
        let sockets = server.io.of(namespace).unwrap().sockets();
        assert!(
            sockets.iter().any(|socket| socket.id.as_str() == client.sid()),
            "{namespace}"
        );
        assert_eq!((client.pid(), client.recovered()), (None, false));
    }
}

#[tokio::test]
async fn query_parameters_reach_the_server() {
    let server = Server::start().await;
    let query = vec![("user id".to_owned(), "a&b".to_owned())];
    let mut client = Client::connect(Connect {
        query,
        ..Connect::to(server.url())
    })
    .await
    .unwrap();
    let args = event(&mut client).await.args().unwrap();
    assert!(
        args[0]["query"].as_str().unwrap().ends_with("&user%20id=a%26b"),
        "{args:?}"
    );
}

#[tokio::test]
async fn the_auth_payload_decides_over_a_refusal() {
    let server = Server::start().await;
    let with = |auth: Value| Connect {
        namespace: "/closed".into(),
        auth: Some(auth),
        ..Connect::to(server.url())
    };
    for (auth, expected) in [
        (json!({}), "Authentication token required"),
        (json!({"token": "wrong"}), "Invalid authentication token"),
    ] {
        match Client::connect(with(auth)).await {
            Err(ConnectError::Refused { message, .. }) => assert_eq!(message, expected),
            other => panic!("{other:?}"),
        }
    }
    Client::connect(with(json!({"token": "right"}))).await.unwrap();
}

#[tokio::test]
async fn an_unknown_namespace_is_a_refusal() {
    let server = Server::start().await;
    let result = Client::connect(Connect {
        namespace: "/nobody".into(),
        ..Connect::to(server.url())
    })
    .await;
    assert!(
        matches!(&result, Err(ConnectError::Refused { message, .. }) if message == "Invalid namespace"),
        "{result:?}"
    );
}

#[tokio::test]
async fn an_http_server_without_socket_io_is_told_by_its_status() {
    let server = Server::start().await;
    let result = Client::connect(Connect {
        path: "/elsewhere/".into(),
        ..Connect::to(server.url())
    })
    .await;
    assert!(
        matches!(result, Err(ConnectError::Http { status: 404, .. })),
        "{result:?}"
    );
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_a_transport_error() {
    let port = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let result = Client::connect(Connect::to(format!("http://127.0.0.1:{port}"))).await;
    assert!(matches!(result, Err(ConnectError::Transport { .. })), "{result:?}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    // Accepts (in the kernel) and stays silent.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let bound = Duration::from_millis(200);
    let result = Client::connect(Connect {
        timeout: bound,
        ..Connect::to(url)
    })
    .await;
    assert!(
        matches!(result, Err(ConnectError::Timeout { after, .. }) if after == bound),
        "{result:?}"
    );
}

#[tokio::test]
async fn events_arrive_with_their_arguments_as_sent() {
    let server = Server::start().await;
    let mut client = connect(&server, "/bistro/orders").await;
    client.emit("echo", &[json!({"text": "ü\"", "n": 1.5})]).await.unwrap();
    let echoed = event(&mut client).await;
    assert_eq!(echoed.name(), "echoed");
    assert_eq!(echoed.args().unwrap(), [json!({"text": "ü\"", "n": 1.5})]);
}

#[tokio::test]
async fn events_that_come_before_an_acknowledgement_are_kept_in_order() {
    let server = Server::start().await;
    let mut client = connect(&server, "/").await;
    let answer = client.emit_with_ack("count to", &[json!(50)], DEADLINE).await.unwrap();
    assert_eq!(answer, [json!({"ok": true})]);
    for i in 1..=50 {
        assert_eq!(event(&mut client).await.args().unwrap(), [json!(i)]);
    }
}

#[tokio::test]
async fn a_missing_acknowledgement_is_given_up_and_the_connection_lives_on() {
    let server = Server::start().await;
    let mut client = connect(&server, "/").await;
    let result = client.emit_with_ack("ignored", &[], Duration::from_millis(50)).await;
    assert!(matches!(result, Err(ClientError::NoAck { .. })), "{result:?}");
    assert!(client.emit_with_ack("count to", &[json!(0)], DEADLINE).await.is_ok());
}

#[tokio::test]
async fn pings_are_answered() {
    let server = Server::start().await;
    let mut client = connect(&server, "/").await;
    let result = timeout(STEADY, client.next()).await;
    assert!(result.is_err(), "{result:?}");
    assert_eq!(server.connections("/"), 1);
}

#[tokio::test]
async fn pings_are_answered_though_next_is_cancelled_again_and_again() {
    let server = Server::start().await;
    let mut client = connect(&server, "/").await;
    let started = Instant::now();
    while started.elapsed() < STEADY {
        let result = timeout(Duration::from_micros(700), client.next()).await;
        assert!(result.is_err(), "{result:?}");
    }
    assert_eq!(server.connections("/"), 1);
}

#[tokio::test]
async fn a_binary_event_is_counted_and_what_follows_is_read() {
    let server = Server::start().await;
    let mut client = connect(&server, "/").await;
    client.emit("binary", &[]).await.unwrap();
    assert!(matches!(next(&mut client).await, Incoming::Binary { attachments: 1 }));
    assert_eq!(event(&mut client).await.name(), "after");
}

#[tokio::test]
async fn a_server_s_disconnect_is_told_and_then_the_client_is_closed() {
    let server = Server::start().await;
    let mut client = connect(&server, "/bistro/orders").await;
    client.emit("kick me", &[]).await.unwrap();
    assert_eq!(disconnected(&mut client).await, DisconnectReason::ServerDisconnect);
    assert!(matches!(client.next().await, Err(ClientError::Closed)));
    assert!(matches!(client.emit("echo", &[]).await, Err(ClientError::Closed)));
}

#[tokio::test]
async fn a_server_that_closes_is_told_as_transport_close() {
    let server = Server::start().await;
    let mut client = connect(&server, "/").await;
    server.stop().await;
    assert_eq!(disconnected(&mut client).await, DisconnectReason::TransportClose);
}

#[tokio::test]
async fn closing_leaves_the_namespace() {
    let server = Server::start().await;
    let client = connect(&server, "/bistro/orders").await;
    assert_eq!(server.connections("/bistro/orders"), 1);
    timeout(DEADLINE, client.close()).await.unwrap();
    until("the server forgets the socket", || {
        server.connections("/bistro/orders") == 0
    })
    .await;
}

#[tokio::test]
async fn a_frame_over_the_limit_ends_the_connection() {
    let server = Server::start().await;
    let mut client = Client::connect(Connect {
        max_frame: 1000,
        ..Connect::to(server.url())
    })
    .await
    .unwrap();
    event(&mut client).await;
    client.emit("echo", &[json!("x".repeat(2000))]).await.unwrap();
    let result = timeout(DEADLINE, client.next()).await.unwrap();
    assert!(
        matches!(result, Err(ClientError::FrameTooLarge { max: 1000 })),
        "{result:?}"
    );
}

/// Plays a server by hand, one websocket text frame after the other, then keeps the connection open.
async fn scripted(frames: &'static [&'static str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut tcp = tokio_tungstenite::accept_async(tcp).await.unwrap().into_inner();
        for frame in frames {
            let length = u8::try_from(frame.len())
                .ok()
                .filter(|length| *length < 126)
                .expect("a short frame");
            tcp.write_all(&[&[0x81, length], frame.as_bytes()].concat())
                .await
                .unwrap();
        }
        let mut sink = Vec::new();
        let _ = tcp.read_to_end(&mut sink).await;
    });
    url
}

#[tokio::test]
async fn a_server_that_falls_silent_is_a_ping_timeout() {
    let url = scripted(&[r#"0{"sid":"e","pingInterval":50,"pingTimeout":50}"#, r#"40{"sid":"s"}"#]).await;
    let mut client = Client::connect(Connect::to(url)).await.unwrap();
    assert_eq!(disconnected(&mut client).await, DisconnectReason::PingTimeout);
}

#[tokio::test]
async fn pid_and_data_of_a_refusal_are_read() {
    let open = r#"0{"sid":"e","pingInterval":25000,"pingTimeout":20000}"#;
    let session = aldis_cli::client::Session {
        pid: "p1".into(),
        offset: None,
    };
    let recovered = scripted(&[
        r#"0{"sid":"e","pingInterval":9000,"pingTimeout":9000}"#,
        r#"40{"sid":"s","pid":"p1"}"#,
    ]);
    let client = Client::connect(Connect {
        session: Some(session),
        ..Connect::to(recovered.await)
    })
    .await
    .unwrap();
    assert_eq!((client.pid(), client.recovered()), (Some("p1"), true));

    let frames: &'static [&'static str] = vec![open, r#"44{"message":"no","data":{"code":"c1"}}"#].leak();
    match Client::connect(Connect::to(scripted(frames).await)).await {
        Err(ConnectError::Refused { message, data, .. }) => {
            assert_eq!((message.as_str(), data), ("no", Some(json!({"code": "c1"}))));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_malformed_packet_is_an_error_and_the_next_one_is_read() {
    let open = r#"0{"sid":"e","pingInterval":25000,"pingTimeout":20000}"#;
    let frames: &'static [&'static str] = vec![open, r#"40{"sid":"s"}"#, "42{}", r#"42["fine"]"#].leak();
    let mut client = Client::connect(Connect::to(scripted(frames).await)).await.unwrap();
    let result = timeout(DEADLINE, client.next()).await.unwrap();
    assert!(matches!(result, Err(ClientError::Packet(_))), "{result:?}");
    assert_eq!(event(&mut client).await.name(), "fine");
}
