//! Where partitions start, asked from brokers: the committed offset, or else the time ([`super::StartAt::GatewayStart`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::mpsc;

use super::context::KafkaConsumer;
use super::offsets::{self, ByTime, Known, Start};
use super::receive::Answer;
use super::release::commit;

/// How long one question may take. 3 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// How long one round over all partitions may take; what it did not come to is asked in the next. 6 s: partitions whose
/// leader is away do not hold the others for longer.
const ROUND: Duration = Duration::from_secs(6);

/// Pause between rounds, while some partitions could not be looked up. 500 ms.
const RETRY: Duration = Duration::from_millis(500);

/// A partition that was assigned and is not read yet.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) topic: String,
    pub(super) partition: i32,
    /// From when records are wanted, ms since 1970.
    pub(super) since_ms: i64,
    /// Whether it was there when its topic was first looked at.
    pub(super) existed: bool,
    /// False when it was revoked meanwhile.
    pub(super) wanted: Arc<AtomicBool>,
}

impl Waiting {
    fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    fn key(&self) -> (String, i32) {
        (self.topic.clone(), self.partition)
    }
}

/// Looks up where partitions start and reports each once that is known (and committed, where it was a choice), until all
/// are, or are no longer wanted.
pub(super) async fn look_up(mut waiting: Vec<Waiting>, consumer: Arc<KafkaConsumer>, answers: mpsc::Sender<Answer>) {
    let mut told = false;
    loop {
        waiting.retain(Waiting::is_wanted);
        if waiting.is_empty() {
            return;
        }
        let asked = waiting.clone();
        let asking = Arc::clone(&consumer);
        let round = tokio::task::spawn_blocking(move || ask(&asking, &asked)).await;
        let (found, error) = round.unwrap_or_else(|error| {
            tracing::error!(%error, "looking up where partitions start failed");
            (HashMap::new(), None)
        });
        waiting.retain(|partition| !found.contains_key(&partition.key()));
        if !found.is_empty() && answers.send(Answer::Started(found)).await.is_err() {
            return;
        }
        if let (Some(error), false) = (error, told) {
            tracing::warn!(partitions = waiting.len(), %error, "cannot look up yet where partitions start, trying on");
            told = true;
        }
        // Those that took the whole round must not be first again.
        let half = waiting.len() / 2;
        waiting.rotate_left(half);
        tokio::time::sleep(RETRY).await;
    }
}

/// One round. Partitions that could not be looked up are absent, with an error that stands for them.
fn ask(consumer: &KafkaConsumer, waiting: &[Waiting]) -> (HashMap<(String, i32), Start>, Option<KafkaError>) {
    let mut found = HashMap::new();
    let mut failed = None;
    let committed = match committed(consumer, waiting) {
        Ok(committed) => committed,
        Err(error) => return (found, Some(error)),
    };
    let deadline = Instant::now() + ROUND;
    let mut chosen = Vec::new();
    for partition in waiting {
        let key = partition.key();
        let start = match committed.get(&key) {
            Some(Err(error)) => Err(error.clone()),
            Some(Ok(Some(offset))) => Ok(Start::Committed(*offset)),
            _ if Instant::now() > deadline => Err(KafkaError::OffsetFetch(RDKafkaErrorCode::OperationTimedOut)),
            _ => choose(consumer, partition),
        };
        match start {
            Ok(Start::Chosen(offset)) => chosen.push((key, offset)),
            Ok(start) => drop(found.insert(key, start)),
            Err(error) => failed = Some(error),
        }
    }
    // Who is no longer in charge must not overwrite what the next owner has committed.
    chosen.retain(|(key, _)| {
        waiting
            .iter()
            .any(|partition| partition.key() == *key && partition.is_wanted())
    });
    let offsets: Vec<_> = chosen
        .iter()
        .map(|((topic, partition), offset)| (topic.clone(), *partition, *offset))
        .collect();
    if offsets.is_empty() {
        return (found, failed);
    }
    match commit(consumer, &offsets) {
        Ok(()) => found.extend(chosen.into_iter().map(|(key, offset)| (key, Start::Chosen(offset)))),
        Err(error) => failed = Some(error),
    }
    (found, failed)
}

/// A partition, as brokers know it.
pub(super) struct Log {
    /// Offset of its first record.
    pub(super) begin: i64,
    /// Offset of the next record to come.
    pub(super) end: i64,
    /// What the group has committed: the offset of the next record to read.
    pub(super) committed: Option<i64>,
}

/// Asks brokers for it.
pub(super) fn ask_log(consumer: &KafkaConsumer, topic: &str, partition: i32) -> KafkaResult<Log> {
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, partition);
    let committed = consumer.committed_offsets(list, ANSWER_TIMEOUT)?;
    let committed = match committed.elements().first().map(|element| element.offset()) {
        Some(Offset::Offset(offset)) => Some(offset),
        _ => None,
    };
    let (begin, end) = consumer.fetch_watermarks(topic, partition, ANSWER_TIMEOUT)?;
    Ok(Log { begin, end, committed })
}

type Committed = HashMap<(String, i32), KafkaResult<Option<i64>>>;

fn committed(consumer: &KafkaConsumer, waiting: &[Waiting]) -> KafkaResult<Committed> {
    let mut list = TopicPartitionList::with_capacity(waiting.len());
    for partition in waiting {
        list.add_partition(&partition.topic, partition.partition);
    }
    let list = consumer.committed_offsets(list, ANSWER_TIMEOUT)?;
    let answers = list.elements().into_iter().map(|element| {
        let offset = match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        (
            (element.topic().to_owned(), element.partition()),
            element.error().map(|()| offset),
        )
    });
    Ok(answers.collect())
}

fn choose(consumer: &KafkaConsumer, partition: &Waiting) -> KafkaResult<Start> {
    let (low, high) = consumer.fetch_watermarks(&partition.topic, partition.partition, ANSWER_TIMEOUT)?;
    let by_time = if partition.existed {
        by_time(consumer, partition)?
    } else {
        ByTime::NoneYet
    };
    Ok(offsets::start(Known {
        committed: None,
        existed: partition.existed,
        low,
        high,
        by_time,
    }))
}

fn by_time(consumer: &KafkaConsumer, partition: &Waiting) -> KafkaResult<ByTime> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(
        &partition.topic,
        partition.partition,
        Offset::Offset(partition.since_ms),
    )?;
    let answer = consumer
        .offsets_for_times(list, ANSWER_TIMEOUT)
        .and_then(|list| match list.elements().first() {
            Some(element) => element.error().map(|()| element.offset()),
            None => Err(KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition)),
        });
    match answer {
        Ok(Offset::Offset(offset)) => Ok(ByTime::At(offset)),
        Ok(_) => Ok(ByTime::NoneYet),
        Err(error) if error.rdkafka_error_code().is_some_and(cannot_say) => Ok(ByTime::Unsupported),
        Err(error) => Err(error),
    }
}

fn cannot_say(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::UnsupportedFeature
            | RDKafkaErrorCode::UnsupportedVersion
            | RDKafkaErrorCode::UnsupportedForMessageFormat
            | RDKafkaErrorCode::NotImplemented
    )
}
