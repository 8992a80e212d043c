//! Tokens that expire while their clients are connected.

use std::time::{SystemTime, UNIX_EPOCH};

use aldis_core::identity::CLOCK_SKEW_MS;

use super::*;
use crate::records::Producer;
use crate::tests::clients::issue;

const SECRET: &str = "a-secret-for-a-test";

/// press/news for those who show a token, with one room for all.
fn manifests() -> Manifests {
    let manifests = Manifests::gateway();
    manifests.write(
        "news.yaml",
        &format!(
            "apiVersion: v1
kind: Secret
metadata: {{name: jwt, namespace: press, labels: {{aldis.dev/use: channel}}}}
stringData: {{secret: {SECRET}}}
---
apiVersion: aldis.dev/v1alpha1
kind: NotificationChannel
metadata: {{name: news, namespace: press}}
spec:
  parentRefs: [{{name: shared}}]
  paths: [/news]
  authentication:
    jwt: [{{name: staff, secretRef: {{name: jwt, key: secret}}, algorithms: [HS256], identity: {{user: claims.sub}}}}]
  sources: [{{name: news, kafka: {{topics: [{topic}]}}, type: news}}]
  rooms: [{{name: desk, key: \"desk:{{user}}\", join: {{auto: {{with: {{user: identity.user}}}}}}}}]
  routes:
  - types: [news]
    emit: [{{event: news, payload: \"{{event.data.n}}\", to: [{{room: desk, with: {{user: event.data.user}}}}]}}]
",
            topic = manifests.topic
        ),
    );
    manifests
}

/// A token that is let in for some 6 s from now on.
async fn short() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let exp = (now + 6_000 - CLOCK_SKEW_MS) / 1_000;
    issue(SECRET, &["--claim", &format!("exp={exp}")]).await
}

/// A stock client whose `auth` function gives these tokens, one after the other.
async fn connect(node: &Node, gateway: &Gateway, transport: &str, tokens: &[&str]) -> Client {
    let mut options = by(transport);
    options["tokens"] = json!(tokens);
    node.connect_as("4.8", &gateway.url("/news"), &options).await.unwrap()
}

fn is_news(seen: &crate::node::Seen) -> Vec<u64> {
    let news = seen.events.iter().filter(|event| event.name == "news");
    news.map(|event| event.payload().as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_whose_token_expires_is_told_and_recovers_with_a_fresh_one() {
    let manifests = manifests();
    let gateway = Gateway::start(&manifests.path(), None).await;
    let (node, producer) = (Node::start(), Producer::to(gateway.broker()));
    let (long, endless) = (issue(SECRET, &[]).await, issue(SECRET, &["--expires", "none"]).await);
    let mut published = 0;
    let mut publish = async || {
        published += 1;
        let record = json!({"user": "ann", "n": published});
        producer.json(&manifests.topic, 0, &record).await;
        published
    };
    for transport in ["websocket", "polling"] {
        let begun = publish().await;
        let stays = connect(&node, &gateway, transport, &[&endless]).await;
        let short = short().await;
        let fresh = connect(&node, &gateway, transport, &[&short, &long]).await;
        let stale = connect(&node, &gateway, transport, &[&short]).await;
        // Under deliveries, from before until after the break.
        let mut last = begun;
        while fresh.seen().ready.len() < 2 || last < begun + 20 {
            last = publish().await;
            assert!(last < begun + 100_000, "{transport}: {:?}", fresh.seen().disconnects);
        }
        let seen = fresh
            .until("all news", |seen| is_news(seen).last() == Some(&last))
            .await;
        let closing = fresh.event("aldis:closing").await;
        assert_eq!(closing.payload(), &json!({"code": "token_expired"}), "{transport}");
        assert!(seen.disconnects[0].1, "{transport}: it tries again by itself");
        assert!(seen.connects[1].recovered, "{transport}");
        assert_eq!(seen.ready[1]["recovered"], true, "{transport}");
        let first = is_news(&seen)[0];
        assert_eq!(
            is_news(&seen),
            (first..=last).collect::<Vec<_>>(),
            "{transport}: each once"
        );
        let seen = stale.until("refused", |seen| !seen.connect_errors.is_empty()).await;
        assert_eq!(seen.connect_errors[0]["data"]["code"], "token_expired", "{transport}");
        assert_eq!(seen.connect_errors[0]["active"], false, "{transport}: for good");
        assert!(
            stays.seen().disconnects.is_empty(),
            "{transport}: its token does not expire"
        );
    }
    let closed = "aldis_clients_closed_total{channel=\"press/news\",reason=\"token_expired\"}";
    assert_eq!(gateway.metrics().await.value(closed), 4.0);
}
