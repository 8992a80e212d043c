//! The binary `aldis-gateway`: one gateway, from a directory of configuration, or from the cluster that it is in.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use aldis_gateway::acknowledge::{Acknowledger, Pod};
use aldis_gateway::app::{Drain, ERASE_AFTER, Gateway, Settings};
use aldis_gateway::cluster::{Cluster, GatewayName};
use aldis_gateway::consume::StartAt;
use aldis_gateway::directory::Directory;
use aldis_gateway::forward::PeerSettings;
use aldis_gateway::listener::close::Pace;
use aldis_gateway::listeners::Ports;
use aldis_gateway::logs::{self, Format};
use aldis_gateway::source::{Follower, Source};
use anyhow::Context as _;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// How much longer than it should a stop may take before the process ends anyway.
const STOP_MARGIN: Duration = Duration::from_secs(5);

/// One Aldis gateway: Kafka records in, Socket.IO events out
///
/// Runs what `aldis translate --out DIR` has written, or what the operator has written for a gateway of the cluster, and follows
/// it: a changed configuration, certificate or key is in force within seconds, while clients stay connected. One that can not be
/// used is logged, counted and shown by /health, and the last good one stays in force. SIGTERM drains; a second one ends at once.
#[derive(Debug, Parser)]
#[command(name = "aldis-gateway", version, after_help = EXAMPLES)]
struct Args {
    /// Directory with config.json (or config.yaml), and with the keys in keys/
    #[arg(long, value_name = "DIR", env = "ALDIS_CONFIG", required_unless_present = "gateway")]
    config: Option<PathBuf>,

    /// The NotificationGateway whose configuration is followed through the API server, in place of a directory
    #[arg(
        long,
        value_name = "NAMESPACE/NAME",
        env = "ALDIS_GATEWAY",
        conflicts_with = "config",
        requires = "pod",
        requires = "pod_uid"
    )]
    gateway: Option<GatewayName>,

    /// Name of this pod, with --gateway: that of the Lease by which it says what it serves
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pod: Option<String>,

    /// Uid of this pod, with --gateway: its Lease goes with it
    #[arg(long, value_name = "UID", env = "POD_UID")]
    pod_uid: Option<String>,

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

    /// Where other replicas pass on what clients of this one's sessions ask of them; port 0 for any that is free. Without it clients
    /// that poll need an address that stays with one replica. Counts where replicas share a Redis
    #[arg(long, value_name = "ADDRESS:PORT", env = "ALDIS_PEERS")]
    peers: Option<SocketAddr>,

    /// Under which address other replicas reach --peers [default: the address there]
    #[arg(long, value_name = "ADDRESS", env = "POD_IP")]
    peer_address: Option<IpAddr>,

    /// On SIGTERM: seconds in which it is not ready and still takes clients, until those who send them have heard of it
    #[arg(long, value_name = "SECONDS", env = "ALDIS_DRAIN_GRACE", default_value_t = 5, value_parser = clap::value_parser!(u64).range(..=3600))]
    drain_grace: u64,

    /// On SIGTERM: seconds over which clients are closed one by one, after the grace
    #[arg(long, value_name = "SECONDS", env = "ALDIS_DRAIN_SPREAD", default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=3600))]
    drain_spread: u64,

    /// Seconds after which the data of a channel that was deleted, or whose grant was revoked, is erased in Redis
    #[arg(long, value_name = "SECONDS", env = "ALDIS_ERASE_AFTER", default_value_t = ERASE_AFTER.as_secs(), value_parser = clap::value_parser!(u64).range(5..=86_400))]
    erase_after: u64,

    /// How log lines look, on standard error. ALDIS_LOG=debug shows more, ALDIS_LOG=warn less
    #[arg(long, value_enum, env = "ALDIS_LOG_FORMAT", default_value_t = Format::Json)]
    log_format: Format,
}

const EXAMPLES: &str = "Examples:
  aldis translate manifests/ --out gateway/
  aldis-gateway --config gateway/
  aldis-gateway --gateway realtime/shared        # in a pod, or with KUBECONFIG; POD_NAME and POD_UID say which
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
    let (mut source, acknowledger) = source(&args).await?;
    let revision = tokio::select! {
        revision = source.first() => revision?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    tracing::info!(hash = revision.hash, "configuration read");
    let gateway = Gateway::start(Settings {
        revision,
        ports: Ports {
            bind: args.bind,
            pages: Vec::new(),
            instead: HashMap::from_iter(args.port),
        },
        admin: args.admin,
        admin_token: args.admin_token_file,
        peers: args.peers.map(|bind| PeerSettings {
            bind,
            advertise: args.peer_address,
        }),
        start_at: StartAt::GatewayStart,
        erase_after: Duration::from_secs(args.erase_after),
    })
    .await?;
    tracing::info!(admin = %gateway.admin(), "the gateway runs");

    if let Source::Cluster(cluster) = &source {
        cluster.count_in(gateway.all_metrics());
    }
    // Until the process ends: while it drains it says that it serves nothing.
    let acknowledging = acknowledger
        .map(|acknowledger| tokio::spawn(acknowledger.run(Arc::clone(gateway.status()), gateway.all_metrics())));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            found = source.next() => match found {
                Ok(revision) => gateway.reload(&revision).await,
                Err(error) => gateway.reject(error.to_string()),
            }
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
    let ended = tokio::select! {
        stopped = tokio::time::timeout(at_most, gateway.stop(drain)) => stopped.context("the gateway did not stop in time"),
        _ = terminate.recv() => Err(anyhow::anyhow!("ended at once by a second signal")),
        _ = interrupt.recv() => Err(anyhow::anyhow!("ended at once by a second signal")),
    };
    if let Some(acknowledging) = acknowledging {
        acknowledging.abort();
    }
    ended
}

/// Where the configuration comes from, and who is told what is in force.
async fn source(args: &Args) -> anyhow::Result<(Source, Option<Acknowledger>)> {
    let (Some(gateway), Some(name), Some(uid)) = (&args.gateway, &args.pod, &args.pod_uid) else {
        let config = args.config.clone().unwrap_or_default();
        let directory = Directory::new(config, args.keys.clone());
        return Ok((Source::Directory(Follower::new(directory)), None));
    };
    // A process of two TLS libraries has to choose one.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let client = kube::Client::try_default()
        .await
        .context("the API server can not be reached: is this a pod, or does KUBECONFIG name a file?")?;
    let cluster = Cluster::follow(&client, gateway.clone());
    let pod = Pod {
        name: name.clone(),
        uid: uid.clone(),
    };
    let acknowledger = Acknowledger::new(client, gateway.clone(), pod);
    Ok((Source::Cluster(Box::new(cluster)), Some(acknowledger)))
}
