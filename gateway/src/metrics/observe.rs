//! What the hub and the consumer do, as metrics.

use aldis_crds::names::ChannelName;

use super::Metrics;
use crate::consume::{ErrorReason, Observe as ObserveConsumer, Rebalance};
use crate::hub::{CloseReason, Observe as ObserveHub};

impl ObserveHub for Metrics {
    fn sent(&self, channel: &ChannelName, clients: usize) {
        self.sends
            .with_label_values(&[&channel.to_string()])
            .inc_by(clients as u64);
    }

    fn closed(&self, channel: &ChannelName, reason: CloseReason) {
        self.closed
            .with_label_values(&[channel.to_string().as_str(), reason.as_str()])
            .inc();
    }

    fn forgot(&self, namespace: &str, deliveries: usize) {
        self.history_dropped
            .with_label_values(&[namespace])
            .inc_by(deliveries as u64);
    }

    fn forked(&self, channel: &ChannelName) {
        self.forks.with_label_values(&[&channel.to_string()]).inc();
    }
}

impl ObserveHub for std::sync::Arc<Metrics> {
    fn sent(&self, channel: &ChannelName, clients: usize) {
        (**self).sent(channel, clients);
    }

    fn closed(&self, channel: &ChannelName, reason: CloseReason) {
        ObserveHub::closed(&**self, channel, reason);
    }

    fn forgot(&self, namespace: &str, deliveries: usize) {
        (**self).forgot(namespace, deliveries);
    }

    fn forked(&self, channel: &ChannelName) {
        (**self).forked(channel);
    }
}

impl ObserveConsumer for Metrics {
    fn received(&self, topic: &str, _: i32, bytes: usize) {
        self.received.with_label_values(&[topic]).inc();
        self.received_bytes.with_label_values(&[topic]).inc_by(bytes as u64);
    }

    fn retried(&self, topic: &str, _: i32) {
        self.retries.with_label_values(&[topic]).inc();
    }

    fn taken(&self, topic: &str, partition: i32, _: usize, _: u32, published: i64) {
        self.taken_until
            .with_label_values(&[topic, &partition.to_string()])
            .set(published / 1000);
    }

    fn lag(&self, topic: &str, partition: i32, records: Option<i64>) {
        let labels = [topic, &partition.to_string()];
        match records {
            Some(records) => self.lag.with_label_values(&labels).set(records),
            None => drop(self.lag.remove_label_values(&labels)),
        }
    }

    fn stood_in(&self, topic: &str, records: usize) {
        self.stood_in.with_label_values(&[topic]).inc_by(records as u64);
    }

    fn again(&self, topic: &str, _: i32, records: usize) {
        self.again.with_label_values(&[topic]).inc_by(records as u64);
    }

    fn backlog(&self, topic: &str, partition: i32, records: usize, _: usize) {
        self.backlog
            .with_label_values(&[topic, &partition.to_string()])
            .set(records as i64);
    }

    fn paused(&self, topic: &str, partition: i32, paused: bool) {
        self.paused
            .with_label_values(&[topic, &partition.to_string()])
            .set(paused.into());
    }

    fn assigned(&self, topic: &str, partition: i32, assigned: bool) {
        if !assigned {
            // Gauges of partitions that others read now are gone, not frozen.
            let labels = [topic, &partition.to_string()];
            self.backlog.remove_label_values(&labels).ok();
            self.paused.remove_label_values(&labels).ok();
            self.lag.remove_label_values(&labels).ok();
            self.taken_until.remove_label_values(&labels).ok();
            self.dead_letters_waiting.remove_label_values(&labels).ok();
        }
    }

    fn rebalanced(&self, rebalance: Rebalance, _: usize) {
        let change = match rebalance {
            Rebalance::Assigned => "assigned",
            Rebalance::Revoked => "revoked",
            Rebalance::Lost => "lost",
        };
        self.rebalances.with_label_values(&[change]).inc();
    }

    fn failed(&self, reason: ErrorReason) {
        self.consumer_errors.with_label_values(&[reason.as_str()]).inc();
    }

    fn connected(&self, connected: bool) {
        self.connected.set(connected.into());
    }
}
