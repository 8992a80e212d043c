//! Which adapter a gateway has.

use std::sync::Arc;

use aldis_crds::contract::{GatewayConfig, Keys, RedisConfig};
use tokio_util::sync::CancellationToken;

use super::Chosen;
use crate::adapter::chosen::ChosenAdapter;
use crate::adapter::memory::{MemoryAdapter, new_epoch};
use crate::adapter::redis::{Endpoint, RedisAdapter};
use crate::clock::Clock;
use crate::hub::Hub;
use crate::metrics::Metrics;

/// Redis where the configuration names one, which others share; this process' memory otherwise.
pub(super) fn choose_adapter(
    config: &GatewayConfig,
    keys: &Keys,
    metrics: &Arc<Metrics>,
    clock: Clock,
    stop: &CancellationToken,
) -> anyhow::Result<(Arc<Hub<Arc<Metrics>>>, Chosen)> {
    let Some(redis) = &config.redis else {
        let epoch = new_epoch();
        let hub = Arc::new(Hub::new(Arc::clone(&epoch), Arc::clone(metrics)));
        let adapter = MemoryAdapter::new(epoch, Arc::clone(&hub), clock);
        return Ok((hub, ChosenAdapter::Memory(adapter)));
    };
    // Redis says in which epoch a channel is, when the first of its rooms is hosted.
    let hub = Arc::new(Hub::new("".into(), Arc::clone(metrics)));
    let endpoint = endpoint(redis, keys).map_err(anyhow::Error::msg)?;
    let adapter = RedisAdapter::start(&redis.uid, endpoint, Arc::clone(&hub), clock, stop.clone());
    Ok((hub, ChosenAdapter::Redis(adapter)))
}

/// Where Redis is, and how one gets in; or what is wrong with that.
pub(super) fn endpoint(redis: &RedisConfig, keys: &Keys) -> Result<Endpoint, String> {
    Endpoint::parse(&redis.url)?.with_keys(&keys.redis)
}
