//! Topics and brokers: what is subscribed, which of the wanted topics exist, whether brokers can be reached.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult};
use tokio::time::Instant;

use super::context::KafkaConsumer;
use super::receive::{Answer, Receiver};
use super::{ErrorReason, Take};
use crate::kafka::METADATA_REFRESH;

/// How long one question may take before brokers count as away. 2 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Most names of topics in one log line. 20: enough for a look, however many tenants there are.
const SHOWN_TOPICS: usize = 20;

/// Partitions by wanted topic; none where the topic does not exist.
pub(super) type Survey = BTreeMap<String, usize>;

impl<T: Take> Receiver<T> {
    pub(super) fn subscribe(&mut self) {
        let topics = self.topics.borrow_and_update().clone();
        let now = now_ms();
        self.known.subscribed.retain(|topic, _| topics.contains(topic));
        self.known.first_seen.retain(|topic, _| topics.contains(topic));
        for topic in &topics {
            self.known.subscribed.entry(topic.clone()).or_insert(now);
        }
        self.state
            .send_modify(|state| state.missing.retain(|topic| topics.contains(topic)));
        let names: Vec<_> = topics.iter().map(String::as_str).collect();
        let shown = names.iter().take(SHOWN_TOPICS).copied().collect::<Vec<_>>().join(", ");
        tracing::info!(count = names.len(), topics = shown, "kafka subscription set");
        if names.is_empty() {
            self.consumer.unsubscribe();
        } else if let Err(error) = self.consumer.subscribe(&names) {
            tracing::error!(%error, "kafka topics could not be subscribed, check their names");
        }
        self.survey();
    }

    pub(super) fn probe(&mut self) {
        let due = {
            let state = self.state.borrow();
            let again = self.surveyed.is_none_or(|at| at.elapsed() >= METADATA_REFRESH);
            let unseen = self
                .known
                .subscribed
                .keys()
                .any(|topic| !self.known.first_seen.contains_key(topic));
            !state.connected || unseen || (again && !state.missing.is_empty())
        };
        if due {
            self.survey();
        }
    }

    fn survey(&mut self) {
        if std::mem::replace(&mut self.surveying, true) {
            return;
        }
        let topics = self.known.subscribed.keys().cloned().collect();
        let (consumer, answers) = (Arc::clone(&self.consumer), self.answers_tx.clone());
        tokio::task::spawn_blocking(move || {
            let answer = survey(&consumer, &topics);
            drop(consumer);
            let _ = answers.blocking_send(Answer::Surveyed(answer));
        });
    }

    pub(super) fn surveyed(&mut self, answer: KafkaResult<Survey>) {
        self.surveying = false;
        self.surveyed = Some(Instant::now());
        let found = match answer {
            Ok(found) => found,
            Err(error) => return self.connected(Err(&error)),
        };
        self.connected(Ok(()));
        let found: Survey = found
            .into_iter()
            .filter(|(topic, _)| self.known.subscribed.contains_key(topic))
            .collect();
        let missing: BTreeSet<_> = found
            .iter()
            .filter(|(_, count)| **count == 0)
            .map(|(topic, _)| topic.clone())
            .collect();
        for (topic, count) in found {
            self.known.first_seen.entry(topic).or_insert(count);
        }
        self.state.send_if_modified(|state| {
            if state.missing == missing {
                return false;
            }
            for topic in missing.difference(&state.missing) {
                tracing::warn!(topic, "kafka topic does not exist, it is read once it is created");
            }
            for topic in state.missing.difference(&missing) {
                tracing::info!(topic, "kafka topic exists now");
            }
            state.missing = missing;
            true
        });
    }

    fn connected(&mut self, answer: Result<(), &KafkaError>) {
        let connected = answer.is_ok();
        if self.reachable.replace(connected) == Some(connected) {
            return;
        }
        match answer {
            Ok(()) => tracing::info!("kafka can be reached"),
            Err(error) => tracing::warn!(%error, "kafka cannot be reached, trying on"),
        }
        self.state.send_modify(|state| state.connected = connected);
        self.observe.connected(connected);
    }

    pub(super) fn failed(&mut self, error: &KafkaError) {
        let reason = ErrorReason::of(error);
        self.observe.failed(reason);
        match reason {
            // A survey tells what there is to it.
            ErrorReason::Unreachable | ErrorReason::Authentication | ErrorReason::UnknownTopic => self.survey(),
            ErrorReason::Fatal => {
                tracing::error!(%error, "the Kafka consumer has ended for good, restart the gateway");
            }
            _ => {
                let code = error.rdkafka_error_code();
                if code != self.told {
                    tracing::warn!(%error, "kafka consumer error, trying on");
                    self.told = code;
                }
            }
        }
    }
}

/// Asks for each topic. Blocks; creates none of them.
///
/// # Errors
/// No broker answered in time.
fn survey(consumer: &KafkaConsumer, topics: &BTreeSet<String>) -> KafkaResult<Survey> {
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

/// Now, in ms since 1970.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
