//! A master, two replicas of it, and three Sentinels that watch them.

use futures_util::future::join_all;

use super::Redis;
use crate::deadline::until;

/// How the Sentinels name what they watch.
const NAME: &str = "aldis";

/// They and what they watch, each of which may be down.
pub(crate) struct Sentinels {
    pub(crate) nodes: Vec<Redis>,
    sentinels: Vec<Redis>,
}

impl Sentinels {
    /// All of them, which know each other. The first node is the master.
    pub(crate) async fn start() -> Self {
        let master = Redis::start().await;
        let host_port = [master.host.clone(), master.port.to_string()];
        let replica = ["--save", "", "--repl-diskless-sync-delay", "0", "--replicaof"];
        let replica: Vec<_> = replica
            .into_iter()
            .chain(host_port.iter().map(String::as_str))
            .collect();
        let (second, third) = tokio::join!(Redis::start_with(&replica), Redis::start_with(&replica));
        until("both replicas follow", async || {
            (master.info("connected_slaves").await == "2").then_some(())
        })
        .await;
        let [host, port] = host_port;
        // A machine that is busy must not look like a master that is dead.
        let configuration = format!(
            "sentinel monitor {NAME} {host} {port} 2\nsentinel down-after-milliseconds {NAME} 5000\n\
             sentinel failover-timeout {NAME} 10000\nsentinel parallel-syncs {NAME} 2\n"
        );
        let sentinels = join_all((0..3).map(|_| sentinel(&configuration))).await;
        let started = Self {
            nodes: vec![master, second, third],
            sentinels,
        };
        until("the Sentinels know all", async || {
            started.know_all().await.then_some(())
        })
        .await;
        started
    }

    async fn know_all(&self) -> bool {
        let known = join_all(self.sentinels.iter().map(|sentinel| async {
            let info: std::collections::HashMap<String, String> = sentinel.ask(&["SENTINEL", "MASTER", NAME]).await;
            (info["num-slaves"].clone(), info["num-other-sentinels"].clone())
        }));
        known
            .await
            .iter()
            .all(|known| *known == ("2".to_owned(), "2".to_owned()))
    }

    /// How a gateway is told of them.
    pub(crate) fn url(&self) -> String {
        let addresses: Vec<_> = self.sentinels.iter().map(Redis::address).collect();
        format!("redis+sentinel://{}/{NAME}", addresses.join(","))
    }

    /// Waits until every Sentinel names another master than the first node, and gives it.
    pub(crate) async fn promoted(&self) -> &Redis {
        until("another node is the master", async || {
            let named = join_all(self.sentinels.iter().map(async |sentinel| {
                let (_, port): (String, u16) = sentinel.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]).await;
                port
            }));
            let named = named.await;
            let node = self.nodes[1..].iter().find(|node| node.port == named[0])?;
            (named.iter().all(|port| *port == node.port) && node.info("role").await == "master").then_some(node)
        })
        .await
    }
}

async fn sentinel(configuration: &str) -> Redis {
    let mut sentinel = Redis::down("127.0.0.1", &["--sentinel"]);
    let file = sentinel.folder().join("sentinel.conf");
    std::fs::write(&file, configuration).unwrap();
    sentinel.configuration = Some(file);
    sentinel.start_at_free_port().await;
    sentinel
}
