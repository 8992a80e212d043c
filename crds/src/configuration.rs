//! What a gateway serves, as the objects that carry it: an index, and a part for each channel, named by its hash. The same
//! hashes say what is in force in a gateway, wherever it has its configuration from.

use std::collections::BTreeMap;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::config_object::{ConfigIndex, ConfigSpec};
use crate::contract::files::key_files;
use crate::contract::{CONTRACT_VERSION, ChannelConfig, GatewayConfig, Keys};
use crate::names::ChannelName;

/// A configuration in parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// What is in force.
    pub index: ConfigIndex,
    /// The channels, by hash.
    pub parts: BTreeMap<String, ChannelConfig>,
    /// The hash of each channel, by its name.
    names: BTreeMap<ChannelName, String>,
}

impl Configuration {
    /// Takes a configuration apart.
    pub fn new(config: &GatewayConfig, keys: &Keys) -> Self {
        let index = index(config, keys);
        let parts = index.channels.iter().cloned().zip(config.channels.iter().cloned());
        let names = config.channels.iter().map(|channel| channel.channel.clone());
        Self {
            parts: parts.collect(),
            names: names.zip(index.channels.iter().cloned()).collect(),
            index,
        }
    }

    /// The part that a channel is; `None` where it is not served.
    pub fn part_of(&self, channel: &ChannelName) -> Option<&str> {
        self.names.get(channel).map(String::as_str)
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

fn index(config: &GatewayConfig, keys: &Keys) -> ConfigIndex {
    let mut index = ConfigIndex {
        hash: String::new(),
        keys: fingerprint(keys),
        kafka: config.kafka.clone(),
        redis: config.redis.clone(),
        listeners: config.listeners.clone(),
        tenants: config.tenants.clone(),
        channels: config.channels.iter().map(hash).collect(),
    };
    index.hash = hash(&index);
    index
}

/// A configuration with its keys, and by which hashes it is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Revision {
    /// It.
    pub config: GatewayConfig,
    /// Its keys.
    pub keys: Keys,
    /// The hash of all of it.
    pub hash: String,
    /// The hash of each channel, in their order.
    pub parts: Vec<String>,
}

impl Revision {
    /// With the hashes that an operator gives it.
    pub fn new(config: GatewayConfig, keys: Keys) -> Self {
        let ConfigIndex { hash, channels, .. } = index(&config, &keys);
        Self {
            config,
            keys,
            hash,
            parts: channels,
        }
    }
}

/// Changes whenever a key does. All keys together, so that it tells nobody who guesses at one of them whether that is right.
pub fn fingerprint(keys: &Keys) -> String {
    let mut digest = Sha256::new();
    for (name, secret) in key_files(keys) {
        for bytes in [name.as_bytes(), secret.expose()] {
            digest.update((bytes.len() as u64).to_be_bytes());
            digest.update(bytes);
        }
    }
    hexadecimal(&digest.finalize())
}

/// 40 hexadecimal digits of SHA-256 over the value as JSON: 160 bits, which no tenant finds a second value for.
pub fn hash(value: &impl Serialize) -> String {
    let json = serde_json::to_vec(value).unwrap_or_default();
    hexadecimal(&Sha256::digest(json))
}

fn hexadecimal(digest: &[u8]) -> String {
    digest[..20].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::channel::SecretKeyRef;
    use crate::contract::Secret;

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
    fn a_configuration_comes_back_whole() {
        let before = config(&["a", "b"]);
        let Configuration { index, parts, .. } = Configuration::new(&before, &Keys::default());
        let written: ConfigIndex = serde_json::from_value(serde_json::to_value(&index).unwrap()).unwrap();
        let channels = written.channels.iter().map(|hash| parts[hash].clone()).collect();
        assert_eq!(written.with(channels), before);
    }

    #[test]
    fn a_change_of_one_channel_changes_its_part_and_the_index_alone() {
        let before = Configuration::new(&config(&["a", "b", "c"]), &Keys::default());
        let mut changed = config(&["a", "b", "c"]);
        changed.channels[1].spec.history.size = 7;
        let after = Configuration::new(&changed, &Keys::default());
        let kept = |hash: &&String| before.parts.contains_key(*hash);
        assert_eq!(after.parts.keys().filter(kept).count(), 2);
        assert_ne!(before.index.hash, after.index.hash);
        assert_eq!(Configuration::new(&config(&["a", "b", "c"]), &Keys::default()), before);
    }

    #[test]
    fn a_revision_has_the_hashes_that_the_operator_writes_and_another_key_is_another_one() {
        let config = config(&["b", "a"]);
        let mut keys = Keys::default();
        let (name, key) = ("jwt".to_owned(), "secret".to_owned());
        keys.insert("bistro", SecretKeyRef { name, key }, Secret::new("1"));
        let written = Configuration::new(&config, &keys).index;
        let revision = Revision::new(config.clone(), keys);
        assert_eq!((&revision.hash, &revision.parts), (&written.hash, &written.channels));
        let other = Revision::new(config, Keys::default());
        assert_ne!(other.hash, revision.hash);
        assert_eq!(other.parts, revision.parts);
        assert!(!serde_json::to_string(&written).unwrap().contains("\"1\""));
    }
}
