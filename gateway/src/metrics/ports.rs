//! What listeners and the ports beside them count.

use super::Metrics;

impl Metrics {
    pub(crate) fn listener_refused(&self, listener: &str, reason: &'static str) {
        self.listener_refusals.with_label_values(&[listener, reason]).inc();
    }

    pub(crate) fn admin_refused(&self, reason: &'static str) {
        self.admin_refusals.with_label_values(&[reason]).inc();
    }

    pub(crate) fn peers_refused(&self, reason: &'static str) {
        self.peer_refusals.with_label_values(&[reason]).inc();
    }

    pub(crate) fn forwarded(&self, listener: &str, outcome: &'static str) {
        self.forwarded.with_label_values(&[listener, outcome]).inc();
    }

    pub(crate) fn drained(&self, listener: &str, clients: usize) {
        self.drained.with_label_values(&[listener]).inc_by(clients as u64);
    }
}
