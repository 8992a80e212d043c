//! status: what this gateway serves, and what is wrong with it; what health and `/config` tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use aldis_core::table::BadChannel;
use aldis_crds::contract::GatewayConfig;
use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::Notify;

use crate::adapter::redis::Link;
use crate::listener::policy::BadListener;

/// Where a gateway is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is in force yet.
    Starting,
    /// Clients should come.
    Serving,
    /// It stops: no more clients should come.
    Draining,
}

/// The configuration in force.
#[derive(Debug, Default)]
pub struct InForce {
    /// It; `None` before the first.
    pub config: Option<GatewayConfig>,
    /// Names of its keys.
    pub keys: Vec<String>,
    /// The hash of all of it, keys too: the operator knows it by that.
    pub hash: String,
    /// The hash of each channel, in their order.
    pub parts: Vec<String>,
    /// When it came in force, in ms since 1970.
    pub since: i64,
    /// Channels that can not be served as they are configured.
    pub bad_channels: Vec<BadChannel>,
    /// Listeners that can not be served as they are configured.
    pub bad_listeners: Vec<(String, BadListener)>,
    /// Fields that have changed and need a restart.
    pub needs_restart: Vec<&'static str>,
}

/// A newer configuration that was not put in force.
#[derive(Debug)]
pub struct Rejected {
    /// What is wrong with it, and what to do.
    pub reason: String,
    /// When it was found, in ms since 1970.
    pub since: i64,
}

/// Everything about one gateway that is not a count.
#[derive(Debug)]
pub struct Status {
    phase: AtomicU8,
    in_force: ArcSwap<InForce>,
    rejected: ArcSwapOption<Rejected>,
    link: ArcSwap<Link>,
    kafka_refused: ArcSwapOption<String>,
    changed: Notify,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            phase: AtomicU8::new(Phase::Starting as u8),
            in_force: ArcSwap::from_pointee(InForce::default()),
            rejected: ArcSwapOption::empty(),
            // So it is without a Redis.
            link: ArcSwap::from_pointee(Link::Live),
            kafka_refused: ArcSwapOption::empty(),
            changed: Notify::new(),
        }
    }
}

impl Status {
    /// Where it is in its life.
    pub fn phase(&self) -> Phase {
        [Phase::Starting, Phase::Serving, Phase::Draining][usize::from(self.phase.load(Ordering::Relaxed))]
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Waits until the phase or what is in force has changed since it was waited for last. For one who waits.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What is in force.
    pub fn in_force(&self) -> Arc<InForce> {
        self.in_force.load_full()
    }

    pub(crate) fn put_in_force(&self, in_force: InForce) {
        self.in_force.store(Arc::new(in_force));
        self.rejected.store(None);
        self.changed.notify_one();
    }

    pub(crate) fn set_bad_listeners(&self, bad_listeners: Vec<(String, BadListener)>) {
        let before = self.in_force.load_full();
        self.in_force.store(Arc::new(InForce {
            config: before.config.clone(),
            keys: before.keys.clone(),
            hash: before.hash.clone(),
            parts: before.parts.clone(),
            since: before.since,
            bad_channels: before.bad_channels.clone(),
            bad_listeners,
            needs_restart: before.needs_restart.clone(),
        }));
        self.changed.notify_one();
    }

    /// The newest configuration, where it is not in force.
    pub fn rejected(&self) -> Option<Arc<Rejected>> {
        self.rejected.load_full()
    }

    pub(crate) fn reject(&self, rejected: Rejected) {
        self.rejected.store(Some(Arc::new(rejected)));
    }

    pub(crate) fn set_link(&self, link: Link) {
        self.link.store(Arc::new(link));
    }

    pub(crate) fn set_kafka_refused(&self, reason: Option<String>) {
        self.kafka_refused.store(reason.map(Arc::new));
        self.changed.notify_one();
    }

    /// Why Kafka's brokers do not let the gateway in, by the credentials in force or by newer ones.
    pub fn kafka_refused(&self) -> Option<Arc<String>> {
        self.kafka_refused.load_full()
    }

    /// Whether clients should come to this gateway rather than to its peers.
    pub fn is_ready(&self) -> bool {
        self.not_ready().is_none()
    }

    /// Why clients should not come to this gateway, but to its peers. Only what is its own counts: what all of them lack (Kafka,
    /// Redis, a certificate, a good configuration) takes none of them out of service, or nobody could come back.
    pub fn not_ready(&self) -> Option<&'static str> {
        let in_force = self.in_force.load();
        let no_port = |(_, bad): &(String, BadListener)| matches!(bad, BadListener::NoPort { .. });
        match self.phase() {
            Phase::Draining => Some("draining"),
            Phase::Starting => Some("starting"),
            Phase::Serving if in_force.config.is_none() => Some("starting"),
            Phase::Serving if in_force.bad_listeners.iter().any(no_port) => Some("a listener has no port"),
            Phase::Serving if **self.link.load() == Link::Deaf => Some("it does not hear what is published in redis"),
            Phase::Serving => None,
        }
    }

    /// What is wrong, each as the thing that is: `configuration`, `channels`, `listeners`, `restart`, `redis`,
    /// `kafka_credentials`.
    pub fn degraded(&self) -> Vec<&'static str> {
        let in_force = self.in_force.load();
        let problems = [
            ("configuration", self.rejected.load().is_some()),
            ("channels", !in_force.bad_channels.is_empty()),
            ("listeners", !in_force.bad_listeners.is_empty()),
            ("restart", !in_force.needs_restart.is_empty()),
            ("redis", **self.link.load() != Link::Live),
            ("kafka_credentials", self.kafka_refused.load().is_some()),
        ];
        problems
            .into_iter()
            .filter(|(_, is)| *is)
            .map(|(what, _)| what)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_its_own_makes_a_gateway_not_ready() {
        let status = Status::default();
        assert!(!status.is_ready(), "nothing is in force");
        let config: GatewayConfig = serde_json::from_str(
            r#"{"version": 1, "kafka": {"bootstrapServers": [], "groupId": "", "deadLetterTopic": "", "ingressTopic": ""}, "listeners": [], "channels": []}"#,
        )
        .unwrap();
        let in_force = |bad_listeners| InForce {
            config: Some(config.clone()),
            bad_listeners,
            ..InForce::default()
        };
        status.put_in_force(in_force(vec![]));
        assert!(!status.is_ready(), "it does not serve yet");
        status.enter(Phase::Serving);
        assert!(status.is_ready() && status.degraded().is_empty());
        status.put_in_force(in_force(vec![("web".to_owned(), BadListener::NoCertificate)]));
        assert_eq!((status.is_ready(), status.degraded()), (true, vec!["listeners"]));
        let source = std::io::Error::from(std::io::ErrorKind::AddrInUse);
        let address = ([127, 0, 0, 1], 1).into();
        status.put_in_force(in_force(vec![(
            "web".to_owned(),
            BadListener::NoPort { address, source },
        )]));
        assert!(!status.is_ready(), "a port that this machine does not give is its own");
        status.put_in_force(in_force(vec![]));
        status.reject(Rejected {
            reason: "no JSON".to_owned(),
            since: 0,
        });
        assert_eq!((status.is_ready(), status.degraded()), (true, vec!["configuration"]));
        status.put_in_force(in_force(vec![]));
        assert_eq!(status.degraded(), [""; 0], "the next good one ends that");
        status.set_link(Link::Away);
        assert_eq!((status.is_ready(), status.degraded()), (true, vec!["redis"]));
        status.set_link(Link::Live);
        status.set_kafka_refused(Some("no such user".to_owned()));
        assert_eq!(
            (status.is_ready(), status.degraded()),
            (true, vec!["kafka_credentials"])
        );
        status.set_kafka_refused(None);
        status.set_link(Link::Deaf);
        assert!(!status.is_ready(), "its peers hear Redis");
        status.set_link(Link::Live);
        assert!(status.is_ready());
        status.enter(Phase::Draining);
        assert!(!status.is_ready());
    }
}
