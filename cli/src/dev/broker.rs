//! The embedded broker: librdkafka's mock cluster, a real Kafka listener in this process, in memory.

use std::collections::BTreeSet;

use rdkafka::error::KafkaResult;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

/// Partitions of each topic. 4, as many as the broker itself gives to topics that it makes on demand.
const PARTITIONS: i32 = 4;

/// A broker that lives as long as this value.
pub(super) struct Broker {
    cluster: MockCluster<'static, DefaultProducerContext>,
    topics: BTreeSet<String>,
}

impl Broker {
    /// Starts it on a free port of the loopback interface.
    pub(super) fn start() -> KafkaResult<Self> {
        Ok(Self {
            cluster: MockCluster::new(1)?,
            topics: BTreeSet::new(),
        })
    }

    /// `host:port`.
    pub(super) fn address(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Makes the topics that are not there yet.
    pub(super) fn make_topics(&mut self, topics: impl IntoIterator<Item = String>) -> KafkaResult<()> {
        for topic in topics {
            if !self.topics.contains(&topic) {
                self.cluster.create_topic(&topic, PARTITIONS, 1)?;
                self.topics.insert(topic);
            }
        }
        Ok(())
    }
}
