//! How brokers are reached: where they are, whether over TLS, and as whom.

use std::fmt;

use aldis_crds::contract::{KafkaConfig, KafkaKeys, SaslConfig, Secret};
use rdkafka::config::ClientConfig;

use super::client;

/// In place of a user or a password that is not there: librdkafka makes no client without, and brokers refuse it. It is told
/// what is missing.
const NOBODY: &str = "-";

/// One way to Kafka. Its credentials do not print.
#[derive(Clone, PartialEq, Eq)]
pub struct Reach {
    servers: Vec<String>,
    is_tls: bool,
    /// Certificates of the authorities that are trusted, in PEM.
    ca: Option<String>,
    /// The gateway's own, with its key, in PEM.
    certificate: Option<(String, String)>,
    sasl: Option<Sasl>,
}

#[derive(Clone, PartialEq, Eq)]
struct Sasl {
    mechanism: &'static str,
    /// `namespace/name`.
    secret: String,
    username: Option<String>,
    password: Option<String>,
}

impl Reach {
    /// Without TLS and as nobody. `bootstrap_servers` are `host:port`.
    pub fn plain(bootstrap_servers: &[String]) -> Self {
        Self {
            servers: bootstrap_servers.to_vec(),
            is_tls: false,
            ca: None,
            certificate: None,
            sasl: None,
        }
    }

    /// As configured, with what Secrets hold.
    ///
    /// # Errors
    /// Which of the keys is no text; it is not shown.
    pub fn new(config: &KafkaConfig, keys: &KafkaKeys) -> Result<Self, String> {
        let text = |secret: Option<&Secret>, what: &str| {
            let text = secret.map(|secret| std::str::from_utf8(secret.expose()).map(str::to_owned));
            text.transpose().map_err(|_| format!("the {what} for Kafka is no text"))
        };
        let certificate = keys.certificate.as_ref();
        let chain = text(certificate.map(|certificate| &certificate.chain), "certificate")?;
        let key = text(
            certificate.map(|certificate| &certificate.key),
            "key of the certificate",
        )?;
        let sasl = |SaslConfig { mechanism, secret }: &SaslConfig| {
            Ok::<_, String>(Sasl {
                mechanism: mechanism.as_str(),
                secret: secret.clone(),
                username: text(keys.username.as_ref(), "username")?,
                password: text(keys.password.as_ref(), "password")?,
            })
        };
        Ok(Self {
            servers: config.bootstrap_servers.clone(),
            is_tls: config.tls,
            ca: text(keys.ca.as_ref(), "certificates of authorities")?,
            certificate: chain.zip(key),
            sasl: config.sasl.as_ref().map(sasl).transpose()?,
        })
    }

    /// What a client that takes this way is made of; `client_id` is how brokers name it in their logs and quotas.
    pub fn client(&self, client_id: &str) -> ClientConfig {
        let mut config = client(&self.servers, client_id);
        let protocol = match (self.is_tls, self.sasl.is_some()) {
            (false, false) => "plaintext",
            (true, false) => "ssl",
            (false, true) => "sasl_plaintext",
            (true, true) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if self.is_tls {
            if let Some(ca) = &self.ca {
                config.set("ssl.ca.pem", ca);
            }
            if let Some((chain, key)) = &self.certificate {
                config.set("ssl.certificate.pem", chain).set("ssl.key.pem", key);
            }
        }
        if let Some(sasl) = &self.sasl {
            let or_nobody = |part: &Option<String>| part.clone().filter(|part| !part.is_empty());
            config
                .set("sasl.mechanisms", sasl.mechanism)
                .set("sasl.username", or_nobody(&sasl.username).as_deref().unwrap_or(NOBODY))
                .set("sasl.password", or_nobody(&sasl.password).as_deref().unwrap_or(NOBODY));
        }
        config
    }

    /// What is told of brokers that do not let anybody in who comes this way: what they say, and what to look at.
    pub(super) fn refused(&self, is_tls: bool, reason: &str) -> String {
        // Which broker it was, how long it took and how often it was the same changes from one time to the next.
        let reason = reason.split(" (after ").next().unwrap_or_default();
        let reason = match reason.split_once(": ") {
            Some((broker, said)) if broker.contains("://") => said,
            _ => reason,
        };
        let servers = self.servers.join(",");
        let Some(sasl) = self.sasl.as_ref().filter(|_| !is_tls) else {
            return format!(
                "Kafka at {servers} and the gateway do not agree on TLS: check spec.kafka.tls, its Secrets and the brokers' certificates: {reason}"
            );
        };
        let Sasl { mechanism, secret, .. } = sasl;
        let missing = [("username", &sasl.username), ("password", &sasl.password)]
            .into_iter()
            .filter(|(_, part)| part.as_ref().is_none_or(String::is_empty));
        let missing = missing.map(|(name, _)| name).collect::<Vec<_>>().join(" and no ");
        let look = match missing.as_str() {
            "" => format!("check username and password in Secret {secret}"),
            missing => format!("Secret {secret} has no {missing}"),
        };
        format!("Kafka at {servers} refuses the user, mechanism {mechanism}: {look}: {reason}")
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.servers.join(","))?;
        f.write_str(if self.is_tls { " over TLS" } else { "" })?;
        match &self.sasl {
            Some(sasl) => write!(f, " by {}", sasl.mechanism),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reach({self})")
    }
}

#[cfg(test)]
mod tests {
    use aldis_crds::contract::Certificate;
    use serde_json::json;

    use super::*;

    fn config(more: serde_json::Value) -> KafkaConfig {
        let mut config = json!({"bootstrapServers": ["a:1", "b:2"], "groupId": "g", "deadLetterTopic": "dead"});
        for (name, value) in more.as_object().unwrap() {
            config[name] = value.clone();
        }
        serde_json::from_value(config).unwrap()
    }

    fn keys() -> KafkaKeys {
        KafkaKeys {
            username: Some(Secret::new("hunter1")),
            password: Some(Secret::new("hunter2")),
            ca: Some(Secret::new("hunter3")),
            certificate: Some(Certificate {
                chain: Secret::new("hunter4"),
                key: Secret::new("hunter5"),
            }),
        }
    }

    #[test]
    fn each_way_becomes_the_settings_that_librdkafka_has_for_it_and_prints_no_credentials() {
        let sasl = json!({"mechanism": "SCRAM-SHA-256", "secret": "realtime/kafka-user"});
        let tls: &[(&str, &str)] = &[
            ("ssl.ca.pem", "hunter3"),
            ("ssl.certificate.pem", "hunter4"),
            ("ssl.key.pem", "hunter5"),
        ];
        let user: &[(&str, &str)] = &[
            ("sasl.mechanisms", "SCRAM-SHA-256"),
            ("sasl.username", "hunter1"),
            ("sasl.password", "hunter2"),
        ];
        for (more, protocol, expected, shown) in [
            (json!({}), "plaintext", vec![], "a:1,b:2"),
            (json!({"tls": true}), "ssl", tls.to_vec(), "a:1,b:2 over TLS"),
            (
                json!({"sasl": sasl}),
                "sasl_plaintext",
                user.to_vec(),
                "a:1,b:2 by SCRAM-SHA-256",
            ),
            (
                json!({"tls": true, "sasl": sasl}),
                "sasl_ssl",
                [tls, user].concat(),
                "a:1,b:2 over TLS by SCRAM-SHA-256",
            ),
        ] {
            let reach = Reach::new(&config(more), &keys()).unwrap();
            let client = reach.client("test");
            assert_eq!(client.get("security.protocol"), Some(protocol));
            let mut set: Vec<_> = client.config_map().keys().copied().collect();
            set.retain(|name| name.starts_with("ssl.") || name.starts_with("sasl."));
            assert_eq!(set.len(), expected.len(), "{protocol}: {set:?}");
            for (name, value) in expected {
                assert_eq!(client.get(name), Some(value), "{protocol}");
            }
            assert_eq!(reach.to_string(), shown);
            let printed = format!("{reach:?} {} {}", reach.refused(false, "no"), reach.refused(true, "no"));
            assert!(!printed.contains("hunter"), "{printed}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_look_at() {
        let sasl = json!({"mechanism": "PLAIN", "secret": "realtime/kafka-user"});
        let reach = |keys| Reach::new(&config(json!({"tls": true, "sasl": sasl})), &keys).unwrap();
        let said = "sasl_ssl://a:1/bootstrap: Authentication failed (after 13ms in state AUTH_REQ)";
        assert_eq!(
            reach(keys()).refused(false, said),
            "Kafka at a:1,b:2 refuses the user, mechanism PLAIN: check username and password in Secret realtime/kafka-user: Authentication failed"
        );
        assert_eq!(
            reach(KafkaKeys::default()).refused(false, said),
            "Kafka at a:1,b:2 refuses the user, mechanism PLAIN: Secret realtime/kafka-user has no username and no password: Authentication failed"
        );
        let tls = reach(keys()).refused(true, "ssl.ca.pem failed: not in PEM format?: ");
        assert!(
            tls.contains("check spec.kafka.tls") && tls.contains("ssl.ca.pem failed: not in PEM"),
            "{tls}"
        );
    }

    #[test]
    fn a_client_is_made_also_without_the_password_and_one_that_is_no_text_is_named() {
        use rdkafka::consumer::BaseConsumer;
        let config = config(json!({"sasl": {"mechanism": "PLAIN", "secret": "realtime/kafka-user"}}));
        let reach = Reach::new(&config, &KafkaKeys::default()).unwrap();
        assert!(reach.client("test").create::<BaseConsumer>().is_ok());
        let mut keys = keys();
        keys.password = Some(Secret::new(vec![0xff]));
        assert_eq!(
            Reach::new(&config, &keys).unwrap_err(),
            "the password for Kafka is no text"
        );
    }
}
