//! etcd and kube-apiserver on loopback, for one test.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::sleep;

const TOKEN: &str = "admin-of-the-tests";

/// Both programs. They end with this value.
pub struct ControlPlane {
    data: TempDir,
    etcd_port: u16,
    port: u16,
    etcd: Child,
    api_server: Option<Child>,
}

impl ControlPlane {
    pub async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let [etcd_port, peer_port, port] = free_ports();
        let key = data.path().join("sa.key");
        let made = Command::new("openssl")
            .args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"])
            .arg(&key)
            .status();
        assert!(made.unwrap().success());
        std::fs::write(
            data.path().join("tokens.csv"),
            format!("{TOKEN},admin,admin,system:masters\n"),
        )
        .unwrap();
        let (client, peer) = (
            format!("http://127.0.0.1:{etcd_port}"),
            format!("http://127.0.0.1:{peer_port}"),
        );
        let etcd = Command::new(program("etcd"))
            .arg("--data-dir")
            .arg(data.path().join("etcd"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .arg("--unsafe-no-fsync")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(data.path().join("etcd.log")).unwrap())
            .spawn()
            .unwrap();
        let mut plane = Self {
            data,
            etcd_port,
            port,
            etcd,
            api_server: None,
        };
        plane.start_api_server().await;
        plane
    }

    /// As after a crash of it: what etcd has stays.
    pub async fn restart_api_server(&mut self) {
        self.stop_api_server();
        self.start_api_server().await;
    }

    pub fn stop_api_server(&mut self) {
        if let Some(mut child) = self.api_server.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    async fn start_api_server(&mut self) {
        let at = |name: &str| self.data.path().join(name).display().to_string();
        let key = at("sa.key");
        let child = Command::new(program("kube-apiserver"))
            .args(["--etcd-servers", &format!("http://127.0.0.1:{}", self.etcd_port)])
            .args(["--bind-address", "127.0.0.1", "--secure-port", &self.port.to_string()])
            .args(["--advertise-address", "127.0.0.1", "--endpoint-reconciler-type", "none"])
            .args(["--cert-dir", &at("certs"), "--authorization-mode", "RBAC,Node"])
            .args(["--service-cluster-ip-range", "198.19.0.0/16"])
            .args(["--service-account-issuer", "https://kubernetes.default.svc"])
            .args([
                "--service-account-key-file",
                &key,
                "--service-account-signing-key-file",
                &key,
            ])
            .args(["--token-auth-file", &at("tokens.csv")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(at("api-server.log")).unwrap())
            .spawn()
            .unwrap();
        self.api_server = Some(child);
        for _ in 0..600 {
            sleep(Duration::from_millis(100)).await;
            if let Ok(client) = self.try_client().await
                && client
                    .request_text(http_get("/readyz"))
                    .await
                    .is_ok_and(|text| text == "ok")
            {
                return;
            }
        }
        let log = std::fs::read_to_string(at("api-server.log")).unwrap_or_default();
        panic!(
            "the API server is not ready: {}",
            log.lines().rev().take(20).collect::<Vec<_>>().join("\n")
        );
    }

    pub async fn client(&self) -> Client {
        self.try_client().await.unwrap()
    }

    /// With the rights of a user.
    pub async fn client_as(&self, user: Option<&str>) -> Client {
        let mut config = self.client_config(TOKEN).await.unwrap();
        config.auth_info.impersonate = user.map(str::to_owned);
        Client::try_from(config).unwrap()
    }

    /// A file for kubectl.
    pub fn kubeconfig(&self) -> PathBuf {
        let path = self.data.path().join("kubeconfig");
        std::fs::write(&path, self.config_with(TOKEN).to_string()).unwrap();
        path
    }

    /// A kubeconfig with this token.
    pub fn config_with(&self, token: &str) -> serde_json::Value {
        let ca = self.data.path().join("certs/apiserver.crt");
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{ "name": "c", "cluster": { "server": format!("https://127.0.0.1:{}", self.port), "certificate-authority": ca } }],
            "users": [{ "name": "u", "user": { "token": token } }],
            "contexts": [{ "name": "x", "context": { "cluster": "c", "user": "u" } }]
        })
    }

    async fn try_client(&self) -> anyhow::Result<Client> {
        Ok(Client::try_from(self.client_config(TOKEN).await?)?)
    }

    /// With the rights of whoever has this token.
    pub async fn client_with(&self, token: &str) -> Client {
        Client::try_from(self.client_config(token).await.unwrap()).unwrap()
    }

    async fn client_config(&self, token: &str) -> anyhow::Result<Config> {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let kubeconfig: Kubeconfig = serde_json::from_value(self.config_with(token))?;
        Ok(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.stop_api_server();
        self.etcd.kill().ok();
        self.etcd.wait().ok();
    }
}

fn http_get(path: &str) -> axum::http::Request<Vec<u8>> {
    axum::http::Request::get(path).body(Vec::new()).unwrap()
}

/// Where `scripts/setup.sh` puts what it installs.
pub fn cache() -> PathBuf {
    let cache = std::env::var_os("ALDIS_CACHE").map(PathBuf::from);
    cache.unwrap_or_else(|| Path::new(&std::env::var_os("HOME").unwrap()).join(".cache/aldis"))
}

/// A program of Kubernetes.
pub fn program(name: &str) -> PathBuf {
    let folder = match std::env::var_os("KUBEBUILDER_ASSETS") {
        Some(assets) => PathBuf::from(assets),
        None => cache().join("kubernetes/bin"),
    };
    let program = folder.join(name);
    assert!(
        program.exists(),
        "no {}: run scripts/setup.sh kubernetes",
        program.display()
    );
    program
}

fn free_ports() -> [u16; 3] {
    // Taken together, so that they differ.
    let listeners = [0; 3].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}
