//! Producers: a steady stream of records to every partition.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::history::{Journal, Record};
use super::random::Random;
use super::topology::{DESKS, TABLES};
use crate::kafka::client;

/// How long a record may take to reach Kafka, which is restarted meanwhile. 2 min.
const TIMEOUT: &str = "120000";

/// Between two records of a partition, in milliseconds: 8 a second.
const PAUSE: (u64, u64) = (50, 200);

/// Produces until told to stop, and then until Kafka has answered for all of it.
pub(crate) fn start(
    seed: u64,
    broker: &str,
    partitions: Vec<(String, i32)>,
    journal: &Journal,
    stop: &CancellationToken,
) -> JoinSet<()> {
    let mut config = client(broker);
    config
        .set("enable.idempotence", "true")
        .set("linger.ms", "1")
        .set("message.timeout.ms", TIMEOUT);
    let producer: FutureProducer = config.create().unwrap();
    let mut tasks = JoinSet::new();
    for (topic, partition) in partitions {
        let random = Random::of(seed, &format!("{topic} {partition}"));
        tasks.spawn(produce(
            producer.clone(),
            random,
            topic,
            partition,
            journal.clone(),
            stop.clone(),
        ));
    }
    tasks
}

async fn produce(
    producer: FutureProducer,
    mut random: Random,
    topic: String,
    partition: i32,
    journal: Journal,
    stop: CancellationToken,
) {
    let mut sent = JoinSet::new();
    while stop
        .run_until_cancelled(tokio::time::sleep(random.millis(PAUSE.0, PAUSE.1)))
        .await
        .is_some()
    {
        let (desk, table) = (random.below(DESKS).to_string(), random.below(TABLES).to_string());
        let record = Record {
            topic: topic.clone(),
            partition,
            rooms: BTreeSet::from([format!("desk:{desk}"), format!("table:{table}")]),
            sent: journal.clock.now(),
            acked: None,
        };
        let id = journal.with(|history| {
            history.records.push(record);
            history.records.len() - 1
        });
        let value = json!({"id": id, "desk": desk, "table": table}).to_string();
        let record = FutureRecord::<str, str>::to(&topic)
            .partition(partition)
            .payload(&value);
        // What does not fit in its queue never reaches Kafka.
        let Ok(delivery) = producer.send_result(record) else {
            continue;
        };
        let journal = journal.clone();
        sent.spawn(async move {
            if let Ok(Ok(_)) = delivery.await {
                let now = journal.clock.now();
                journal.with(|history| history.records[id].acked = Some(now));
            }
        });
    }
    tokio::time::timeout(Duration::from_secs(60), sent.join_all())
        .await
        .ok();
}
