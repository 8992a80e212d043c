//! Settings that every Kafka client of the gateway shares, consumer and producer alike.
//!
//! librdkafka keeps trying by itself for as long as the client lives: a broker that is absent is never an error here.

mod access;
mod producer;
mod reach;

use std::time::Duration;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};

pub use self::access::Access;
pub(crate) use self::access::Context;
pub(crate) use self::producer::Producer;
pub use self::reach::Reach;

/// How long one request to a broker may take. Default of librdkafka is 60 s, in which a synchronous commit to a broker
/// that hangs would hold a rebalance.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long setting up one connection may take. Default of librdkafka is 30 s; brokers that have gone are left sooner.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// First pause before a connection is tried again.
pub const RECONNECT_MIN: Duration = Duration::from_millis(100);

/// Longest pause between two tries. Default of librdkafka is 10 s, which would add up to that to every broker restart.
pub const RECONNECT_MAX: Duration = Duration::from_secs(2);

/// How old what is known of a topic may become, so how soon a new topic or partition is seen. Default of librdkafka is
/// 5 min. Not 5 s: a refresh that falls together with the answer to a join makes librdkafka join once more, and the mock
/// cluster lets later members of a group wait just that long.
pub const METADATA_REFRESH: Duration = Duration::from_secs(4);

/// What every client starts from, but for how it gets in: that is [`Reach::client`].
///
/// `bootstrap_servers` are `host:port`; `client_id` is how brokers name the client in their logs and quotas.
pub(crate) fn client(bootstrap_servers: &[String], client_id: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap_servers.join(","))
        .set("client.id", client_id)
        .set("socket.timeout.ms", millis(REQUEST_TIMEOUT))
        .set("socket.connection.setup.timeout.ms", millis(CONNECT_TIMEOUT))
        .set("reconnect.backoff.ms", millis(RECONNECT_MIN))
        .set("reconnect.backoff.max.ms", millis(RECONNECT_MAX))
        .set("topic.metadata.refresh.interval.ms", millis(METADATA_REFRESH))
        .set_log_level(RDKafkaLogLevel::Info);
    config
}

/// A duration as librdkafka's settings take it.
pub fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

/// Hands a line of librdkafka's own log to `tracing`, target `librdkafka`.
///
/// It repeats itself for as long as a broker is away, so all but what ends a client is debug: the gateway logs changes
/// of state itself, once.
pub fn log(level: RDKafkaLogLevel, facility: &str, line: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", facility, "{line}");
        }
        _ => tracing::debug!(target: "librdkafka", facility, "{line}"),
    }
}
