//! What comes out of Kafka.

use std::sync::Arc;

use bytes::Bytes;

/// One Kafka record, as it came.
#[derive(Clone, Debug)]
pub struct Record {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition of the topic.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// Key.
    pub key: Option<Bytes>,
    /// Headers in their order; names may repeat.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// The record's time (CreateTime or LogAppendTime, as the topic says), in ms since 1970.
    pub timestamp_ms: i64,
    /// Value; `None` is a tombstone.
    pub value: Option<Bytes>,
}

impl Record {
    /// Where it stands: `topic/partition/offset`.
    pub fn place(&self) -> String {
        format!("{}/{}/{}", self.topic, self.partition, self.offset)
    }

    /// The last header of this name, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().rev().find(|(known, _)| known == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }
}
