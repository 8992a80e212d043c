//! Data of channels that are gone is erased in Redis, some time after: they may only have been away.

use std::sync::Arc;
use std::time::Duration;

use aldis_crds::contract::ChannelConfig;
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::adapter::chosen::ChosenAdapter;
use crate::status::Status;

/// How often replicas say which channels are in force, at least. 1 min: some 30 times before a channel of which they do not is erased.
const SAY: Duration = Duration::from_secs(60);

/// Until it is stopped: says which channels are in force, and erases those that have not been for `after` at any replica.
pub(super) async fn gone(shared: Arc<Shared>, status: Arc<Status>, after: Duration, stop: CancellationToken) {
    let ChosenAdapter::Redis(adapter) = &shared.adapter else {
        return;
    };
    let mut every = tokio::time::interval(SAY.min(after / 4));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut fails = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = every.tick() => {}
        }
        // What it does not know yet is not gone.
        if status.rejected().is_some() {
            continue;
        }
        let in_force = status.in_force();
        let Some(config) = &in_force.config else { continue };
        // Also those that can not be served as they are: they may be mended.
        let uids: Vec<_> = config.channels.iter().map(ChannelConfig::uid_or_name).collect();
        tokio::select! {
            () = stop.cancelled() => return,
            erased = adapter.erase_gone(&uids, after) => match erased {
                Ok(erased) => {
                    shared.metrics.erased(erased);
                    fails = false;
                }
                Err(error) => {
                    if !std::mem::replace(&mut fails, true) {
                        tracing::warn!(%error, "what channels that are gone have left in redis can not be erased now, it is tried again");
                    }
                }
            }
        }
    }
}
