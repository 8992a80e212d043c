//! Records that can not be processed: where they go, and that nobody else waits for them.

use serde_json::json;

use crate::gateway::Gateway;
use crate::kafka::{make_topic, set_topic, shared};
use crate::manifests::Manifests;
use crate::node::Node;
use crate::records::{Producer, read};

#[tokio::test]
async fn bad_records_go_to_the_declared_topic_with_the_reason_and_the_others_go_on() {
    let kafka = shared().await;
    let manifests = Manifests::bistro();
    let declared = format!("{}.orders", manifests.dead_letters);
    make_topic(&kafka.address(), &manifests.topic, 4, &[]).await;
    make_topic(&kafka.address(), &declared, 1, &[]).await;
    make_topic(&kafka.address(), &manifests.dead_letters, 1, &[]).await;
    let gateway = Gateway::start(&manifests.path(), Some(&kafka.address())).await;
    let producer = Producer::to(&kafka.address());
    let node = Node::start();
    let options = json!({"query": {"user_id": "ann", "tenant_id": "t1", "type": "staff"}});
    let staff = node.connect(&gateway.url("/"), options).await;
    staff.join("subscribe:orders", json!({"tenant_id": "t1"})).await;

    let topic = manifests.topic.as_str();
    let good = |order: u32| json!({"event_type": "order.created", "data": {"order_id": order, "tenant_id": "t1"}});
    // The kitchen's channel asks for an order id too, and none of these is for it otherwise.
    let no_field = json!({"event_type": "order.status_changed", "data": {"order_id": 7}}).to_string();
    let bad_room =
        json!({"event_type": "order.status_changed", "data": {"order_id": 7, "tenant_id": ["t1"]}}).to_string();
    producer.json(topic, 2, &good(1)).await;
    let not_json = producer.bytes(topic, 2, Some(b"{\"event_type\": oops")).await;
    let required = producer.bytes(topic, 2, Some(no_field.as_bytes())).await;
    let room = producer.bytes(topic, 2, Some(bad_room.as_bytes())).await;
    producer.json(topic, 2, &good(2)).await;

    staff.event("order:created").await;
    let seen = staff
        .until("the record after the bad ones", |seen| seen.events.len() >= 3)
        .await;
    assert_eq!(
        seen.names(),
        ["connection:established", "order:created", "order:created"]
    );
    assert_eq!(seen.events[2].payload()["data"]["order_id"], 2);

    let letters = read(&kafka.address(), &declared, 3).await;
    let expected = [
        (not_json, "not_json", "{\"event_type\": oops", "value"),
        (required, "required_field", no_field.as_str(), "require"),
        (room, "room_unrenderable", bad_room.as_str(), "routes[1].emit[0].to[0]"),
    ];
    for (letter, (offset, reason, value, at)) in letters.iter().zip(expected) {
        let header = |name: &str| {
            letter
                .headers
                .get(&format!("aldis-dead-letter-{name}"))
                .map(String::as_str)
        };
        assert_eq!(header("reason"), Some(reason));
        assert_eq!(letter.value.as_deref(), Some(value.as_bytes()), "{reason}: as it was");
        assert_eq!(letter.key.as_deref(), Some("key".as_bytes()), "{reason}");
        assert_eq!(header("channel"), Some("bistro/orders"), "{reason}");
        assert_eq!(
            (header("topic"), header("partition")),
            (Some(topic), Some("2")),
            "{reason}"
        );
        assert_eq!(header("offset"), Some(offset.to_string().as_str()), "{reason}");
        assert!(
            header("timestamp").is_some_and(|time| time.parse::<u64>().is_ok()),
            "{reason}"
        );
        assert!(header("detail").is_some_and(|detail| !detail.is_empty()), "{reason}");
        assert!(
            header("at").is_some_and(|field| field.contains(at)),
            "{reason}: {letter:?}"
        );
        assert_eq!(header("truncated"), None, "{reason}");
    }
    // What is no JSON is so for the kitchen too, whose channel names no topic: it goes to the gateway's.
    let kitchens = &read(&kafka.address(), &manifests.dead_letters, 1).await[0];
    assert_eq!(kitchens.headers["aldis-dead-letter-channel"], "bistro/kitchen");
    assert_eq!(kitchens.headers["aldis-dead-letter-reason"], "not_json");

    let metrics = gateway.metrics().await;
    for reason in ["not_json", "required_field", "room_unrenderable"] {
        let series = format!("aldis_dead_letters_total{{channel=\"bistro/orders\",reason=\"{reason}\"}}");
        assert_eq!(metrics.value(&series), 1.0, "{reason}");
    }
    assert_eq!(
        metrics.value("aldis_records_total{channel=\"bistro/orders\",outcome=\"delivered\"}"),
        2.0
    );
    assert_eq!(
        metrics.value("aldis_records_total{channel=\"bistro/orders\",outcome=\"dead_lettered\"}"),
        3.0
    );
}

#[tokio::test]
async fn a_record_too_large_for_its_dead_letter_topic_is_cut_and_the_next_ones_go_on() {
    let kafka = shared().await;
    let manifests = Manifests::news();
    make_topic(&kafka.address(), &manifests.topic, 1, &[]).await;
    make_topic(
        &kafka.address(),
        &manifests.dead_letters,
        1,
        &[("max.message.bytes", "4096")],
    )
    .await;
    let gateway = Gateway::start(&manifests.path(), Some(&kafka.address())).await;
    let producer = Producer::to(&kafka.address());
    let node = Node::start();
    let reader = node.connect(&gateway.url("/news"), json!({})).await;
    reader.join("join", json!({"room": "a"})).await;

    let large = format!("not JSON{}", "!".repeat(20_000));
    producer.bytes(&manifests.topic, 0, Some(large.as_bytes())).await;
    // A large one that is good is delivered whole.
    let text = "x".repeat(200_000);
    producer
        .json(&manifests.topic, 0, &json!({"type": "news", "room": "a", "text": text}))
        .await;

    assert_eq!(reader.event("news:published").await.payload()["text"], text);
    let letter = &read(&kafka.address(), &manifests.dead_letters, 1).await[0];
    assert_eq!(letter.headers["aldis-dead-letter-truncated"], "true");
    assert_eq!(letter.headers["aldis-dead-letter-reason"], "not_json");
    assert_eq!(
        (letter.value.as_deref(), letter.key.as_deref()),
        (None, Some("key".as_bytes()))
    );
}

#[tokio::test]
async fn a_record_that_no_dead_letter_topic_takes_waits_with_its_partition_and_is_not_lost() {
    let kafka = shared().await;
    let manifests = Manifests::news();
    make_topic(&kafka.address(), &manifests.topic, 2, &[]).await;
    // Nothing fits into it.
    let tiny = [("max.message.bytes", "10")];
    make_topic(&kafka.address(), &manifests.dead_letters, 1, &tiny).await;
    let gateway = Gateway::start(&manifests.path(), Some(&kafka.address())).await;
    let producer = Producer::to(&kafka.address());
    let node = Node::start();
    let reader = node.connect(&gateway.url("/news"), json!({})).await;
    reader.join("join", json!({"room": "a"})).await;

    let news = |n: &str| json!({"type": "news", "room": "a", "n": n});
    producer.bytes(&manifests.topic, 0, Some(b"not JSON")).await;
    gateway.wait_for_log("records could not be taken").await;
    producer.json(&manifests.topic, 0, &news("behind")).await;
    producer.json(&manifests.topic, 1, &news("beside")).await;
    assert_eq!(reader.event("news:published").await.payload()["n"], "beside");
    let series = format!("aldis_consumer_paused{{partition=\"0\",topic=\"{}\"}}", manifests.topic);
    gateway.wait_for_metric(&series, 1.0).await;
    let health = gateway.health().await;
    assert_eq!(health["status"], "degraded", "{health}");
    assert_eq!(health["problems"], json!(["dead_letters"]), "{health}");
    assert_eq!(health["kafka"]["deadLettersWaiting"], 1, "{health}");
    let dead_lettered = "aldis_records_total{channel=\"press/news\",outcome=\"dead_lettered\"}";
    assert_eq!(gateway.metrics().await.value(dead_lettered), 0.0);
    assert_eq!(reader.seen().events.len(), 1, "what is behind the bad record waits");

    set_topic(
        &kafka.address(),
        &manifests.dead_letters,
        "max.message.bytes",
        "1000000",
    )
    .await;
    let seen = reader.until("the record behind", |seen| seen.events.len() >= 2).await;
    assert_eq!(seen.events[1].payload()["n"], "behind");
    gateway.wait_for_metric(dead_lettered, 1.0).await;
    let letter = &read(&kafka.address(), &manifests.dead_letters, 1).await[0];
    // Where the topic grew between two tries, the one that it took was cut.
    assert!(
        letter.value.as_deref().is_none_or(|value| value == b"not JSON"),
        "{letter:?}"
    );
    assert_eq!(gateway.health().await["status"], "ok");
}

#[tokio::test]
async fn a_channels_topic_that_does_not_exist_costs_no_record_and_the_gateways_gets_the_letters() {
    let kafka = shared().await;
    let manifests = Manifests::bistro();
    make_topic(&kafka.address(), &manifests.topic, 1, &[]).await;
    // A topic of this name can be made by nobody.
    let orders = std::fs::read_to_string(manifests.path().join("orders.yaml")).unwrap();
    let declared = format!("{}.orders", manifests.dead_letters);
    manifests.write("orders.yaml", &orders.replace(&declared, &format!("{declared}-away")));
    make_topic(&kafka.address(), &manifests.dead_letters, 1, &[]).await;
    make_topic(
        &kafka.address(),
        &format!("{declared}-away"),
        1,
        &[("max.message.bytes", "10")],
    )
    .await;
    let gateway = Gateway::start(&manifests.path(), Some(&kafka.address())).await;
    let producer = Producer::to(&kafka.address());
    for _ in 0..50 {
        producer
            .json(&manifests.topic, 0, &json!({"event_type": "order.status_changed"}))
            .await;
    }
    let letters = read(&kafka.address(), &manifests.dead_letters, 50).await;
    assert!(
        letters
            .iter()
            .all(|letter| letter.headers["aldis-dead-letter-channel"] == "bistro/orders")
    );
    gateway
        .wait_for_metric(
            "aldis_records_total{channel=\"bistro/orders\",outcome=\"dead_lettered\"}",
            50.0,
        )
        .await;
    let failures = gateway.metrics().await.sum("aldis_dead_letter_failures_total");
    assert!((1.0..=50.0).contains(&failures), "{failures} tries");
}
