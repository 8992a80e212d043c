//! HTTP on a listener: a channel's own endpoints and the built-in ones, as callers and stock clients see them.

use aldis_gateway::sabotage::Rule;
use serde_json::{Value, json};

use crate::deadline::until_equal;
use crate::gateway::{Gateway, With};
use crate::kafka::{Kafka, make_topic, shared};
use crate::manifests::Manifests;
use crate::node::Node;
use crate::proxy::{Cut, Proxy};
use crate::records::end;
use crate::redis::Redis;

/// A channel press/news with endpoints, whose tokens say the role.
fn manifests() -> Manifests {
    let manifests = Manifests::gateway();
    manifests.write(
        "news.yaml",
        "apiVersion: v1
kind: Secret
metadata: {name: jwt, namespace: press, labels: {aldis.dev/use: channel}}
stringData: {secret: a-secret-for-a-test}
---
apiVersion: aldis.dev/v1alpha1
kind: NotificationChannel
metadata:
  name: news
  namespace: press
  annotations:
    aldis.dev/sample: '{\"claims\": {\"sub\": \"ann\", \"role\": \"editor\"}}'
spec:
  parentRefs: [{name: shared}]
  paths: [/news]
  authentication:
    jwt: [{name: staff, secretRef: {name: jwt, key: secret}, algorithms: [HS256], identity: {user: claims.sub, attributes: {role: claims.role}}}]
  rooms: [{name: room, key: \"room:{room}\", join: {event: join, with: {room: args.room}}, allow: \"true\"}]
  routes:
  - types: [published]
    emit: [{event: \"news:published\", payload: \"{event.data}\", to: [{room: room, with: {room: event.data.room}}]}]
  http:
  - {method: GET, path: /press/health, allow: \"true\", respond: {body: {status: ok, connectedClients: \"{stats.connections}\"}}}
  - method: POST
    path: /press/rooms/{room}/news
    allow: identity.role == 'editor'
    require: [body.title]
    validations: [{rule: size(body.title) < 20, message: the title is too long}]
    publish: {type: published, key: \"{params.room}\", data: {room: \"{params.room}\", title: \"{body.title}\", by: \"{identity.user}\"}}
    respond: {code: 201, body: {published: \"{published.id}\", room: \"{params.room}\"}}
  api: {allow: identity.role == 'editor'}
",
    );
    manifests
}

struct Caller {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Caller {
    fn of(gateway: &Gateway) -> Self {
        let token = gateway.channel("press/news").token.clone();
        Self {
            http: reqwest::Client::new(),
            base: gateway.url(""),
            token: token.expect("the banner has a token"),
        }
    }

    async fn call(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> (u16, Value) {
        let mut request = self
            .http
            .request(method.parse().unwrap(), format!("{}{path}", self.base));
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if let Some(body) = body {
            request = request
                .header("Content-Type", "application/json")
                .body(body.to_string());
        }
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.call("GET", path, Some(&self.token), None, None).await
    }

    async fn post(&self, path: &str, body: Value, key: Option<&str>) -> (u16, Value) {
        self.call("POST", path, Some(&self.token), Some(&body), key).await
    }
}

fn code(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["error"]["code"].as_str().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_endpoint_publishes_reaches_clients_once_through_a_real_kafka() {
    let kafka = shared().await;
    let manifests = manifests();
    make_topic(&kafka.address(), &format!("{}.http", manifests.dead_letters), 2, &[]).await;
    let gateway = Gateway::start(&manifests.path(), Some(&kafka.address())).await;
    let caller = Caller::of(&gateway);
    let node = Node::start();
    let options = json!({"auth": {"token": caller.token}});
    let client = node.connect(&gateway.url("/news"), options).await;
    client.join("join", json!({"room": "a"})).await;

    let first = caller
        .post("/press/rooms/a/news", json!({"title": "one"}), Some("k-1"))
        .await;
    assert_eq!((first.0, &first.1["room"]), (201, &json!("a")), "{first:?}");
    // The same key again: the same answer, and nothing new for clients.
    assert_eq!(
        caller
            .post("/press/rooms/a/news", json!({"title": "one"}), Some("k-1"))
            .await,
        first
    );
    // Another room, then the built-in endpoint: what comes after proves that nothing came between.
    caller
        .post("/press/rooms/b/news", json!({"title": "elsewhere"}), None)
        .await;
    let event = json!({"type": "published", "key": "a", "data": {"room": "a", "title": "two"}});
    let (status, answer) = caller.post("/aldis/v1/press/news/events", event, None).await;
    assert_eq!(status, 202, "{answer}");
    assert!(answer["id"].is_string(), "{answer}");

    let events = client.events(2).await;
    let payloads: Vec<_> = events.iter().map(|event| event.payload().clone()).collect();
    assert_eq!(
        payloads,
        [
            json!({"room": "a", "title": "one", "by": "ann"}),
            json!({"room": "a", "title": "two"})
        ]
    );
    let metrics = gateway.metrics().await;
    let count = |endpoint: &str, code: u16| {
        metrics.value(&format!(
            "aldis_http_requests_total{{channel=\"press/news\",code=\"{code}\",endpoint=\"{endpoint}\"}}"
        ))
    };
    assert_eq!(
        (count("/press/rooms/{room}/news", 201), count("publish", 202)),
        (3.0, 1.0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_refused_says_why_and_publishes_nothing() {
    let manifests = manifests();
    let gateway = Gateway::start(&manifests.path(), None).await;
    let caller = Caller::of(&gateway);
    let path = "/press/rooms/a/news";
    let title = json!({"title": "t"});
    assert_eq!(
        code(&caller.call("POST", path, None, Some(&title), None).await),
        (401, "unauthorized")
    );
    assert_eq!(
        code(&caller.call("POST", path, Some("nonsense"), Some(&title), None).await),
        (401, "unauthorized")
    );
    let missing = caller.post(path, json!({}), None).await;
    assert_eq!(code(&missing), (400, "field_required"));
    assert_eq!(missing.1["error"]["field"], "body.title");
    let long = caller.post(path, json!({"title": "x".repeat(30)}), None).await;
    assert_eq!(
        (code(&long), &long.1["error"]["message"]),
        ((422, "invalid"), &json!("the title is too long"))
    );
    assert_eq!(
        code(&caller.call("PUT", path, Some(&caller.token), Some(&title), None).await),
        (405, "method_not_allowed")
    );
    assert_eq!(code(&caller.get("/press/elsewhere").await), (404, "not_found"));
    assert_eq!(code(&caller.get("/press/rooms/a%2Fb/news").await), (404, "not_found"));
    let big = json!({"title": "x".repeat(200_000)});
    assert_eq!(code(&caller.post(path, big, None).await), (413, "too_large"));
    let form = caller
        .http
        .post(format!("{}{path}", caller.base))
        .bearer_auth(&caller.token)
        .body("title=t");
    assert_eq!(form.send().await.unwrap().status().as_u16(), 415);
    assert_eq!(
        code(
            &caller
                .post("/aldis/v1/press/news/events", json!({"data": 1}), None)
                .await
        ),
        (400, "invalid")
    );
    assert_eq!(
        code(&caller.get("/aldis/v1/press/other/stats").await),
        (404, "not_found")
    );
    assert_eq!(
        code(&caller.call("GET", "/aldis/v1/press/news/stats", None, None, None).await),
        (401, "unauthorized")
    );
    assert_eq!(gateway.metrics().await.sum("aldis_deliveries_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_there_is_told_and_can_be_sent_away() {
    let manifests = manifests();
    let gateway = Gateway::start(&manifests.path(), None).await;
    let caller = Caller::of(&gateway);
    let node = Node::start();
    let options = json!({"auth": {"token": caller.token}});
    let first = node.connect(&gateway.url("/news"), options.clone()).await;
    let second = node.connect(&gateway.url("/news"), options).await;
    first.join("join", json!({"room": "a"})).await;
    second.join("join", json!({"room": "b"})).await;

    let anonymous = caller.call("GET", "/press/health", None, None, None).await;
    assert_eq!(anonymous, (200, json!({"status": "ok", "connectedClients": 2})));
    let stats = caller.get("/aldis/v1/press/news/stats").await;
    assert_eq!(
        stats,
        (
            200,
            json!({"connections": 2, "uniqueUsers": 1, "users": [{"user": "ann", "connections": 2}], "roomCount": 2,
                "rooms": [{"name": "room:a", "members": 1}, {"name": "room:b", "members": 1}],
                "replicas": {"answered": 1, "of": 1}})
        )
    );
    assert_eq!(
        caller.get("/aldis/v1/press/news/rooms/room:a").await,
        (
            200,
            json!({"name": "room:a", "members": 1, "replicas": {"answered": 1, "of": 1}})
        )
    );
    assert_eq!(caller.get("/health/ready").await, (200, json!({"status": "ok"})));

    let sent_away = caller
        .call(
            "DELETE",
            "/aldis/v1/press/news/rooms/room:a/connections",
            Some(&caller.token),
            None,
            None,
        )
        .await;
    let one = json!({"disconnected": 1, "replicas": {"answered": 1, "of": 1}});
    assert_eq!(sent_away, (200, one.clone()));
    assert_eq!(first.disconnected().await, ("io server disconnect".to_owned(), false));
    let left = async || {
        caller.get("/aldis/v1/press/news/stats").await.1["connections"]
            .as_u64()
            .unwrap() as f64
    };
    until_equal("one is left", 1.0, left).await;
    let all = caller
        .call(
            "DELETE",
            "/aldis/v1/press/news/users/ann/connections",
            Some(&caller.token),
            None,
            None,
        )
        .await;
    assert_eq!(all, (200, one));
    assert_eq!(second.disconnected().await, ("io server disconnect".to_owned(), false));
}

/// An event is published while Kafka is away, and the gateway dies: what was answered with success must be in Kafka.
async fn published_and_killed(without: Option<Rule>) -> Result<(), String> {
    let mut kafka = Kafka::down();
    let manifests = manifests();
    let address = kafka.address();
    let with = With {
        kafka: Some(&address),
        without,
        ..With::default()
    };
    let mut gateway = Gateway::start_with(&manifests.path(), with).await;
    let caller = Caller::of(&gateway);
    let answer = caller
        .post("/press/rooms/a/news", json!({"title": "first"}), None)
        .await;
    gateway.kill().await;
    kafka.start().await;
    let topic = format!("{}.http", manifests.dead_letters);
    make_topic(&address, &topic, 1, &[]).await;
    let records = end(&address, &topic).await;
    match (answer.0, records) {
        (503, 0) => Ok(()),
        other => Err(format!("answer and records in Kafka: {other:?}")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_21_what_is_published_over_http_is_in_kafka_before_it_is_answered() {
    assert_eq!(published_and_killed(None).await, Ok(()));
    let broken = published_and_killed(Some(Rule::PublishThroughKafka)).await;
    println!("without it: {}", broken.expect_err("nobody notices"));
}

/// A channel's own mark does not say what Redis has forgotten of it, because of what comes over HTTP each is given only its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_over_http_and_redis_has_forgotten_is_read_again_by_whoever_gets_the_partition() {
    let (kafka, mut redis, manifests, node) = (shared().await, Redis::start().await, manifests(), Node::start());
    let (address, url) = (kafka.address(), redis.url());
    make_topic(&address, &format!("{}.http", manifests.dead_letters), 1, &[]).await;
    let replica = async || {
        let with = With {
            kafka: Some(&address),
            redis: Some(&url),
            ..With::default()
        };
        Gateway::start_with(&manifests.path(), with).await
    };
    let mut gateway = replica().await;
    let proxy = Proxy::before(&gateway.address()).await;
    let caller = Caller::of(&gateway);
    let options = json!({"auth": {"token": caller.token}});
    let client = node.connect(&format!("http://{}/news", proxy.address), options).await;
    client.join("join", json!({"room": "a"})).await;
    let publish = async |titles: std::ops::RangeInclusive<u64>| {
        for title in titles {
            let answer = caller
                .post("/press/rooms/a/news", json!({"title": title.to_string()}), None)
                .await;
            assert_eq!(answer.0, 201, "{answer:?}");
        }
    };
    publish(1..=5).await;
    client.until("the first", |seen| seen.events.len() == 5).await;
    let _: String = redis.ask(&["SAVE"]).await;

    proxy.lead_to("127.0.0.1:9");
    proxy.cut(0, Cut::Reset);
    client.disconnected().await;
    publish(6..=10).await;
    gateway
        .wait_for_metric("aldis_deliveries_total{channel=\"press/news\"}", 10.0)
        .await;
    // It commits what it has taken, and nobody is left who remembers it.
    gateway.terminate().await;
    redis.crash();
    redis.restart().await;

    let gateway = replica().await;
    proxy.lead_to(&gateway.address());
    let seen = client.until("all of it", |seen| seen.events.len() >= 10).await;
    let titles: Vec<_> = seen
        .events
        .iter()
        .map(|event| event.payload()["title"].clone())
        .collect();
    assert_eq!(
        titles,
        (1..=10).map(|title| json!(title.to_string())).collect::<Vec<_>>()
    );
    assert_eq!(seen.ready[1]["recovered"], true, "{seen:?}");
}
