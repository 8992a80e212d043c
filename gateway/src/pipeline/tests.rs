//! Batches that are taken in more than one try, against librdkafka's mock cluster.

use std::time::Duration;

use aldis_core::table::Table;
use aldis_crds::contract::{GatewayConfig, Keys};
use arc_swap::ArcSwap;
use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use serde_json::json;

use super::*;
use crate::adapter::memory::{MemoryAdapter, new_epoch};
use crate::clock::Clock;
use crate::egress::Http;
use crate::hub::Hub;
use crate::jwks::Jwks;
use crate::metrics::Metrics;
use crate::sessions::Sessions;

type Memory = MemoryAdapter<Hub<Arc<Metrics>>>;

/// Two channels that read the same topic and have no use for a record without `n`: `news` with a dead letter topic of its
/// own, `other` with the gateway's.
fn shared() -> Arc<Shared<Memory>> {
    let channel = |name: &str, dead_letter: Option<&str>| {
        let mut spec = json!({
            "parentRefs": [{"name": "shared"}],
            "sources": [{"name": "s", "kafka": {"topics": ["records"]}, "require": ["data.n"]}],
            "routes": [{"types": ["*"], "emit": [{"event": "e", "everyone": true}]}]});
        if let Some(topic) = dead_letter {
            spec["deadLetter"] = json!({"topic": topic});
        }
        json!({"channel": {"namespace": "press", "name": name}, "attachments": [], "spec": spec})
    };
    let config: GatewayConfig = serde_json::from_value(json!({
        "version": 1, "listeners": [],
        "kafka": {"bootstrapServers": [], "groupId": "", "deadLetterTopic": "gateway"},
        "channels": [channel("news", Some("own")), channel("other", None)]}))
    .unwrap();
    let (table, bad) = Table::compile(&config, &Keys::default());
    assert!(bad.is_empty(), "{bad:?}");
    let (metrics, clock, epoch) = (Arc::new(Metrics::new()), Clock::default(), new_epoch());
    let hub = Arc::new(Hub::new(Arc::clone(&epoch), Arc::clone(&metrics)));
    Arc::new(Shared {
        table: ArcSwap::from_pointee(table),
        adapter: MemoryAdapter::new(epoch, Arc::clone(&hub), clock),
        hub,
        sessions: Sessions::default(),
        entrance: Default::default(),
        permits: Default::default(),
        rates: Default::default(),
        replicas: Default::default(),
        expiries: Default::default(),
        counts: Default::default(),
        jwks: Jwks::new(Http::new().unwrap(), Arc::clone(&metrics), clock),
        metrics,
        clock,
    })
}

fn record(offset: i64, value: &'static str) -> Record {
    Record {
        topic: "records".into(),
        partition: 0,
        offset,
        key: None,
        headers: Vec::new(),
        timestamp_ms: 1_700_000_000_000,
        value: Some(Bytes::from_static(value.as_bytes())),
    }
}

fn access(mock: &MockCluster<'_, rdkafka::producer::DefaultProducerContext>) -> Access {
    Access::plain(&[mock.bootstrap_servers()])
}

/// How many records the only partition of a topic has. Blocks.
fn count(mock: &MockCluster<'_, rdkafka::producer::DefaultProducerContext>, topic: &str) -> i64 {
    let mut config = crate::kafka::client(&[mock.bootstrap_servers()], "test");
    let consumer: BaseConsumer = config.set("group.id", "test").create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    let (_, end) = consumer
        .fetch_watermarks(topic, 0, Duration::from_secs(20))
        .expect("the mock cluster answers");
    end
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_tried_again_repeats_and_counts_nothing_of_what_is_done() {
    let mock = MockCluster::new(1).unwrap();
    for topic in ["own", "gateway"] {
        mock.create_topic(topic, 1, 1).unwrap();
    }
    let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    mock.topic_error("gateway", refusal).unwrap();
    let shared = shared();
    let dead_letters = DeadLetters::new(&access(&mock)).unwrap();
    let pipeline = Pipeline::new(Arc::clone(&shared), dead_letters, "gateway".to_owned(), access(&mock));
    let batch = [
        record(0, "{\"n\":1}"),
        record(1, "{}"),
        record(2, "{\"n\":2}"),
        record(3, "["),
    ];

    for _ in 0..2 {
        let error = pipeline.take(&batch).await.unwrap_err().to_string();
        assert!(error.contains("'gateway' takes no records"), "{error}");
        assert_eq!(
            shared.metrics.dead_letters_waiting(),
            2,
            "those of the channel without a topic"
        );
    }
    mock.topic_error("gateway", RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR)
        .unwrap();
    let mut tries = 0;
    // What is known of a topic is asked for again after a while.
    while pipeline.take(&batch).await.is_err() {
        tries += 1;
        assert!(tries < 60, "the topic takes letters again");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    assert_eq!((count(&mock, "own"), count(&mock, "gateway")), (2, 2));
    assert_eq!(shared.metrics.dead_letters_waiting(), 0);
    let text = shared.metrics.text();
    for channel in ["news", "other"] {
        for (series, expected) in [
            (
                "aldis_records_total{channel=\"press/CHANNEL\",outcome=\"delivered\"}",
                2,
            ),
            (
                "aldis_records_total{channel=\"press/CHANNEL\",outcome=\"dead_lettered\"}",
                2,
            ),
            (
                "aldis_dead_letters_total{channel=\"press/CHANNEL\",reason=\"required_field\"}",
                1,
            ),
            (
                "aldis_dead_letters_total{channel=\"press/CHANNEL\",reason=\"not_json\"}",
                1,
            ),
            ("aldis_deliveries_total{channel=\"press/CHANNEL\"}", 2),
        ] {
            let line = format!("{} {expected}\n", series.replace("CHANNEL", channel));
            assert!(text.contains(&line), "{line} is not in {text}");
        }
    }
    assert!(!text.contains("outcome=\"repeated\""), "{text}");
    assert!(
        text.contains("aldis_dead_letter_failures_total{channel=\"press/other\",reason=\"refused\"}"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channels_topic_that_takes_none_is_left_alone_and_the_gateways_is_used() {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("gateway", 1, 1).unwrap();
    let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    mock.topic_error("own", refusal).unwrap();
    let shared = shared();
    let dead_letters = DeadLetters::new(&access(&mock)).unwrap();
    let pipeline = Pipeline::new(Arc::clone(&shared), dead_letters, "gateway".to_owned(), access(&mock));

    pipeline.take(&[record(0, "{")]).await.unwrap();
    let more: Vec<_> = (1..100).map(|offset| record(offset, "{")).collect();
    pipeline.take(&more).await.unwrap();

    assert_eq!(count(&mock, "gateway"), 200);
    let text = shared.metrics.text();
    let failures = "aldis_dead_letter_failures_total{channel=\"press/news\",reason=\"refused\"} 1\n";
    assert!(text.contains(failures), "only the first letter tried it: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_payloads_are_large_is_appended_in_parts_and_each_record_once() {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("own", 1, 1).unwrap();
    let shared = shared();
    let dead_letters = DeadLetters::new(&access(&mock)).unwrap();
    let pipeline = Pipeline::new(Arc::clone(&shared), dead_letters, "gateway".to_owned(), access(&mock));
    let text = "x".repeat(MADE_BYTES / 8);
    let value: Bytes = json!({"n": 1, "text": text}).to_string().into();
    let batch: Vec<_> = (0..12)
        .map(|offset| Record {
            value: Some(value.clone()),
            ..record(offset, "")
        })
        .collect();

    let (first, rest) = pipeline.route(&batch).await;
    assert!(first.bytes < MADE_BYTES + 2 * value.len() + 1_000, "{}", first.bytes);
    assert!(!rest.is_empty());
    pipeline.take(&batch).await.unwrap();
    let text = shared.metrics.text();
    for channel in ["news", "other"] {
        let line = format!("aldis_deliveries_total{{channel=\"press/{channel}\"}} 12\n");
        assert!(text.contains(&line), "{text}");
    }
}

fn fail(shared: &Shared<Memory>, failures: impl IntoIterator<Item = AdapterError>) {
    shared.adapter.failures.lock().unwrap().extend(failures);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_channel_wants_read_again_is_not_lost_in_the_failure_of_another() {
    let mock = MockCluster::new(1).unwrap();
    let shared = shared();
    let dead_letters = DeadLetters::new(&access(&mock)).unwrap();
    let pipeline = Pipeline::new(Arc::clone(&shared), dead_letters, "gateway".to_owned(), access(&mock));
    let rewound = |offset| AdapterError::Rewound {
        topic: "records".into(),
        partition: 0,
        offset,
    };
    let away = AdapterError::Unavailable("away".to_owned());
    for (failures, again_from) in [
        ([away.clone(), rewound(5)], Some(5)),
        ([rewound(5), away.clone()], Some(5)),
        ([rewound(7), rewound(5)], Some(5)),
        ([away.clone(), away], None),
    ] {
        fail(&shared, failures);
        let error = pipeline.take(&[record(9, "{\"n\":1}")]).await.unwrap_err();
        assert_eq!(error.again_from, again_from, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_could_not_take_the_first_part_of_a_batch_is_given_no_later_one() {
    let mock = MockCluster::new(1).unwrap();
    let shared = shared();
    let dead_letters = DeadLetters::new(&access(&mock)).unwrap();
    let pipeline = Pipeline::new(Arc::clone(&shared), dead_letters, "gateway".to_owned(), access(&mock));
    let value: Bytes = json!({"n": 1, "text": "x".repeat(MADE_BYTES / 8)}).to_string().into();
    let batch: Vec<_> = (0..12)
        .map(|offset| Record {
            value: Some(value.clone()),
            ..record(offset, "")
        })
        .collect();
    fail(&shared, [AdapterError::Unavailable("for a moment".to_owned())]);
    pipeline.take(&batch).await.unwrap_err();
    assert_eq!(marks(&pipeline).await, [11], "the other channel has all of it");
    pipeline.take(&batch).await.unwrap();
    let text = shared.metrics.text();
    for channel in ["news", "other"] {
        let line = format!("aldis_deliveries_total{{channel=\"press/{channel}\"}} 12\n");
        assert!(text.contains(&line), "{text}");
    }
}

/// How far the channels are.
async fn marks(pipeline: &Pipeline<Memory>) -> Vec<i64> {
    let reached = pipeline.reached(&"records".into(), 0).await.unwrap();
    let mut marks: Vec<_> = reached.into_values().collect();
    marks.sort_unstable();
    marks
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_moved_after_its_log_was_asked_is_not_taken_for_that_of_another_log() {
    let mock = MockCluster::new(1).unwrap();
    let dead_letters = DeadLetters::new(&access(&mock)).unwrap();
    let pipeline = Pipeline::new(shared(), dead_letters, "gateway".to_owned(), access(&mock));
    let topic: Arc<str> = "records".into();
    let take = async |offsets: std::ops::Range<i64>| {
        let batch: Vec<_> = offsets.map(|offset| record(offset, "{\"n\":1}")).collect();
        pipeline.take(&batch).await.unwrap();
    };
    take(0..3).await;
    let reached = pipeline.reached(&topic, 0).await.unwrap();
    let log_end = 3;
    // This replica stands still, and another one goes on.
    take(3..5).await;
    assert_eq!(pipeline.begin(&topic, 0, 3, log_end, &reached).await.unwrap(), None);
    assert_eq!(marks(&pipeline).await, [4, 4]);

    // Known before the log was asked, and beyond its end: of a log that is gone.
    let reached = pipeline.reached(&topic, 0).await.unwrap();
    pipeline.begin(&topic, 0, 1, 1, &reached).await.unwrap();
    assert!(marks(&pipeline).await.is_empty());

    // Of two that notice, the later one leaves what was taken since.
    take(0..1).await;
    pipeline.begin(&topic, 0, 1, 1, &reached).await.unwrap();
    assert_eq!(marks(&pipeline).await, [0, 0]);
}
