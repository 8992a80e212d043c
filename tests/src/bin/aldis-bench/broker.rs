//! The broker of a run: a real Apache Kafka of its own, or librdkafka's mock cluster in this process.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{ClientConfig, ClientContext};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::stamp::{PARTITIONS, TOPIC};

/// How long Kafka may take to answer. It needs 5 to 10 s on a quiet machine.
const START_TIMEOUT: Duration = Duration::from_secs(90);

/// How long a process may take to stop. 20 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// Topics of the channel: what it reads, and where what it can not process goes.
const TOPICS: [&str; 3] = [TOPIC, "bistro.dead-letters", "bistro.orders.dead-letters"];

/// Which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum BrokerKind {
    /// Apache Kafka by scripts/kafka.sh, a process of its own
    Kafka,
    /// librdkafka's mock cluster, in memory, in the load generator's process
    Embedded,
}

/// A running broker with the topics of the channel.
pub enum Broker {
    /// A process.
    Kafka { process: Child, address: String },
    /// In this process.
    Embedded {
        address: String,
        _cluster: MockCluster<'static, DefaultProducerContext>,
    },
}

impl Broker {
    /// Starts a broker, whose files go below `folder`, and makes the topics.
    ///
    /// # Errors
    /// Where it does not start.
    pub async fn start(kind: BrokerKind, folder: &Path) -> anyhow::Result<Self> {
        match kind {
            BrokerKind::Kafka => Self::start_kafka(folder).await,
            BrokerKind::Embedded => {
                let cluster = MockCluster::new(1).context("the embedded broker does not start")?;
                for topic in TOPICS {
                    cluster.create_topic(topic, PARTITIONS, 1)?;
                }
                Ok(Self::Embedded {
                    address: cluster.bootstrap_servers(),
                    _cluster: cluster,
                })
            }
        }
    }

    async fn start_kafka(folder: &Path) -> anyhow::Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/kafka.sh");
        let (port, controller) = free_ports().context("no free ports")?;
        let log = folder.join("kafka.log");
        let process = Command::new(&script)
            .arg(folder.join("kafka"))
            .args([port.to_string(), controller.to_string()])
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&log)?)
            .stderr(std::fs::File::options().append(true).open(&log)?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", script.display()))?;
        let address = format!("127.0.0.1:{port}");
        let mut broker = Self::Kafka { process, address };
        if let Err(error) = broker.make_topics().await {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            bail!("Kafka does not start: {error:#}\n{said}");
        }
        Ok(broker)
    }

    /// Makes the topics, which librdkafka tries until the broker is there.
    async fn make_topics(&mut self) -> anyhow::Result<()> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.address())
            .set("reconnect.backoff.max.ms", "500");
        // That nobody listens yet is no news.
        config.set_log_level(RDKafkaLogLevel::Emerg);
        let admin = config.create_with_context::<_, AdminClient<Quiet>>(Quiet)?;
        let topics = TOPICS.map(|topic| NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1)));
        let options = AdminOptions::new()
            .request_timeout(Some(START_TIMEOUT))
            .operation_timeout(Some(START_TIMEOUT));
        let Self::Kafka { process, .. } = self else {
            return Ok(());
        };
        let made = tokio::select! {
            made = admin.create_topics(&topics, &options) => made?,
            ended = process.wait() => bail!("it ended at once: {}", ended?),
        };
        for result in made {
            if let Err((topic, error)) = result {
                bail!("topic {topic} can not be made: {error}");
            }
        }
        Ok(())
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        match self {
            Self::Kafka { address, .. } | Self::Embedded { address, .. } => address.clone(),
        }
    }

    /// The broker's process, if it has one of its own.
    pub fn pid(&self) -> Option<u32> {
        match self {
            Self::Kafka { process, .. } => process.id(),
            Self::Embedded { .. } => None,
        }
    }

    /// Stops it and waits until it is gone.
    pub async fn stop(self) {
        if let Self::Kafka { process, .. } = self {
            terminate(process).await;
        }
    }
}

/// Asks a process to end, and ends it where it does not.
pub async fn terminate(mut process: Child) {
    if let Some(pid) = process.id() {
        // Where it is gone already, that is as well.
        let _ = Command::new("kill")
            .args(["-TERM", &pid.to_string()])
            .stderr(Stdio::null())
            .status()
            .await;
    }
    if timeout(STOP_TIMEOUT, process.wait()).await.is_err() {
        let _ = process.kill().await;
    }
}

/// Hears librdkafka's log and errors and says nothing.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
}

/// Two ports that were free a moment ago.
fn free_ports() -> std::io::Result<(u16, u16)> {
    let (one, other) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    Ok((one.local_addr()?.port(), other.local_addr()?.port()))
}
