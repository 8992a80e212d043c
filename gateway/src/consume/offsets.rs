//! Which offset may be committed, and where a partition starts that has none. Pure.

use aldis_core::record::Record;

/// How far one assignment of a partition has come.
///
/// Kafka's committed offset is that of the next record to read, so one above the last that was taken.
#[derive(Debug, Default)]
pub(super) struct Progress {
    next: Option<i64>,
    fenced: bool,
}

impl Progress {
    /// The batch was taken whole. Says the offset that may be stored now, if any: none after [`Progress::fence`], none
    /// that is not above the last.
    pub(super) fn taken(&mut self, batch: &[Record]) -> Option<i64> {
        let next = batch.last()?.offset + 1;
        if self.fenced || self.next.is_some_and(|before| next <= before) {
            return None;
        }
        self.next = Some(next);
        self.next
    }

    /// The partition has another log: what was taken is none of it.
    pub(super) fn begin_anew(&mut self) {
        self.next = None;
    }

    /// The offset of the next record, where one was taken.
    pub(super) fn next(&self) -> Option<i64> {
        self.next
    }

    /// The partition is given up: from now on nothing is stored, whatever a worker may still finish. Says what was last
    /// stored.
    pub(super) fn fence(&mut self) -> Option<i64> {
        self.fenced = true;
        self.next
    }
}

/// What is known of a partition that is about to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// The group's committed offset.
    pub(super) committed: Option<i64>,
    /// Whether the partition was there when its topic was first looked at.
    pub(super) existed: bool,
    /// First offset that is kept.
    pub(super) low: i64,
    /// Offset of the next record to come, read **before** `by_time`.
    pub(super) high: i64,
    /// First record at or after the wanted time.
    pub(super) by_time: ByTime,
}

/// Answer of a broker that was asked for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByTime {
    /// The offset of the first record at or after it.
    At(i64),
    /// There is none.
    NoneYet,
    /// The broker cannot say.
    Unsupported,
}

/// Where a partition is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// Where the group has come to.
    Committed(i64),
    /// Nobody has read it yet: from here, which is committed first, so that a restart does not choose again.
    Chosen(i64),
}

impl Start {
    /// The offset of the first record to read.
    pub(super) fn offset(self) -> i64 {
        match self {
            Self::Committed(offset) | Self::Chosen(offset) => offset,
        }
    }
}

/// Where a partition starts for a group that should see what is published from some time on.
///
/// When no record is at or after that time, all below `high` are older, as `high` was read first; so `high` misses none.
pub(super) fn start(known: Known) -> Start {
    match known {
        Known {
            committed: Some(offset),
            ..
        } => Start::Committed(offset),
        Known {
            existed: false, low, ..
        } => Start::Chosen(low),
        Known {
            by_time: ByTime::At(offset),
            ..
        } => Start::Chosen(offset),
        Known {
            by_time: ByTime::NoneYet,
            high,
            ..
        } => Start::Chosen(high),
        Known {
            by_time: ByTime::Unsupported,
            low,
            ..
        } => Start::Chosen(low),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(offsets: &[i64]) -> Vec<Record> {
        let record = |&offset: &i64| Record {
            topic: "orders".into(),
            partition: 0,
            offset,
            key: None,
            headers: Vec::new(),
            timestamp_ms: 0,
            value: None,
        };
        offsets.iter().map(record).collect()
    }

    #[test]
    fn the_offset_after_the_last_of_a_batch_is_stored() {
        let mut progress = Progress::default();
        assert_eq!(progress.taken(&batch(&[])), None);
        assert_eq!(progress.taken(&batch(&[3, 4, 9])), Some(10));
        assert_eq!(progress.taken(&batch(&[4])), None, "never backwards");
        assert_eq!(progress.taken(&batch(&[10])), Some(11));
    }

    #[test]
    fn a_fenced_partition_stores_nothing_more() {
        let mut progress = Progress::default();
        progress.taken(&batch(&[0]));
        assert_eq!(progress.fence(), Some(1));
        assert_eq!(progress.taken(&batch(&[1])), None);
        assert_eq!(progress.fence(), Some(1), "what it finished late does not count");
    }

    #[test]
    fn a_committed_offset_wins() {
        let known = Known {
            committed: Some(0),
            existed: true,
            low: 5,
            high: 90,
            by_time: ByTime::At(40),
        };
        assert_eq!(start(known), Start::Committed(0));
    }

    #[test]
    fn a_new_group_does_not_replay_history() {
        let known = Known {
            committed: None,
            existed: true,
            low: 5,
            high: 90,
            by_time: ByTime::At(40),
        };
        assert_eq!(start(known), Start::Chosen(40));
        assert_eq!(
            start(Known {
                by_time: ByTime::NoneYet,
                ..known
            }),
            Start::Chosen(90)
        );
        assert_eq!(
            start(Known {
                by_time: ByTime::Unsupported,
                ..known
            }),
            Start::Chosen(5),
            "rather again than never"
        );
    }

    #[test]
    fn a_partition_that_is_new_is_read_whole_whatever_its_times_say() {
        let known = Known {
            committed: None,
            existed: false,
            low: 0,
            high: 90,
            by_time: ByTime::NoneYet,
        };
        assert_eq!(start(known), Start::Chosen(0));
    }
}
