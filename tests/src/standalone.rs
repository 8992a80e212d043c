//! The binary `aldis-gateway`, run as Kubernetes runs it: from a directory that something else writes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::deadline::{until_equal, within};
use crate::gateway::{Lines, aldis, binary};
use crate::manifests::Manifests;
use crate::metrics::Metrics;
use crate::request::{Answer, request};

/// The token of its admin port.
pub(crate) const ADMIN_TOKEN: &str = "admin-token-of-a-test";

/// A running `aldis-gateway`. Ended with this value; what it logged is shown where its test fails.
pub(crate) struct Standalone {
    child: Child,
    log: Lines,
    dir: TempDir,
    admin: SocketAddr,
}

impl Standalone {
    /// Translates manifests, runs what came out on any free ports, and waits until it runs. `args` are added.
    pub(crate) async fn start(manifests: &Manifests, args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), format!("{ADMIN_TOKEN}\n")).unwrap();
        translate(manifests, &dir.path().join("config")).await;
        let mut command = Command::new(binary("aldis-gateway"));
        command
            .arg("--config")
            .arg(dir.path().join("config"))
            .args(["--bind", "127.0.0.1", "--admin", "127.0.0.1:0", "--admin-token-file"])
            .arg(dir.path().join("token"))
            .args(args)
            .env_remove("ALDIS_LOG")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let log = Lines::of(child.stderr.take().unwrap());
        let found = log.find("the gateway runs", |line| field(line, "the gateway runs", "admin"));
        let admin = tokio::select! {
            admin = found => admin.parse().unwrap(),
            status = child.wait() => panic!("aldis-gateway ended with {status:?}:\n{}", log.text()),
        };
        Self { child, log, dir, admin }
    }

    /// Where its configuration is.
    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("config")
    }

    /// Where a listener listens.
    pub(crate) async fn listener(&self, name: &str) -> SocketAddr {
        let of = |line: &str| {
            let address = field(line, "listening", "address")?;
            (field(line, "listening", "listener")? == name).then_some(address)
        };
        self.log.find(name, of).await.parse().unwrap()
    }

    /// All that it has logged.
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    /// Translates manifests into its directory, and waits until that is in force.
    pub(crate) async fn follow(&self, manifests: &Manifests) {
        let reloads = self.metrics().await.value(RELOADS);
        translate(manifests, &self.config()).await;
        self.wait_for_metric(RELOADS, reloads + 1.0).await;
    }

    /// A path of its admin port.
    pub(crate) async fn admin(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        request(self.admin, "GET", path, headers, "").await
    }

    /// Its health.
    pub(crate) async fn health(&self) -> Value {
        serde_json::from_str(&self.admin("/health", &[]).await.body).unwrap()
    }

    pub(crate) async fn metrics(&self) -> Metrics {
        Metrics::parse(&self.admin("/metrics", &[]).await.body)
    }

    /// Waits until a series of its metrics has this value.
    pub(crate) async fn wait_for_metric(&self, series: &str, expected: f64) {
        until_equal(series, expected, async || self.metrics().await.value(series)).await;
    }

    /// Sends it SIGTERM.
    pub(crate) async fn signal(&self) {
        let pid = self.child.id().expect("it runs").to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .await
                .unwrap()
                .success()
        );
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        within("aldis-gateway ends", self.child.wait()).await.unwrap()
    }
}

const RELOADS: &str = "aldis_config_reloads_total";

/// A field of a log line with this message.
fn field(line: &str, message: &str, name: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    let wanted = line["message"] == message;
    line[name].as_str().filter(|_| wanted).map(str::to_owned)
}

async fn translate(manifests: &Manifests, out: &std::path::Path) {
    let mut command = Command::new(aldis());
    command.arg("translate").arg(manifests.path()).arg("--out").arg(out);
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

impl Drop for Standalone {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- aldis-gateway logged:\n{}\n---", self.log.text());
        }
    }
}
