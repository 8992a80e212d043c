//! A Redis Cluster of three masters, each with a replica where a test needs them.

use futures_util::future::join_all;

use tempfile::TempDir;

use super::Redis;
use crate::authority::Authority;
use crate::deadline::until;
use crate::kafka::free_ports;

/// Hash slots of a Cluster.
const SLOTS: u64 = 16_384;
/// Masters.
const MASTERS: u64 = 3;

/// Its nodes: the masters, then a replica of each.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Redis>,
    /// Certificates, where it is reached over TLS.
    _files: TempDir,
}

impl Cluster {
    /// Three masters, which have all slots.
    pub(crate) async fn of_masters() -> Self {
        Self::of(MASTERS, None).await
    }

    /// Three masters with a replica each.
    pub(crate) async fn with_replicas() -> Self {
        Self::of(2 * MASTERS, None).await
    }

    /// Three masters with certificates of this authority.
    pub(crate) async fn over_tls(authority: &Authority) -> Self {
        Self::of(MASTERS, Some(authority)).await
    }

    async fn of(count: u64, authority: Option<&Authority>) -> Self {
        let files = tempfile::tempdir().unwrap();
        let tls = authority.map_or_else(Vec::new, |authority| tls_arguments(authority, &files));
        let nodes = join_all((0..count).map(|_| node(&tls))).await;
        for (index, node) in (1..).zip(&nodes) {
            let _: String = node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &index.to_string()]).await;
            if index <= MASTERS {
                let (first, last) = ((index - 1) * SLOTS / MASTERS, index * SLOTS / MASTERS - 1);
                let range = [first.to_string(), last.to_string()];
                let _: String = node.ask(&["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]]).await;
            }
        }
        for node in &nodes[1..] {
            let (port, bus) = (node.port.to_string(), (node.port + 1).to_string());
            let _: String = nodes[0].ask(&["CLUSTER", "MEET", &node.host, &port, &bus]).await;
        }
        let cluster = Self { nodes, _files: files };
        let all = count.to_string();
        for node in &cluster.nodes {
            until("each node knows all", async || {
                (node.cluster("cluster_known_nodes").await == all).then_some(())
            })
            .await;
        }
        for (index, replica) in cluster.nodes.iter().enumerate().skip(MASTERS as usize) {
            let master = cluster.nodes[index - MASTERS as usize].id().await;
            let _: String = replica.ask(&["CLUSTER", "REPLICATE", &master]).await;
        }
        for (index, node) in cluster.nodes.iter().enumerate() {
            until("each node serves", async || {
                let follows = index < MASTERS as usize || node.info("master_link_status").await == "up";
                (follows && node.cluster("cluster_state").await == "ok").then_some(())
            })
            .await;
        }
        cluster
    }

    /// How a gateway is told of it: by one of its nodes.
    pub(crate) fn url(&self) -> String {
        format!("redis+cluster://{}", self.nodes[1].address())
    }

    /// The same over TLS.
    pub(crate) async fn tls_url(&self) -> String {
        let port: Vec<String> = self.nodes[1].ask(&["CONFIG", "GET", "tls-port"]).await;
        format!("rediss+cluster://127.0.0.1:{}", port[1])
    }

    /// Index of the master that has the slot of a key, as the first node that runs knows it.
    pub(crate) async fn owner(&self, slot: u64) -> usize {
        let asked = self.nodes.iter().find(|node| node.child.is_some()).unwrap();
        let said: Vec<redis::Value> = asked.ask(&["CLUSTER", "SLOTS"]).await;
        for entry in said {
            let (first, last, (_, port)): (u64, u64, (String, u16)) = entry_of(entry);
            if (first..=last).contains(&slot) {
                return self.nodes.iter().position(|node| node.port == port).unwrap();
            }
        }
        panic!("nobody has slot {slot}")
    }

    /// Index of the replica of a master.
    pub(crate) async fn replica_of(&self, master: usize) -> usize {
        let master = self.nodes[master].id().await;
        for (index, node) in self.nodes.iter().enumerate() {
            let myself: String = node.ask(&["CLUSTER", "NODES"]).await;
            let myself = myself.lines().find(|line| line.contains("myself")).unwrap_or_default();
            if myself.split(' ').nth(3) == Some(&master) {
                return index;
            }
        }
        panic!("{master} has no replica")
    }

    /// The hash slot of a key.
    pub(crate) async fn slot(&self, key: &str) -> u64 {
        self.nodes[0].ask(&["CLUSTER", "KEYSLOT", key]).await
    }

    /// Moves a slot to another master as `redis-cli --cluster reshard` does, one key after the other.
    pub(crate) async fn migrate(&self, slot: u64, to: usize) {
        self.begin_migration(slot, to).await.finish().await;
    }

    /// A slot is on its way to another master, and none of its keys has gone yet.
    pub(crate) async fn begin_migration(&self, slot: u64, to: usize) -> Migration<'_> {
        let (from, to) = (&self.nodes[self.owner(slot).await], &self.nodes[to]);
        let slot = slot.to_string();
        let _: String = to
            .ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from.id().await])
            .await;
        let _: String = from
            .ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to.id().await])
            .await;
        Migration { slot, from, to }
    }
}

/// A slot that is on its way.
pub(crate) struct Migration<'c> {
    slot: String,
    from: &'c Redis,
    to: &'c Redis,
}

impl Migration<'_> {
    /// This key goes.
    pub(crate) async fn key(&self, key: &str) {
        let port = self.to.port.to_string();
        let _: String = self
            .from
            .ask(&["MIGRATE", &self.to.host, &port, key, "0", "5000"])
            .await;
    }

    /// All that are left go, and then it is the other's.
    pub(crate) async fn finish(self) {
        loop {
            let keys: Vec<String> = self.from.ask(&["CLUSTER", "GETKEYSINSLOT", &self.slot, "1"]).await;
            match &keys[..] {
                [] => break,
                [key, ..] => self.key(key).await,
            }
        }
        let to = self.to.id().await;
        for node in [self.to, self.from] {
            let _: String = node.ask(&["CLUSTER", "SETSLOT", &self.slot, "NODE", &to]).await;
        }
    }
}

async fn node(tls: &[String]) -> Redis {
    let port = free_ports().to_string();
    // A machine that is busy must not look like a master that is dead.
    let mut arguments = vec![
        "--save",
        "",
        "--cluster-enabled",
        "yes",
        "--cluster-node-timeout",
        "5000",
    ];
    arguments.extend([
        "--cluster-replica-validity-factor",
        "0",
        "--repl-diskless-sync-delay",
        "0",
    ]);
    if !tls.is_empty() {
        arguments.extend(["--tls-port", &port]);
        arguments.extend(tls.iter().map(String::as_str));
    }
    Redis::start_with(&arguments).await
}

fn tls_arguments(authority: &Authority, files: &TempDir) -> Vec<String> {
    let (chain, key) = authority.certificate();
    let parts = [
        ("--tls-cert-file", &chain),
        ("--tls-key-file", &key),
        ("--tls-ca-cert-file", &authority.pem),
    ];
    let parts = parts.into_iter().flat_map(|(argument, pem)| {
        let path = files.path().join(argument);
        std::fs::write(&path, pem).unwrap();
        [argument.to_owned(), path.to_str().unwrap().to_owned()]
    });
    let others = [
        "--tls-auth-clients",
        "no",
        "--tls-cluster",
        "yes",
        "--tls-replication",
        "yes",
    ];
    parts.chain(others.map(String::from)).collect()
}

/// First and last slot, and the master.
fn entry_of(entry: redis::Value) -> (u64, u64, (String, u16)) {
    let redis::Value::Array(entry) = entry else {
        panic!("{entry:?}")
    };
    let redis::Value::Array(master) = &entry[2] else {
        panic!("{entry:?}")
    };
    let number = |value: &redis::Value| redis::from_redis_value::<u64>(value.clone()).unwrap();
    let host = redis::from_redis_value(master[0].clone()).unwrap();
    (number(&entry[0]), number(&entry[1]), (host, number(&master[1]) as u16))
}

impl Redis {
    /// How its Cluster names it.
    async fn id(&self) -> String {
        self.ask(&["CLUSTER", "MYID"]).await
    }

    /// What a field of `CLUSTER INFO` says.
    async fn cluster(&self, field: &str) -> String {
        let info: String = self.ask(&["CLUSTER", "INFO"]).await;
        let mut fields = info.lines().filter_map(|line| line.split_once(':'));
        let value = fields.find(|(name, _)| *name == field);
        value.map(|(_, value)| value.to_owned()).unwrap_or_default()
    }
}
