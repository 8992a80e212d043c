//! A configuration that changes under a running gateway.

use serde_json::{Value, json};

use crate::deadline::{until, until_equal};
use crate::manifests::Manifests;
use crate::node::{Client, Node};
use crate::request::request;
use crate::standalone::{ADMIN_TOKEN, Standalone};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

async fn reader(node: &Node, gateway: &Standalone, listener: &str) -> Client {
    let url = format!("http://{}/news", gateway.listener(listener).await);
    let client = node.connect(&url, json!({})).await;
    client.join("join", json!({"room": "a"})).await;
    client
}

#[tokio::test]
async fn invariant_5_a_listener_comes_goes_and_changes_without_the_others_noticing() {
    let manifests = Manifests::news();
    let listeners = |others: &str| manifests.listeners(&format!("[{{name: web, port: 3000}}{others}]"));
    listeners(", {name: goes, port: 3001}");
    let gateway = Standalone::start(&manifests, &["--port", "web=0,goes=0,comes=0"]).await;
    let node = Node::start();
    let (stays, goes) = (
        reader(&node, &gateway, "web").await,
        reader(&node, &gateway, "goes").await,
    );
    let web = gateway.listener("web").await;

    listeners(", {name: comes, port: 3002}");
    gateway.follow(&manifests).await;
    let newcomer = reader(&node, &gateway, "comes").await;
    // It is not told to stay away: where the listener is now, its address may lead there.
    assert_eq!(goes.disconnected().await, ("transport close".to_owned(), true));

    // Another heartbeat is another server on the same port: its clients come back to it, the others stay.
    manifests.listeners("[{name: web, port: 3000}, {name: comes, port: 3002, heartbeat: {interval: 9s}}]");
    gateway.follow(&manifests).await;
    assert_eq!(newcomer.disconnected().await, ("transport close".to_owned(), true));
    let back = newcomer.until("it is back", |seen| seen.ready.len() == 2).await;
    assert_eq!(back.ready[1]["recovered"], true, "{back:?}");
    let comes = request(gateway.listener("comes").await, "GET", POLLING, &[], "").await;
    assert!(comes.body.contains("\"pingInterval\":9000"), "{comes:?}");

    // What is asked of requests is swapped in place.
    let origin = [("Origin", "https://app.example")];
    assert_eq!(request(web, "GET", POLLING, &origin, "").await.status, 403);
    manifests.listeners("[{name: web, port: 3000, cors: {allowedOrigins: [\"https://app.example\"]}}]");
    gateway.follow(&manifests).await;
    assert_eq!(request(web, "GET", POLLING, &origin, "").await.status, 200);
    stays.join("join", json!({"room": "b"})).await;
    assert_eq!((stays.seen().connects.len(), stays.seen().disconnects.len()), (1, 0));
    assert_eq!(gateway.listener("web").await, web);
}

#[tokio::test]
async fn a_bad_configuration_is_shown_and_the_last_good_one_stays() {
    let manifests = Manifests::news();
    let gateway = Standalone::start(&manifests, &["--port", "web=0"]).await;
    let node = Node::start();
    let client = reader(&node, &gateway, "web").await;
    let good = gateway.health().await["config"].clone();
    let config = gateway.config().join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    let mut rejected = 0.0;
    for (bad, reason) in [
        (text[..text.len() / 2].to_owned(), "EOF while parsing"),
        (
            text.replace("\"version\": 1", "\"version\": 99"),
            "version 99 of the contract",
        ),
        (text.replace("\"port\": 3000", "\"port\": \"web\""), "listeners[0].port"),
    ] {
        std::fs::write(&config, bad).unwrap();
        rejected += 1.0;
        gateway.wait_for_metric("aldis_config_rejected_total", rejected).await;
        let health = gateway.health().await;
        assert_eq!(
            (&health["status"], &health["ready"]),
            (&json!("degraded"), &json!(true)),
            "{health}"
        );
        assert!(
            health["problems"].as_array().unwrap().contains(&json!("configuration")),
            "{health}"
        );
        assert_eq!(health["config"], good);
        assert_eq!(gateway.metrics().await.value("aldis_config_rejected"), 1.0);
        let shown = shown(&gateway).await;
        assert!(
            shown["rejected"]["reason"].as_str().unwrap().contains(reason),
            "{shown}"
        );
    }
    client.join("join", json!({"room": "b"})).await;
    reader(&node, &gateway, "web").await;
    // It was looked at many times meanwhile, and is logged once each.
    assert_eq!(gateway.log().matches("the last good one stays in force").count(), 3);

    std::fs::write(&config, &text).unwrap();
    gateway.wait_for_metric("aldis_config_rejected", 0.0).await;
    assert!(
        !gateway.health().await["problems"]
            .as_array()
            .unwrap()
            .contains(&json!("configuration"))
    );
    assert!(client.seen().disconnects.is_empty());
}

#[tokio::test]
async fn a_channel_that_can_not_be_served_as_it_is_now_stays_as_it_was() {
    let manifests = Manifests::news();
    let gateway = Standalone::start(&manifests, &["--port", "web=0"]).await;
    let node = Node::start();
    let client = reader(&node, &gateway, "web").await;
    // As another version of the operator might let it pass.
    let config = gateway.config().join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("\"allow\": \"true\"", "\"allow\": \"nonsense(\"")).unwrap();
    gateway.wait_for_metric("aldis_config_bad_channels", 1.0).await;
    until_equal("health says so", json!("degraded"), async || {
        gateway.health().await["status"].clone()
    })
    .await;
    client.join("join", json!({"room": "b"})).await;
    assert_eq!(shown(&gateway).await["badChannels"][0]["channel"], "press/news");
    assert!(client.seen().disconnects.is_empty());
}

#[tokio::test]
async fn a_listener_whose_certificate_is_missing_is_closed_and_the_others_are_served() {
    let manifests = Manifests::news();
    manifests.listeners("[{name: web, port: 3000}, {name: late, port: 3001, tls: {secretRef: {name: late-tls}}}]");
    let authority = crate::authority::Authority::new();
    manifests.write("tls.yaml", &authority.secret("press", "late-tls"));
    let gateway = Standalone::start(&manifests, &["--port", "web=0,late=0"]).await;
    let node = Node::start();
    let client = reader(&node, &gateway, "web").await;
    let key = gateway.config().join("keys/listener_late_tls.key");
    let kept = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    until("health names it", async || {
        let problems = gateway.health().await["problems"].clone();
        problems.as_array().unwrap().contains(&json!("listeners")).then_some(())
    })
    .await;
    let shown = shown(&gateway).await;
    assert_eq!(shown["badListeners"][0]["listener"], "late", "{shown}");
    // It was served before, and is so still, with the certificate of before.
    let url = format!("https://{}/news", gateway.listener("late").await);
    let options = json!({"ca": authority.pem});
    node.connect(&url, options)
        .await
        .join("join", json!({"room": "a"}))
        .await;
    std::fs::write(&key, kept).unwrap();
    until("it is well again", async || {
        let problems = gateway.health().await["problems"].clone();
        (!problems.as_array().unwrap().contains(&json!("listeners"))).then_some(())
    })
    .await;
    client.join("join", json!({"room": "b"})).await;
    assert!(client.seen().disconnects.is_empty());
}

#[tokio::test]
async fn the_configuration_is_shown_to_who_has_the_token_and_no_key_to_anybody() {
    let manifests = Manifests::bistro();
    let gateway = Standalone::start(&manifests, &["--port", "web=0,api=0"]).await;
    for headers in [
        &[][..],
        &[("Authorization", "Bearer wrong")],
        &[("Authorization", "Basic YTpi")],
    ] {
        let answer = gateway.admin("/config", headers).await;
        assert_eq!(answer.status, 401, "{answer:?}");
        assert!(answer.body.contains("--admin-token-file"), "{answer:?}");
    }
    let shown = shown(&gateway).await;
    assert_eq!(shown["hash"], gateway.health().await["config"]);
    assert_eq!(shown["config"]["channels"].as_array().unwrap().len(), 2, "{shown}");
    let keys: Vec<_> = std::fs::read_dir(gateway.config().join("keys"))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(!keys.is_empty());
    for key in keys {
        let name = key.file_name().into_string().unwrap();
        assert!(shown["keys"].as_array().unwrap().contains(&json!(name)), "{shown}");
        let secret = std::fs::read_to_string(key.path()).unwrap();
        assert!(
            !shown.to_string().contains(&secret) && !gateway.log().contains(&secret),
            "{name}"
        );
    }
}

async fn shown(gateway: &Standalone) -> Value {
    let token = format!("Bearer {ADMIN_TOKEN}");
    let answer = gateway.admin("/config", &[("Authorization", &token)]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.body).unwrap()
}
