//! `aldis publish`: writes records to a Kafka topic and says where each one landed.

mod records;

use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, StreamExt};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::args::{duration, key_value};
use crate::report::{Explain, Progress};
use records::{Record, RecordError};

/// Default bound on the wait for a record's acknowledgement: brokers answer in milliseconds, a new leader is
/// elected in seconds.
const DEFAULT_TIMEOUT: &str = "10s";

/// Most records sent and not yet acknowledged, 500: keeps the broker busy, and at a record's largest size it
/// still fits librdkafka's queue of 1 GiB.
const MAX_IN_FLIGHT: usize = 500;

/// Publish records to a Kafka topic
///
/// Waits until the broker has acknowledged each record, and prints topic/partition/offset, one line a record.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct PublishArgs {
    /// Kafka bootstrap server, host:port; several with commas
    #[arg(long, value_name = "HOST:PORT", value_parser = NonEmptyStringValueParser::new())]
    broker: String,

    /// Topic to write to
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    topic: String,

    /// Record key: records of one key keep their order
    #[arg(long)]
    key: Option<String>,

    /// Record header; repeat for more
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = key_value)]
    headers: Vec<(String, String)>,

    /// Do not check that records are JSON
    #[arg(long)]
    raw: bool,

    /// Longest wait for a record's acknowledgement
    #[arg(long, value_name = "TIME", default_value = DEFAULT_TIMEOUT, value_parser = duration)]
    timeout: Duration,

    /// The record, or `-` to read records from standard input, one a line; empty lines are skipped
    #[arg(value_name = "JSON", default_value = "-", allow_hyphen_values = true)]
    record: String,
}

const EXAMPLES: &str = r#"Examples:
  aldis publish --broker 127.0.0.1:9092 --topic orders '{"event_type":"order.created","data":{"order_id":1}}'
  aldis publish --broker 127.0.0.1:9092 --topic orders --key t1 --header ce_type=order.created - < records.ndjson"#;

#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("cannot create a producer for {broker}")]
    Producer { broker: String, source: KafkaError },
    #[error(
        "{} was not acknowledged: topic `{topic}` at {broker}, tried for {tried:?}, {published} published before it",
        place(.line)
    )]
    NotAcknowledged {
        topic: String,
        broker: String,
        /// Line of standard input, from 1; `None` for a record given as an argument.
        line: Option<usize>,
        published: usize,
        tried: Duration,
        code: Option<RDKafkaErrorCode>,
        source: Box<BrokerError>,
    },
    #[error("cannot write to standard output")]
    Output(#[source] std::io::Error),
}

/// Why a record was not acknowledged, with the last trouble that a broker connection had.
#[derive(Debug, thiserror::Error)]
#[error("{error}{}", .trouble.as_ref().map(|trouble| format!("; last trouble: {trouble}")).unwrap_or_default())]
pub struct BrokerError {
    error: KafkaError,
    trouble: Option<String>,
}

fn place(line: &Option<usize>) -> String {
    line.map_or_else(|| "the record".to_owned(), |line| format!("the record of line {line}"))
}

impl Explain for PublishError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Record(RecordError::NotJson { .. } | RecordError::NotUtf8 { .. }) => {
                Some("give --raw to publish what is not JSON".to_owned())
            }
            Self::NotAcknowledged { code: Some(code), .. } => match code {
                RDKafkaErrorCode::MessageTimedOut => Some(
                    "check that the broker is reachable at --broker, and at the address that it advertises; \
                     wait longer with --timeout"
                        .to_owned(),
                ),
                RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownPartition => {
                    Some("create the topic, or let the broker create topics by itself".to_owned())
                }
                _ => None,
            },
            _ => None,
        }
    }
}

/// Publishes all records, prints where they landed, and stops at the first that fails.
pub async fn run(args: PublishArgs) -> Result<(), PublishError> {
    let publisher = Publisher::new(args)?;
    let records = match publisher.args.record.as_str() {
        "-" => records::from_stdin(publisher.args.raw),
        record => records::from_argument(record, publisher.args.raw)?,
    };
    publisher.publish(records).await
}

/// A record on its way: its line, and then the partition and offset where it landed.
type Delivery = BoxFuture<'static, (Option<usize>, Result<(i32, i64), KafkaError>)>;

struct Publisher {
    args: PublishArgs,
    producer: FutureProducer<LastTrouble>,
    trouble: LastTrouble,
}

impl Publisher {
    fn new(args: PublishArgs) -> Result<Self, PublishError> {
        let millis = args.timeout.as_millis().clamp(1, MAX_TIMEOUT_MS);
        let trouble = LastTrouble::default();
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &args.broker)
            .set("client.id", "aldis")
            // Neither doubled nor reordered by a retry.
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", millis.to_string())
            // How long a topic may be unknown: shorter than the above, so that the error can say so.
            .set("topic.metadata.propagation.max.ms", (millis / 2).to_string())
            .create_with_context(trouble.clone())
            .map_err(|source| PublishError::Producer {
                broker: args.broker.clone(),
                source,
            })?;
        Ok(Self {
            args,
            producer,
            trouble,
        })
    }

    async fn publish(&self, mut records: records::Receiver) -> Result<(), PublishError> {
        let mut in_flight = FuturesOrdered::<Delivery>::new();
        let mut published = 0;
        // What is printed line by line shows by itself how far it is.
        let mut progress = Progress::new(std::io::stdout().is_terminal());
        let mut more = true;
        while more || !in_flight.is_empty() {
            tokio::select! {
                biased;
                Some((line, delivery)) = in_flight.next() => {
                    let (partition, offset) = delivery.map_err(|error| self.failed(error, line, published))?;
                    print(&format!("{}/{partition}/{offset}", self.args.topic))?;
                    published += 1;
                    progress.show(|| format!("{published} published, {} on their way", in_flight.len()));
                }
                record = records.recv(), if more && in_flight.len() < MAX_IN_FLIGHT => match record {
                    Some(record) => {
                        let record = record?;
                        in_flight.push_back(self.send(&record).map_err(|error| self.failed(error, record.line, published))?);
                    }
                    None => more = false,
                },
            }
        }
        Ok(())
    }

    /// Queues the record.
    fn send(&self, record: &Record) -> Result<Delivery, KafkaError> {
        let mut headers = OwnedHeaders::new();
        for (key, value) in &self.args.headers {
            headers = headers.insert(Header {
                key,
                value: Some(value),
            });
        }
        let mut message = FutureRecord::to(&self.args.topic)
            .payload(&record.payload)
            .headers(headers);
        message.key = self.args.key.as_deref();
        let delivery = self
            .producer
            .send_result::<str, Vec<u8>>(message)
            .map_err(|(error, _)| error)?;
        let line = record.line;
        let landed = async move {
            match delivery.await {
                Ok(Ok(delivery)) => (line, Ok((delivery.partition, delivery.offset))),
                Ok(Err((error, _))) => (line, Err(error)),
                Err(_) => (line, Err(KafkaError::Canceled)),
            }
        };
        Ok(landed.boxed())
    }

    fn failed(&self, error: KafkaError, line: Option<usize>, published: usize) -> PublishError {
        PublishError::NotAcknowledged {
            topic: self.args.topic.clone(),
            broker: self.args.broker.clone(),
            line,
            published,
            tried: self.args.timeout,
            code: error.rdkafka_error_code(),
            source: Box::new(BrokerError {
                error,
                trouble: self.trouble.get(),
            }),
        }
    }
}

/// Largest timeout librdkafka takes, in milliseconds (it is an i32), with room for its own sums.
const MAX_TIMEOUT_MS: u128 = i32::MAX as u128 / 4;

/// Keeps the last error of a broker connection: the timeout that follows from it does not say what it was.
#[derive(Clone, Default)]
struct LastTrouble(Arc<Mutex<Option<String>>>);

impl LastTrouble {
    fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for LastTrouble {
    fn error(&self, error: KafkaError, reason: &str) {
        // That all are down follows from the errors before it, which say why.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        }
    }

    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
}

fn print(line: &str) -> Result<(), PublishError> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{line}").map_err(PublishError::Output)
}
