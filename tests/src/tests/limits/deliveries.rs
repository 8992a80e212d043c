//! Deliveries of a tenant each second: who is over them waits, nothing is lost, and nobody else notices.

use super::*;
use crate::deadline::until;
use crate::records::Producer;

/// Records `{room: "a", n}`.
fn records(numbers: std::ops::RangeInclusive<u64>) -> impl Iterator<Item = Value> {
    numbers.map(|n| json!({"room": "a", "n": n}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_over_its_deliveries_each_second_waits_and_loses_nothing_while_others_go_on() {
    let manifests = Manifests::gateway();
    let shared = manifests.topic.clone();
    let [slow, quick] = ["slow", "quick"].map(|tenant| format!("{shared}.{tenant}"));
    write_channel(&manifests, "slow", &[&slow, &shared]);
    write_channel(&manifests, "quick", &[&quick, &shared]);
    manifests.limit_each(&[("slow", "{deliveriesPerSecond: 50}"), ("quick", "{}")]);
    let gateway = Gateway::start(&manifests.path(), None).await;
    let (node, producer) = (Node::start(), Producer::to(gateway.broker()));
    let reader = async |tenant: &str| {
        let client = node.connect(&gateway.url(&format!("/{tenant}")), json!({})).await;
        client.join("join", json!({"room": "a"})).await;
        client
    };
    let (paced, free) = (reader("slow").await, reader("quick").await);
    let all = |count: u64| (1..=count).collect::<Vec<_>>();
    producer.all(&slow, 0, records(1..=300)).await;
    producer.all(&quick, 0, records(1..=300)).await;
    free.events(300).await;
    paced.events(300).await;
    assert_eq!((numbers(&paced), numbers(&free)), (all(300), all(300)));
    let waited = |topic: &str| format!("aldis_paced_seconds_count{{topic=\"{topic}\"}}");
    let metrics = gateway.metrics().await;
    assert!(metrics.value(&waited(&slow)) >= 1.0);
    assert_eq!(metrics.value(&waited(&quick)), 0.0);
    println!("records waited: {:?}", metrics.all("aldis_paced_seconds_sum"));

    // A topic that others read too waits for nobody; what one of them is over its rate by is counted.
    producer.all(&shared, 0, records(301..=600)).await;
    free.events(600).await;
    paced.events(600).await;
    assert_eq!((numbers(&paced), numbers(&free)), (all(600), all(600)));
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.value(&waited(&shared)), 0.0);
    let over = |tenant: &str| {
        metrics.value(&format!(
            "aldis_deliveries_over_rate_total{{channel=\"{tenant}/news\"}}"
        ))
    };
    assert!(over("slow") > 0.0);
    assert_eq!(over("quick"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_over_its_deliveries_each_second_is_told_so_over_http_and_may_repeat() {
    let manifests = Manifests::gateway();
    write_channel(&manifests, "slow", &[&manifests.topic]);
    manifests.limit_each(&[("slow", "{deliveriesPerSecond: 50}")]);
    let gateway = Gateway::start(&manifests.path(), None).await;
    let producer = Producer::to(gateway.broker());
    let client = Node::start();
    let client = client.connect(&gateway.url("/slow"), json!({})).await;
    client.join("join", json!({"room": "a"})).await;
    producer.all(&manifests.topic, 0, records(1..=200)).await;
    let (http, url) = (reqwest::Client::new(), gateway.url("/slow/news"));
    let post = async || {
        let request = http.post(&url).header("Content-Type", "application/json");
        request.body(r#"{"room": "a", "n": 999}"#).send().await.unwrap()
    };
    let refused = until("refused", async || {
        Some(post().await).filter(|answer| answer.status() == 429)
    })
    .await;
    assert_eq!(refused.headers()["retry-after"], "1");
    let body: Value = serde_json::from_str(&refused.text().await.unwrap()).unwrap();
    assert_eq!(body["error"]["code"], "too_many_deliveries", "{body}");
    client
        .until("all records", |seen| {
            seen.events.iter().any(|event| event.args[0] == 200)
        })
        .await;
    until("taken", async || {
        Some(post().await).filter(|answer| answer.status() == 202)
    })
    .await;
    client
        .until("what was posted", |seen| {
            seen.events.iter().any(|event| event.args[0] == 999)
        })
        .await;
}
