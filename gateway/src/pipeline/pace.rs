//! pace: `deliveriesPerSecond`. Nothing is lost: who is over it waits, and nobody else does.
//!
//! What a record makes is known once it has been routed, so a batch counts after it was appended, and the next one waits until
//! nothing is owed any more. It waits in its partition, which is then paused; so only where all who read the topic are channels of
//! the tenant that owes. A topic that others read too goes on, and what is made of it over the rate is counted; what would come
//! over HTTP, through the topic that all share, is refused at the door instead ([`crate::http`]).

use std::time::{Duration, Instant};

use aldis_core::channel::Channel;
use aldis_core::table::Table;

use super::Pipeline;
use crate::sockets::Shared;

/// How long is waited before it is looked again, at most: limits may have been raised. 500 ms.
const LOOK_EVERY: Duration = Duration::from_millis(500);

impl<A> Shared<A> {
    /// How long it takes until none of these channels, nor their tenants, owes anything.
    pub(crate) fn deliveries_owed<'c>(&self, channels: impl IntoIterator<Item = &'c Channel>) -> Duration {
        let (table, now) = (self.table.load(), Instant::now());
        let owed = channels.into_iter().map(|channel| {
            let name = &channel.name;
            let tenant = table.tenant(&name.namespace).deliveries_per_second;
            let own = channel.limits.deliveries_per_second;
            let of_tenant = self.rates.tenant_deliveries.owed(&name.namespace, tenant, now);
            of_tenant.max(self.rates.channel_deliveries.owed(name, own, now))
        });
        owed.max().unwrap_or_default()
    }

    /// Counts what was made of a topic for a channel.
    pub(super) fn made(&self, channel: &Channel, topic: &str, deliveries: usize) {
        self.charge(channel, deliveries);
        let owes = !self.deliveries_owed([channel]).is_zero();
        if owes && is_shared(&self.table.load(), topic) {
            self.metrics.over_rate(&channel.name, deliveries);
        }
    }

    fn charge(&self, channel: &Channel, deliveries: usize) {
        let (name, now) = (&channel.name, Instant::now());
        let tenant = self.table.load().tenant(&name.namespace).deliveries_per_second;
        let own = channel.limits.deliveries_per_second;
        self.rates
            .tenant_deliveries
            .charge(&name.namespace, deliveries, tenant, now);
        self.rates.channel_deliveries.charge(name, deliveries, own, now);
    }
}

impl<A> Pipeline<A> {
    /// Waits while the channels that read a topic owe something, where they are of one tenant.
    pub(super) async fn wait_for_rate(&self, topic: &str) {
        let begun = Instant::now();
        loop {
            let table = self.shared.table.load_full();
            let owed = match is_shared(&table, topic) {
                true => Duration::ZERO,
                false => self
                    .shared
                    .deliveries_owed(table.readers_of(topic).map(|(channel, _)| &**channel)),
            };
            if owed.is_zero() {
                break;
            }
            tokio::time::sleep(owed.min(LOOK_EVERY)).await;
        }
        let waited = begun.elapsed();
        if waited >= Duration::from_millis(1) {
            self.shared.metrics.paced(topic, waited.as_secs_f64());
        }
    }
}

/// Whether channels of several tenants read a topic.
fn is_shared(table: &Table, topic: &str) -> bool {
    let mut namespaces = table.readers_of(topic).map(|(channel, _)| &channel.name.namespace);
    let first = namespaces.next();
    namespaces.any(|namespace| Some(namespace) != first)
}
