//! `aldis dev DIR`: the whole path in one process, from the manifests of a directory alone.
//!
//! ```text
//! DIR → declared (as aldis validate) → operator's translate → gateway ┬ an embedded broker, unless --kafka names one
//!                                                                      ├ the memory adapter, unless --redis names what to share
//!                                                                      └ a page that shows channels as their clients see them
//! ```
//! Saving a file puts the new configuration in force; one with problems is shown and the last good one stays.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aldis_crds::configuration::Revision;
use aldis_crds::contract::{GatewayConfig, KafkaKeys, Keys, RedisConfig, RedisKeys};
use aldis_gateway::app::{Drain, ERASE_AFTER, Gateway, Settings};
use aldis_gateway::consume::StartAt;
use aldis_gateway::forward::PeerSettings;
use aldis_gateway::listeners::Ports;
use aldis_gateway::logs::{self, Format};
use aldis_operator::{Validated, translate};
use rdkafka::error::KafkaError;
use tokio::sync::watch;

use crate::declared::{Declared, Elsewhere};
use crate::report::{Explain, Progress};

mod about;
mod banner;
mod broker;
mod page;
mod sample;

use about::About;
use banner::{Places, banner};
use broker::Broker;
use page::{Page, Shows};

/// How often the directory is looked at for changes. Half a second: as good as at once, and no work to speak of.
const LOOK: Duration = Duration::from_millis(500);

/// Run channels on this machine
///
/// Reads every .yaml, .yml and .json file in DIR and below it, starts a Kafka broker in memory and a gateway with all
/// channels, and prints how to connect and publish. A page shows each channel as its clients see it. Saving a file puts it
/// in force. Ctrl-C ends everything.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct DevArgs {
    /// Directory of manifests: one NotificationGateway, its channels, and their Secrets
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// Use this Kafka in place of the embedded broker
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,

    /// Share numbers, history and sessions with others through this Redis
    #[arg(long, value_name = "URL")]
    redis: Option<String>,

    /// Which gateway, where DIR has several
    #[arg(long, value_name = "NAMESPACE/NAME")]
    gateway: Option<String>,

    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    bind: IpAddr,

    /// Port of health and metrics; 0 for any that is free
    #[arg(long, value_name = "PORT", default_value_t = 9901)]
    admin_port: u16,

    /// Port of the page, on the loopback interface; 0 for any that is free
    #[arg(long, value_name = "PORT", default_value_t = 9900)]
    page_port: u16,

    /// How log lines look, on standard error. ALDIS_LOG=debug shows more, ALDIS_LOG=warn less
    #[arg(long, value_enum, default_value_t)]
    log_format: Format,

    /// Listen on any free ports in place of those of the manifests
    #[arg(long)]
    any_port: bool,
}

const EXAMPLES: &str = "Examples:
  aldis dev examples/bistro
  aldis dev manifests/ --kafka localhost:9092
  aldis dev manifests/ --kafka localhost:9092 --redis redis://localhost:6379 --any-port --admin-port 0 --page-port 0
  aldis dev manifests/ --any-port --admin-port 0 --page-port 0";

/// Why `aldis dev` ends.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    #[error("cannot read {}", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("the manifests have problems")]
    Problems,
    #[error("{}", .0)]
    Gateway(String),
    #[error("there can be no Kafka client, or no embedded broker")]
    Broker(#[from] KafkaError),
    #[error("the gateway does not start")]
    Start(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the page can not be served on port {port}")]
    Page { port: u16, source: io::Error },
    #[error("listener {0} can not be served: {1}")]
    Listener(String, String),
    #[error("cannot wait for Ctrl-C")]
    Signal(#[source] io::Error),
}

impl Explain for DevError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Problems => Some("mend what is listed above; `aldis validate` checks again".to_owned()),
            Self::Start(_) | Self::Listener(..) | Self::Page { .. } => Some(
                "is another program on that port? --any-port, --admin-port 0 and --page-port 0 take others".to_owned(),
            ),
            _ => None,
        }
    }
}

/// What is in force, or to be.
struct Plan {
    declared: Declared,
    config: GatewayConfig,
    keys: Keys,
}

/// Runs until Ctrl-C or SIGTERM.
///
/// # Errors
/// Where it can not start.
pub async fn run(args: DevArgs) -> Result<(), DevError> {
    logs::init(args.log_format);
    let mut seen = fingerprint(&args.dir);
    let mut plan = plan(&args)?;
    let port = args.page_port;
    let page = Page::bind(port)
        .await
        .map_err(|source| DevError::Page { port, source })?;
    let mut broker = match &args.kafka {
        Some(_) => None,
        None => Some(Broker::start()?),
    };
    let kafka = args
        .kafka
        .clone()
        .or_else(|| broker.as_ref().map(Broker::address))
        .unwrap_or_default();
    plan.prepare(&args, &kafka, broker.as_mut())?;
    let gateway = Gateway::start(Settings {
        revision: Revision::new(plan.config.clone(), plan.keys.clone()),
        ports: Ports {
            bind: args.bind,
            instead: HashMap::new(),
            pages: page.origins(),
        },
        admin: SocketAddr::new(args.bind, args.admin_port),
        admin_token: None,
        peers: Some(PeerSettings {
            bind: SocketAddr::new(args.bind, 0),
            advertise: None,
        }),
        start_at: if broker.is_some() {
            StartAt::Earliest
        } else {
            StartAt::GatewayStart
        },
        erase_after: ERASE_AFTER,
    })
    .await
    .map_err(|error| DevError::Start(error.into()))?;
    let in_force = gateway.status().in_force();
    debug_assert!(in_force.bad_channels.is_empty(), "validate has compiled every channel");
    if let Some((listener, _)) = in_force.bad_listeners.first() {
        let problem = in_force.bad_listeners.iter().map(|(_, problem)| problem.to_string());
        let problem = problem.collect::<Vec<_>>().join("; ");
        return Err(DevError::Listener(listener.clone(), problem));
    }
    wait_for_consumer(&gateway, &plan.config).await;
    let (channels, shown) = watch::channel(about::all(&plan, &gateway));
    let url = page.url();
    page.serve(Shows {
        dir: args.dir.clone(),
        kafka: kafka.clone(),
        embedded: broker.is_some(),
        listeners: args.bind,
        channels: shown,
        counts: gateway.counts(),
    })?;
    let places = Places {
        dir: &args.dir,
        kafka: &kafka,
        embedded: broker.is_some(),
        page: &url,
        admin: gateway.admin(),
    };
    print!("{}", banner(&places, &channels.borrow()));

    let mut look = tokio::time::interval(LOOK);
    let stop = stop_signal();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            result = &mut stop => {
                result.map_err(DevError::Signal)?;
                break;
            }
            _ = look.tick() => {
                let now = fingerprint(&args.dir);
                if now != seen {
                    seen = now;
                    reload(&args, &kafka, broker.as_mut(), &gateway, &channels).await;
                }
            }
        }
    }
    gateway.stop(Drain::AT_ONCE).await;
    Ok(())
}

/// Reads the directory and translates the gateway that is to run.
fn plan(args: &DevArgs) -> Result<Plan, DevError> {
    let unreadable = |source| DevError::Unreadable {
        path: args.dir.clone(),
        source,
    };
    let declared = Declared::read(&args.dir, Elsewhere::default()).map_err(unreadable)?;
    if !declared.findings.is_empty() {
        for finding in &declared.findings {
            eprintln!("{finding}");
        }
        return Err(DevError::Problems);
    }
    let validated = choose(&declared.outcome.gateways, args.gateway.as_deref())?;
    let (config, keys) = (translate(validated), validated.keys.clone());
    Ok(Plan { declared, config, keys })
}

pub(crate) fn choose<'v>(gateways: &'v [Validated], wanted: Option<&str>) -> Result<&'v Validated, DevError> {
    let names = || {
        gateways
            .iter()
            .map(|g| g.gateway.name.to_string())
            .collect::<Vec<_>>()
            .join(", ")
    };
    match (gateways, wanted) {
        ([], _) => Err(DevError::Gateway(
            "there is no NotificationGateway in the directory: add one".to_owned(),
        )),
        ([one], None) => Ok(one),
        (_, None) => Err(DevError::Gateway(format!(
            "there are several gateways: choose one of {} with --gateway",
            names()
        ))),
        (_, Some(wanted)) => gateways
            .iter()
            .find(|g| g.gateway.name.to_string() == wanted)
            .ok_or_else(|| DevError::Gateway(format!("there is no gateway {wanted}; there is {}", names()))),
    }
}

impl Plan {
    /// Puts the Kafka and the ports in place that are used here, and makes the embedded broker's topics.
    fn prepare(&mut self, args: &DevArgs, kafka: &str, broker: Option<&mut Broker>) -> Result<(), KafkaError> {
        // What the manifests name is in the cluster that they are for: credentials are shown to nobody else.
        self.config.kafka.bootstrap_servers = vec![kafka.to_owned()];
        (self.config.kafka.tls, self.config.kafka.sasl) = (false, None);
        self.keys.kafka = KafkaKeys::default();
        self.config.redis = args.redis.as_ref().map(|url| RedisConfig {
            url: url.clone(),
            uid: self.config.kafka.group_id.clone(),
        });
        self.keys.redis = RedisKeys::default();
        if args.any_port {
            self.config.listeners.iter_mut().for_each(|listener| listener.port = 0);
        }
        match broker {
            Some(broker) => broker.make_topics(topics(&self.config)),
            None => Ok(()),
        }
    }
}

/// Every topic that the gateway reads or writes.
fn topics(config: &GatewayConfig) -> Vec<String> {
    let read = config
        .channels
        .iter()
        .flat_map(|c| &c.spec.sources)
        .flat_map(|source| source.kafka.topics.clone());
    let dead = config
        .channels
        .iter()
        .filter_map(|c| c.spec.dead_letter.as_ref())
        .map(|dead| dead.topic.clone());
    read.chain(dead)
        .chain([
            config.kafka.dead_letter_topic.clone(),
            config.kafka.ingress_topic.clone(),
        ])
        .collect()
}

async fn reload(
    args: &DevArgs,
    kafka: &str,
    broker: Option<&mut Broker>,
    gateway: &Gateway,
    channels: &watch::Sender<Vec<About>>,
) {
    let reloaded = plan(args).and_then(|mut plan| {
        plan.prepare(args, kafka, broker)?;
        Ok(plan)
    });
    match reloaded {
        Ok(plan) => {
            let revision = Revision::new(plan.config.clone(), plan.keys.clone());
            gateway.reload(&revision).await;
            channels.send_replace(about::all(&plan, gateway));
            println!("# reloaded; channels in force: {}", plan.config.channels.len());
            let in_force = gateway.status().in_force();
            for (listener, problem) in &in_force.bad_listeners {
                println!("# listener {listener} stays as it was: {problem}");
            }
            for field in &in_force.needs_restart {
                println!("# {field} of the gateway has changed: start `aldis dev` again to put that in force");
            }
        }
        Err(error) => {
            eprintln!("# not reloaded, the last good configuration stays in force: {error}");
            gateway.reject(error.to_string());
        }
    }
}

/// Waits until the consumer reads what the channels want, so that what is printed works; not for ever, Kafka may be away.
async fn wait_for_consumer(gateway: &Gateway, config: &GatewayConfig) {
    /// 10 s: the embedded broker needs 3 s for a first assignment.
    const PATIENCE: Duration = Duration::from_secs(10);
    let wanted = config.channels.iter().any(|channel| !channel.spec.sources.is_empty());
    let mut state = gateway.consumer();
    if wanted {
        let mut progress = Progress::new(false);
        progress.show(|| "waiting for Kafka to give this gateway its partitions …".to_owned());
        tokio::time::timeout(PATIENCE, state.wait_for(|state| !state.assigned.is_empty()))
            .await
            .ok();
    }
}

async fn stop_signal() -> io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result,
        _ = terminate.recv() => Ok(()),
    }
}

/// Changes whenever a file below `dir` does: names, sizes and times.
fn fingerprint(dir: &Path) -> Vec<(PathBuf, u64, Option<std::time::SystemTime>)> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => files.push((entry.path(), metadata.len(), metadata.modified().ok())),
                Err(_) => {}
            }
        }
    }
    files.sort();
    files
}
