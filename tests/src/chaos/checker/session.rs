//! One session of a client: its rooms, what it got, and what it should have got.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Numbers, Verdict};
use crate::chaos::history::{Client, History, Position, Record};

/// From when on a room counts.
struct Start {
    at: Duration,
    position: Option<Position>,
}

/// What a client got from when it was told where it stands until it was told again, or the end.
#[derive(Default)]
pub(super) struct Session<'h> {
    rooms: BTreeMap<&'h str, Start>,
    /// Records by when they came first.
    seen: BTreeMap<usize, Duration>,
    /// Latest record of each partition.
    latest: BTreeMap<i32, usize>,
    last: Option<&'h Position>,
    /// When it was told "recovered".
    pub(super) recovered: Vec<Duration>,
}

impl<'h> Session<'h> {
    pub(super) fn rooms(&self) -> impl Iterator<Item = &'h str> {
        self.rooms.keys().copied()
    }

    pub(super) fn seen(&self) -> impl Iterator<Item = (usize, Duration)> {
        self.seen.iter().map(|(record, at)| (*record, *at))
    }

    /// A room counts from its first join on.
    pub(super) fn enter(&mut self, room: &'h str, at: Duration, position: Option<&Position>) {
        let position = position.cloned();
        self.rooms.entry(room).or_insert(Start { at, position });
    }

    pub(super) fn leave(&mut self, room: &str) {
        self.rooms.remove(room);
    }

    /// A delivery.
    pub(super) fn take(
        &mut self,
        at: Duration,
        record: usize,
        of: &'h Record,
        position: Option<&'h Position>,
        client: &Client,
        verdict: &mut Verdict,
    ) {
        // A join whose acknowledgement did not arrive may count all the same.
        if client.wants.is_disjoint(&of.rooms) {
            let what = format!("record {record} is for {:?}", of.rooms);
            verdict.example(|verdict| &mut verdict.crossed, client, at, what);
        }
        if self.seen.contains_key(&record) {
            let what = format!("record {record} ({position:?}) came again");
            verdict.example(|verdict| &mut verdict.duplicated, client, at, what);
            return;
        }
        self.seen.insert(record, at);
        let latest = self.latest.entry(of.partition).or_insert(record);
        let goes_back = match (self.last, position) {
            (Some(last), Some(position)) => last.epoch == position.epoch && position.seq <= last.seq,
            _ => false,
        };
        if record < *latest || goes_back {
            let what = format!(
                "record {record} ({position:?}) after record {latest} and {:?}",
                self.last
            );
            verdict.example(|verdict| &mut verdict.reordered, client, at, what);
        }
        *latest = record.max(*latest);
        self.last = position.or(self.last);
    }

    /// What it should have had and has not: all that there is where the session goes on, and otherwise what lies before
    /// something that it had. What its client had in sessions before it owes nobody.
    pub(super) fn settle(
        &self,
        goes_on: bool,
        had: &BTreeSet<usize>,
        client: &'h Client,
        history: &'h History,
        numbers: &Numbers<'h>,
        verdict: &mut Verdict,
    ) {
        let channel = client.channel.as_str();
        let topic = &history.topics[channel];
        let mut told: Vec<&Duration> = Vec::new();
        for (id, record) in history.records.iter().enumerate() {
            let is_due =
                record.acked.is_some() && record.topic == *topic && !self.seen.contains_key(&id) && !had.contains(&id);
            if !is_due || !self.counts(channel, id, record, numbers) {
                continue;
            }
            let later = |seen: &usize| history.records[*seen].partition == record.partition;
            let next = self.seen.range(id..).find(|(seen, _)| later(seen)).map(|(_, at)| *at);
            let is_passed = || {
                self.last
                    .is_some_and(|last| numbers.is_after(channel, id, last) == Some(false))
            };
            if !goes_on && next.is_none() && !is_passed() {
                continue;
            }
            let at = next.unwrap_or(Duration::MAX);
            let before = self
                .seen
                .range(..id)
                .rev()
                .find(|(seen, _)| later(seen))
                .map(|(_, at)| *at);
            told.extend(
                self.recovered
                    .iter()
                    .find(|told| before.is_some_and(|before| before < **told) && **told <= at),
            );
            let what = format!(
                "record {id} of partition {} for {:?} is missing",
                record.partition, record.rooms
            );
            verdict.example(|verdict| &mut verdict.lost, client, record.sent, what);
        }
        told.dedup();
        for at in told {
            let what = "recovered, and what it missed does not come".to_owned();
            verdict.example(|verdict| &mut verdict.falsely_recovered, client, *at, what);
        }
    }

    /// Whether a record is for a room that counted already.
    fn counts(&self, channel: &'h str, id: usize, record: &Record, numbers: &Numbers<'h>) -> bool {
        record
            .rooms
            .iter()
            .filter_map(|room| self.rooms.get(room.as_str()))
            .any(|start| {
                let position = start.position.as_ref();
                let by_number = position.and_then(|position| numbers.is_after(channel, id, position));
                by_number == Some(true) || record.sent > start.at
            })
    }
}
