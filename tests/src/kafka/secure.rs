//! A broker that lets in who knows a password, or has a certificate, and everybody over TLS. Its plain port is for the test.

use std::path::PathBuf;

use tokio::process::Command;

use super::{Kafka, free_ports};
use crate::authority::Authority;
use crate::deadline::within;

/// After how long a connection has to show its credentials again, in ms: 5 s. So those that are no longer good end by themselves.
const REAUTHENTICATE_MS: u32 = 5_000;

/// A broker with users, which has started.
pub(crate) struct Secure {
    pub(crate) kafka: Kafka,
    /// Who has signed its certificate, and whose certificates it takes.
    pub(crate) authority: Authority,
    sasl_port: u16,
    tls_port: u16,
}

impl Secure {
    /// The user `aldis` has this password by SCRAM-SHA-512, and always `plain-password` by PLAIN.
    pub(crate) async fn start(password: &str) -> Self {
        let (authority, mut kafka) = (Authority::new(), Kafka::down());
        let (sasl_port, tls_port) = (free_ports(), free_ports());
        let (chain, key) = authority.certificate();
        let file = |name: &str, text: &str| -> PathBuf {
            let path = kafka.data.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (keystore, truststore) = (file("keystore.pem", &(key + &chain)), file("ca.pem", &authority.pem));
        let (port, login) = (kafka.port, "org.apache.kafka.common.security");
        let properties = format!(
            "listeners=PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{sasl_port},SSL://127.0.0.1:{tls_port},CONTROLLER://127.0.0.1:{}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{sasl_port},SSL://127.0.0.1:{tls_port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL
ssl.keystore.type=PEM
ssl.keystore.location={}
ssl.truststore.type=PEM
ssl.truststore.location={}
listener.name.ssl.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
connections.max.reauth.ms={REAUTHENTICATE_MS}
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={login}.scram.ScramLoginModule required;
listener.name.sasl_ssl.plain.sasl.jaas.config={login}.plain.PlainLoginModule required user_aldis=\"plain-password\";
",
            port + 1,
            keystore.display(),
            truststore.display(),
        );
        let properties = file("secure.properties", &properties);
        kafka.more = vec![
            ("KAFKA_PROPERTIES", properties.to_str().unwrap().to_owned()),
            ("KAFKA_SCRAM", format!("SCRAM-SHA-512=[name=aldis,password={password}]")),
        ];
        kafka.start().await;
        Self {
            kafka,
            authority,
            sasl_port,
            tls_port,
        }
    }

    /// `host:port` where everybody comes in.
    pub(crate) fn plain(&self) -> String {
        self.kafka.address()
    }

    /// `host:port` where a user comes in, over TLS.
    pub(crate) fn sasl(&self) -> String {
        format!("127.0.0.1:{}", self.sasl_port)
    }

    /// `host:port` where a certificate comes in.
    pub(crate) fn tls(&self) -> String {
        format!("127.0.0.1:{}", self.tls_port)
    }

    /// From now on `aldis` has this password by SCRAM-SHA-512; who came in with another has to show it within seconds.
    pub(crate) async fn password_is(&self, password: &str) {
        let cache = std::env::var("ALDIS_CACHE");
        let cache = cache.unwrap_or_else(|_| format!("{}/.cache/aldis", std::env::var("HOME").unwrap()));
        let mut command = Command::new("java");
        command
            .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx128m", "-cp"])
            .arg(format!("{cache}/kafka/*"))
            .args(["kafka.admin.ConfigCommand", "--bootstrap-server", &self.plain()])
            .args([
                "--alter",
                "--entity-type",
                "users",
                "--entity-name",
                "aldis",
                "--add-config",
            ])
            .arg(format!("SCRAM-SHA-512=[password={password}]"))
            .kill_on_drop(true);
        let output = within("the password is changed", command.output()).await.unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}
