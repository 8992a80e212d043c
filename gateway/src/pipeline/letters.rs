//! letters: records that a channel can not process go to its dead letter topic, all of a batch at once, each counted once it
//! is acknowledged.
//!
//! Where the channel's topic takes none, the gateway's does. Where neither takes it, the batch is not taken: its partition is
//! paused and tries again, and nothing is lost.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aldis_core::channel::Channel;
use aldis_core::record::Record;
use aldis_core::reject::Rejected;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::progress::Done;
use crate::consume::TakeError;
use crate::dead_letter::{DeadLetterError, DeadLetters, Why};
use crate::metrics::{Metrics, RecordOutcome};

/// Letters of one partition that wait for acknowledgement at once. 256, as many as a batch has records.
const IN_FLIGHT: usize = 256;

/// How long a channel's topic that took no letter is left alone. 30 s: finding out takes up to 10 s each time, for which
/// other channels of the partition would wait.
const LEFT_ALONE: Duration = Duration::from_secs(30);

/// A record that a channel can not process.
pub(super) struct Letter<'r> {
    pub(super) channel: Arc<Channel>,
    pub(super) record: &'r Record,
    pub(super) rejected: Rejected,
}

/// Writes the letters of all channels.
pub(super) struct Outbox {
    producer: DeadLetters,
    /// The gateway's own topic.
    fallback: String,
    /// Channels' topics that take none for now, since when.
    left_alone: Mutex<HashMap<String, Instant>>,
    metrics: Arc<Metrics>,
}

impl Outbox {
    pub(super) fn new(producer: DeadLetters, fallback: String, metrics: Arc<Metrics>) -> Self {
        Self {
            producer,
            fallback,
            left_alone: Mutex::default(),
            metrics,
        }
    }

    /// Writes the letters of one partition that are not written yet.
    ///
    /// # Errors
    /// Where some of them could not be written; the others are.
    pub(super) async fn write(&self, letters: Vec<Letter<'_>>, done: &mut Done) -> Result<(), TakeError> {
        let Some((topic, partition)) = letters
            .first()
            .map(|letter| (Arc::clone(&letter.record.topic), letter.record.partition))
        else {
            return Ok(());
        };
        let mut settled = Settled::default();
        let mut flying = FuturesUnordered::new();
        for letter in letters {
            if done.is_lettered(&letter.channel.name, letter.record.offset) {
                continue;
            }
            if flying.len() == IN_FLIGHT
                && let Some(written) = flying.next().await
            {
                settled.settle(written, done, &self.metrics);
            }
            flying.push(self.write_one(letter));
        }
        while let Some(written) = flying.next().await {
            settled.settle(written, done, &self.metrics);
        }
        settled.log();
        self.metrics.dead_letters_wait(&topic, partition, settled.waiting);
        settled.failed.map_or(Ok(()), |error| Err(TakeError::new(error)))
    }

    async fn write_one<'r>(&self, letter: Letter<'r>) -> (Letter<'r>, Result<String, DeadLetterError>) {
        let written = self.to_some_topic(&letter).await;
        (letter, written)
    }

    /// To the channel's topic; where that does not take it, to the gateway's. Gives the topic that did.
    async fn to_some_topic(&self, letter: &Letter<'_>) -> Result<String, DeadLetterError> {
        let Letter {
            channel,
            record,
            rejected,
        } = letter;
        let why = Why {
            channel: channel.name.to_string(),
            reason: rejected.reason.as_str(),
            detail: rejected.detail.clone(),
            at: rejected.at.clone(),
        };
        let failed = |error: &DeadLetterError| self.metrics.dead_letter_failed(&channel.name, error.as_str());
        if let Some(own) = channel.dead_letter_topic.as_deref().filter(|own| self.may_take(own)) {
            match self.producer.send(own, record, &why).await {
                Ok(()) => return Ok(own.to_owned()),
                Err(error) => {
                    failed(&error);
                    self.leave_alone(own, channel, &error);
                }
            }
        }
        let sent = self.producer.send(&self.fallback, record, &why).await;
        sent.inspect_err(failed).map(|()| self.fallback.clone())
    }

    fn may_take(&self, topic: &str) -> bool {
        let left_alone = self.left_alone.lock().unwrap_or_else(PoisonError::into_inner);
        topic != self.fallback && left_alone.get(topic).is_none_or(|since| since.elapsed() >= LEFT_ALONE)
    }

    fn leave_alone(&self, topic: &str, channel: &Channel, error: &DeadLetterError) {
        let mut left_alone = self.left_alone.lock().unwrap_or_else(PoisonError::into_inner);
        left_alone.retain(|_, since| since.elapsed() < LEFT_ALONE);
        if left_alone.insert(topic.to_owned(), Instant::now()).is_none() {
            tracing::warn!(
                channel = %channel.name, topic, %error, seconds = LEFT_ALONE.as_secs(),
                "the channel's dead letter topic can not be written; the gateway's is used"
            );
        }
    }
}

/// What became of the letters of a batch.
#[derive(Default)]
struct Settled {
    /// How many by channel, reason and topic, with the first one in words: a flood is one line of log a batch.
    written: BTreeMap<(String, &'static str, String), (usize, String)>,
    waiting: usize,
    failed: Option<DeadLetterError>,
}

impl Settled {
    fn settle(
        &mut self,
        (letter, written): (Letter<'_>, Result<String, DeadLetterError>),
        done: &mut Done,
        metrics: &Metrics,
    ) {
        let Letter {
            channel,
            record,
            rejected,
        } = letter;
        match written {
            Ok(topic) => {
                done.letter(&channel.name, record.offset);
                metrics.records(&channel.name, RecordOutcome::DeadLettered, 1);
                metrics.dead_letter(&channel.name, rejected.reason);
                let key = (channel.name.to_string(), rejected.reason.as_str(), topic);
                let first = || format!("{}: {}: {}", record.place(), rejected.at, rejected.detail);
                self.written.entry(key).or_insert_with(|| (0, first())).0 += 1;
            }
            Err(error) => {
                self.waiting += 1;
                self.failed.get_or_insert(error);
            }
        }
    }

    fn log(&self) {
        for ((channel, reason, topic), (records, first)) in &self.written {
            tracing::warn!(
                channel,
                reason,
                records,
                first,
                dead_letter_topic = topic,
                "records can not be processed and went to the dead letters"
            );
        }
    }
}
