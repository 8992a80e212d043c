//! What a gateway serves, as the objects that carry it: an index, and a part for each channel, named by its hash.

use std::collections::BTreeMap;

use aldis_crds::config_object::{ConfigIndex, ConfigSpec};
use aldis_crds::contract::{CONTRACT_VERSION, ChannelConfig, GatewayConfig};
use aldis_crds::names::ChannelName;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// A configuration in parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// What is in force.
    pub index: ConfigIndex,
    /// The channels, by hash.
    pub parts: BTreeMap<String, ChannelConfig>,
}

impl Configuration {
    /// Takes a configuration apart.
    pub fn new(config: &GatewayConfig) -> Self {
        let parts: Vec<_> = config.channels.iter().map(|channel| (hash(channel), channel)).collect();
        let mut index = ConfigIndex {
            hash: String::new(),
            kafka: config.kafka.clone(),
            redis: config.redis.clone(),
            listeners: config.listeners.clone(),
            tenants: config.tenants.clone(),
            channels: parts.iter().map(|(hash, _)| hash.clone()).collect(),
        };
        index.hash = hash(&index);
        let parts = parts.into_iter().map(|(hash, channel)| (hash, channel.clone()));
        Self {
            index,
            parts: parts.collect(),
        }
    }

    /// The part that a channel is; `None` where it is not served.
    pub fn part_of(&self, channel: &ChannelName) -> Option<&str> {
        let mut parts = self.parts.iter();
        parts
            .find(|(_, config)| config.channel == *channel)
            .map(|(hash, _)| hash.as_str())
    }

    /// The index as it is written.
    pub fn index_spec(&self) -> ConfigSpec {
        ConfigSpec {
            contract_version: CONTRACT_VERSION,
            index: Some(self.index.clone()),
            channel: None,
        }
    }

    /// A part as it is written.
    pub fn part_spec(channel: &ChannelConfig) -> ConfigSpec {
        ConfigSpec {
            contract_version: CONTRACT_VERSION,
            index: None,
            channel: Some(channel.clone()),
        }
    }
}

/// 40 hexadecimal digits of SHA-256 over the value as JSON: 160 bits, which no tenant finds a second value for.
fn hash(value: &impl Serialize) -> String {
    let json = serde_json::to_vec(value).unwrap_or_default();
    let digest = Sha256::digest(json);
    digest[..20].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use aldis_crds::config_object::Incomplete;
    use serde_json::json;

    use super::*;

    fn config(names: &[&str]) -> GatewayConfig {
        let channel = |name: &&str| {
            json!({
                "channel": { "namespace": "bistro", "name": name },
                "attachments": [{ "listener": "web", "path": format!("/bistro/{name}") }],
                "spec": { "parentRefs": [{ "name": "shared" }] }
            })
        };
        let value = json!({
            "version": CONTRACT_VERSION,
            "kafka": { "bootstrapServers": ["kafka:9092"], "groupId": "g", "deadLetterTopic": "dead" },
            "listeners": [{ "name": "web", "port": 3000 }],
            "channels": names.iter().map(channel).collect::<Vec<_>>()
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_configuration_comes_back_whole_or_not_at_all() {
        let before = config(&["a", "b"]);
        let Configuration { index, parts } = Configuration::new(&before);
        let written: ConfigIndex = serde_json::from_value(serde_json::to_value(&index).unwrap()).unwrap();
        let assembled = written.assemble(CONTRACT_VERSION, |hash| parts.get(hash).cloned());
        assert_eq!(assembled, Ok(before));
        let missing = written.assemble(CONTRACT_VERSION, |_| None);
        assert_eq!(missing, Err(Incomplete::Missing(index.channels[0].clone())));
        let newer = written.assemble(CONTRACT_VERSION + 1, |hash| parts.get(hash).cloned());
        assert_eq!(newer, Err(Incomplete::Version(CONTRACT_VERSION + 1)));
    }

    #[test]
    fn a_change_of_one_channel_changes_its_part_and_the_index_alone() {
        let before = Configuration::new(&config(&["a", "b", "c"]));
        let mut changed = config(&["a", "b", "c"]);
        changed.channels[1].spec.history.size = 7;
        let after = Configuration::new(&changed);
        let kept = |hash: &&String| before.parts.contains_key(*hash);
        assert_eq!(after.parts.keys().filter(kept).count(), 2);
        assert_ne!(before.index.hash, after.index.hash);
        assert_eq!(Configuration::new(&config(&["a", "b", "c"])), before);
    }
}
