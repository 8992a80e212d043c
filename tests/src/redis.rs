//! Real Redis processes, each a test's own.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use aldis_gateway::adapter::redis::Endpoint;
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

use crate::deadline::until;
use crate::kafka::free_ports;

/// A Redis, which may be down. Ended with this value.
pub(crate) struct Redis {
    child: Option<Child>,
    data: TempDir,
    host: String,
    port: u16,
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
        let mut redis = Self {
            child: None,
            host: host.to_owned(),
            data: tempfile::tempdir().unwrap(),
            port: free_ports(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        };
        redis.restart().await;
        redis
    }

    /// Starts it, with all that its disk has, and waits until it answers.
    pub(crate) async fn restart(&mut self) {
        let log = File::create(self.folder().join("log")).unwrap();
        let mut command = Command::new("redis-server");
        command
            .args(["--port", &self.port.to_string(), "--bind", &self.host, "--dir"])
            .arg(self.folder())
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.child = Some(
            command
                .spawn()
                .expect("redis-server is installed: scripts/setup.sh apt"),
        );
        until("Redis answers", async || {
            let mut connection = self.try_connect().await?;
            let answer: Option<String> = redis::cmd("PING").query_async(&mut connection).await.ok();
            answer
        })
        .await;
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

    async fn try_connect(&self) -> Option<MultiplexedConnection> {
        let client = redis::Client::open(self.url()).unwrap();
        client.get_multiplexed_async_connection().await.ok()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.crash();
    }
}
