//! Giving partitions up: finish the batch in hand, fence, commit.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::COMMIT_BUDGET;
use super::context::KafkaConsumer;
use super::worker::Partition;

/// Pause before a commit is tried again that came in the middle of a rebalance. 100 ms.
const COMMIT_RETRY: Duration = Duration::from_millis(100);

/// A partition that this replica reads, with its worker.
pub(super) struct Owned {
    pub(super) partition: Arc<Partition>,
    pub(super) worker: AbortOnDropHandle<()>,
    /// What librdkafka was last told.
    pub(super) paused: bool,
}

/// Lets workers finish the batch in hand within `budget`, then makes sure that none stores an offset any more, and commits
/// what they had stored. A worker that needs longer is dropped where it is: its records come again, to whoever is next.
pub(super) async fn release(owned: Vec<Owned>, budget: Duration, consumer: &Arc<KafkaConsumer>) {
    let deadline = Instant::now() + budget;
    for Owned { partition, .. } in &owned {
        partition.stop.cancel();
    }
    let mut offsets = Vec::new();
    for Owned {
        partition, mut worker, ..
    } in owned
    {
        if timeout_at(deadline, &mut worker).await.is_err() {
            tracing::warn!(
                topic = &*partition.topic,
                partition = partition.partition,
                "the batch in hand did not finish in time, its records come again"
            );
        }
        if let Some(next) = partition.fence() {
            offsets.push((partition.topic.to_string(), partition.partition, next));
        }
    }
    if !offsets.is_empty() {
        commit_within(COMMIT_BUDGET, consumer, offsets).await;
    }
}

/// Gives partitions up that are no longer ours: nothing is finished, and nothing can be committed.
pub(super) fn forfeit(owned: Vec<Owned>) {
    for Owned { partition, worker, .. } in owned {
        partition.fence();
        drop(worker);
    }
}

async fn commit_within(budget: Duration, consumer: &Arc<KafkaConsumer>, offsets: Vec<(String, i32, i64)>) {
    let consumer = Arc::clone(consumer);
    let committing = tokio::task::spawn_blocking(move || commit_through(&consumer, &offsets, budget));
    match timeout(budget, committing).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::NoOffset) => {}
        Ok(Ok(Err(error))) => tracing::warn!(%error, "offsets could not be committed, some records come again"),
        Ok(Err(error)) => tracing::error!(%error, "committing offsets failed, some records come again"),
        Err(_) => tracing::warn!("offsets could not be committed in time, some records may come again"),
    }
}

/// Commits, also where the group is just rebalancing: it takes commits again once its members have answered. Blocks.
fn commit_through(consumer: &KafkaConsumer, offsets: &[(String, i32, i64)], budget: Duration) -> KafkaResult<()> {
    use RDKafkaErrorCode as Code;
    let deadline = std::time::Instant::now() + budget;
    loop {
        let committed = commit(consumer, offsets);
        let code = committed.as_ref().err().and_then(KafkaError::rdkafka_error_code);
        let passes = matches!(code, Some(Code::IllegalGeneration | Code::RebalanceInProgress));
        if !passes || std::time::Instant::now() + COMMIT_RETRY > deadline {
            return committed;
        }
        std::thread::sleep(COMMIT_RETRY);
    }
}

/// Commits offsets and waits for the answer. Blocks, at most for the session timeout while the coordinator is away.
pub(super) fn commit(consumer: &KafkaConsumer, offsets: &[(String, i32, i64)]) -> KafkaResult<()> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for (topic, partition, offset) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
    }
    consumer.commit(&list, CommitMode::Sync)
}
