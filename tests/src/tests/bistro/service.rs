//! What the restaurant's service did beside Socket.IO: its REST calls, its operations, who may come in, what it logs.

use serde_json::{Value, json};

use super::Bistro;
use crate::deadline::until_equal;
use crate::gateway::{Gateway, shell};
use crate::kafka::repository;
use crate::markdown::blocks_of;
use crate::node::Client;
use crate::request::request;
use crate::tests::clients::issue;

impl Bistro {
    /// Status and body of a GET without a token.
    async fn get(&self, path: &str) -> (u16, Value) {
        let response = reqwest::get(self.gateway.url(path)).await.unwrap();
        answer(response).await
    }

    /// A service's call, with the token that `aldis dev` prints.
    pub(super) async fn broadcast(&self, audience: &str, body: &Value) -> (u16, Value) {
        let token = self.gateway.channel("bistro/orders").token.clone().unwrap();
        self.broadcast_as(Some(&token), audience, body).await
    }

    async fn broadcast_as(&self, token: Option<&str>, audience: &str, body: &Value) -> (u16, Value) {
        let url = self.gateway.url(&format!("/api/notifications/broadcast/{audience}"));
        let mut request = reqwest::Client::new().post(url).body(body.to_string());
        request = request.header("Content-Type", "application/json");
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.unwrap();
        answer(response).await
    }

    /// Waits until the health call tells of so many: its counts are a second old at most.
    pub(super) async fn until_connected_clients(&self, count: u64) {
        let expected = json!({"status": "ok", "service": "notification-service", "connectedClients": count});
        until_equal("the health call", (200, expected), async || {
            self.get("/api/health").await
        })
        .await;
    }
}

async fn answer(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap())
}

#[tokio::test]
async fn the_health_call_returns_its_exact_body_and_counts_who_comes_and_goes() {
    let bistro = Bistro::as_it_stands().await;
    assert_eq!(
        bistro.get("/api/health").await,
        (
            200,
            json!({"status": "ok", "service": "notification-service", "connectedClients": 0})
        )
    );
    let ann = bistro.staff("ann", "t1", &["orders"]).await;
    let again = bistro.staff("ann", "t1", &["orders", "kitchen"]).await;
    bistro.until_connected_clients(2).await;
    assert_eq!(
        bistro.get("/api/notifications/stats").await,
        (200, json!({"connectedClients": 2, "uniqueUsers": 1, "rooms": 2}))
    );
    ann.disconnect().await;
    again.disconnect().await;
    bistro.until_connected_clients(0).await;
}

/// Names of what a client has heard, once it has answered after all of it.
async fn heard(client: &Client) -> Vec<String> {
    client.ask("ping", json!([{}])).await;
    let mut names: Vec<_> = client.seen().events.into_iter().map(|event| event.name).collect();
    names.retain(|name| !["connection:established", "pong"].contains(&name.as_str()));
    names
}

#[tokio::test]
async fn the_test_broadcast_answers_exactly_and_reaches_each_client_of_that_tenant_once() {
    let bistro = Bistro::as_it_stands().await;
    let everywhere = bistro
        .staff("ann", "tenant-123", &["orders", "kitchen", "managers"])
        .await;
    let customer = bistro.client("c-1", "tenant-123", "customer").await;
    let other = bistro
        .staff("ann", "tenant-456", &["orders", "kitchen", "managers"])
        .await;
    let (status, mut answer) = bistro.get("/api/notifications/test?tenant_id=tenant-123").await;
    let timestamp = answer["timestamp"].take();
    assert_eq!(
        (status, answer),
        (
            200,
            json!({"message": "Test broadcast sent", "tenantId": "tenant-123", "timestamp": null})
        )
    );
    super::events::assert_iso(&timestamp);
    for client in [&everywhere, &customer] {
        let event = client.event("tenant:test").await;
        assert_eq!(event.payload()["data"], json!({"message": "Test broadcast"}));
        assert_eq!(heard(client).await, ["tenant:test"]);
    }
    assert!(heard(&other).await.is_empty());
    let (status, answer) = bistro.get("/api/notifications/test").await;
    assert_eq!((status, &answer["error"]["field"]), (400, &json!("query.tenant_id")));
}

#[tokio::test]
async fn each_operation_of_the_service_reaches_its_audience_under_its_prefix() {
    let bistro = Bistro::as_it_stands().await;
    let orders = bistro.staff("ann", "t1", &["orders"]).await;
    let kitchen = bistro.staff("ben", "t1", &["kitchen"]).await;
    let managers = bistro.staff("cleo", "t1", &["managers"]).await;
    let customer = bistro.client("c-1", "t1", "customer").await;
    let other = bistro.client("c-2", "t1", "customer").await;
    let body = json!({"tenant_id": "t1", "customer_id": "c-1", "event": "noted", "data": {"n": 1}});
    for audience in ["orders", "kitchen", "managers", "customer", "tenant"] {
        let (status, answer) = bistro.broadcast(audience, &body).await;
        assert_eq!((status, answer["id"].is_string()), (202, true), "{audience}: {answer}");
    }
    for (client, expected) in [
        (&orders, "order:noted"),
        (&kitchen, "kitchen:noted"),
        (&managers, "manager:noted"),
        (&customer, "customer:noted"),
    ] {
        assert_eq!(client.event(expected).await.payload()["data"], json!({"n": 1}));
        client.event("tenant:noted").await;
        // All of one tenant are on one partition, so they come in the order of the calls.
        assert_eq!(heard(client).await, [expected, "tenant:noted"]);
    }
    other.event("tenant:noted").await;
    assert_eq!(heard(&other).await, ["tenant:noted"]);
}

#[tokio::test]
async fn an_operation_is_for_services_and_says_what_is_wrong_with_a_call() {
    let bistro = Bistro::as_it_stands().await;
    let good = json!({"tenant_id": "t1", "event": "noted", "data": {}});
    let staff = issue("only-for-a-first-try", &["--claim", "type=staff"]).await;
    assert_eq!(bistro.broadcast_as(None, "orders", &good).await.0, 401);
    assert_eq!(bistro.broadcast_as(Some(&staff), "orders", &good).await.0, 403);
    for (audience, body, status, said) in [
        ("orders", json!({"event": "noted", "data": {}}), 400, "body.tenant_id"),
        ("everybody", good.clone(), 422, "the audience is"),
        ("customer", good.clone(), 422, "customer_id"),
        (
            "orders",
            json!({"tenant_id": "t1", "event": "No name", "data": {}}),
            422,
            "small letters",
        ),
    ] {
        let answer = bistro.broadcast(audience, &body).await;
        assert_eq!(answer.0, status, "{answer:?}");
        let message = answer.1["error"]["message"].as_str().unwrap();
        assert!(message.contains(said), "{message}");
    }
}

#[tokio::test]
async fn a_token_in_place_of_the_query_says_who_it_is_and_a_bad_one_is_not_made_up_for_by_a_query() {
    let bistro = Bistro::as_it_stands().await;
    let url = bistro.gateway.url("/");
    let token = issue("only-for-a-first-try", &["--claim", "type=staff"]).await;
    let staff = bistro.node.connect(&url, json!({"auth": {"token": token}})).await;
    staff.join("subscribe:managers", json!({"tenant_id": "t1"})).await;
    let query = json!({"user_id": "ann", "tenant_id": "t1", "type": "staff"});
    let forged = issue("another-secret", &["--claim", "type=staff"]).await;
    let options = json!({"auth": {"token": forged}, "query": query, "transports": ["websocket"], "forceNew": true});
    let refused = bistro.node.connect_as("4.8", &url, &options).await;
    assert_eq!(refused.err().unwrap()["message"], "Invalid authentication token");
}

#[tokio::test]
async fn a_page_of_any_origin_may_connect_with_its_cookies() {
    let bistro = Bistro::as_it_stands().await;
    let address = bistro.gateway.url("").trim_start_matches("http://").parse().unwrap();
    let origin = ("Origin", "https://restaurant.example");
    let answer = request(address, "GET", "/socket.io/?EIO=4&transport=polling", &[origin], "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), Some(origin.1));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
}

#[tokio::test]
async fn the_log_tells_of_the_start_the_topics_connections_and_subscriptions() {
    let mut gateway = Gateway::start_logging(&repository().join("examples/bistro"), None, Some("debug")).await;
    let node = crate::node::Node::start();
    let options = json!({"query": {"user_id": "user-123", "tenant_id": "tenant-456", "type": "staff"}});
    let client = node.connect(&gateway.url("/"), options).await;
    client
        .join("subscribe:orders", json!({"tenant_id": "tenant-456"}))
        .await;
    client.disconnect().await;
    gateway.wait_for_log("client disconnected").await;
    gateway.wait_for_log("kafka partitions assigned").await;
    assert!(gateway.terminate().await.success());
    let log = gateway.log();
    assert!(!log.contains("kafka topic does not exist"), "{log}");
    for (line, says) in [
        ("listening", "web"),
        ("configuration in force", ""),
        ("kafka can be reached", ""),
        ("kafka subscription set", "inventory, orders, payments"),
        ("client connected", "user-123"),
        ("client changed its rooms", "orders:tenant-456"),
    ] {
        let found = log.lines().any(|logged| logged.contains(line) && logged.contains(says));
        assert!(found, "{line} {says}:\n{log}");
    }
}

/// The calls in the example's page, by curl, with the token that `aldis dev` prints.
#[tokio::test]
async fn the_calls_in_the_examples_page_answer_what_they_did() {
    let bistro = Bistro::as_it_stands().await;
    let manager = bistro.staff("ann", "tenant-456", &["managers"]).await;
    let calls: Vec<_> = blocks_of("examples/bistro/README.md".as_ref())
        .into_iter()
        .filter(|block| block.language == "sh" && block.text.contains("curl"))
        .collect();
    assert_eq!(calls.len(), 2);
    let mut said = String::new();
    for block in calls {
        let lines = bistro.gateway.instead_of_port_3006(&block.text);
        let token = bistro.gateway.channel("bistro/orders").token.clone().unwrap();
        let curl = "curl() { command curl --silent --show-error --fail \"$@\"; echo; }\n";
        let output = shell(&format!("{curl}{lines}"))
            .env("TOKEN", token)
            .output()
            .await
            .unwrap();
        assert!(
            output.status.success(),
            "{block}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        said += &String::from_utf8(output.stdout).unwrap();
    }
    for expected in [
        "\"service\":\"notification-service\"",
        "\"uniqueUsers\":1",
        "\"message\":\"Test broadcast sent\"",
        "\"id\":",
        "\"managers:tenant-456\"",
    ] {
        assert!(said.contains(expected), "{expected} is not in {said}");
    }
    let spike = manager.event("manager:order_spike").await;
    assert_eq!(spike.payload()["data"], json!({"orders": 40}));
}
