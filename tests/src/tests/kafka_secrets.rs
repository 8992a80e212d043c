//! A Kafka that lets nobody in without a password, or a certificate, over TLS: credentials come from Secrets, change while the
//! gateway runs, cost no client anything, and are shown nowhere.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::authority::{Authority, indented};
use crate::deadline::{until, until_equal};
use crate::kafka::make_topic;
use crate::kafka::secure::Secure;
use crate::manifests::Manifests;
use crate::node::{Client, Node};
use crate::records::{Producer, read};
use crate::request::request;
use crate::standalone::{ADMIN_TOKEN, Standalone};

const PARTITIONS: i32 = 2;
const SCRAM: &str = "tls: {caSecretRef: {name: kafka-ca, key: ca.crt}}, sasl: {mechanism: SCRAM-SHA-512, secretRef: {name: kafka-user}}";
const REFUSED: &str = "aldis_kafka_refused";
const RENEWED: &str = "aldis_kafka_renewed_total";

/// A channel press/news whose endpoint publishes too, topics for it at this broker, and a gateway that comes in so.
async fn manifests(secure: &Secure, broker: &str, kafka: &str) -> Manifests {
    let manifests = Manifests::news();
    manifests.gateway_at(broker, kafka, "listeners: [{name: web, port: 3000}]");
    let channel = std::fs::read_to_string(manifests.path().join("news.yaml")).unwrap();
    let endpoint = "  http:
  - {method: POST, path: /press/news, allow: \"true\", publish: {type: news, data: {type: news, room: a, \"n\": \"{body.n}\", p: -1}}, respond: {code: 201, body: {}}}
";
    manifests.write("news.yaml", &format!("{channel}{endpoint}"));
    authority_is(&manifests, &secure.authority);
    for (topic, partitions) in [
        (manifests.topic.clone(), PARTITIONS),
        (manifests.dead_letters.clone(), 1),
        (format!("{}.http", manifests.dead_letters), 1),
    ] {
        make_topic(&secure.plain(), &topic, partitions, &[]).await;
    }
    manifests
}

fn authority_is(manifests: &Manifests, trusted: &Authority) {
    let text = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: kafka-ca, namespace: press, labels: {{aldis.dev/use: gateway}}}}\nstringData:\n  ca.crt: |\n{}",
        indented(&trusted.pem)
    );
    manifests.write("ca.yaml", &text);
}

fn password_is(manifests: &Manifests, password: &str) {
    let text = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: kafka-user, namespace: press, labels: {{aldis.dev/use: gateway}}}}\nstringData: {{username: aldis, password: {password}}}\n"
    );
    manifests.write("user.yaml", &text);
}

/// What is wrong with how the gateway comes in, once that is said.
async fn refusal(gateway: &Standalone) -> String {
    let reason = until("the refusal is told", async || {
        gateway.health().await["kafka"]["refused"].as_str().map(str::to_owned)
    });
    let reason = reason.await;
    let health = gateway.health().await;
    assert!(
        health["problems"]
            .as_array()
            .unwrap()
            .contains(&json!("kafka_credentials")),
        "{health}"
    );
    assert_eq!(health["ready"], true, "its peers come in no better: {health}");
    gateway.wait_for_metric(REFUSED, 1.0).await;
    until_equal("it is logged", true, async || gateway.log().contains(&reason)).await;
    reason
}

async fn is_let_in(gateway: &Standalone) {
    until_equal("nothing is refused", Value::Null, async || {
        gateway.health().await["kafka"]["refused"].clone()
    })
    .await;
    gateway.wait_for_metric(REFUSED, 0.0).await;
    until_equal("kafka is reached", json!(true), async || {
        gateway.health().await["kafka"]["connected"].clone()
    })
    .await;
}

/// Records that go on, one after the other in each partition, until they are ended.
struct Stream {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<u64>,
}

impl Stream {
    fn to(broker: &str, topic: &str) -> Self {
        const PACE: Duration = Duration::from_millis(50);
        let (producer, topic, stop) = (Producer::to(broker), topic.to_owned(), CancellationToken::new());
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut n = 0;
            while !stopped.is_cancelled() {
                for p in 0..PARTITIONS {
                    let record = json!({"type": "news", "room": "a", "p": p, "n": n});
                    producer.json(&topic, p, &record).await;
                }
                n += 1;
                tokio::time::sleep(PACE).await;
            }
            n
        });
        Self { stop, task }
    }

    /// Ends it; gives how many records each partition has.
    async fn end(self) -> u64 {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

/// Numbers that a client got of a partition, in the order in which they came.
fn numbers(client: &Client, partition: i64) -> Vec<u64> {
    let seen = client.seen();
    let of = seen.events.iter().map(|event| event.payload());
    let of = of.filter(|payload| payload["p"] == partition);
    // What went over HTTP is text.
    let number = |payload: &Value| payload["n"].as_u64().or_else(|| payload["n"].as_str()?.parse().ok());
    of.map(|payload| number(payload).unwrap_or_else(|| panic!("{payload}")))
        .collect()
}

/// Waits until the client has so many more records than now: what is published goes on to reach it.
async fn more(client: &Client) {
    let before = client.seen().events.len();
    client
        .wait("records go on", |seen| seen.events.len() >= before + 20)
        .await;
}

/// Publishes over HTTP, once however often it has to ask.
async fn publish(gateway: &Standalone, n: u64) {
    let (address, key) = (gateway.listener("web").await, format!("k{n}"));
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", key.as_str())];
    let body = json!({ "n": n.to_string() }).to_string();
    until_equal("it is published", 201, async || {
        request(address, "POST", "/press/news", &headers, &body).await.status
    })
    .await;
}

#[tokio::test]
async fn credentials_for_kafka_change_while_records_go_on_and_no_client_misses_or_repeats_any() {
    let secure = Secure::start("hunter1").await;
    let manifests = manifests(&secure, &secure.sasl(), SCRAM).await;
    password_is(&manifests, "hunter1");
    let gateway = Standalone::start(&manifests, &["--port", "web=0"]).await;
    let node = Node::start();
    let url = format!("http://{}/news", gateway.listener("web").await);
    let client = node.connect(&url, json!({})).await;
    assert_eq!(client.join("join", json!({"room": "a"})).await["ok"], true);
    let stream = Stream::to(&secure.plain(), &manifests.topic);
    more(&client).await;

    // A wrong one is tried and told, and disturbs nothing.
    password_is(&manifests, "hunter2");
    gateway.follow(&manifests).await;
    let reason = refusal(&gateway).await;
    for part in [
        "SCRAM-SHA-512",
        "username and password in Secret press/kafka-user",
        "Authentication failed",
    ] {
        assert!(reason.contains(part), "{reason}");
    }
    more(&client).await;
    assert_eq!(gateway.metrics().await.value(RENEWED), 0.0);
    publish(&gateway, 1).await;

    // It becomes right: from then on the former one lets nobody in.
    secure.password_is("hunter2").await;
    is_let_in(&gateway).await;
    gateway.wait_for_metric(RENEWED, 1.0).await;
    more(&client).await;
    publish(&gateway, 2).await;

    // The broker has another one first, and ends what came in before.
    secure.password_is("hunter3").await;
    refusal(&gateway).await;
    password_is(&manifests, "hunter3");
    gateway.follow(&manifests).await;
    is_let_in(&gateway).await;
    gateway.wait_for_metric(RENEWED, 2.0).await;
    more(&client).await;
    publish(&gateway, 3).await;
    let producer = Producer::to(&secure.plain());
    producer.bytes(&manifests.topic, 0, Some(b"no JSON")).await;
    let letters = read(&secure.plain(), &manifests.dead_letters, 1).await;
    assert_eq!(letters[0].value.as_deref(), Some(&b"no JSON"[..]));

    let published = stream.end().await;
    for partition in 0..i64::from(PARTITIONS) {
        client
            .wait("all records are there", |seen| {
                let of = seen.events.iter().map(|event| event.payload());
                of.filter(|payload| payload["p"] == partition && payload["n"] == published - 1)
                    .count()
                    > 0
            })
            .await;
        assert_eq!(
            numbers(&client, partition),
            (0..published).collect::<Vec<_>>(),
            "partition {partition}"
        );
    }
    client
        .wait("what came over HTTP is there", |seen| {
            seen.events.iter().filter(|event| event.payload()["p"] == -1).count() >= 3
        })
        .await;
    assert_eq!(numbers(&client, -1), [1, 2, 3]);
    assert!(client.seen().disconnects.is_empty());

    let config = gateway
        .admin("/config", &[("Authorization", &format!("Bearer {ADMIN_TOKEN}"))])
        .await;
    assert_eq!(config.status, 200);
    for shown in [config.body, gateway.log(), gateway.health().await.to_string()] {
        assert!(!shown.contains("hunter"), "{shown}");
    }
}

#[tokio::test]
async fn kafka_is_reached_by_a_password_or_a_certificate_and_only_a_broker_that_is_trusted_is_told_either() {
    let secure = Secure::start("hunter1").await;
    let node = Node::start();
    let plain = SCRAM.replace("SCRAM-SHA-512", "PLAIN");
    let certificate = "tls: {caSecretRef: {name: kafka-ca, key: ca.crt}, secretRef: {name: kafka-client}}";
    for (broker, kafka) in [(secure.sasl(), plain.as_str()), (secure.tls(), certificate)] {
        let manifests = manifests(&secure, &broker, kafka).await;
        password_is(&manifests, "plain-password");
        manifests.write("client.yaml", &secure.authority.secret("press", "kafka-client"));
        // Whoever else may stand there has a certificate of somebody else's.
        authority_is(&manifests, &Authority::new());
        let gateway = Standalone::start(&manifests, &["--port", "web=0"]).await;
        let reason = refusal(&gateway).await;
        assert!(
            reason.contains("spec.kafka.tls") && reason.contains("certificate"),
            "{reason}"
        );
        let url = format!("http://{}/news", gateway.listener("web").await);
        let client = node.connect(&url, json!({})).await;
        assert_eq!(client.join("join", json!({"room": "a"})).await["ok"], true);

        authority_is(&manifests, &secure.authority);
        gateway.follow(&manifests).await;
        is_let_in(&gateway).await;
        let producer = Producer::to(&secure.plain());
        let record = json!({"type": "news", "room": "a", "p": 0, "n": 7});
        producer.json(&manifests.topic, 0, &record).await;
        client.events(1).await;
        assert_eq!(numbers(&client, 0), [7]);
    }
}
