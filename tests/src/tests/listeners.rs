//! What a listener asks of those who connect: TLS, origins, hosts, transports, bounds.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::authority::Authority;
use crate::deadline::{until, within};
use crate::manifests::Manifests;
use crate::node::Node;
use crate::request::{request, upgrade};
use crate::standalone::Standalone;

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

/// Manifests with these listeners and the channel `/news`.
fn manifests(listeners: &str) -> Manifests {
    let manifests = Manifests::news();
    manifests.listeners(listeners);
    manifests
}

fn refused(listener: &str, reason: &str) -> String {
    format!("aldis_listener_refused_total{{listener=\"{listener}\",reason=\"{reason}\"}}")
}

#[tokio::test]
async fn stock_clients_connect_over_tls_and_a_new_certificate_costs_no_reconnect() {
    let manifests = manifests("[{name: web, port: 3000, tls: {secretRef: {name: web-tls}}}]");
    let (old, new) = (Authority::new(), Authority::new());
    manifests.write("tls.yaml", &old.secret("press", "web-tls"));
    let gateway = Standalone::start(&manifests, &["--port", "web=0"]).await;
    let url = format!("https://{}/news", gateway.listener("web").await);
    let node = Node::start();
    let options = |ca: &[&str], transports: Value| json!({"ca": ca, "transports": transports, "forceNew": true, "reconnection": false});
    let mut stay = Vec::new();
    for transports in [
        json!(["websocket"]),
        json!(["polling"]),
        json!(["polling", "websocket"]),
    ] {
        let client = node
            .connect_as("4.8", &url, &options(&[&old.pem, &new.pem], transports))
            .await
            .unwrap();
        client.join("join", json!({"room": "a"})).await;
        stay.push(client);
    }

    manifests.write("tls.yaml", &new.secret("press", "web-tls"));
    gateway.follow(&manifests).await;
    let websocket = || json!(["websocket"]);
    let newcomer = until("the new certificate is shown", async || {
        node.connect_as("4.8", &url, &options(&[&new.pem], websocket()))
            .await
            .ok()
    });
    newcomer.await.join("join", json!({"room": "b"})).await;
    let stranger = node.connect_as("4.8", &url, &options(&[&old.pem], websocket())).await;
    assert!(stranger.is_err(), "the old certificate is not shown any more");
    for client in &stay {
        client.join("join", json!({"room": "c"})).await;
        let seen = client.seen();
        assert_eq!((seen.connects.len(), seen.disconnects.len()), (1, 0), "{seen:?}");
    }
    // A stranger ends its handshake with an alert, somebody without TLS with none at all.
    assert!(gateway.metrics().await.value(&refused("web", "tls_handshake")) >= 1.0);
    let config = gateway.config().join("config.json");
    assert!(!std::fs::read_to_string(config).unwrap().contains("PRIVATE KEY"));
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_on_both_transports_and_told_what_to_do() {
    let gateway = Standalone::start(
        &manifests(
            "[{name: web, port: 3000, cors: {allowedOrigins: [\"https://app.example\"], allowCredentials: true}}]",
        ),
        &["--port", "web=0"],
    )
    .await;
    let web = gateway.listener("web").await;
    let (good, evil) = (("Origin", "https://app.example"), ("Origin", "https://evil.example"));
    let opened = request(web, "GET", POLLING, &[good], "").await;
    assert_eq!(opened.status, 200, "{opened:?}");
    let open: Value = serde_json::from_str(&opened.body[1..]).unwrap();
    let session = format!("{POLLING}&sid={}", open["sid"].as_str().unwrap());
    for (method, path) in [
        ("GET", POLLING),
        ("GET", session.as_str()),
        ("POST", session.as_str()),
        ("OPTIONS", POLLING),
    ] {
        let answer = request(web, method, path, &[evil], "40").await;
        assert_eq!(answer.status, 403, "{method} {path}: {answer:?}");
        assert!(
            answer.body.contains("add it to cors.allowedOrigins of the listener"),
            "{answer:?}"
        );
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    assert_eq!(upgrade(web, WEBSOCKET, &[evil]).await, 403);
    assert_eq!(upgrade(web, WEBSOCKET, &[good]).await, 101);
    assert_eq!(
        upgrade(web, WEBSOCKET, &[]).await,
        101,
        "who is no browser names no origin"
    );
    // The session is as good as before.
    assert_eq!(request(web, "POST", &session, &[good], "40/news,").await.body, "ok");
    assert_eq!(gateway.metrics().await.value(&refused("web", "origin")), 5.0);
}

#[tokio::test]
async fn polling_answers_browsers_in_each_cors_mode() {
    let gateway = Standalone::start(
        &manifests(
            "
  - {name: listed, port: 3000, cors: {allowedOrigins: [\"https://a.example\", \"https://b.example\"]}}
  - {name: single, port: 3001, cors: {allowedOrigins: [\"https://b.example\"], allowCredentials: true}}
  - {name: any, port: 3002, cors: {allowedOrigins: [\"*\"]}}
  - {name: reflect, port: 3003, cors: {reflect: true, allowCredentials: true}}
  - {name: same, port: 3004}",
        ),
        &["--port", "listed=0,single=0,any=0,reflect=0,same=0"],
    )
    .await;
    for (listener, origin, allowed, credentials) in [
        ("listed", "https://b.example", Some("https://b.example"), None),
        ("single", "https://b.example", Some("https://b.example"), Some("true")),
        ("any", "https://c.example", Some("*"), None),
        ("reflect", "https://c.example", Some("https://c.example"), Some("true")),
    ] {
        let address = gateway.listener(listener).await;
        let answer = request(address, "GET", POLLING, &[("Origin", origin)], "").await;
        assert_eq!(answer.status, 200, "{listener}: {answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), allowed, "{listener}");
        assert_eq!(
            answer.header("access-control-allow-credentials"),
            credentials,
            "{listener}"
        );
        let vary = answer.header("vary").unwrap_or_default().to_lowercase();
        assert!(
            listener == "any" || vary.contains("origin"),
            "{listener}: a cache must tell origins apart"
        );
        let asks = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "content-type,x-tenant"),
        ];
        let preflight = request(address, "OPTIONS", POLLING, &asks, "").await;
        assert_eq!(
            (preflight.status, preflight.header("access-control-allow-origin")),
            (200, allowed),
            "{listener}"
        );
        assert_eq!(
            preflight.header("access-control-allow-headers"),
            Some("content-type,x-tenant"),
            "{listener}"
        );
        let methods = preflight.header("access-control-allow-methods").unwrap();
        assert!(
            methods.contains("GET") && methods.contains("POST"),
            "{listener}: {methods}"
        );
    }
    let same = gateway.listener("same").await;
    let page = format!("http://{same}");
    let answer = request(same, "GET", POLLING, &[("Origin", &page)], "").await;
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (200, None)
    );
    assert_eq!(upgrade(same, WEBSOCKET, &[("Origin", &page)]).await, 101);
    assert_eq!(upgrade(same, WEBSOCKET, &[("Origin", "https://c.example")]).await, 403);
}

#[tokio::test]
async fn transports_are_those_that_the_listener_names() {
    let gateway = Standalone::start(
        &manifests("[{name: polling, port: 3000, transports: [polling]}, {name: websocket, port: 3001, transports: [websocket]}]"),
        &["--port", "polling=0,websocket=0"],
    )
    .await;
    let node = Node::start();
    let polling = gateway.listener("polling").await;
    let opened = request(polling, "GET", POLLING, &[], "").await;
    let open: Value = serde_json::from_str(&opened.body[1..]).unwrap();
    assert_eq!(open["upgrades"], json!([]), "no client is told to try");
    assert_eq!(upgrade(polling, WEBSOCKET, &[]).await, 400);
    let url = format!("http://{polling}/news");
    let client = node.connect_as("4.8", &url, &json!({"forceNew": true})).await.unwrap();
    client.join("join", json!({"room": "a"})).await;
    assert_eq!(client.seen().transports, ["polling"]);

    let websocket = gateway.listener("websocket").await;
    let refusal = request(websocket, "GET", POLLING, &[], "").await;
    assert_eq!(
        (refusal.status, refusal.body.as_str()),
        (400, r#"{"code":0,"message":"Transport unknown"}"#)
    );
    let client = node.connect(&format!("http://{websocket}/news"), json!({})).await;
    client.join("join", json!({"room": "a"})).await;
    for listener in ["polling", "websocket"] {
        assert_eq!(
            gateway.metrics().await.value(&refused(listener, "transport")),
            1.0,
            "{listener}"
        );
    }
}

#[tokio::test]
async fn heartbeat_and_longest_message_are_told_and_kept_on_both_transports() {
    let gateway = Standalone::start(
        &manifests("[{name: web, port: 3000, heartbeat: {interval: 7s, timeout: 3500ms}, maxPayload: 2Ki}]"),
        &["--port", "web=0"],
    )
    .await;
    let web = gateway.listener("web").await;
    let opened = request(web, "GET", POLLING, &[], "").await;
    let open: Value = serde_json::from_str(&opened.body[1..]).unwrap();
    let (mut client, _) = tokio_tungstenite::connect_async(format!("ws://{web}{WEBSOCKET}"))
        .await
        .unwrap();
    let first = within("the open packet", client.next()).await.unwrap().unwrap();
    let over_websocket: Value = serde_json::from_str(&first.to_text().unwrap()[1..]).unwrap();
    for open in [&open, &over_websocket] {
        assert_eq!(
            (&open["pingInterval"], &open["pingTimeout"], &open["maxPayload"]),
            (&json!(7000), &json!(3500), &json!(2048)),
            "{open}"
        );
    }

    let session = format!("{POLLING}&sid={}", open["sid"].as_str().unwrap());
    let refusal = request(web, "POST", &session, &[], &format!("4{}", "x".repeat(2048))).await;
    assert_eq!(refusal.status, 413);
    assert!(refusal.body.contains("2048 bytes"), "{refusal:?}");
    assert_eq!(gateway.metrics().await.value(&refused("web", "too_large")), 1.0);
    client
        .send(Message::text(format!("4{}", "x".repeat(2048))))
        .await
        .unwrap();
    let end = within("the connection ends", async {
        while let Some(Ok(message)) = client.next().await {
            if message.is_close() {
                break;
            }
        }
    });
    end.await;
}

#[tokio::test]
async fn a_client_without_a_namespace_is_let_go_after_the_time_to_connect() {
    let gateway = Standalone::start(
        &manifests("[{name: web, port: 3000, connectTimeout: 1s}]"),
        &["--port", "web=0"],
    )
    .await;
    let web = gateway.listener("web").await;
    let (mut client, _) = tokio_tungstenite::connect_async(format!("ws://{web}{WEBSOCKET}"))
        .await
        .unwrap();
    // Heartbeats begin after 25 s: nothing else ends it within the deadline.
    let ended = async { while let Some(Ok(_)) = client.next().await {} };
    tokio::time::timeout(std::time::Duration::from_secs(20), ended)
        .await
        .expect("it is let go");
}

#[tokio::test]
async fn a_listener_with_a_host_name_answers_no_other() {
    let gateway = Standalone::start(
        &manifests("[{name: web, port: 3000, hostname: \"*.notify.example\"}]"),
        &["--port", "web=0"],
    )
    .await;
    let web = gateway.listener("web").await;
    assert_eq!(
        request(web, "GET", POLLING, &[("Host", "a.notify.example:3000")], "")
            .await
            .status,
        200
    );
    for host in ["notify.example", "evil.example", "a.notify.example.evil"] {
        let answer = request(web, "GET", POLLING, &[("Host", host)], "").await;
        assert_eq!(answer.status, 404, "{host}");
        assert!(answer.body.contains("spec.listeners[].hostname"), "{answer:?}");
    }
    assert_eq!(upgrade(web, WEBSOCKET, &[]).await, 404);
    assert_eq!(gateway.metrics().await.value(&refused("web", "host")), 4.0);
}
