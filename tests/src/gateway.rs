//! The binary `aldis`, run as a user runs it: `aldis dev DIR`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use aldis_gateway::sabotage::Rule;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::deadline::{until_equal, within};
use crate::metrics::Metrics;

/// Last line of what `aldis dev` prints once it runs.
const RUNNING: &str = "Ctrl-C ends.";

/// A running `aldis dev`. Ended with this value; what it said is shown where its test fails.
pub(crate) struct Gateway {
    child: Child,
    output: Lines,
    log: Lines,
    banner: Banner,
}

/// What `aldis dev` says of itself when it runs.
#[derive(Debug, Default)]
struct Banner {
    page: String,
    broker: String,
    admin: String,
    /// By `namespace/name`.
    channels: BTreeMap<String, Channel>,
}

/// What it says of one channel.
#[derive(Clone, Debug, Default)]
pub(crate) struct Channel {
    pub(crate) urls: Vec<String>,
    pub(crate) token: Option<String>,
    pub(crate) watch: String,
    pub(crate) publish: String,
}

/// What it runs with.
#[derive(Default)]
pub(crate) struct With<'w> {
    /// `host:port`; the embedded broker where there is none.
    pub(crate) kafka: Option<&'w str>,
    /// Its URL.
    pub(crate) redis: Option<&'w str>,
    /// A filter for its log.
    pub(crate) log: Option<&'w str>,
    /// A rule of delivery that is switched off.
    pub(crate) without: Option<Rule>,
    /// Variables in its environment.
    pub(crate) environment: &'w [(&'w str, &'w str)],
}

impl Gateway {
    /// Runs the manifests of `dir`, with the embedded broker or with `kafka`, and waits until it runs.
    pub(crate) async fn start(dir: &Path, kafka: Option<&str>) -> Self {
        Self::start_logging(dir, kafka, None).await
    }

    /// The same, with a filter for its log.
    pub(crate) async fn start_logging(dir: &Path, kafka: Option<&str>, log: Option<&str>) -> Self {
        let with = With {
            kafka,
            log,
            ..With::default()
        };
        Self::start_with(dir, with).await
    }

    /// The same with its own Kafka and, where one is given, without a rule of delivery.
    pub(crate) async fn start_without(dir: &Path, rule: Option<Rule>) -> Self {
        let with = With {
            without: rule,
            ..With::default()
        };
        Self::start_with(dir, with).await
    }

    /// The same with its own Kafka, for which the certificates of a file, in PEM, are those that the system trusts.
    pub(crate) async fn start_trusting(dir: &Path, authorities: &Path) -> Self {
        Self::start_in(dir, &[("SSL_CERT_FILE", authorities.to_str().unwrap())]).await
    }

    /// The same with its own Kafka and these variables in its environment.
    pub(crate) async fn start_in(dir: &Path, environment: &[(&str, &str)]) -> Self {
        let with = With {
            environment,
            ..With::default()
        };
        Self::start_with(dir, with).await
    }

    /// One of several that share a Kafka and a Redis.
    pub(crate) async fn replica(dir: &Path, kafka: &str, redis: &str) -> Self {
        let with = With {
            kafka: Some(kafka),
            redis: Some(redis),
            ..With::default()
        };
        Self::start_with(dir, with).await
    }

    /// Runs the manifests of `dir` so, and waits until it runs.
    pub(crate) async fn start_with(dir: &Path, with: With<'_>) -> Self {
        let With {
            kafka,
            redis,
            log,
            without,
            environment,
        } = with;
        let mut command = Command::new(aldis());
        command
            .arg("dev")
            .arg(dir)
            .args(["--any-port", "--admin-port", "0", "--page-port", "0"]);
        if let Some(kafka) = kafka {
            command.args(["--kafka", kafka]);
        }
        if let Some(redis) = redis {
            command.args(["--redis", redis]);
        }
        command
            .env_remove("ALDIS_LOG")
            .env_remove("ALDIS_SABOTAGE")
            .envs(log.map(|filter| ("ALDIS_LOG", filter)))
            .envs(without.map(|rule| ("ALDIS_SABOTAGE", (rule as u8).to_string())))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let output = Lines::of(child.stdout.take().unwrap());
        let log = Lines::of(child.stderr.take().unwrap());
        let mut gateway = Self {
            child,
            output,
            log,
            banner: Banner::default(),
        };
        gateway.wait_for_output(RUNNING).await;
        gateway.banner = Banner::parse(&gateway.output.text());
        gateway
    }

    /// `host:port` of its Kafka.
    pub(crate) fn broker(&self) -> &str {
        &self.banner.broker
    }

    /// What it says of a channel, `namespace/name`.
    pub(crate) fn channel(&self, name: &str) -> &Channel {
        self.banner
            .channels
            .get(name)
            .unwrap_or_else(|| panic!("no channel {name} in {:?}", self.banner))
    }

    /// `host:port` of its listener.
    pub(crate) fn address(&self) -> String {
        let any = self
            .banner
            .channels
            .values()
            .flat_map(|channel| &channel.urls)
            .next()
            .expect("a channel has a url");
        any.strip_prefix("http://")
            .unwrap()
            .split('/')
            .next()
            .unwrap()
            .to_owned()
    }

    /// URL of a Socket.IO namespace on its listener.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// A text of a page, with this gateway's listener in place of that of the bistro example.
    pub(crate) fn instead_of_port_3006(&self, text: &str) -> String {
        instead_of_port_3006(text, &self.address())
    }

    /// URL of its page.
    pub(crate) fn page(&self) -> &str {
        &self.banner.page
    }

    /// `host:port` of its admin port.
    pub(crate) fn admin_address(&self) -> &str {
        &self.banner.admin
    }

    /// Status and body of a path of its admin port.
    pub(crate) async fn admin(&self, path: &str) -> (u16, String) {
        let asked = async {
            let mut stream = TcpStream::connect(&self.banner.admin).await?;
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
                self.banner.admin
            );
            stream.write_all(request.as_bytes()).await?;
            let mut response = String::new();
            stream.read_to_string(&mut response).await?;
            Ok::<_, std::io::Error>(response)
        };
        let response = within("the admin port answers", asked).await.unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Its health, as JSON.
    pub(crate) async fn health(&self) -> Value {
        let (status, body) = self.admin("/health").await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Its metrics now.
    pub(crate) async fn metrics(&self) -> Metrics {
        let (status, body) = self.admin("/metrics").await;
        assert_eq!(status, 200, "{body}");
        Metrics::parse(&body)
    }

    /// Waits until a series of its metrics has this value.
    pub(crate) async fn wait_for_metric(&self, series: &str, expected: f64) {
        until_equal(series, expected, async || self.metrics().await.value(series)).await;
    }

    /// Waits until it has printed `text`.
    pub(crate) async fn wait_for_output(&mut self, text: &str) {
        let mut output = self.output.0.clone();
        let printed = output.wait_for(|lines| lines.iter().any(|line| line.contains(text)));
        let ended = async {
            // What it said before it ended may still have to be read.
            let status = self.child.wait().await;
            std::future::pending::<()>().await;
            status
        };
        let seen = tokio::select! {
            printed = within(text, printed) => printed.is_ok(),
            _ = ended => false,
        };
        assert!(seen, "aldis dev ended and has not printed {text:?}");
    }

    /// Waits until it has logged, or complained of, `text`.
    pub(crate) async fn wait_for_log(&self, text: &str) {
        let mut log = self.log.0.clone();
        let logged = log.wait_for(|lines| lines.iter().any(|line| line.contains(text)));
        within(text, logged).await.unwrap();
    }

    /// All that it has logged and complained of.
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    /// Asks it to end, and waits until it has. What it logged until then is there.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM").await;
        let status = within("aldis dev ends", self.child.wait()).await.unwrap();
        self.log.ended().await;
        status
    }

    /// Stops it where it is, without a word to anybody, until [`Self::resume`].
    pub(crate) async fn pause(&self) {
        self.signal("STOP").await;
    }

    /// It goes on where it was.
    pub(crate) async fn resume(&self) {
        self.signal("CONT").await;
    }

    /// Sends it a signal: `TERM`, `STOP`, `CONT`.
    pub(crate) async fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let kill = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(kill.await.unwrap().success());
    }

    /// Ends it as a crash does.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- aldis dev printed:\n{}\n--- and logged:\n{}\n---",
                self.output.text(),
                self.log.text()
            );
        }
    }
}

impl Banner {
    fn parse(text: &str) -> Self {
        let mut banner = Self::default();
        let mut channel = String::new();
        for line in text.lines() {
            let Some((word, rest)) = line.trim().split_once(' ') else {
                continue;
            };
            let rest = rest.trim();
            let first = || rest.split(' ').next().unwrap_or_default();
            if word == "channel" {
                channel = rest.to_owned();
                banner.channels.insert(channel.clone(), Channel::default());
                continue;
            }
            let about = banner.channels.get_mut(&channel);
            match (word, about) {
                ("page", _) => banner.page = first().to_owned(),
                ("kafka", _) => banner.broker = first().to_owned(),
                ("health", _) => {
                    banner.admin = first()
                        .trim_start_matches("http://")
                        .trim_end_matches("/health")
                        .to_owned()
                }
                ("url", Some(about)) => about.urls = rest.split_whitespace().map(str::to_owned).collect(),
                ("token", Some(about)) => about.token = Some(rest.to_owned()),
                ("watch", Some(about)) => about.watch = rest.to_owned(),
                ("publish", Some(about)) => about.publish = rest.to_owned(),
                _ => {}
            }
        }
        banner
    }
}

/// A text of a page, with another address in place of that of the bistro example.
pub(crate) fn instead_of_port_3006(text: &str, address: &str) -> String {
    text.replace("localhost:3006", address)
        .replace("127.0.0.1:3006", address)
}

/// The binary `aldis`.
pub(crate) fn aldis() -> PathBuf {
    binary("aldis")
}

/// A binary of the workspace. Cargo builds it into the folder above the one that this test executable is in.
pub(crate) fn binary(name: &str) -> PathBuf {
    let executable = std::env::current_exe().unwrap();
    let binary = executable.parent().and_then(Path::parent).unwrap().join(name);
    assert!(
        binary.exists(),
        "there is no {}: run `cargo build --bin {name}`, or test the whole workspace",
        binary.display()
    );
    binary
}

/// Lines as a POSIX shell runs them, with `aldis` on its path. The first that fails is the last.
pub(crate) fn shell(lines: &str) -> Command {
    let mut command = Command::new("sh");
    let folder = aldis().parent().unwrap().to_owned();
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .args(["-ec", lines])
        .env("PATH", format!("{}:{path}", folder.display()))
        .stdin(Stdio::null());
    command
}

/// Lines of a child's output, as they come.
pub(crate) struct Lines(watch::Receiver<Vec<String>>);

impl Lines {
    pub(crate) fn of(stream: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let (sender, receiver) = watch::channel(Vec::new());
        tokio::spawn(async move {
            let mut lines = BufReader::new(stream).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                sender.send_modify(|lines| lines.push(line));
            }
        });
        Self(receiver)
    }

    pub(crate) fn text(&self) -> String {
        self.0.borrow().join("\n")
    }

    /// Waits until a line is such; gives what is made of it.
    pub(crate) async fn find<T>(&self, what: &str, mut such: impl FnMut(&str) -> Option<T>) -> T {
        let mut lines = self.0.clone();
        let found = async {
            loop {
                let found = lines.borrow_and_update().iter().find_map(|line| such(line));
                match found {
                    Some(found) => return found,
                    None => lines.changed().await.expect("it has not ended"),
                }
            }
        };
        within(what, found).await
    }

    /// Waits until the stream has ended.
    pub(crate) async fn ended(&self) {
        let mut lines = self.0.clone();
        within("the output ends", async { while lines.changed().await.is_ok() {} }).await;
    }
}
