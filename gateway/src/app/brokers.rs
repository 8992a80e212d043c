//! Keys for Kafka and Redis that change, and whether brokers let the gateway in.

use std::sync::Arc;

use aldis_crds::contract::{KafkaConfig, Keys};
use tokio_util::sync::CancellationToken;

use super::Gateway;
use super::choose::endpoint;
use crate::adapter::chosen::ChosenAdapter;
use crate::kafka::{Access, Reach};
use crate::metrics::Metrics;
use crate::status::Status;

/// Where Kafka is, and how one gets in; or what is wrong with that.
pub(super) fn reach(kafka: &KafkaConfig, keys: &Keys) -> Result<Reach, String> {
    Reach::new(kafka, &keys.kafka)
}

impl Gateway {
    /// Redis is reached with other keys from the next connection on, and Kafka once brokers let the gateway in with them.
    pub(super) fn renew_keys(&self, keys: &Keys) {
        if let (ChosenAdapter::Redis(adapter), Some(redis)) = (&self.shared.adapter, &self.redis) {
            match endpoint(redis, keys) {
                Ok(endpoint) => adapter.reach(endpoint),
                Err(error) => tracing::error!(error, "the new keys for redis can not be used, the last good ones stay"),
            }
        }
        match reach(&self.kafka, keys) {
            Ok(reach) => self.access.renew(reach),
            Err(error) => tracing::error!(error, "the new keys for kafka can not be used, the last good ones stay"),
        }
    }
}

/// Until `stop`: takes up other credentials, and shows what brokers say to them.
pub(super) async fn follow_brokers(
    access: Access,
    status: Arc<Status>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let (mut refused, mut changes) = (access.refused(), access.changes());
    tokio::spawn(access.keep(stop.clone()));
    loop {
        let reason = refused.borrow_and_update().clone();
        metrics.kafka_refused(reason.is_some());
        status.set_kafka_refused(reason);
        tokio::select! {
            () = stop.cancelled() => return,
            changed = refused.changed() => if changed.is_err() { return },
            changed = changes.changed() => match changed {
                Ok(()) => metrics.kafka_renewed(),
                Err(_) => return,
            },
        }
    }
}
