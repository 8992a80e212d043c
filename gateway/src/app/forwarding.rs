//! Whether this replica has peers.

use std::sync::Arc;

use anyhow::Context as _;

use super::Shared;
use crate::adapter::chosen::ChosenAdapter;
use crate::forward::{Forward, PeerPort, PeerSettings};
use crate::metrics::Metrics;

/// The peers of this replica, where it shares a Redis with some, and the port on which they reach it.
pub(super) async fn start(
    shared: &Shared,
    peers: Option<PeerSettings>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Option<(Arc<Forward>, PeerPort)>> {
    let (ChosenAdapter::Redis(adapter), Some(settings)) = (&shared.adapter, peers) else {
        return Ok(None);
    };
    let port = PeerPort::bind(settings).await;
    let port = port.with_context(|| format!("the port for other replicas {} can not be had", settings.bind))?;
    let forward = Forward::new(adapter.peers(), Arc::clone(metrics));
    Ok(Some((Arc::new(forward), port)))
}
