//! What one partition has received and not yet handed over, and when it has enough. Pure.

use std::collections::VecDeque;

use aldis_core::record::Record;

/// Records and bytes at which a partition is paused, at which it goes on, and what one batch may hold.
#[derive(Clone, Copy, Debug)]
pub struct Marks {
    /// A partition with more records than this is paused.
    pub high_records: usize,
    /// A partition with more bytes than this is paused.
    pub high_bytes: usize,
    /// A paused partition goes on when it has at most this many records ...
    pub low_records: usize,
    /// ... and at most this many bytes.
    pub low_bytes: usize,
    /// Most records of a batch.
    pub batch_records: usize,
    /// Most bytes of a batch. A record that is larger alone goes alone.
    pub batch_bytes: usize,
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            high_records: HIGH_WATER_RECORDS,
            high_bytes: HIGH_WATER_BYTES,
            low_records: HIGH_WATER_RECORDS / 2,
            low_bytes: HIGH_WATER_BYTES / 2,
            batch_records: BATCH_RECORDS,
            batch_bytes: BATCH_BYTES,
        }
    }
}

/// Records that one partition may hold before it is paused. 2,048: some 0.1 s of work, so that a pause (which makes
/// librdkafka fetch again what it had read ahead) is rare.
pub const HIGH_WATER_RECORDS: usize = 2048;

/// Bytes that one partition may hold before it is paused. 1 MiB: a hundred stuck partitions hold 100 MiB.
pub const HIGH_WATER_BYTES: usize = 1024 * 1024;

/// Most records that are handed over at once. 256: enough that the adapter's round trip does not count, few enough that
/// repeating a batch is cheap.
pub const BATCH_RECORDS: usize = 256;

/// Most bytes that are handed over at once. 1 MiB, as many as the backlog holds.
pub const BATCH_BYTES: usize = 1024 * 1024;

/// What a record takes beside its key, value and headers, in bytes: the struct and its allocations, roughly.
const RECORD_OVERHEAD: usize = 160;

/// The backlog of one partition: what waits, and what is in hand.
#[derive(Debug)]
pub(super) struct Backlog {
    marks: Marks,
    waiting: VecDeque<Record>,
    /// Over what waits and what is in hand.
    records: usize,
    bytes: usize,
    /// Above high water, not yet back at low water.
    full: bool,
}

impl Backlog {
    pub(super) fn new(marks: Marks) -> Self {
        Self {
            marks,
            waiting: VecDeque::new(),
            records: 0,
            bytes: 0,
            full: false,
        }
    }

    /// Adds a record.
    pub(super) fn push(&mut self, record: Record) {
        self.records += 1;
        self.bytes += size(&record);
        self.waiting.push_back(record);
        if self.records > self.marks.high_records || self.bytes > self.marks.high_bytes {
            self.full = true;
        }
    }

    /// Takes what is there into hand, in order, within the bounds of a batch; empty when nothing waits. Where offsets go back,
    /// another batch begins.
    pub(super) fn batch(&mut self) -> Vec<Record> {
        let (mut bytes, mut last) = (0, i64::MIN);
        let fits = |record: &&Record| {
            bytes += size(record);
            let goes_on = record.offset > std::mem::replace(&mut last, record.offset);
            goes_on && bytes <= self.marks.batch_bytes
        };
        let count = self
            .waiting
            .iter()
            .take(self.marks.batch_records)
            .take_while(fits)
            .count();
        let count = count.max(1).min(self.waiting.len());
        self.waiting.drain(..count).collect()
    }

    /// A batch has been taken by whom it was for, so it takes no more room.
    pub(super) fn taken(&mut self, batch: &[Record]) {
        self.records -= batch.len();
        self.bytes -= batch.iter().map(size).sum::<usize>();
        if self.records <= self.marks.low_records && self.bytes <= self.marks.low_bytes {
            self.full = false;
        }
    }

    /// Whether the partition should not be read further for now.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// Records that wait or are in hand.
    pub(super) fn records(&self) -> usize {
        self.records
    }

    /// Bytes that wait or are in hand.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// About how many bytes of memory a record takes.
pub(super) fn size(record: &Record) -> usize {
    let headers = record
        .headers
        .iter()
        .map(|(name, value)| name.len() + value.as_ref().map_or(0, |value| value.len()));
    let content = record.key.as_ref().map_or(0, |key| key.len()) + record.value.as_ref().map_or(0, |value| value.len());
    RECORD_OVERHEAD + content + headers.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn record(offset: i64, bytes: usize) -> Record {
        Record {
            topic: "orders".into(),
            partition: 0,
            offset,
            key: None,
            headers: Vec::new(),
            timestamp_ms: 0,
            value: Some(Bytes::from(vec![b'x'; bytes])),
        }
    }

    fn marks() -> Marks {
        Marks {
            high_records: 4,
            high_bytes: 10_000,
            low_records: 2,
            low_bytes: 5_000,
            batch_records: 3,
            batch_bytes: 6_000,
        }
    }

    fn offsets(batch: &[Record]) -> Vec<i64> {
        batch.iter().map(|record| record.offset).collect()
    }

    #[test]
    fn full_above_high_water_and_until_low_water() {
        let mut backlog = Backlog::new(marks());
        for offset in 0..4 {
            backlog.push(record(offset, 1));
        }
        assert!(!backlog.is_full(), "at the mark is not above it");
        backlog.push(record(4, 1));
        assert!(backlog.is_full());
        let first = backlog.batch();
        assert_eq!(offsets(&first), [0, 1, 2]);
        assert!(backlog.is_full(), "what is in hand still takes room");
        backlog.taken(&first);
        assert!(!backlog.is_full(), "two are left, which is low water");
    }

    #[test]
    fn bytes_alone_fill_it_too() {
        let mut backlog = Backlog::new(marks());
        backlog.push(record(0, 5_500));
        assert!(!backlog.is_full());
        backlog.push(record(1, 5_500));
        assert!(backlog.is_full());
        let first = backlog.batch();
        backlog.taken(&first);
        assert!(backlog.is_full(), "one record of more than low water's bytes is left");
        let second = backlog.batch();
        backlog.taken(&second);
        assert!(!backlog.is_full());
        assert_eq!((backlog.records(), backlog.bytes()), (0, 0));
    }

    #[test]
    fn a_batch_is_bounded_in_records_and_bytes_but_never_stuck() {
        let mut backlog = Backlog::new(marks());
        assert!(backlog.batch().is_empty());
        for (offset, bytes) in [(0, 50_000), (1, 4_000), (2, 4_000), (3, 1), (4, 1), (5, 1)] {
            backlog.push(record(offset, bytes));
        }
        assert_eq!(offsets(&backlog.batch()), [0], "larger than a batch may be: alone");
        assert_eq!(offsets(&backlog.batch()), [1], "the next does not fit beside it");
        assert_eq!(offsets(&backlog.batch()), [2, 3, 4]);
        assert_eq!(offsets(&backlog.batch()), [5]);
    }

    #[test]
    fn a_batch_ends_where_offsets_go_back() {
        let mut backlog = Backlog::new(marks());
        // Gaps are usual: compaction, transactions.
        for offset in [7, 9, 9, 0, 1] {
            backlog.push(record(offset, 1));
        }
        assert_eq!(offsets(&backlog.batch()), [7, 9]);
        assert_eq!(offsets(&backlog.batch()), [9]);
        assert_eq!(offsets(&backlog.batch()), [0, 1]);
    }
}
