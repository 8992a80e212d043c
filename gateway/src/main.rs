//! The binary `aldis-gateway`: one gateway, from a directory of configuration.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use aldis_gateway::app::{Drain, Gateway, Settings};
use aldis_gateway::consume::StartAt;
use aldis_gateway::directory::{self, Directory, Fingerprint};
use aldis_gateway::listener::close::Pace;
use aldis_gateway::listeners::Ports;
use aldis_gateway::logs::{self, Format};
use aldis_gateway::status::hash;
use anyhow::Context as _;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// How often the directory is looked at. A change counts when two looks have seen it: it is in force within 2 s.
const LOOK: Duration = Duration::from_secs(1);
/// How much longer than it should a stop may take before the process ends anyway.
const STOP_MARGIN: Duration = Duration::from_secs(5);

/// One Aldis gateway: Kafka records in, Socket.IO events out
///
/// Runs what `aldis translate --out DIR` has written, and follows the directory: a changed configuration, certificate or key
/// is in force within seconds, while clients stay connected. One that can not be used is logged, counted and shown by /health,
/// and the last good one stays in force. SIGTERM drains; a second one ends at once.
#[derive(Debug, Parser)]
#[command(name = "aldis-gateway", version, after_help = EXAMPLES)]
struct Args {
    /// Directory with config.json (or config.yaml), and with the keys in keys/
    #[arg(long, value_name = "DIR", env = "ALDIS_CONFIG")]
    config: PathBuf,

    /// Directory with the key files, where that is another: a mounted Secret [default: keys in the directory of --config]
    #[arg(long, value_name = "DIR", env = "ALDIS_KEYS")]
    keys: Option<PathBuf>,

    /// Address on which listeners listen
    #[arg(long, value_name = "ADDRESS", env = "ALDIS_BIND", default_value_t = Ipv4Addr::UNSPECIFIED.into())]
    bind: IpAddr,

    /// Port in place of a listener's own; 0 for any that is free. May be repeated
    #[arg(long, value_name = "LISTENER=PORT", env = "ALDIS_PORTS", value_delimiter = ',', value_parser = port)]
    port: Vec<(String, u16)>,

    /// Where health, metrics and the configuration in force are; port 0 for any that is free
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        env = "ALDIS_ADMIN",
        default_value = "0.0.0.0:9901"
    )]
    admin: SocketAddr,

    /// File with the token that /config of the admin port asks for; without it nobody sees the configuration
    #[arg(long, value_name = "FILE", env = "ALDIS_ADMIN_TOKEN_FILE")]
    admin_token_file: Option<PathBuf>,

    /// On SIGTERM: seconds in which it is not ready and still takes clients, until those who send them have heard of it
    #[arg(long, value_name = "SECONDS", env = "ALDIS_DRAIN_GRACE", default_value_t = 5, value_parser = clap::value_parser!(u64).range(..=3600))]
    drain_grace: u64,

    /// On SIGTERM: seconds over which clients are closed one by one, after the grace
    #[arg(long, value_name = "SECONDS", env = "ALDIS_DRAIN_SPREAD", default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=3600))]
    drain_spread: u64,

    /// How log lines look, on standard error. ALDIS_LOG=debug shows more, ALDIS_LOG=warn less
    #[arg(long, value_enum, env = "ALDIS_LOG_FORMAT", default_value_t = Format::Json)]
    log_format: Format,
}

const EXAMPLES: &str = "Examples:
  aldis translate manifests/ --out gateway/
  aldis-gateway --config gateway/
  aldis-gateway --config gateway/ --bind 127.0.0.1 --port web=3100 --admin 127.0.0.1:9902

With the defaults a stop takes 25 s at most (grace 5, Kafka 5, closing 10, last bytes 5), within the 30 s of a pod.";

fn port(text: &str) -> Result<(String, u16), String> {
    let (listener, port) = text.split_once('=').ok_or("expected LISTENER=PORT, such as web=3100")?;
    let port = port.parse().map_err(|_| format!("{port:?} is no port"))?;
    Ok((listener.to_owned(), port))
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    logs::init(args.log_format);
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the gateway does not run");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let mut follower = Follower::new(Directory::new(args.config, args.keys));
    let (config, keys) = follower.first()?;
    tracing::info!(hash = hash(&config), "configuration read");
    let gateway = Gateway::start(Settings {
        config,
        keys,
        ports: Ports {
            bind: args.bind,
            pages: Vec::new(),
            instead: HashMap::from_iter(args.port),
        },
        admin: args.admin,
        admin_token: args.admin_token_file,
        start_at: StartAt::GatewayStart,
    })
    .await?;
    tracing::info!(admin = %gateway.admin(), "the gateway runs");

    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = look.tick() => follower.follow(&gateway).await,
        }
    }
    let drain = Drain {
        grace: Duration::from_secs(args.drain_grace),
        pace: Pace {
            spread: Duration::from_secs(args.drain_spread),
            ..Pace::AT_ONCE
        },
    };
    tracing::info!(
        grace = args.drain_grace,
        spread = args.drain_spread,
        "the gateway drains"
    );
    let at_most = drain.longest() + STOP_MARGIN;
    tokio::select! {
        stopped = tokio::time::timeout(at_most, gateway.stop(drain)) => stopped.context("the gateway did not stop in time"),
        _ = terminate.recv() => anyhow::bail!("ended at once by a second signal"),
        _ = interrupt.recv() => anyhow::bail!("ended at once by a second signal"),
    }
}

/// Puts what a directory holds in force, as it changes.
struct Follower {
    directory: Directory,
    /// What the last look saw.
    seen: Fingerprint,
    /// What was last put in force, or rejected.
    settled: Fingerprint,
}

impl Follower {
    fn new(directory: Directory) -> Self {
        Self {
            directory,
            seen: Fingerprint::default(),
            settled: Fingerprint::default(),
        }
    }

    fn first(&mut self) -> anyhow::Result<(aldis_crds::contract::GatewayConfig, aldis_crds::contract::Keys)> {
        let files = self.directory.read()?;
        self.settled = files.fingerprint();
        self.seen = self.settled;
        Ok(files.parse()?)
    }

    /// Looks once. A change counts when it has settled: what was seen while it was written is never put in force.
    async fn follow(&mut self, gateway: &Gateway) {
        let directory = self.directory.clone();
        let Ok(read) = tokio::task::spawn_blocking(move || directory.read()).await else {
            return;
        };
        let now = match &read {
            Ok(files) => files.fingerprint(),
            Err(error) => directory::fingerprint_of(error),
        };
        let before = std::mem::replace(&mut self.seen, now);
        if before != now || self.settled == now {
            return;
        }
        self.settled = now;
        match read.and_then(directory::Files::parse) {
            Ok((config, keys)) => gateway.reload(&config, &keys).await,
            Err(error) => gateway.reject(error.to_string()),
        }
    }
}
