//! The path of a record, in one place:
//!
//! ```text
//! consume  →  decode  →  route  →  adapter  →  hub  →  client
//! consume.rs  └─── Channel::process ───┘      │        │       sockets/client.rs
//!                  (aldis-core, pure)   adapter.rs   hub.rs
//! ```
//! [`Pipeline::take`] is called by the consumer with records of one partition, in order, and does the steps between. It
//! returns when every delivery is in its clients' queues and every dead letter is acknowledged, so the consumer may commit.
//! What fails is left for the next try, and nothing of what is done is done or counted again ([`progress`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use aldis_core::channel::{Channel, Outcome};
use aldis_core::record::Record;
use aldis_core::route::Delivery;
use aldis_core::table::Table;
use aldis_core::time::Millis;
use aldis_crds::names::ChannelName;
use indexmap::IndexMap;
use tokio::sync::watch;

use crate::adapter::{Adapter, AdapterError, ChannelRef, Keep, Mark, TopicPartition, Unit};
use crate::consume::{Reached, Take, TakeError};
use crate::dead_letter::DeadLetters;
use crate::kafka::Access;
use crate::metrics::RecordOutcome;
use crate::sabotage::Rule;
use crate::sockets::Shared;
use crate::traces;

mod followers;
mod letters;
mod pace;
mod progress;
#[cfg(test)]
mod tests;

use followers::Followers;
use letters::{Letter, Outbox};
use progress::{Done, Progress};

/// Most bytes of payloads that are made before they are appended. 16 MiB, what one record may make: a batch of such records
/// would make gigabytes.
const MADE_BYTES: usize = 16 * 1024 * 1024;

/// Most records of a partition that are read again because a channel's mark is behind where the group is. 100,000: what Redis
/// forgets is of seconds, and a channel that was away for days does not get all of them.
const MOST_AGAIN: i64 = 100_000;

/// Uid of what stands for all channels over HTTP. No object is called so, because of the dot.
const OVER_HTTP: &str = ".http";

/// How long records are decoded and routed before other tasks get their turn. 2 ms.
const TURN: Duration = Duration::from_millis(2);

/// decode → route → adapter, for every channel that reads a record's topic.
pub struct Pipeline<A> {
    shared: Arc<Shared<A>>,
    outbox: Outbox,
    progress: Progress,
    followers: Followers<A>,
    /// Stands for all channels in what comes over HTTP, of which each is given only some: after them its mark is moved past
    /// every record, so that it shows what was forgotten of any of them.
    over_http: ChannelName,
}

/// What some records make.
#[derive(Default)]
struct Routed<'r> {
    batches: IndexMap<ChannelName, ChannelBatch>,
    letters: Vec<Letter<'r>>,
    bytes: usize,
}

/// What some records make of one channel.
struct ChannelBatch {
    channel: Arc<Channel>,
    units: Vec<Unit>,
    /// What becomes of each unit's record; `None` where it goes to the dead letters.
    outcomes: Vec<Option<RecordOutcome>>,
    /// Time of the oldest record, for the age of what is delivered.
    oldest: Millis,
}

impl<A: Adapter> Pipeline<A> {
    /// A pipeline into the adapter. `dead_letter_topic` is for channels that name none, or one that can not be written;
    /// by `access` a channel that is behind reads by itself.
    pub fn new(shared: Arc<Shared<A>>, dead_letters: DeadLetters, dead_letter_topic: String, access: Access) -> Self {
        Self {
            outbox: Outbox::new(dead_letters, dead_letter_topic, Arc::clone(&shared.metrics)),
            progress: Progress::default(),
            followers: Followers::new(Arc::clone(&shared), access),
            over_http: ChannelName {
                namespace: String::new(),
                name: OVER_HTTP.to_owned(),
            },
            shared,
        }
    }

    /// decode → route: what the first of `records` make, up to [`MADE_BYTES`], and the records that are left.
    async fn route<'r>(&self, records: &'r [Record]) -> (Routed<'r>, &'r [Record]) {
        let table = self.shared.table.load_full();
        let now = self.shared.clock.now();
        let mut routed = Routed::default();
        let mut turn = Instant::now();
        for (index, record) in records.iter().enumerate() {
            if routed.bytes >= MADE_BYTES {
                return (routed, &records[index..]);
            }
            for (channel, sources) in table.readers(record) {
                routed.add(channel, record, traces::process(channel, sources, record, now));
                if turn.elapsed() >= TURN {
                    tokio::task::yield_now().await;
                    turn = Instant::now();
                }
            }
        }
        (routed, &[])
    }

    /// What of a channel is not appended yet. One that can not take it for a reason of its own follows by itself from then on.
    async fn append(&self, mut batch: ChannelBatch, done: &mut Done) -> Result<(), TakeError> {
        let name = batch.channel.name.clone();
        let skip = batch.units.partition_point(|unit| done.is_appended(&name, unit.offset));
        batch.units.drain(..skip);
        batch.outcomes.drain(..skip);
        let (Some(first), Some(last)) = (batch.units.first(), batch.units.last()) else {
            return Ok(());
        };
        let (first, last) = (first.offset, last.offset);
        let partition = (Arc::clone(&batch.units[0].topic), batch.units[0].partition);
        if self.followers.is_behind(&name, &partition) {
            return Ok(());
        }
        match append(&self.shared, batch).await {
            Ok(()) => done.append(&name, last),
            Err(AdapterError::Refused(reason)) if self.followers.leave(&name, &partition, first..=last, &reason) => {}
            Err(error) => return Err(failure(error)),
        }
        Ok(())
    }

    /// Everything that is not done yet. One channel's failure holds up no other's deliveries, nor any dead letter.
    async fn take_rest(&self, records: &[Record], done: &mut Done) -> Result<(), TakeError> {
        let mut rest = records;
        let mut failed = IndexMap::new();
        let mut unwritten = None;
        while !rest.is_empty() {
            let routed;
            let since = Instant::now();
            (routed, rest) = self.route(rest).await;
            self.shared.metrics.stepped("route", since);
            for (channel, batch) in routed.batches {
                // What comes after records that a channel could not take would move its mark past them.
                if failed.contains_key(&channel) {
                    continue;
                }
                if let Err(error) = self.append(batch, done).await {
                    failed.insert(channel, error);
                }
            }
            unwritten = unwritten.or(self.outbox.write(routed.letters, done).await.err());
        }
        let errors = failed.into_values().chain(unwritten);
        errors.reduce(TakeError::and).map_or(Ok(()), Err)
    }

    /// Of what comes over HTTP, all channels have taken these records.
    async fn pass_over_http(&self, records: &[Record]) -> Result<(), TakeError> {
        let Some(last) = records.last() else { return Ok(()) };
        if !self.shared.table.load().is_ingress(&last.topic) {
            return Ok(());
        }
        let passed = Unit {
            topic: Arc::clone(&last.topic),
            partition: last.partition,
            offset: last.offset,
            deliveries: Vec::new(),
        };
        let appended = self.shared.adapter.append(self.over_http(), vec![passed]).await;
        appended.map(drop).map_err(failure)
    }

    fn over_http(&self) -> ChannelRef<'_> {
        ChannelRef {
            name: &self.over_http,
            uid: OVER_HTTP,
            keep: Keep {
                size: 0,
                ttl_ms: 0,
                bytes: 0,
            },
        }
    }

    /// Whose marks say how far a topic was taken, and whether each is given all of it.
    fn marked<'t>(&'t self, table: &'t Table, topic: &str) -> impl Iterator<Item = (ChannelRef<'t>, bool)> {
        let all = table.is_ingress(topic).then(|| (self.over_http(), true));
        let channels = table.readers_of(topic);
        channels
            .map(|(channel, is_given_all)| (ChannelRef::of(channel), is_given_all))
            .chain(all)
    }
}

/// Why records could not be taken, and what is to be read again first.
fn failure(error: AdapterError) -> TakeError {
    match error {
        AdapterError::Rewound { offset, .. } => {
            TakeError::new("records were forgotten and are read again").again_from(offset)
        }
        error => TakeError::new(error),
    }
}

/// adapter (→ hub → client): everything of one channel in one step.
async fn append<A: Adapter>(shared: &Shared<A>, batch: ChannelBatch) -> Result<(), AdapterError> {
    let (name, metrics) = (&batch.channel.name, &shared.metrics);
    let topic = batch.units.first().map(|unit| Arc::clone(&unit.topic));
    let traced = traces::adapter(name, &batch.units);
    let since = Instant::now();
    let appended = shared
        .adapter
        .append(ChannelRef::of(&batch.channel), batch.units)
        .await
        .inspect_err(|error| traced.failed(error))?;
    drop(traced);
    metrics.stepped("adapter", since);
    if appended.refused > 0 {
        tracing::info!(
            channel = %name, records = appended.refused,
            "records came again and changed nothing"
        );
        metrics.records(name, RecordOutcome::Repeated, appended.refused);
    }
    // Marks only grow: what is refused are the first ones.
    for outcome in batch.outcomes.into_iter().skip(appended.refused).flatten() {
        metrics.records(name, outcome, 1);
    }
    if appended.deliveries > 0 {
        shared.made(&batch.channel, &topic.unwrap_or_default(), appended.deliveries);
        let age = shared.clock.now().0.saturating_sub(batch.oldest.0) as f64 / 1000.0;
        metrics.delivered(name, appended.deliveries, age);
    }
    Ok(())
}

impl<'r> Routed<'r> {
    fn add(
        &mut self,
        channel: &Arc<Channel>,
        record: &'r Record,
        outcome: Result<Outcome, aldis_core::reject::Rejected>,
    ) {
        let time = Millis(record.timestamp_ms);
        let (deliveries, outcome) = match outcome {
            Ok(Outcome::Deliver(made)) if made.is_empty() => (made, Some(RecordOutcome::RoutedNowhere)),
            Ok(Outcome::Deliver(made)) => (made, Some(RecordOutcome::Delivered)),
            Ok(Outcome::NotForUs) => (Vec::new(), Some(RecordOutcome::NotForUs)),
            Err(rejected) => {
                self.letters.push(Letter {
                    channel: Arc::clone(channel),
                    record,
                    rejected,
                });
                (Vec::new(), None)
            }
        };
        self.bytes += deliveries.iter().map(Delivery::bytes).sum::<usize>();
        // Its name is copied once a batch, not once a record.
        let known = self.batches.get_index_of(&channel.name);
        let index = known.unwrap_or_else(|| {
            let batch = ChannelBatch {
                channel: Arc::clone(channel),
                units: Vec::new(),
                outcomes: Vec::new(),
                oldest: time,
            };
            self.batches.insert_full(channel.name.clone(), batch).0
        });
        let batch = &mut self.batches[index];
        batch.oldest = batch.oldest.min(time);
        batch.units.push(Unit {
            topic: Arc::clone(&record.topic),
            partition: record.partition,
            offset: record.offset,
            deliveries,
        });
        batch.outcomes.push(outcome);
    }
}

impl<A: Adapter> Take for Pipeline<A> {
    async fn ready(&self, records: &[Record]) {
        if let Some(first) = records.first() {
            self.wait_for_rate(&first.topic).await;
        }
    }

    async fn take(&self, records: &[Record]) -> Result<(), TakeError> {
        let Some(first) = records.first() else { return Ok(()) };
        let started = Instant::now();
        self.followers.pass(records);
        let traced = traces::begin(records);
        let mut done = self.progress.resume(first);
        let result = match self.take_rest(records, &mut done).await {
            Ok(()) => self.pass_over_http(records).await,
            error => error,
        };
        match &result {
            Ok(()) => self.shared.metrics.took(started.elapsed().as_secs_f64()),
            Err(error) => {
                traced.failed(error);
                self.progress.keep(first, done);
            }
        }
        result
    }

    async fn reached(&self, topic: &Arc<str>, partition: i32) -> Result<Reached, TakeError> {
        let table = self.shared.table.load_full();
        let mut reached = Reached::new();
        for (channel, _) in self.marked(&table, topic) {
            let mark = self.shared.adapter.check_mark(channel, topic, partition, None);
            if let Mark::At(mark) = mark.await.map_err(TakeError::new)? {
                reached.insert(channel.name.clone(), mark);
            }
        }
        Ok(reached)
    }

    async fn begin(
        &self,
        topic: &Arc<str>,
        partition: i32,
        offset: i64,
        log_end: i64,
        reached: &Reached,
    ) -> Result<Option<i64>, TakeError> {
        let table = self.shared.table.load_full();
        let mut forgotten = None;
        for (channel, is_given_all) in self.marked(&table, topic) {
            let gone = reached.get(channel.name).copied();
            let gone = gone.filter(|mark| *mark >= log_end && Rule::Marks.is_on());
            let mark = self.shared.adapter.check_mark(channel, topic, partition, gone);
            match mark.await.map_err(TakeError::new)? {
                Mark::Dropped(mark) => {
                    tracing::warn!(
                        channel = %channel.name, topic = &**topic, partition, mark, log_end,
                        "the topic was deleted and made anew: its records are taken from the beginning"
                    );
                    if channel.name != &self.over_http {
                        self.shared.metrics.mark_dropped(channel.name);
                    }
                }
                // What a channel is given only some of, its mark does not follow.
                Mark::At(mark) if is_given_all && mark + 1 < offset && Rule::StartAt.is_on() => {
                    forgotten = Some(forgotten.unwrap_or(i64::MAX).min(mark + 1));
                }
                Mark::At(_) | Mark::None => {}
            }
        }
        Ok(forgotten.map(|from| from.max(offset - MOST_AGAIN)))
    }

    async fn stand_in(&self, owned: Option<&[TopicPartition]>) -> Result<Vec<TopicPartition>, TakeError> {
        self.shared.adapter.stand_in(owned).await.map_err(TakeError::new)
    }

    fn forgotten(&self) -> watch::Receiver<u64> {
        self.shared.adapter.restarts()
    }
}
