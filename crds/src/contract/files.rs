//! The contract as files: what `aldis translate --out` writes and a gateway reads from a directory.
//!
//! ```text
//! config.json                                    GatewayConfig; config.yaml is read too
//! keys/channel_<namespace>_<secret>_<key>        what a channel's secretRef names
//! keys/listener_<listener>_tls.crt, …_tls.key    what a listener ends TLS with
//! keys/kafka_username, …_password, …_ca.crt      how one gets into Kafka, and whom one trusts there
//! keys/kafka_tls.crt, …_tls.key                  what is shown to brokers that ask for a certificate
//! keys/redis_username, …_password, …_ca.crt      how one gets into Redis, and whom one trusts there
//! ```
//! Names of key files are those of keys in a Secret too, so `keys/` may be one that is mounted. Namespaces, Secrets and
//! listeners have no `_` in their names: each file name means one thing.

use super::{Certificate, Keys, Secret};
use crate::channel::SecretKeyRef;

/// Names of the file with the configuration; exactly one of them is there.
pub const CONFIG_FILES: [&str; 3] = ["config.json", "config.yaml", "config.yml"];
/// Name of the directory with the keys, beside the configuration.
pub const KEYS_DIR: &str = "keys";
/// Longest name of a key file: what a Secret allows.
pub const MAX_KEY_FILE_NAME: usize = 253;

const CHANNEL: &str = "channel";
const LISTENER: &str = "listener";
const KAFKA: &str = "kafka";
const REDIS: &str = "redis";
const USERNAME: &str = "username";
const PASSWORD: &str = "password";
const CA: &str = "ca.crt";
const CHAIN: &str = "tls.crt";
const KEY: &str = "tls.key";

/// Name of the file of a channel's key.
pub fn key_file_name(namespace: &str, reference: &SecretKeyRef) -> String {
    format!("{CHANNEL}_{namespace}_{}_{}", reference.name, reference.key)
}

/// All keys as files: name and content, by name.
pub fn key_files(keys: &Keys) -> Vec<(String, &Secret)> {
    let channels = keys
        .channels
        .iter()
        .map(|((namespace, reference), secret)| (key_file_name(namespace, reference), secret));
    let listeners = keys.listeners.iter().flat_map(|(listener, certificate)| {
        [(CHAIN, &certificate.chain), (KEY, &certificate.key)]
            .map(|(part, secret)| (format!("{LISTENER}_{listener}_{part}"), secret))
    });
    let kafka = keys.kafka.parts();
    let kafka = kafka.map(|(part, secret)| (format!("{KAFKA}_{part}"), secret));
    let redis = keys.redis.parts();
    let redis = redis.map(|(part, secret)| (format!("{REDIS}_{part}"), secret));
    channels.chain(listeners).chain(kafka).chain(redis).collect()
}

/// The keys that files hold. Files of other names are not looked at, and half a certificate is none.
pub fn keys_of<N: AsRef<str>>(files: impl IntoIterator<Item = (N, Secret)>) -> Keys {
    let mut keys = Keys::default();
    let mut halves = std::collections::BTreeMap::<String, (Option<Secret>, Option<Secret>)>::new();
    let mut of_kafka = (None, None);
    for (name, secret) in files {
        let mut parts = name.as_ref().splitn(4, '_');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(CHANNEL), Some(namespace), Some(secret_name), Some(key)) => {
                let (name, key) = (secret_name.to_owned(), key.to_owned());
                keys.insert(namespace, SecretKeyRef { name, key }, secret);
            }
            (Some(LISTENER), Some(listener), Some(CHAIN), None) => {
                halves.entry(listener.to_owned()).or_default().0 = Some(secret);
            }
            (Some(LISTENER), Some(listener), Some(KEY), None) => {
                halves.entry(listener.to_owned()).or_default().1 = Some(secret);
            }
            (Some(KAFKA), Some(USERNAME), None, None) => keys.kafka.username = Some(secret),
            (Some(KAFKA), Some(PASSWORD), None, None) => keys.kafka.password = Some(secret),
            (Some(KAFKA), Some(CA), None, None) => keys.kafka.ca = Some(secret),
            (Some(KAFKA), Some(CHAIN), None, None) => of_kafka.0 = Some(secret),
            (Some(KAFKA), Some(KEY), None, None) => of_kafka.1 = Some(secret),
            (Some(REDIS), Some(USERNAME), None, None) => keys.redis.username = Some(secret),
            (Some(REDIS), Some(PASSWORD), None, None) => keys.redis.password = Some(secret),
            (Some(REDIS), Some(CA), None, None) => keys.redis.ca = Some(secret),
            _ => {}
        }
    }
    if let (Some(chain), Some(key)) = of_kafka {
        keys.kafka.certificate = Some(Certificate { chain, key });
    }
    for (listener, halves) in halves {
        if let (Some(chain), Some(key)) = halves {
            keys.insert_certificate(&listener, Certificate { chain, key });
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{KafkaKeys, RedisKeys};

    fn reference(name: &str, key: &str) -> SecretKeyRef {
        SecretKeyRef {
            name: name.to_owned(),
            key: key.to_owned(),
        }
    }

    #[test]
    fn keys_come_back_from_files_and_no_two_share_a_name() {
        let mut keys = Keys::default();
        keys.insert("bistro", reference("jwt", "a_b.c"), Secret::new("1"));
        keys.insert("bistro", reference("jwt.a", "b"), Secret::new("2"));
        keys.insert("tls", reference("web", "tls.crt"), Secret::new("3"));
        let certificate = Certificate {
            chain: Secret::new("4"),
            key: Secret::new("5"),
        };
        keys.insert_certificate("web", certificate);
        keys.kafka = KafkaKeys {
            username: Some(Secret::new("9")),
            password: Some(Secret::new("10")),
            ca: Some(Secret::new("11")),
            certificate: Some(Certificate {
                chain: Secret::new("12"),
                key: Secret::new("13"),
            }),
        };
        keys.redis = RedisKeys {
            username: Some(Secret::new("6")),
            password: Some(Secret::new("7")),
            ca: Some(Secret::new("8")),
        };
        let files = key_files(&keys);
        let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "channel_bistro_jwt_a_b.c",
                "channel_bistro_jwt.a_b",
                "channel_tls_web_tls.crt",
                "listener_web_tls.crt",
                "listener_web_tls.key",
                "kafka_username",
                "kafka_password",
                "kafka_ca.crt",
                "kafka_tls.crt",
                "kafka_tls.key",
                "redis_username",
                "redis_password",
                "redis_ca.crt"
            ]
        );
        assert_eq!(
            keys_of(files.into_iter().map(|(name, secret)| (name, secret.clone()))),
            keys
        );
    }

    #[test]
    fn other_files_and_half_a_certificate_are_nothing() {
        let files = [
            "README",
            "channel_bistro_jwt",
            "listener_web_tls.crt",
            "listener_web_other",
            "kafka_tls.crt",
            "kafka_other",
            "redis_other",
            "redis_password_",
            "..data",
        ];
        let keys = keys_of(files.map(|name| (name, Secret::new("x"))));
        assert_eq!(keys, Keys::default());
    }
}
