//! What clients connect to: a gateway, or what it is compared with.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::topology::Channel;
use crate::deadline::within;
use crate::gateway::{Gateway, Lines};
use crate::kafka::repository;
use crate::manifests::Manifests;

/// What runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `aldis dev`
    Gateway,
    /// `tests/peer/peer.js`: Socket.IO's server with its Redis streams adapter, and kafkajs.
    Node,
}

/// One of them, running.
pub(crate) enum Server {
    Gateway(Box<Gateway>),
    Node {
        child: Box<Child>,
        log: Lines,
        address: String,
    },
}

impl Server {
    /// Starts Node's, and waits until it listens.
    pub(crate) async fn node(manifests: &Manifests, kafka: &str, redis: &str) -> Self {
        let channels = Channel::ALL
            .map(|channel| json!({"name": channel.name(), "path": channel.path(), "topic": channel.topic(manifests)}));
        let job = json!({"kafka": kafka, "redis": redis, "group": manifests.topic, "channels": channels});
        let mut child = Command::new("node")
            .arg("peer.js")
            .arg(job.to_string())
            .env("NODE_PATH", modules())
            .current_dir(repository().join("tests/peer"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = Lines::of(child.stderr.take().unwrap());
        let output = Lines::of(child.stdout.take().unwrap());
        let address = |line: &str| {
            let said: Value = serde_json::from_str(line).ok()?;
            said["address"].as_str().map(str::to_owned)
        };
        let address = output.find("peer.js listens", address).await;
        Self::Node {
            child: Box::new(child),
            log,
            address,
        }
    }

    /// `host:port`
    pub(crate) fn address(&self) -> String {
        match self {
            Self::Gateway(gateway) => gateway.address(),
            Self::Node { address, .. } => address.clone(),
        }
    }

    /// Sends it a signal: `TERM`, `STOP`, `CONT`.
    pub(crate) async fn signal(&self, name: &str) {
        match self {
            Self::Gateway(gateway) => gateway.signal(name).await,
            Self::Node { child, .. } => {
                let pid = child.id().expect("it runs").to_string();
                let kill = Command::new("kill").args([&format!("-{name}"), &pid]).status();
                assert!(kill.await.unwrap().success());
            }
        }
    }

    /// Ends it as a crash does.
    pub(crate) async fn kill(&mut self) {
        match self {
            Self::Gateway(gateway) => gateway.kill().await,
            Self::Node { child, .. } => child.kill().await.unwrap(),
        }
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn terminate(&mut self) {
        match self {
            Self::Gateway(gateway) => drop(gateway.terminate().await),
            Self::Node { .. } => {
                self.signal("TERM").await;
                if let Self::Node { child, .. } = self {
                    within("peer.js ends", child.wait()).await.unwrap();
                }
            }
        }
    }

    pub(crate) fn log(&self) -> String {
        match self {
            Self::Gateway(gateway) => gateway.log(),
            Self::Node { log, .. } => log.text(),
        }
    }
}

/// Where `scripts/setup.sh peer` puts what it needs.
fn modules() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/aldis");
    let cache = std::env::var_os("ALDIS_CACHE").map_or_else(home, PathBuf::from);
    cache.join("peer/node_modules")
}
