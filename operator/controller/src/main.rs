//! The binary `aldis-operator`.

use std::net::SocketAddr;
use std::process::ExitCode;

use aldis_controller::run::{Settings, run};
use aldis_operator::objects::Installation;
use clap::Parser;
use tracing_subscriber::EnvFilter;

/// Runs gateways and channels of Aldis in Kubernetes
#[derive(Debug, Parser)]
#[command(name = "aldis-operator", version)]
struct Args {
    /// Image of gateways that name none
    #[arg(long, env = "ALDIS_GATEWAY_IMAGE", value_name = "IMAGE")]
    gateway_image: String,

    /// Look at this namespace only
    #[arg(long, env = "ALDIS_WATCH_NAMESPACE", value_name = "NAMESPACE")]
    watch_namespace: Option<String>,

    /// The operator's own namespace, with its lease
    #[arg(long, env = "ALDIS_NAMESPACE", value_name = "NAMESPACE")]
    namespace: String,

    /// The name of this installation in its namespace
    #[arg(long, env = "ALDIS_INSTALLATION", value_name = "NAME", default_value = "aldis")]
    installation: String,

    /// This replica's name among all
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    identity: String,

    /// Address of health and metrics
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9902")]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_env("ALDIS_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    match start(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn start(args: Args) -> anyhow::Result<()> {
    // A process of two TLS libraries has to choose one.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let client = kube::Client::try_default().await?;
    let settings = Settings {
        installation: Installation {
            id: format!("{}.{}", args.namespace, args.installation),
            gateway_image: args.gateway_image,
        },
        watch_namespace: args.watch_namespace,
        namespace: args.namespace,
        lease: format!("{}-operator", args.installation),
        identity: args.identity,
        address: args.listen,
    };
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        ended = run(client, settings) => Ok(ended?),
        _ = terminate.recv() => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}
