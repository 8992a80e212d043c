//! The consumer over the life of a replica: where Kafka is reached another way, it leaves its group and joins it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::KafkaResult;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::receive::Receiver;
use super::{ConsumerSettings, ConsumerState, Limits, Observe, Take};
use crate::kafka::Reach;

/// Before a consumer is made again that could not be made. 1 s.
const RETRY: Duration = Duration::from_secs(1);

/// What each consumer is made of.
pub(super) struct Parts<T> {
    pub(super) settings: ConsumerSettings,
    pub(super) limits: Limits,
    pub(super) topics: watch::Receiver<BTreeSet<String>>,
    pub(super) take: Arc<T>,
    pub(super) observe: Arc<dyn Observe>,
    pub(super) state: watch::Sender<ConsumerState>,
}

/// What the next consumer goes on from: without it a partition that was made meanwhile would begin where it is looked at first,
/// and not at its first record.
#[derive(Clone, Default)]
pub(super) struct Known {
    /// Since when each topic is subscribed, ms since 1970.
    pub(super) subscribed: BTreeMap<String, i64>,
    /// How many partitions each topic had when it was first looked at.
    pub(super) first_seen: BTreeMap<String, usize>,
}

/// Makes the first consumer; gives what runs until `shutdown`.
///
/// # Errors
/// When the settings themselves are refused.
pub(super) fn start<T: Take>(
    parts: Parts<T>,
    shutdown: CancellationToken,
) -> KafkaResult<impl Future<Output = ()> + use<T>> {
    let mut changes = parts.settings.access.changes();
    let reach = Arc::clone(&changes.borrow_and_update());
    let first = Receiver::new(&parts, &reach, Known::default())?;
    Ok(run(parts, first, changes, shutdown))
}

async fn run<T: Take>(
    parts: Parts<T>,
    mut receiver: Receiver<T>,
    mut changes: watch::Receiver<Arc<Reach>>,
    shutdown: CancellationToken,
) {
    loop {
        let stop = shutdown.child_token();
        let running = receiver.run(stop.clone());
        tokio::pin!(running);
        let known = tokio::select! {
            known = &mut running => known,
            Ok(()) = changes.changed() => {
                tracing::info!("the kafka consumer leaves its group, and joins it with the new credentials");
                stop.cancel();
                running.await
            }
        };
        receiver = loop {
            if shutdown.is_cancelled() {
                return;
            }
            let reach = Arc::clone(&changes.borrow_and_update());
            match Receiver::new(&parts, &reach, known.clone()) {
                Ok(receiver) => break receiver,
                Err(error) => tracing::error!(%error, "the kafka consumer can not be made anew, trying again"),
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(RETRY) => {}
            }
        };
    }
}
