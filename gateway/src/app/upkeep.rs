//! What has to be done now and then.

use futures_util::StreamExt as _;

use super::Shared;
use crate::adapter::{Adapter as _, ChannelRef, SessionChange};
use crate::sessions::shared::write;
use crate::sockets;

/// Sessions of which it is said at once that they are kept. 256: one round trip.
const SESSIONS_AT_ONCE: usize = 256;

/// Says of each client that it is still there, so that its session is kept where replicas share it.
pub(super) async fn keep_sessions(shared: &Shared) {
    let table = shared.table.load_full();
    for channel in table.channels().iter().filter(|channel| channel.history_size > 0) {
        let kept = shared.sessions.live(&channel.name).into_iter().filter_map(|session| {
            let (.., generation, _) = session.present()?;
            Some(async move {
                let (channel, stay) = (ChannelRef::of(channel), SessionChange::Stay);
                // One that is not kept now is kept by the next round.
                write(&shared.adapter, channel, &session, generation, stay).await.ok();
            })
        });
        let kept = futures_util::stream::iter(kept);
        kept.for_each_concurrent(SESSIONS_AT_ONCE, |kept| kept).await;
    }
}

/// Drops what channels no longer keep, also where nothing new comes, and tells silent clients where their channel stands.
pub(super) async fn sweep(shared: &Shared) {
    sockets::expiry::sweep(shared).await;
    let table = shared.table.load_full();
    for channel in table.channels() {
        shared.adapter.drop_old(ChannelRef::of(channel)).await;
        let now = shared.clock.now();
        if channel.history_size > 0 {
            shared.hub.beacons(&channel.name, channel.history_ttl_ms / 2, now);
        }
    }
    shared.sessions.sweep(&table, shared.clock.now());
    shared.metrics.forget_gone();
}
