//! Where a record goes that cannot be processed: a dead letter topic, with the reason beside it.
//!
//! A dead letter keeps the key, value and headers of its record, so that it can be published again as it was, and gets
//! these headers, all UTF-8 text:
//!
//! | header | value |
//! |---|---|
//! | `aldis-dead-letter-reason` | short and stable, for machines: `undecodable`, ... |
//! | `aldis-dead-letter-detail` | for people, at most [`DETAIL_MAX`] bytes |
//! | `aldis-dead-letter-at` | the field of the declaration that it failed at; absent where there is none |
//! | `aldis-dead-letter-channel` | `namespace/name` of the channel |
//! | `aldis-dead-letter-topic`, `-partition`, `-offset` | where the record was |
//! | `aldis-dead-letter-timestamp` | the record's own time, ms since 1970 |
//! | `aldis-dead-letter-truncated` | `true` where the record had to be cut to fit the topic |
//!
//! The dead letter's own time is when it was written, or retention would take it at once.
//!
//! Dead letters are at least once: what was written and not acknowledged is written again. So the producer needs no
//! idempotence, and nothing of it can end for good. Letters are written together, and one that was refused as part of too
//! large a batch is written again alone.

#[cfg(test)]
mod tests;

use std::sync::OnceLock;
use std::time::Duration;

use aldis_core::record::Record;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::FutureRecord;

use crate::kafka::{Access, Producer, Reach, millis};

/// What all our headers begin with. A record's own headers of such a name (it was a dead letter before) are replaced.
pub const HEADER_PREFIX: &str = "aldis-dead-letter-";

/// Most bytes of the detail. 1 KiB: it names what was wrong, the record itself is beside it.
pub const DETAIL_MAX: usize = 1024;

/// How long writing one dead letter may take, from queue to acknowledgement. 10 s; the record's partition waits for it.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a topic may be unknown before writing to it fails as such. 4 s: within [`SEND_TIMEOUT`], and enough for
/// brokers that create topics when first asked.
pub const UNKNOWN_TOPIC_TIMEOUT: Duration = Duration::from_secs(4);

/// How long a dead letter may wait for room in the producer's queue. 2 s.
pub const QUEUE_TIMEOUT: Duration = Duration::from_secs(2);

/// KiB of dead letters that may wait for acknowledgement. 16 MiB; librdkafka's default is 1 GiB.
pub const QUEUE_KIB: usize = 16 * 1024;

/// Most bytes of letters that are written together. 64 KiB: under the bound of any usual topic, and enough for a flood.
pub const BATCH_BYTES: usize = 64 * 1024;

/// How long a letter waits for others to be written with. 2 ms.
pub const LINGER: Duration = Duration::from_millis(2);

/// Largest dead letter that is tried whole, in bytes. 8 MiB; above it, and where a broker says no earlier, the record's
/// value is left out.
pub const MESSAGE_MAX: usize = 8 * 1024 * 1024;

/// Why a record could not be processed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// `namespace/name` of the channel.
    pub channel: String,
    /// Short and stable, for machines.
    pub reason: &'static str,
    /// For people. May quote the record; cut to [`DETAIL_MAX`].
    pub detail: String,
    /// The field of the declaration that it failed at, `routes[0].when`. Empty where there is none.
    pub at: String,
}

/// A dead letter was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// The topic takes no such records, now or later: it does not exist, or may not be written.
    #[error("dead letter topic '{topic}' takes no records: create it, or allow the gateway to write to it")]
    Refused {
        /// The dead letter topic.
        topic: String,
        /// What Kafka said.
        source: KafkaError,
    },
    /// Kafka did not acknowledge it in time; another try may do better.
    #[error("dead letter topic '{topic}' cannot be written for now: check that Kafka is up")]
    Unavailable {
        /// The dead letter topic.
        topic: String,
        /// What Kafka said.
        source: KafkaError,
    },
}

impl DeadLetterError {
    /// As metrics name it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "refused",
            Self::Unavailable { .. } => "unavailable",
        }
    }

    fn new(topic: &str, source: KafkaError) -> Self {
        use RDKafkaErrorCode as Code;
        let topic = topic.to_owned();
        match source.rdkafka_error_code() {
            Some(
                Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::UnknownPartition
                | Code::InvalidTopic
                | Code::TopicAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::PolicyViolation
                | Code::InvalidRecord
                | Code::MessageSizeTooLarge,
            ) => Self::Refused { topic, source },
            _ => Self::Unavailable { topic, source },
        }
    }
}

/// Writes dead letters, to any topic.
pub struct DeadLetters {
    together: Producer,
    /// One letter each request, so that a broker's "too large" speaks of this one alone. Made when it is first needed.
    alone: OnceLock<Producer>,
    access: Access,
    send_timeout: Duration,
}

impl DeadLetters {
    /// Connects in the background. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the settings themselves are refused.
    pub fn new(access: &Access) -> KafkaResult<Self> {
        Self::within(SEND_TIMEOUT, access)
    }

    fn within(send_timeout: Duration, access: &Access) -> KafkaResult<Self> {
        let together = Producer::new(access, move |reach| {
            let mut config = config(reach, send_timeout);
            config
                .set("batch.size", BATCH_BYTES.to_string())
                .set("linger.ms", millis(LINGER));
            config
        })?;
        Ok(Self {
            together,
            alone: OnceLock::new(),
            access: access.clone(),
            send_timeout,
        })
    }

    /// Writes `record` to `topic` with the reason, and waits until all in-sync replicas have it. Many at once are written
    /// together.
    ///
    /// Where the topic takes no record of that size, it is sent without its value, and if that is still too large without
    /// its key and headers, each with `aldis-dead-letter-truncated`.
    ///
    /// # Errors
    /// See [`DeadLetterError`]. The record may have been written all the same.
    pub async fn send(&self, topic: &str, record: &Record, why: &Why) -> Result<(), DeadLetterError> {
        let mut written = write(&self.together, topic, record, why, Cut::Nothing).await;
        for cut in [Cut::Nothing, Cut::Value, Cut::All] {
            if !written.as_ref().is_err_and(is_too_large) {
                break;
            }
            if cut == Cut::Value {
                tracing::debug!(
                    dead_letter_topic = topic,
                    topic = &*record.topic,
                    partition = record.partition,
                    offset = record.offset,
                    "the record is too large for its dead letter topic and is cut"
                );
            }
            written = match self.alone() {
                Ok(alone) => write(alone, topic, record, why, cut).await,
                Err(error) => Err(error),
            };
        }
        written.map_err(|error| DeadLetterError::new(topic, error))
    }

    fn alone(&self) -> KafkaResult<&Producer> {
        if let Some(alone) = self.alone.get() {
            return Ok(alone);
        }
        let send_timeout = self.send_timeout;
        let alone = Producer::new(&self.access, move |reach| {
            let mut config = config(reach, send_timeout);
            config.set("batch.num.messages", "1").set("linger.ms", "0");
            config
        })?;
        Ok(self.alone.get_or_init(|| alone))
    }
}

async fn write(producer: &Producer, topic: &str, record: &Record, why: &Why, cut: Cut) -> KafkaResult<()> {
    let mut letter = FutureRecord::<[u8], [u8]>::to(topic).headers(headers(record, why, cut));
    letter.key = record.key.as_deref().filter(|_| cut < Cut::All);
    letter.payload = record.value.as_deref().filter(|_| cut < Cut::Value);
    let producer = producer.live();
    let sent = producer.send(letter, QUEUE_TIMEOUT).await;
    sent.map(drop).map_err(|(error, _)| error)
}

/// How much of a record is left out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cut {
    Nothing,
    Value,
    All,
}

fn headers(record: &Record, why: &Why, cut: Cut) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new_with_capacity(record.headers.len() + 9);
    let own = record
        .headers
        .iter()
        .filter(|(name, _)| cut < Cut::All && !name.starts_with(HEADER_PREFIX));
    for (key, value) in own {
        headers = headers.insert(Header {
            key,
            value: value.as_deref(),
        });
    }
    let ours = [
        ("reason", Some(why.reason.to_owned())),
        ("detail", Some(bounded(&why.detail))),
        ("at", (!why.at.is_empty()).then(|| bounded(&why.at))),
        ("channel", Some(why.channel.clone())),
        ("topic", Some(record.topic.to_string())),
        ("partition", Some(record.partition.to_string())),
        ("offset", Some(record.offset.to_string())),
        ("timestamp", Some(record.timestamp_ms.to_string())),
        ("truncated", (cut > Cut::Nothing).then(|| "true".to_owned())),
    ];
    for (name, value) in ours {
        if let Some(value) = value {
            headers = headers.insert(Header {
                key: &format!("{HEADER_PREFIX}{name}"),
                value: Some(&value),
            });
        }
    }
    headers
}

fn bounded(text: &str) -> String {
    const CUT: &str = "…";
    if text.len() <= DETAIL_MAX {
        return text.to_owned();
    }
    format!("{}{CUT}", &text[..text.floor_char_boundary(DETAIL_MAX - CUT.len())])
}

fn is_too_large(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge)
    )
}

fn config(reach: &Reach, send_timeout: Duration) -> ClientConfig {
    let mut config = reach.client("aldis-gateway-dead-letters");
    config
        .set("acks", "all")
        .set("message.timeout.ms", millis(send_timeout))
        .set("topic.metadata.propagation.max.ms", millis(UNKNOWN_TOPIC_TIMEOUT))
        .set("message.max.bytes", MESSAGE_MAX.to_string())
        .set("queue.buffering.max.kbytes", QUEUE_KIB.to_string());
    config
}
