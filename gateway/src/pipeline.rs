//! The path of a record, in one place:
//!
//! ```text
//! consume  →  decode  →  route  →  adapter  →  hub  →  client
//! consume.rs  └─── Channel::process ───┘      │        │       sockets/client.rs
//!                  (aldis-core, pure)   adapter.rs   hub.rs
//! ```
//! [`Pipeline::take`] is called by the consumer with records of one partition, in order, and does the steps between. It
//! returns when every delivery is in its clients' queues, so the consumer may commit.

use std::sync::Arc;
use std::time::Instant;

use aldis_core::channel::{Channel, Outcome};
use aldis_core::record::Record;
use aldis_core::reject::Rejected;
use aldis_core::route::Delivery;
use aldis_core::time::Millis;
use aldis_crds::names::ChannelName;
use indexmap::IndexMap;

use crate::adapter::{Adapter, ChannelRef, Unit};
use crate::consume::{Take, TakeError};
use crate::dead_letter::{DeadLetterError, DeadLetters, Why};
use crate::metrics::RecordOutcome;
use crate::sockets::Shared;

/// decode → route → adapter, for every channel that reads a record's topic.
pub struct Pipeline<A> {
    shared: Arc<Shared<A>>,
    dead_letters: DeadLetters,
    /// For channels that name no topic of their own.
    dead_letter_topic: String,
}

/// What a batch makes of one channel.
struct ChannelBatch {
    channel: Arc<Channel>,
    units: Vec<Unit>,
    /// Time of the oldest record, for the age of what is delivered.
    oldest: Millis,
}

impl<A: Adapter> Pipeline<A> {
    /// A pipeline into the adapter.
    pub fn new(shared: Arc<Shared<A>>, dead_letters: DeadLetters, dead_letter_topic: String) -> Self {
        Self {
            shared,
            dead_letters,
            dead_letter_topic,
        }
    }

    /// decode → route: the units of each channel, in the order of the records. Rejected records are in the dead letters,
    /// acknowledged, before anything is appended.
    async fn route(&self, records: &[Record]) -> Result<Vec<ChannelBatch>, TakeError> {
        let table = self.shared.table.load_full();
        let now = self.shared.clock.now();
        let mut batches: IndexMap<&ChannelName, ChannelBatch> = IndexMap::new();
        for record in records {
            for (channel, sources) in table.readers(record) {
                let deliveries = match channel.process(sources, record, now) {
                    Ok(outcome) => self.deliveries(channel, outcome),
                    Err(rejected) => {
                        self.dead_letter(channel, record, &rejected).await?;
                        Vec::new()
                    }
                };
                let time = Millis(record.timestamp_ms);
                let batch = batches.entry(&channel.name).or_insert_with(|| ChannelBatch {
                    channel: Arc::clone(channel),
                    units: Vec::new(),
                    oldest: time,
                });
                batch.oldest = batch.oldest.min(time);
                batch.units.push(Unit {
                    topic: Arc::clone(&record.topic),
                    partition: record.partition,
                    offset: record.offset,
                    deliveries,
                });
            }
        }
        Ok(batches.into_values().collect())
    }

    fn deliveries(&self, channel: &Channel, outcome: Outcome) -> Vec<Delivery> {
        let (deliveries, outcome) = match outcome {
            Outcome::Deliver(deliveries) if deliveries.is_empty() => (deliveries, RecordOutcome::RoutedNowhere),
            Outcome::Deliver(deliveries) => (deliveries, RecordOutcome::Delivered),
            Outcome::NotForUs => (Vec::new(), RecordOutcome::NotForUs),
        };
        self.shared.metrics.records(&channel.name, outcome, 1);
        deliveries
    }

    /// To the channel's topic; where that does not take it, to the gateway's.
    async fn dead_letter(&self, channel: &Channel, record: &Record, rejected: &Rejected) -> Result<(), TakeError> {
        let why = Why {
            channel: channel.name.to_string(),
            reason: rejected.reason.as_str(),
            detail: rejected.detail.clone(),
            at: rejected.at.clone(),
        };
        let mut topic = channel.dead_letter_topic.as_deref().unwrap_or(&self.dead_letter_topic);
        let mut sent = self.dead_letters.send(topic, record, &why).await;
        if let Err(error @ DeadLetterError::Refused { .. }) = &sent
            && topic != self.dead_letter_topic
        {
            tracing::warn!(channel = %channel.name, topic, %error, "the channel's dead letter topic can not be written; the gateway's is used");
            topic = &self.dead_letter_topic;
            sent = self.dead_letters.send(topic, record, &why).await;
        }
        sent.map_err(TakeError::new)?;
        tracing::warn!(
            channel = %channel.name, topic = &*record.topic, partition = record.partition, offset = record.offset,
            reason = why.reason, at = why.at, detail = why.detail, dead_letter_topic = topic,
            "record can not be processed and went to the dead letters"
        );
        self.shared
            .metrics
            .records(&channel.name, RecordOutcome::DeadLettered, 1);
        self.shared.metrics.dead_letter(&channel.name, rejected.reason);
        Ok(())
    }

    /// adapter (→ hub → client): everything of one channel in one step.
    async fn append(&self, batch: ChannelBatch) -> Result<(), TakeError> {
        let name = &batch.channel.name;
        let appended = self
            .shared
            .adapter
            .append(ChannelRef::of(&batch.channel), batch.units)
            .await
            .map_err(TakeError::new)?;
        if appended.refused > 0 {
            tracing::info!(
                channel = %name, records = appended.refused,
                "records came again and changed nothing; after a topic was deleted and made anew, restart the gateway"
            );
            self.shared
                .metrics
                .records(name, RecordOutcome::Repeated, appended.refused);
        }
        if appended.deliveries > 0 {
            let age = self.shared.clock.now().0.saturating_sub(batch.oldest.0) as f64 / 1000.0;
            self.shared.metrics.delivered(name, appended.deliveries, age);
        }
        Ok(())
    }
}

impl<A: Adapter> Take for Pipeline<A> {
    async fn take(&self, records: &[Record]) -> Result<(), TakeError> {
        let started = Instant::now();
        for batch in self.route(records).await? {
            self.append(batch).await?;
        }
        self.shared.metrics.took(started.elapsed().as_secs_f64());
        Ok(())
    }
}
