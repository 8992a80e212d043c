//! Asks brokers which of the wanted topics exist, which also says whether brokers can be reached.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaResult;

use super::context::KafkaConsumer;

/// How long one question may take before brokers count as away. 2 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Partitions by wanted topic; none where the topic does not exist.
pub(super) type Survey = BTreeMap<String, usize>;

/// Asks for each topic. Blocks; creates none of them.
///
/// # Errors
/// No broker answered in time.
pub(super) fn survey(consumer: &KafkaConsumer, topics: &BTreeSet<String>) -> KafkaResult<Survey> {
    if topics.is_empty() {
        consumer.fetch_metadata(None, ANSWER_TIMEOUT)?;
    }
    let mut found = Survey::new();
    for topic in topics {
        let metadata = consumer.fetch_metadata(Some(topic), ANSWER_TIMEOUT)?;
        let partitions = metadata.topics().iter().find(|found| found.name() == topic);
        found.insert(topic.clone(), partitions.map_or(0, |found| found.partitions().len()));
    }
    Ok(found)
}
