//! What is logged, and what never is.

use serde_json::json;

use crate::deadline::until;
use crate::gateway::Gateway;
use crate::kafka::{make_topic, shared};
use crate::manifests::Manifests;
use crate::node::Node;
use crate::records::Producer;
use crate::request::request;

/// Does what handles secrets: good and bad tokens, over both transports, and a record that is dead-lettered. Gives the log
/// until the end, what everybody else could see meanwhile, and what must not be in either.
async fn log_and_secrets(filter: Option<&str>) -> (String, String, Vec<String>) {
    let kafka = shared().await;
    let manifests = Manifests::bistro();
    let dead_letters = format!("{}.orders", manifests.dead_letters);
    for topic in [&manifests.topic, &manifests.dead_letters, &dead_letters] {
        make_topic(&kafka.address(), topic, 1, &[]).await;
    }
    let orders = std::fs::read_to_string(manifests.path().join("orders.yaml")).unwrap();
    let endpoint = "  http:\n  - {method: GET, path: /bistro/stats, allow: \"true\", respond: {body: \"{stats}\"}}\n";
    manifests.write("orders.yaml", &orders.replacen("  http:\n", endpoint, 1));
    let mut gateway = Gateway::start_logging(&manifests.path(), Some(&kafka.address()), filter).await;
    let node = Node::start();
    let staff = |user: &str| json!({"query": {"user_id": user, "tenant_id": "tenant-456", "type": "staff"}});
    let observer = node.connect(&gateway.url("/"), staff("observer")).await;
    observer
        .join("subscribe:orders", json!({"tenant_id": "tenant-456"}))
        .await;
    let mut seen_by_others = String::new();
    let token = gateway.channel("bistro/kitchen").token.clone().unwrap();
    let mut parts = token.split('.').map(str::to_owned);
    let (claims, signature) = (parts.nth(1).unwrap(), parts.next().unwrap());
    let mut secrets = vec!["only-for-a-first-try".to_owned(), claims.clone(), signature.clone()];
    let options = json!({"auth": {"token": token}, "query": {"user_id": "ann", "tenant_id": "tenant-456", "type": "staff", "pin": "pin-4711"}});
    secrets.push("pin-4711".to_owned());
    for transports in [
        json!(["websocket"]),
        json!(["polling"]),
        json!(["polling", "websocket"]),
    ] {
        let mut options = options.clone();
        options["transports"] = transports;
        options["forceNew"] = json!(true);
        for path in ["/kitchen/display", "/"] {
            let client = node.connect_as("4.8", &gateway.url(path), &options).await.unwrap();
            secrets.extend([client.connected().id, client.connected().engine]);
            assert_eq!(client.ask("anything", json!(["argument-4711"])).await["ok"], false);
            if path == "/" {
                client
                    .join("subscribe:orders", json!({"tenant_id": "tenant-456"}))
                    .await;
                let created =
                    json!({"event_type": "order.created", "data": {"order_id": 1, "tenant_id": "tenant-456"}});
                Producer::to(&kafka.address()).json(&manifests.topic, 0, &created).await;
                client.event("order:created").await;
                // While it is there, and listed: counts are up to a second old.
                let address = gateway.url("").strip_prefix("http://").unwrap().parse().unwrap();
                let stats = until("it is listed", async || {
                    let stats = request(address, "GET", "/bistro/stats", &[], "").await;
                    assert_eq!(stats.status, 200, "{stats:?}");
                    stats.body.contains("\"display-1\"").then_some(stats.body)
                })
                .await;
                for shown in [
                    stats,
                    gateway.admin("/metrics").await.1,
                    gateway.admin("/health").await.1,
                ] {
                    seen_by_others += &shown;
                }
            }
            client.disconnect().await;
        }
    }
    secrets.push("argument-4711".to_owned());
    let forged = format!(
        "{}.{claims}.{}",
        token.split('.').next().unwrap(),
        signature.to_lowercase()
    );
    let refused = json!({"auth": {"token": forged}, "forceNew": true});
    assert!(
        node.connect_as("4.8", &gateway.url("/kitchen/display"), &refused)
            .await
            .is_err()
    );
    secrets.push(signature.to_lowercase());
    let record = br#"{"event_type": "order.created", "data": {"note": "value-4711"}}"#;
    Producer::to(&kafka.address())
        .bytes(&manifests.topic, 0, Some(record))
        .await;
    secrets.push("value-4711".to_owned());
    gateway
        .wait_for_metric(
            "aldis_records_total{channel=\"bistro/orders\",outcome=\"dead_lettered\"}",
            1.0,
        )
        .await;
    let seen = observer
        .until("the others' events", |seen| seen.events.len() >= 4)
        .await;
    seen_by_others += &format!("{:?} {:?}", seen.events, seen.ready);
    assert!(gateway.terminate().await.success());
    (gateway.log(), seen_by_others, secrets)
}

fn assert_none(shown: &str, secrets: &[String]) {
    for secret in secrets {
        let line = shown.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret:?} is shown");
    }
}

#[tokio::test]
async fn no_log_metric_list_or_event_of_others_has_a_secret_a_token_or_an_id_of_a_socket() {
    let (log, seen_by_others, secrets) = log_and_secrets(None).await;
    for expected in [
        "listening",
        "client connected",
        "client disconnected",
        "connection refused",
        "dead letters",
        "required_field",
    ] {
        assert!(log.contains(expected), "{expected:?} is not in the log:\n{log}");
    }
    assert_none(&log, &secrets);
    assert!(seen_by_others.contains("order:created") && seen_by_others.contains("aldis_sends_total"));
    assert_none(&seen_by_others, &secrets);
}

#[tokio::test]
async fn the_log_has_no_secrets_either_when_it_tells_as_much_as_it_can() {
    let (log, _, secrets) = log_and_secrets(Some("trace")).await;
    assert!(log.contains("client connected"), "{log}");
    assert_none(&log, &secrets);
}
