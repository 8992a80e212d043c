//! The gateway of a run: `aldis dev`, in a process of its own, with the orders channel of the bistro example.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::broker::terminate;

/// How long it may take until it prints where it is. 60 s.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long its metrics may take. 10 s.
const METRICS_TIMEOUT: Duration = Duration::from_secs(10);

/// Lines of its log that an error shows. 10.
const LOG_LINES: usize = 10;

/// The manifests, by name.
const MANIFESTS: [(&str, &str); 3] = [
    ("gateway.yaml", include_str!("../../../../examples/bistro/gateway.yaml")),
    ("orders.yaml", include_str!("../../../../examples/bistro/orders.yaml")),
    ("secret.yaml", include_str!("../../../../examples/bistro/secret.yaml")),
];

/// Counters of which each other sample than 0 explains what went wrong.
const TELLING: [&str; 3] = [
    "aldis_dead_letters_total",
    "aldis_clients_closed_total",
    "aldis_consumer_retries_total",
];

/// A running gateway.
pub struct Gateway {
    process: Child,
    /// Its process.
    pub pid: u32,
    /// `http://host:port` of its listener.
    pub url: String,
    metrics: String,
    log: PathBuf,
}

/// Writes the manifests into a new folder below `folder`.
///
/// # Errors
/// Where that can not be written.
pub fn manifests(folder: &Path) -> anyhow::Result<PathBuf> {
    let manifests = folder.join("manifests");
    std::fs::create_dir_all(&manifests)?;
    for (name, text) in MANIFESTS {
        std::fs::write(manifests.join(name), text)?;
    }
    Ok(manifests)
}

impl Gateway {
    /// Starts the `aldis` that was built next to this program, pinned to `cpu` if one is given.
    ///
    /// # Errors
    /// Where it does not start.
    pub async fn start(kafka: &str, folder: &Path, cpu: Option<usize>) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?.with_file_name("aldis");
        anyhow::ensure!(
            program.exists(),
            "{} is missing: build it with the same profile",
            program.display()
        );
        let mut command = match cpu {
            Some(cpu) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &cpu.to_string()]).arg(&program);
                command
            }
            None => Command::new(&program),
        };
        let log = folder.join("gateway.log");
        let mut process = command
            .arg("dev")
            .arg(manifests(folder)?)
            .args(["--kafka", kafka, "--any-port", "--admin-port", "0", "--page-port", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log)?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let output = process.stdout.take().context("the gateway has no output")?;
        let pid = process.id().context("the gateway ended at once")?;
        let mut gateway = Self {
            process,
            pid,
            url: String::new(),
            metrics: String::new(),
            log,
        };
        match timeout(START_TIMEOUT, gateway.read_banner(output)).await {
            Ok(Ok(())) => Ok(gateway),
            Ok(Err(error)) => bail!("the gateway does not start: {error:#}\n{}", gateway.log()),
            Err(_) => bail!("the gateway does not start within {START_TIMEOUT:?}\n{}", gateway.log()),
        }
    }

    /// Reads what `aldis dev` prints once it runs, and drains what follows.
    async fn read_banner(&mut self, output: tokio::process::ChildStdout) -> anyhow::Result<()> {
        let mut lines = BufReader::new(output).lines();
        while let Some(line) = lines.next_line().await? {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("health") => {
                    let metrics = words.find(|word| word.ends_with("/metrics"));
                    metrics.context("no address of metrics")?.clone_into(&mut self.metrics);
                }
                Some("url") => {
                    self.url = words.next().context("no url")?.trim_end_matches('/').to_owned();
                }
                Some("Save") => {
                    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                    anyhow::ensure!(
                        !self.url.is_empty() && !self.metrics.is_empty(),
                        "it did not say where it listens"
                    );
                    return Ok(());
                }
                _ => {}
            }
        }
        bail!("it ended")
    }

    /// Counters that say why something went wrong, one a line.
    pub async fn telling_metrics(&self) -> String {
        let text = timeout(METRICS_TIMEOUT, self.metrics()).await;
        let text = match text {
            Ok(Ok(text)) => text,
            Ok(Err(error)) => return format!("no metrics: {error:#}"),
            Err(_) => return format!("no metrics within {METRICS_TIMEOUT:?}"),
        };
        let telling = text
            .lines()
            .filter(|line| TELLING.iter().any(|name| line.starts_with(name)) && !line.ends_with(" 0"));
        telling.collect::<Vec<_>>().join("\n")
    }

    async fn metrics(&self) -> anyhow::Result<String> {
        let address = self.metrics.trim_start_matches("http://").trim_end_matches("/metrics");
        let mut stream = TcpStream::connect(address).await?;
        stream
            .write_all(format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())
            .await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }

    /// The end of what it logged.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// Stops it in order and waits until it is gone.
    pub async fn stop(self) {
        terminate(self.process).await;
    }
}
