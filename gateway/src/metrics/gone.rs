//! gone: series of channels, endpoints, topics, listeners and tenants that the configuration no longer has are dropped, so
//! that their number is bounded by what is configured and not by what ever was.

use std::collections::{BTreeSet, HashMap};

use aldis_core::table::Table;
use aldis_crds::gateway::Listener;
use prometheus::core::{Collector as _, GenericCounter, GenericGauge, MetricVec, MetricVecBuilder};
use prometheus::proto::LabelPair;
use prometheus::{Histogram, core::Atomic};

/// Names that label values may be.
#[derive(Debug)]
pub(crate) struct Known {
    /// `namespace/name`, with the paths of its endpoints.
    channels: HashMap<String, BTreeSet<String>>,
    namespaces: BTreeSet<String>,
    topics: BTreeSet<String>,
    listeners: BTreeSet<String>,
}

impl Known {
    /// What is in force.
    pub(crate) fn of(table: &Table, listeners: &[Listener]) -> Self {
        let channels = table.channels().iter();
        Self {
            channels: channels
                .clone()
                .map(|channel| {
                    let endpoints = channel.endpoints.iter();
                    let paths = endpoints.map(|endpoint| endpoint.path.text.clone()).collect();
                    (channel.name.to_string(), paths)
                })
                .collect(),
            namespaces: channels.map(|channel| channel.name.namespace.clone()).collect(),
            topics: table.topics(),
            listeners: listeners.iter().map(|listener| listener.name.clone()).collect(),
        }
    }

    fn has_channel(&self, channel: &str) -> bool {
        self.channels.contains_key(channel)
    }

    /// Whether a series is of something that is not there.
    fn lacks(&self, labels: &[LabelPair]) -> bool {
        let value = |name: &str| labels.iter().find(|label| label.name() == name).map(LabelPair::value);
        let channel = value("channel");
        // A built-in operation is named, an endpoint has a path.
        let endpoint = value("endpoint").filter(|endpoint| endpoint.starts_with('/'));
        let paths = channel.and_then(|channel| self.channels.get(channel));
        channel.is_some_and(|channel| !self.has_channel(channel))
            || endpoint.is_some_and(|endpoint| paths.is_none_or(|paths| !paths.contains(endpoint)))
            || value("namespace").is_some_and(|namespace| !self.namespaces.contains(namespace))
            || value("topic").is_some_and(|topic| !self.topics.contains(topic))
            || value("listener").is_some_and(|listener| !self.listeners.contains(listener))
    }
}

/// A metric, of one series or many.
pub(super) trait Series {
    /// Drops the series whose labels are such.
    fn drop_where(&self, _such: &dyn Fn(&[LabelPair]) -> bool) {}
}

impl<P: Atomic> Series for GenericCounter<P> {}
impl<P: Atomic> Series for GenericGauge<P> {}
impl Series for Histogram {}

impl<T: MetricVecBuilder> Series for MetricVec<T> {
    fn drop_where(&self, such: &dyn Fn(&[LabelPair]) -> bool) {
        let families = self.collect();
        for metric in families.iter().flat_map(|family| family.get_metric()) {
            if such(metric.get_label()) {
                let labels = metric.get_label().iter();
                let labels: HashMap<_, _> = labels.map(|label| (label.name(), label.value())).collect();
                // Where it is gone already there is nothing to do.
                self.remove(&labels).ok();
            }
        }
    }
}

impl super::Metrics {
    /// This is in force from now on. What it lacks is dropped by [`super::Metrics::forget_gone`].
    pub(crate) fn follow(&self, known: Known) {
        *self.lock_known() = Some(known);
    }

    /// What so many channels that are gone had left in Redis was erased.
    pub(crate) fn erased(&self, channels: usize) {
        self.erased.inc_by(channels as u64);
    }

    /// Clients that are connected, of all channels.
    pub(crate) fn connections(&self) -> u64 {
        let families = self.connections.collect();
        let metrics = families.iter().flat_map(|family| family.get_metric());
        metrics
            .map(|metric| metric.get_gauge().get_value().max(0.0) as u64)
            .sum()
    }

    /// Drops the series of what is gone, those of a channel once its last client is: its end is still counted. Cheap where
    /// nothing has changed.
    pub(crate) fn forget_gone(&self) {
        let mut pending = self.lock_known();
        let Some(known) = &*pending else { return };
        let families = self.connections.collect();
        let connected: BTreeSet<_> = families
            .iter()
            .flat_map(|family| family.get_metric())
            .filter(|metric| metric.get_gauge().get_value() > 0.0)
            .flat_map(|metric| metric.get_label())
            .map(|label| label.value().to_owned())
            .filter(|channel| !known.has_channel(channel))
            .collect();
        let is_gone = |labels: &[LabelPair]| {
            let mut channels = labels.iter().filter(|label| label.name() == "channel");
            known.lacks(labels) && !channels.any(|channel| connected.contains(channel.value()))
        };
        self.each(|series| series.drop_where(&is_gone));
        if connected.is_empty() {
            *pending = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use aldis_crds::contract::{GatewayConfig, Keys};
    use aldis_crds::names::ChannelName;
    use serde_json::{Value, json};

    use super::*;
    use crate::consume::Observe as _;
    use crate::metrics::Metrics;

    /// Channels `press/NAME` that read topic NAME, each with these endpoints, on listener `web`.
    fn known(channels: &[(&str, &[&str])]) -> Known {
        let endpoint = |path: &&str| json!({"method": "GET", "path": path, "allow": "true", "respond": {"body": {}}});
        let channels = channels.iter().map(|(name, paths)| {
            let http: Vec<_> = paths.iter().map(endpoint).collect();
            let spec = json!({
                "parentRefs": [{"name": "shared"}], "http": http,
                "sources": [{"name": "s", "kafka": {"topics": [name]}}]});
            json!({"channel": {"namespace": "press", "name": name}, "attachments": [], "spec": spec})
        });
        let config: GatewayConfig = serde_json::from_value(json!({
            "version": 1, "listeners": [{"name": "web", "port": 3000}],
            "kafka": {"bootstrapServers": [], "groupId": "", "deadLetterTopic": ""},
            "channels": channels.collect::<Vec<Value>>()}))
        .unwrap();
        let (table, bad) = Table::compile(&config, &Keys::default());
        assert!(bad.is_empty(), "{bad:?}");
        Known::of(&table, &config.listeners)
    }

    fn channel(name: &str) -> ChannelName {
        ChannelName {
            namespace: "press".to_owned(),
            name: name.to_owned(),
        }
    }

    #[test]
    fn series_of_what_is_gone_are_dropped_those_of_a_channel_after_its_last_client() {
        let metrics = Metrics::new();
        let (news, sport) = (channel("news"), channel("sport"));
        let shows = |what: &str| metrics.text().contains(what);
        metrics.follow(known(&[("news", &["/a", "/b"]), ("sport", &[])]));
        for channel in [&news, &sport] {
            metrics.connected(channel);
            metrics.delivered(channel, 1, 0.0);
        }
        for endpoint in ["/a", "/b", "stats"] {
            metrics.http(&news, endpoint, 200);
        }
        metrics.received("sport", 0, 1);
        metrics.listener_refused("web", "too_large");
        metrics.listener_refused("tls", "too_large");
        metrics.jwks_fetched("press", "ok");
        metrics.jwks_fetched("cafe", "ok");
        metrics.forget_gone();
        for here in ["press/sport", "topic=\"sport\"", "endpoint=\"/b\"", "listener=\"web\""] {
            assert!(shows(here), "{here}");
        }
        assert!(!shows("listener=\"tls\"") && !shows("cafe"));

        metrics.follow(known(&[("news", &["/a"])]));
        metrics.forget_gone();
        assert!(
            shows("aldis_connections{channel=\"press/sport\"} 1"),
            "its client is still there"
        );
        assert!(!shows("topic=\"sport\"") && !shows("endpoint=\"/b\""));
        assert!(shows("endpoint=\"/a\"") && shows("endpoint=\"stats\""));
        metrics.disconnected(&sport, "namespace_closed");
        metrics.forget_gone();
        assert!(!shows("press/sport"));
        assert!(shows("aldis_connections{channel=\"press/news\"} 1"));
        assert!(shows("aldis_delivery_age_seconds_count{channel=\"press/news\"} 1"));
    }
}
