//! What scripts answer, as values.

use std::sync::Arc;

use redis::Value;

/// The elements of an answer.
pub(super) struct Answer<'a>(pub(super) &'a [Value]);

impl<'a> Answer<'a> {
    /// An element as text; empty where it is none.
    pub(super) fn text(&self, index: usize) -> &'a str {
        match self.0.get(index) {
            Some(Value::BulkString(bytes)) => std::str::from_utf8(bytes).unwrap_or_default(),
            Some(Value::SimpleString(text)) => text,
            _ => "",
        }
    }

    /// How many elements it has.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// An element as a number, which it may be as text too; 0 where it is none.
    pub(super) fn number(&self, index: usize) -> u64 {
        match self.0.get(index) {
            Some(Value::Int(number)) => u64::try_from(*number).unwrap_or(0),
            _ => self.text(index).parse().unwrap_or(0),
        }
    }

    pub(super) fn list(&self, index: usize) -> &'a [Value] {
        match self.0.get(index) {
            Some(Value::Array(values)) => values,
            _ => &[],
        }
    }
}

/// What read.lua answers.
pub(super) enum ReadBack {
    /// The epoch of the places is none of this numbering.
    Unknown,
    /// A delivery has been dropped.
    Dropped,
    /// There is more than may be read.
    Backlog,
    Read {
        /// The epoch now, and the seq up to which this is everything.
        epoch: Arc<str>,
        seq: u64,
        /// Up to which seq places of the epoch that was asked for are good.
        good: u64,
        /// Indices of rooms whose place is beyond that.
        beyond: Vec<usize>,
        /// Indices of rooms that can not be read from their place on.
        broken: Vec<usize>,
        /// Seq and bytes, in the order of seq.
        deliveries: Vec<(u64, Vec<u8>)>,
    },
}

impl ReadBack {
    pub(super) fn of(answer: &[Value]) -> Self {
        let answer = Answer(answer);
        match answer.text(0) {
            "ok" => {}
            "unknown" => return Self::Unknown,
            "backlog" => return Self::Backlog,
            _ => return Self::Dropped,
        }
        let indices = |index| {
            let list = Answer(answer.list(index));
            (0..list.len()).map(|at| list.number(at) as usize).collect()
        };
        let found = Answer(answer.list(6));
        let deliveries = (0..found.len()).step_by(2).map(|at| {
            let bytes = match found.0.get(at + 1) {
                Some(Value::BulkString(bytes)) => bytes.clone(),
                _ => Vec::new(),
            };
            (found.number(at), bytes)
        });
        Self::Read {
            epoch: answer.text(1).into(),
            seq: answer.number(2),
            good: answer.number(3),
            beyond: indices(4),
            broken: indices(5),
            deliveries: deliveries.collect(),
        }
    }
}
