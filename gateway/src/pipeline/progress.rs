//! progress: what of a batch is done already, so that a try that failed is not made twice over.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use aldis_core::record::Record;
use aldis_crds::names::ChannelName;

/// The batches that could not be taken whole, one a partition. A partition that goes to another replica leaves its own
/// behind, as small as a batch; it is dropped when the partition comes back.
#[derive(Default)]
pub(super) struct Progress(Mutex<HashMap<(Arc<str>, i32), Done>>);

/// What of one batch is done.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Offset of the batch's first record.
    first: i64,
    /// Up to which offset each channel is appended.
    appended: HashMap<ChannelName, i64>,
    /// Dead letters that are acknowledged.
    lettered: HashSet<(ChannelName, i64)>,
}

impl Progress {
    /// What is done of the batch that begins with `first`.
    pub(super) fn resume(&self, first: &Record) -> Done {
        let mut batches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = batches.remove(&place(first));
        known.filter(|done| done.first == first.offset).unwrap_or(Done {
            first: first.offset,
            ..Done::default()
        })
    }

    /// Keeps it for the next try.
    pub(super) fn keep(&self, first: &Record, done: Done) {
        let mut batches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        batches.insert(place(first), done);
    }
}

fn place(record: &Record) -> (Arc<str>, i32) {
    (Arc::clone(&record.topic), record.partition)
}

impl Done {
    pub(super) fn is_appended(&self, channel: &ChannelName, offset: i64) -> bool {
        self.appended.get(channel).is_some_and(|last| offset <= *last)
    }

    pub(super) fn append(&mut self, channel: &ChannelName, last: i64) {
        self.appended.insert(channel.clone(), last);
    }

    pub(super) fn is_lettered(&self, channel: &ChannelName, offset: i64) -> bool {
        !self.lettered.is_empty() && self.lettered.contains(&(channel.clone(), offset))
    }

    pub(super) fn letter(&mut self, channel: &ChannelName, offset: i64) {
        self.lettered.insert((channel.clone(), offset));
    }
}
