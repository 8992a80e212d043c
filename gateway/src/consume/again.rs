//! Records that were taken and then forgotten by what took them are read again, by a reader of their partition alone.
//!
//! The group's consumer stays where it is. Other channels that had these records take no notice: their marks have passed them.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use aldis_core::record::Record;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::receive::record;
use super::worker::take_caught;
use super::{BATCH_RECORDS, READ_AHEAD_KIB, Take, TakeError};
use crate::kafka::{Access, Context};

/// How long brokers may take for a record. 15 s; beyond it the whole is tried again.
const PATIENCE: Duration = Duration::from_secs(15);

/// Such a reader, and one that stands in for a dead replica. It is in no group, and commits nothing.
///
/// # Errors
/// When the settings themselves are refused.
pub(crate) fn reader(access: &Access) -> KafkaResult<StreamConsumer<Context>> {
    let reach = access.reach();
    reach
        .client("aldis-gateway-again")
        // librdkafka wants one; nothing is ever stored under it.
        .set("group.id", "aldis-gateway-again")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // What Kafka no longer has can not be read again.
        .set("auto.offset.reset", "earliest")
        .set("queued.max.messages.kbytes", READ_AHEAD_KIB.to_string())
        .set("enable.partition.eof", "true")
        .create_with_context(access.context(&reach))
}

/// Hands over the records of a partition in this range of offsets, in order; gives how many there were.
///
/// # Errors
/// Where they can not be read or taken: all of them are to be read again.
pub(super) async fn read<T: Take>(
    take: &T,
    access: &Access,
    topic: &Arc<str>,
    partition: i32,
    offsets: Range<i64>,
) -> Result<usize, TakeError> {
    let consumer = reader(access).map_err(TakeError::new)?;
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, partition, Offset::Offset(offsets.start))
        .and_then(|()| consumer.assign(&from))
        .map_err(TakeError::new)?;
    let mut batch: Vec<Record> = Vec::new();
    let mut taken = 0;
    loop {
        let next = tokio::time::timeout(PATIENCE, consumer.recv()).await;
        let record = match next.map_err(|_| TakeError::new("kafka does not give what is to be read again"))? {
            Ok(message) if message.offset() < offsets.end => Some(record(Arc::clone(topic), &message)),
            Ok(_) | Err(KafkaError::PartitionEOF(_)) => None,
            Err(error) => return Err(TakeError::new(error)),
        };
        let is_last = record.is_none();
        batch.extend(record);
        if batch.len() >= BATCH_RECORDS || (is_last && !batch.is_empty()) {
            take_caught(take, &batch).await?;
            taken += batch.len();
            batch.clear();
        }
        if is_last {
            return Ok(taken);
        }
    }
}
