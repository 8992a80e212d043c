//! A real Apache Kafka, by `scripts/kafka.sh`.
//!
//! [`shared`] is for tests that only need one: that of `scripts/with-kafka.sh`, which serves a whole run, or else one that
//! all tests of this process share and the last of them ends. Topics and groups have names of their own ([`unique`]).
//! A test that stops its broker has a [`Kafka`] to itself.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tempfile::TempDir;

use crate::deadline::until;

pub(crate) mod secure;

/// `host:port` of a Kafka that serves the whole run.
const SHARED_ENV: &str = "ALDIS_TEST_KAFKA";

/// How long one question to a broker may take. 2 s; it is asked again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// A broker of our own, which may be down. Ended with this value.
pub(crate) struct Kafka {
    child: Option<Child>,
    data: TempDir,
    host: String,
    port: u16,
    /// What else its configuration says, and what its first start is given.
    more: Vec<(&'static str, String)>,
}

impl Kafka {
    /// A broker that has not been started yet.
    pub(crate) fn down() -> Self {
        Self::down_at("127.0.0.1")
    }

    /// The same, for clients that reach it at this address.
    pub(crate) fn down_at(host: &str) -> Self {
        Self {
            child: None,
            host: host.to_owned(),
            data: tempfile::tempdir().unwrap(),
            port: free_ports(),
            more: Vec::new(),
        }
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Starts it, with all that it had, and waits until it answers.
    pub(crate) async fn start(&mut self) {
        let log = File::create(self.log()).unwrap();
        let mut command = Command::new(repository().join("scripts/kafka.sh"));
        command.arg(self.data.path().join("broker")).arg(self.port.to_string());
        command.env("KAFKA_HOST", &self.host).envs(self.more.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        until("Kafka answers", async || {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(
                ended.is_none(),
                "Kafka ended: {ended:?}: {}",
                std::fs::read_to_string(self.log()).unwrap_or_default()
            );
            answers(&self.address()).await.then_some(())
        })
        .await;
    }

    /// Ends it as a crash does.
    pub(crate) fn crash(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    fn log(&self) -> PathBuf {
        self.data.path().join("log")
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.crash();
    }
}

/// A running broker that others use too.
pub(crate) enum Shared {
    OfTheRun(String),
    OfThisProcess(Arc<Kafka>),
}

impl Shared {
    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        match self {
            Shared::OfTheRun(address) => address.clone(),
            Shared::OfThisProcess(kafka) => kafka.address(),
        }
    }
}

/// A running broker, to be shared.
pub(crate) async fn shared() -> Shared {
    static RUNNING: tokio::sync::Mutex<Weak<Kafka>> = tokio::sync::Mutex::const_new(Weak::new());
    if let Ok(address) = std::env::var(SHARED_ENV) {
        return Shared::OfTheRun(address);
    }
    let mut running = RUNNING.lock().await;
    if let Some(kafka) = running.upgrade() {
        return Shared::OfThisProcess(kafka);
    }
    let mut kafka = Kafka::down();
    kafka.start().await;
    let kafka = Arc::new(kafka);
    *running = Arc::downgrade(&kafka);
    Shared::OfThisProcess(kafka)
}

/// Makes a topic, with settings of its own.
pub(crate) async fn make_topic(broker: &str, name: &str, partitions: i32, settings: &[(&str, &str)]) {
    let admin: AdminClient<DefaultClientContext> = client(broker).create().unwrap();
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (name, value) in settings {
        topic = topic.set(name, value);
    }
    until("the topic is made", async || {
        let made = admin.create_topics([&topic], &AdminOptions::new()).await.ok()?;
        matches!(
            made[0],
            Ok(_) | Err((_, rdkafka::types::RDKafkaErrorCode::TopicAlreadyExists))
        )
        .then_some(())
    })
    .await;
}

/// Deletes a topic, and waits until no broker knows it.
pub(crate) async fn delete_topic(broker: &str, name: &str) {
    let admin: AdminClient<DefaultClientContext> = client(broker).create().unwrap();
    let deleted = admin.delete_topics(&[name], &AdminOptions::new()).await.unwrap();
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    until("the topic is gone", async || {
        let (config, name) = (client(broker), name.to_owned());
        let asked = tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = config.create().unwrap();
            let metadata = consumer.fetch_metadata(None, ANSWER_TIMEOUT).ok()?;
            let is_gone = metadata.topics().iter().all(|topic| topic.name() != name);
            is_gone.then_some(())
        });
        asked.await.unwrap()
    })
    .await;
}

/// Changes one setting of a topic.
pub(crate) async fn set_topic(broker: &str, name: &str, setting: &str, value: &str) {
    let admin: AdminClient<DefaultClientContext> = client(broker).create().unwrap();
    let changed = AlterConfig::new(ResourceSpecifier::Topic(name)).set(setting, value);
    let answers = admin.alter_configs([&changed], &AdminOptions::new()).await.unwrap();
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

/// A name that no other test has.
pub(crate) fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What every Kafka client of the tests starts from: quick to try again.
pub(crate) fn client(broker: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", broker)
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "500");
    config
}

/// The clone's root.
pub(crate) fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

async fn answers(broker: &str) -> bool {
    let config = client(broker);
    let asked = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = config.create().unwrap();
        consumer
            .fetch_metadata(None, ANSWER_TIMEOUT)
            .is_ok_and(|metadata| !metadata.brokers().is_empty())
    });
    asked.await.unwrap()
}

/// The first of two neighbouring free ports. Below those that the system gives to outgoing connections: while the broker is
/// down, nobody else must get its port, and a client that tries to reach it must not reach itself.
pub(crate) fn free_ports() -> u16 {
    const FIRST: u16 = 20_000;
    const PAIRS: u16 = 6_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes that are started together begin some way from each other.
    let start = (std::process::id().wrapping_mul(61) % u32::from(PAIRS)) as u16;
    loop {
        let pair = (start + NEXT.fetch_add(1, Ordering::Relaxed)) % PAIRS;
        let port = FIRST + 2 * pair;
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if free(port) && free(port + 1) {
            return port;
        }
    }
}
