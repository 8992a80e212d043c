//! Real Redis processes, each a test's own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use aldis_gateway::adapter::redis::Endpoint;
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

use crate::deadline::until;
use crate::kafka::free_ports;

mod cluster;
mod sentinels;

pub(crate) use cluster::Cluster;
pub(crate) use sentinels::Sentinels;

/// A Redis, which may be down. Ended with this value.
pub(crate) struct Redis {
    child: Option<Child>,
    data: TempDir,
    host: String,
    port: u16,
    /// A file with its configuration, which it may write to.
    configuration: Option<PathBuf>,
    arguments: Vec<String>,
}

impl Redis {
    /// A Redis that keeps everything in memory, and has started.
    pub(crate) async fn start() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "no"]).await
    }

    /// The same, for clients that reach it at this address.
    pub(crate) async fn start_at(host: &str) -> Self {
        let anybody = ["--protected-mode", "no", "--maxmemory-policy", "noeviction"];
        Self::start_there(host, &[&anybody[..], &["--save", "", "--appendonly", "no"]].concat()).await
    }

    /// A Redis with arguments of its own, which has started.
    pub(crate) async fn start_with(arguments: &[&str]) -> Self {
        Self::start_there("127.0.0.1", arguments).await
    }

    async fn start_there(host: &str, arguments: &[&str]) -> Self {
        let mut redis = Self::down(host, arguments);
        redis.start_at_free_port().await;
        redis
    }

    /// One that does not run yet.
    fn down(host: &str, arguments: &[&str]) -> Self {
        Self {
            child: None,
            host: host.to_owned(),
            data: tempfile::tempdir().unwrap(),
            port: free_ports(),
            configuration: None,
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        }
    }

    /// Starts it at a port that nobody else has taken meanwhile, and waits until it answers.
    async fn start_at_free_port(&mut self) {
        while !self.try_start().await {
            self.port = free_ports();
        }
    }

    /// Starts it, with all that its disk has, and waits until it answers.
    pub(crate) async fn restart(&mut self) {
        assert!(self.try_start().await, "somebody else has taken port {}", self.port);
    }

    /// Whether it answers; it does not where its port is another one's.
    async fn try_start(&mut self) -> bool {
        let log = File::create(self.folder().join("log")).unwrap();
        let mut command = Command::new("redis-server");
        command
            .args(&self.configuration)
            .args(["--port", &self.port.to_string(), "--bind", &self.host, "--dir"])
            .arg(self.folder())
            .args(["--cluster-port", &(self.port + 1).to_string()])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let mut child = command
            .spawn()
            .expect("redis-server is installed: scripts/setup.sh apt");
        let own = child.id().to_string();
        let is_started = until("Redis answers", async || {
            if child.try_wait().unwrap().is_some() {
                return Some(false);
            }
            let mut connection = self.try_connect().await?;
            let _: String = redis::cmd("PING").query_async(&mut connection).await.ok()?;
            (info(&mut connection, "process_id").await? == own).then_some(true)
        })
        .await;
        self.child = is_started.then_some(child);
        is_started
    }

    /// Ends it as a crash does.
    pub(crate) fn crash(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// Where its files are.
    pub(crate) fn folder(&self) -> &Path {
        self.data.path()
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::parse(&self.url()).unwrap()
    }

    /// Asks it something, on a connection of its own.
    pub(crate) async fn ask<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let mut connection = self.try_connect().await.expect("Redis can be reached");
        let mut asked = redis::cmd(command[0]);
        asked.arg(&command[1..]).query_async(&mut connection).await.unwrap()
    }

    /// The same of a replica of a Cluster, which otherwise sends one to its master.
    pub(crate) async fn ask_replica<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let mut connection = self.try_connect().await.expect("Redis can be reached");
        // Where it is in no Cluster it refuses that.
        let _: Result<(), _> = redis::cmd("READONLY").query_async(&mut connection).await;
        let mut asked = redis::cmd(command[0]);
        asked.arg(&command[1..]).query_async(&mut connection).await.unwrap()
    }

    /// What a field of `INFO` says.
    pub(crate) async fn info(&self, field: &str) -> String {
        let mut connection = self.try_connect().await.expect("Redis can be reached");
        info(&mut connection, field).await.expect("Redis says it")
    }

    /// From now on its replicas have none of what is written to it.
    pub(crate) async fn cut_off_replicas(&self) {
        let _: String = self.ask(&["ACL", "SETUSER", "default", "-psync", "-sync"]).await;
        let _: u64 = self.ask(&["CLIENT", "KILL", "TYPE", "replica"]).await;
    }

    async fn try_connect(&self) -> Option<MultiplexedConnection> {
        let client = redis::Client::open(self.url()).unwrap();
        client.get_multiplexed_async_connection().await.ok()
    }
}

async fn info(connection: &mut MultiplexedConnection, field: &str) -> Option<String> {
    let info: String = redis::cmd("INFO").query_async(connection).await.ok()?;
    let mut fields = info.lines().filter_map(|line| line.split_once(':'));
    let value = fields.find(|(name, _)| *name == field);
    value.map(|(_, value)| value.to_owned())
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.crash();
    }
}
