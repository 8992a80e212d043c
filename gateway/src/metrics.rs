//! Every metric of the gateway. Labels are closed sets, or names that the configuration gives, for as long as it does.

use std::sync::{Mutex, MutexGuard, PoisonError};

use std::time::Instant;

use aldis_core::identity::FaultReason;
use aldis_core::reject::Reason;
use aldis_core::time::Millis;
use aldis_crds::names::ChannelName;
use prometheus::core::Collector as _;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::hub::{CloseReason, Observe as ObserveHub};

mod gone;
mod lag;
mod observe;
mod ports;

pub(crate) use gone::Known;
use gone::Series;

/// Buckets in seconds, from 100 µs to 10 s.
const SECONDS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// What became of a record in a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordOutcome {
    /// At least one delivery.
    Delivered,
    /// No route matched, or only optional rooms that were empty.
    RoutedNowhere,
    /// A source's `where` said no, or a tombstone.
    NotForUs,
    /// It went to the dead letters.
    DeadLettered,
    /// The mark had passed it: it came again.
    Repeated,
}

impl RecordOutcome {
    fn as_str(self) -> &'static str {
        match self {
            RecordOutcome::Delivered => "delivered",
            RecordOutcome::RoutedNowhere => "routed_nowhere",
            RecordOutcome::NotForUs => "not_for_us",
            RecordOutcome::DeadLettered => "dead_lettered",
            RecordOutcome::Repeated => "repeated",
        }
    }
}

macro_rules! metrics {
    ($($(#[$doc:meta])* $field:ident: $type:ident($name:literal, $help:literal $(, $labels:expr)?);)*) => {
        /// All metrics.
        pub struct Metrics {
            registry: Registry,
            /// What came in force and may have left series behind.
            known: Mutex<Option<Known>>,
            $($(#[$doc])* $field: $type,)*
        }

        impl Metrics {
            /// Metrics at zero, in a registry of their own.
            ///
            /// # Panics
            /// Never: the names are constants and differ.
            pub fn new() -> Self {
                let registry = Registry::new();
                $(let $field = metrics!(@make $type, $name, $help $(, $labels)?);
                registry.register(Box::new($field.clone())).expect("each metric is registered once");)*
                registry.register(Box::new(ProcessCollector::for_self())).expect("process metrics are registered once");
                Self { registry, known: Mutex::default(), $($field,)* }
            }

            fn each(&self, work: impl Fn(&dyn Series)) {
                $(work(&self.$field);)*
            }
        }
    };
    (@make IntCounterVec, $name:literal, $help:literal, $labels:expr) => {
        IntCounterVec::new(Opts::new($name, $help), &$labels).expect("name and labels are valid")
    };
    (@make IntGaugeVec, $name:literal, $help:literal, $labels:expr) => {
        IntGaugeVec::new(Opts::new($name, $help), &$labels).expect("name and labels are valid")
    };
    (@make HistogramVec, $name:literal, $help:literal, $labels:expr) => {
        HistogramVec::new(HistogramOpts::new($name, $help).buckets(SECONDS.to_vec()), &$labels).expect("name and labels are valid")
    };
    (@make Histogram, $name:literal, $help:literal) => {
        Histogram::with_opts(HistogramOpts::new($name, $help).buckets(SECONDS.to_vec())).expect("the name is valid")
    };
    (@make $type:ident, $name:literal, $help:literal) => {
        $type::new($name, $help).expect("the name is valid")
    };
}

metrics! {
    /// consume
    received: IntCounterVec("aldis_consumer_records_total", "Records received from Kafka.", ["topic"]);
    received_bytes: IntCounterVec("aldis_consumer_bytes_total", "Bytes of the records received from Kafka.", ["topic"]);
    retries: IntCounterVec("aldis_consumer_retries_total", "Batches that could not be taken and were repeated.", ["topic"]);
    stood_in: IntCounterVec("aldis_consumer_stood_in_total", "Records that were taken for a replica that is dead, before the group gave its partitions to others.", ["topic"]);
    again: IntCounterVec("aldis_consumer_again_total", "Records that were read and taken again because Redis had forgotten them.", ["topic"]);
    backlog: IntGaugeVec("aldis_consumer_backlog_records", "Records that wait in this replica for their partition's worker.", ["topic", "partition"]);
    lag: IntGaugeVec("aldis_consumer_lag_records", "Records of a partition that this replica reads and has not taken yet, as brokers say every 10 s.", ["topic", "partition"]);
    taken_until: IntGaugeVec("aldis_consumer_taken_timestamp_seconds", "When the last record of a partition that was taken had been published, in seconds since 1970.", ["topic", "partition"]);
    paused: IntGaugeVec("aldis_consumer_paused", "1 where a partition is paused because its backlog is full or its batch is repeated.", ["topic", "partition"]);
    rebalances: IntCounterVec("aldis_consumer_rebalances_total", "Rebalances of the consumer group that touched this replica.", ["change"]);
    consumer_errors: IntCounterVec("aldis_consumer_errors_total", "Errors of the Kafka consumer by reason. It tries on by itself, but after `fatal`.", ["reason"]);
    connected: IntGauge("aldis_consumer_connected", "1 while Kafka's brokers can be reached.");
    kafka_refused: IntGauge("aldis_kafka_refused", "1 while Kafka's brokers refuse the user, or TLS: by the credentials in force or by newer ones. What is connected goes on.");
    kafka_renewed: IntCounter("aldis_kafka_renewed_total", "Times that all Kafka clients were made anew with other credentials.");
    /// decode and route
    records: IntCounterVec("aldis_records_total", "Records by channel and what became of them.", ["channel", "outcome"]);
    dead_letters: IntCounterVec("aldis_dead_letters_total", "Records that a channel could not process, by reason.", ["channel", "reason"]);
    dead_letter_failures: IntCounterVec("aldis_dead_letter_failures_total", "Dead letters that a topic did not take (refused) or not in time (unavailable). They go to the gateway's topic, or wait.", ["channel", "reason"]);
    dead_letters_waiting: IntGaugeVec("aldis_dead_letters_waiting", "Dead letters of a partition that no topic takes. The partition waits until one does.", ["topic", "partition"]);
    step_seconds: HistogramVec("aldis_step_seconds", "Time of a step for the records of a batch: route (decode and route), adapter (until deliveries are numbered).", ["step"]);
    take_seconds: Histogram("aldis_take_seconds", "Time from a batch's hand-over by the consumer until it is in the clients' queues.");
    /// adapter
    deliveries: IntCounterVec("aldis_deliveries_total", "Deliveries that were numbered.", ["channel"]);
    behind: IntGaugeVec("aldis_channel_behind", "Partitions that a channel reads by itself because Redis could not take what is the channel's.", ["channel"]);
    marks_dropped: IntCounterVec("aldis_marks_dropped_total", "Marks that were dropped because their topic was deleted and made anew.", ["channel"]);
    delivery_age: HistogramVec("aldis_delivery_age_seconds", "Age of a record when its deliveries are in the clients' queues.", ["channel"]);
    adapter_live: IntGauge("aldis_adapter_live", "1 while this replica hears what its adapter publishes and has missed nothing.");
    forks: IntCounterVec("aldis_redis_forks_total", "Times that Redis went on without its last writes of a channel, as this replica has noticed.", ["channel"]);
    history_dropped: IntCounterVec("aldis_history_dropped_total", "Deliveries that can not be read back any more because their channel or its tenant keeps too many bytes.", ["namespace"]);
    paced: HistogramVec("aldis_paced_seconds", "Times for which records of a topic have waited because its channels or their tenant are over deliveriesPerSecond.", ["topic"]);
    over_rate: IntCounterVec("aldis_deliveries_over_rate_total", "Deliveries over deliveriesPerSecond that were made all the same, because other tenants read their topic too.", ["channel"]);
    /// hub and clients
    sends: IntCounterVec("aldis_sends_total", "Events queued for clients: a delivery counts once for each client.", ["channel"]);
    closed: IntCounterVec("aldis_clients_closed_total", "Clients that the gateway closed, by reason. They come back.", ["channel", "reason"]);
    connects_waiting: IntGaugeVec("aldis_connects_waiting", "CONNECTs that are held: for their turn in a herd, or for a permit within the limits.", ["for"]);
    connections: IntGaugeVec("aldis_connections", "Clients that are connected.", ["channel"]);
    connects: IntCounterVec("aldis_connects_total", "Connection attempts by outcome: accepted, or the code of the refusal.", ["channel", "outcome"]);
    sessions: IntCounterVec("aldis_sessions_total", "Clients that connected, by what became of their session: new, recovered, or why not recovered.", ["channel", "outcome"]);
    disconnects: IntCounterVec("aldis_disconnects_total", "Clients that went, by how: bad_frame and bad_packet are those that sent what is no WebSocket or no Socket.IO.", ["channel", "reason"]);
    client_events: IntCounterVec("aldis_client_events_total", "Events from clients by outcome: join, leave, reply, or the code of the refusal.", ["channel", "outcome"]);
    http_requests: IntCounterVec("aldis_http_requests_total", "HTTP requests to endpoints of channels, by declared path or built-in operation, and status.", ["channel", "endpoint", "code"]);
    /// replicas
    replicas: IntGauge("aldis_replicas", "Gateways that share a Redis and have said lately that they are there, as this one sees it.");
    let_in_alone: IntCounterVec("aldis_connects_alone_total", "Clients that were let in by this replica's own counts, because Redis did not say what the others have.", ["namespace"]);
    silent: IntCounterVec("aldis_replicas_silent_total", "Answers of other replicas that were missing where all were asked for: read (who is connected), disconnect.", ["operation"]);
    /// listeners and admin
    listener_refusals: IntCounterVec("aldis_listener_refused_total", "Connections and requests that a listener refused, and connections that sent none that can be read, by reason.", ["listener", "reason"]);
    admin_refusals: IntCounterVec("aldis_admin_refused_total", "Connections and requests that the admin port refused, and connections that sent none that can be read, by reason.", ["reason"]);
    peer_refusals: IntCounterVec("aldis_peers_refused_total", "Connections and requests that the port for other replicas refused, by reason.", ["reason"]);
    forwarded: IntCounterVec("aldis_forwarded_total", "Requests of sessions that another replica has, by what became of them: answered, upgraded (a WebSocket), unknown (the replica is gone), unreachable, timed_out, busy.", ["listener", "outcome"]);
    drained: IntCounterVec("aldis_listener_drained_total", "Clients that were closed one by one because a listener stopped or changed.", ["listener"]);
    /// identity
    tokens_refused: IntCounterVec("aldis_tokens_refused_total", "Tokens that did not hold, by reason.", ["channel", "reason"]);
    jwks_fetches: IntCounterVec("aldis_jwks_fetches_total", "Requests for the keys of an issuer by result: ok, or why there were none.", ["namespace", "result"]);
    jwks_fetched: IntGaugeVec("aldis_jwks_fetched_timestamp_seconds", "When the keys of an issuer that are in use were fetched.", ["namespace", "url"]);
    /// traces
    spans: IntCounterVec("aldis_trace_spans_total", "Spans of traced records: exported, dropped because the queue was full, or failed because the receiver did not take them.", ["outcome"]);
    /// configuration
    channels: IntGauge("aldis_config_channels", "Channels in force.");
    bad_channels: IntGauge("aldis_config_bad_channels", "Channels that can not be served as they are configured.");
    reloads: IntCounter("aldis_config_reloads_total", "Times that the configuration was swapped.");
    rejections: IntCounter("aldis_config_rejected_total", "Configurations that could not be used: the last good one stayed.");
    watch_failures: IntCounter("aldis_config_watch_failures_total", "Times that the API server could not be followed: what was in force stayed.");
    acknowledged: IntGauge("aldis_config_acknowledged", "1 while the operator has been told what is in force.");
    acknowledge_failures: IntCounter("aldis_config_acknowledge_failures_total", "Times that the operator could not be told what is in force.");
    erased: IntCounter("aldis_channels_erased_total", "Channels that are gone whose data was erased in redis.");
    config_rejected: IntGauge("aldis_config_rejected", "1 while the newest configuration is not the one in force.");
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Prometheus' text format, version 0.0.4.
    pub fn text(&self) -> String {
        let mut out = Vec::new();
        // Encoding to memory fails only for a metric without samples names, which the registry refuses.
        TextEncoder::new().encode(&self.registry.gather(), &mut out).ok();
        String::from_utf8(out).unwrap_or_default()
    }

    fn lock_known(&self) -> MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn records(&self, channel: &ChannelName, outcome: RecordOutcome, count: usize) {
        self.records
            .with_label_values(&[channel.to_string().as_str(), outcome.as_str()])
            .inc_by(count as u64);
    }

    pub(crate) fn dead_letter(&self, channel: &ChannelName, reason: Reason) {
        self.dead_letters
            .with_label_values(&[channel.to_string().as_str(), reason.as_str()])
            .inc();
    }

    pub(crate) fn dead_letter_failed(&self, channel: &ChannelName, reason: &'static str) {
        self.dead_letter_failures
            .with_label_values(&[channel.to_string().as_str(), reason])
            .inc();
    }

    /// Dead letters of a partition that wait for a topic to take them; 0 when they no longer do.
    pub(crate) fn dead_letters_wait(&self, topic: &str, partition: i32, count: usize) {
        let labels = [topic, &partition.to_string()];
        match count {
            0 => drop(self.dead_letters_waiting.remove_label_values(&labels)),
            count => self.dead_letters_waiting.with_label_values(&labels).set(count as i64),
        }
    }

    /// Dead letters that wait, over all partitions.
    pub(crate) fn dead_letters_waiting(&self) -> i64 {
        let families = self.dead_letters_waiting.collect();
        let metrics = families.iter().flat_map(|family| family.get_metric());
        metrics.map(|metric| metric.get_gauge().get_value() as i64).sum()
    }

    pub(crate) fn delivered(&self, channel: &ChannelName, deliveries: usize, oldest_age_seconds: f64) {
        let channel = channel.to_string();
        self.deliveries.with_label_values(&[&channel]).inc_by(deliveries as u64);
        self.delivery_age
            .with_label_values(&[&channel])
            .observe(oldest_age_seconds.max(0.0));
    }

    pub(crate) fn paced(&self, topic: &str, seconds: f64) {
        self.paced.with_label_values(&[topic]).observe(seconds);
    }

    pub(crate) fn over_rate(&self, channel: &ChannelName, deliveries: usize) {
        self.over_rate
            .with_label_values(&[&channel.to_string()])
            .inc_by(deliveries as u64);
    }

    /// A step of the path has taken so long: `route` (with decode) or `adapter`.
    pub(crate) fn stepped(&self, step: &'static str, since: Instant) {
        self.step_seconds
            .with_label_values(&[step])
            .observe(since.elapsed().as_secs_f64());
    }

    pub(crate) fn took(&self, seconds: f64) {
        self.take_seconds.observe(seconds);
    }

    pub(crate) fn connected(&self, channel: &ChannelName) {
        let channel = channel.to_string();
        self.connections.with_label_values(&[&channel]).inc();
        self.connects.with_label_values(&[channel.as_str(), "accepted"]).inc();
    }

    pub(crate) fn replicas(&self, live: usize) {
        self.replicas.set(live as i64);
    }

    pub(crate) fn silent(&self, operation: &'static str, replicas: usize) {
        if replicas > 0 {
            self.silent.with_label_values(&[operation]).inc_by(replicas as u64);
        }
    }

    pub(crate) fn let_in_alone(&self, namespace: &str) {
        self.let_in_alone.with_label_values(&[namespace]).inc();
    }

    pub(crate) fn session(&self, channel: &ChannelName, outcome: &'static str) {
        self.sessions
            .with_label_values(&[channel.to_string().as_str(), outcome])
            .inc();
    }

    pub(crate) fn refused(&self, channel: &ChannelName, code: &'static str) {
        self.connects
            .with_label_values(&[channel.to_string().as_str(), code])
            .inc();
    }

    pub(crate) fn token_refused(&self, channel: &ChannelName, reason: FaultReason) {
        self.tokens_refused
            .with_label_values(&[channel.to_string().as_str(), reason.as_str()])
            .inc();
    }

    pub(crate) fn jwks_fetched(&self, namespace: &str, result: &str) {
        self.jwks_fetches.with_label_values(&[namespace, result]).inc();
    }

    /// The keys that are in use are of `now`.
    pub(crate) fn jwks_are_of(&self, namespace: &str, url: &str, now: Millis) {
        self.jwks_fetched.with_label_values(&[namespace, url]).set(now.0 / 1000);
    }

    pub(crate) fn jwks_forgotten(&self, namespace: &str, url: &str) {
        // It is not there where none have been fetched.
        self.jwks_fetched.remove_label_values(&[namespace, url]).ok();
    }

    /// A CONNECT is held until the value is dropped.
    pub(crate) fn connect_waits(&self, what_for: &'static str) -> impl Drop + use<> {
        struct Waits(IntGauge);
        impl Drop for Waits {
            fn drop(&mut self) {
                self.0.dec();
            }
        }
        let waiting = self.connects_waiting.with_label_values(&[what_for]);
        waiting.inc();
        Waits(waiting)
    }

    pub(crate) fn disconnected(&self, channel: &ChannelName, reason: &'static str) {
        let channel = channel.to_string();
        self.connections.with_label_values(&[&channel]).dec();
        self.disconnects.with_label_values(&[channel.as_str(), reason]).inc();
    }

    pub(crate) fn client_event(&self, channel: &ChannelName, outcome: &'static str) {
        self.client_events
            .with_label_values(&[channel.to_string().as_str(), outcome])
            .inc();
    }

    pub(crate) fn http(&self, channel: &ChannelName, endpoint: &str, status: u16) {
        self.http_requests
            .with_label_values(&[channel.to_string().as_str(), endpoint, &status.to_string()])
            .inc();
    }

    pub(crate) fn closed_slow(&self, channel: &ChannelName) {
        ObserveHub::closed(self, channel, CloseReason::SlowConsumer);
    }

    pub(crate) fn behind(&self, channel: &ChannelName, partitions: usize) {
        self.behind
            .with_label_values(&[channel.to_string().as_str()])
            .set(partitions as i64);
    }

    pub(crate) fn mark_dropped(&self, channel: &ChannelName) {
        self.marks_dropped
            .with_label_values(&[channel.to_string().as_str()])
            .inc();
    }

    pub(crate) fn kafka_refused(&self, refused: bool) {
        self.kafka_refused.set(refused.into());
    }

    pub(crate) fn kafka_renewed(&self) {
        self.kafka_renewed.inc();
    }

    pub(crate) fn adapter_live(&self, live: bool) {
        self.adapter_live.set(live.into());
    }

    pub(crate) fn spans(&self, outcome: &'static str, count: usize) {
        self.spans.with_label_values(&[outcome]).inc_by(count as u64);
    }

    pub(crate) fn configured(&self, channels: usize, bad: usize) {
        self.channels.set(channels as i64);
        self.bad_channels.set(bad as i64);
        self.reloads.inc();
        self.config_rejected.set(0);
    }

    pub(crate) fn watch_failed(&self) {
        self.watch_failures.inc();
    }

    pub(crate) fn acknowledged(&self, is: bool) {
        self.acknowledged.set(i64::from(is));
        if !is {
            self.acknowledge_failures.inc();
        }
    }

    pub(crate) fn rejected(&self) {
        self.rejections.inc();
        self.config_rejected.set(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consume::Observe as _;

    #[test]
    fn metrics_are_shown_in_prometheus_text() {
        let metrics = Metrics::new();
        let channel = ChannelName {
            namespace: "bistro".to_owned(),
            name: "orders".to_owned(),
        };
        metrics.records(&channel, RecordOutcome::Delivered, 3);
        metrics.dead_letter(&channel, Reason::NotJson);
        metrics.backlog("orders", 1, 5, 0);
        let text = metrics.text();
        assert!(
            text.contains("aldis_records_total{channel=\"bistro/orders\",outcome=\"delivered\"} 3"),
            "{text}"
        );
        assert!(
            text.contains("aldis_dead_letters_total{channel=\"bistro/orders\",reason=\"not_json\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("aldis_consumer_backlog_records{partition=\"1\",topic=\"orders\"} 5"),
            "{text}"
        );
        assert!(text.contains("process_resident_memory_bytes"), "{text}");
        metrics.assigned("orders", 1, false);
        assert!(!metrics.text().contains("aldis_consumer_backlog_records{"));
    }
}
