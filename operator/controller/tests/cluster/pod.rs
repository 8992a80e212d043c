//! A gateway as a pod runs it: the real program, with the token of its own account, and a stock client that is connected to it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempDir};

use crate::cluster::{Cluster, repository, until};

/// The name of the pod.
pub const POD: &str = "aldis-shared-a";

/// A running `aldis-gateway`. Ended with this value; what it logged is shown where its test fails.
pub struct Pod {
    child: Child,
    dir: TempDir,
}

impl Cluster {
    /// The token of the account that pods of `shared` have.
    pub async fn pod_token(&self) -> String {
        let accounts = self.api::<ServiceAccount>("realtime");
        until("the account is there", async || {
            accounts.get_opt("aldis-shared").await.unwrap()
        })
        .await;
        let request: TokenRequest = serde_json::from_value(json!({ "spec": { "audiences": [] } })).unwrap();
        let params = PostParams::default();
        let given = accounts.create_token_request("aldis-shared", &params, &request).await;
        given.unwrap().status.unwrap().token
    }

    /// Runs a pod of `shared`, and waits until it runs.
    pub async fn pod(&self) -> Pod {
        self.pod_named(POD).await
    }

    /// The same, one of several.
    pub async fn pod_named(&self, name: &str) -> Pod {
        let dir = tempfile::tempdir().unwrap();
        let kubeconfig = dir.path().join("kubeconfig");
        let text = self.plane.config_with(&self.pod_token().await).to_string();
        std::fs::write(&kubeconfig, text).unwrap();
        let child = Command::new(binary("aldis-gateway"))
            .args([
                "--gateway",
                "realtime/shared",
                "--bind",
                "127.0.0.1",
                "--port",
                "web=0",
                "--admin",
                "127.0.0.1:0",
            ])
            .env("KUBECONFIG", kubeconfig)
            .env("POD_NAME", name)
            .env("POD_UID", "00000000-0000-0000-0000-000000000000")
            .env_remove("ALDIS_LOG")
            .stdin(Stdio::null())
            .stderr(File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let pod = Pod { child, dir };
        until("the gateway runs", async || pod.logged("the gateway runs", "admin")).await;
        pod
    }
}

impl Pod {
    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// A field of the first line with this message.
    fn logged(&self, message: &str, field: &str) -> Option<String> {
        let log = self.log();
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let line = lines.find(|line| line["message"] == message)?;
        line[field].as_str().map(str::to_owned)
    }

    /// Its admin port.
    pub fn admin(&self) -> String {
        self.logged("the gateway runs", "admin").unwrap()
    }

    /// A series of its metrics without labels.
    pub fn metric(&self, name: &str) -> f64 {
        let text = get(&self.admin(), "/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    /// A stock client that is connected to a Socket.IO namespace of it.
    pub async fn client(&self, path: &str) -> Client {
        let address = self.logged("listening", "address").unwrap();
        let log = NamedTempFile::new().unwrap();
        let mut child = Command::new("node")
            .arg("agent.js")
            .env("NODE_PATH", modules())
            .current_dir(repository().join("tests/node"))
            .stdin(Stdio::piped())
            .stdout(log.reopen().unwrap())
            .spawn()
            .unwrap();
        let options = json!({ "transports": ["websocket"] });
        let url = format!("http://{address}{path}");
        let told = json!({ "do": "connect", "client": 1, "library": "4.8", "url": url, "options": options });
        writeln!(child.stdin.as_mut().unwrap(), "{told}").unwrap();
        let mut client = Client { child, log, asked: 0 };
        until("the client is connected", async || {
            (client.count("connect") == 1).then_some(())
        })
        .await;
        client.ask().await;
        client
    }
}

/// The body of what a port answers to a GET.
pub fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.split_once("\r\n\r\n").unwrap().1.to_owned()
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- aldis-gateway logged:\n{}\n---", self.log());
        }
    }
}

pub struct Client {
    child: Child,
    log: NamedTempFile,
    asked: usize,
}

impl Client {
    /// How often it has seen this.
    pub fn count(&self, what: &str) -> usize {
        let log = std::fs::read_to_string(self.log.path()).unwrap();
        let seen = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        seen.filter(|seen| seen["on"] == what).count()
    }

    /// Sends an event that the channel answers, and waits for that.
    pub async fn ask(&mut self) {
        self.asked += 1;
        let told = json!({ "do": "emit", "client": 1, "event": "echo", "args": [], "ack": self.asked });
        writeln!(self.child.stdin.as_mut().unwrap(), "{told}").unwrap();
        until("it is answered", async || {
            (self.count("ack") == self.asked).then_some(())
        })
        .await;
    }

    /// Waits until it was sent away.
    pub async fn sent_away(&self) {
        until("it is sent away", async || (self.count("disconnect") > 0).then_some(())).await;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A program of the workspace. Cargo builds it into the folder above the one that this test's is in.
pub fn binary(name: &str) -> PathBuf {
    let executable = std::env::current_exe().unwrap();
    let binary = executable.parent().and_then(Path::parent).unwrap().join(name);
    assert!(binary.exists(), "no {}: test the whole workspace", binary.display());
    binary
}

/// Where `scripts/setup.sh node` puts the stock clients.
fn modules() -> PathBuf {
    crate::control_plane::cache().join("node/node_modules")
}
