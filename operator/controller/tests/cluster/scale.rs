//! What a change costs, with few channels and with many: measured, and printed. `make operator-bench`; the figures are in
//! docs/benchmarks.md.

use std::collections::BTreeMap;
use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aldis_crds::{NotificationChannel, NotificationGateway};
use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::{Cluster, gateway, until};
use crate::pod::{binary, get};

/// Changes that are measured; the median of them is told.
const CHANGES: usize = 15;
/// Requests that make the channels, at once.
const WRITERS: usize = 16;
/// How long the cluster is left alone before something is counted: what was written is looked at once more within it.
const CALM: Duration = Duration::from_secs(3);

/// The real program. It ends with this value.
pub struct Program {
    child: Child,
    dir: TempDir,
    address: String,
}

impl Program {
    pub async fn operator(cluster: &Cluster) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let child = Command::new(binary("aldis-operator"))
            .args(["--gateway-image", "gateway:test", "--namespace", "aldis-system"])
            .args(["--identity", "one", "--listen", "127.0.0.1:0"])
            .env("KUBECONFIG", cluster.plane.kubeconfig())
            .env_remove("ALDIS_LOG")
            .stdin(Stdio::null())
            .stderr(File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let log = dir.path().join("log");
        let address = until("the operator runs", async || {
            let log = std::fs::read_to_string(&log).unwrap();
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let mut said = lines.filter(|line| line["fields"]["message"] == "health and metrics");
            Some(said.next()?["fields"]["address"].as_str()?.to_owned())
        })
        .await;
        Self { child, dir, address }
    }

    /// What it has logged with this message: the fields of each line.
    pub fn logged(&self, message: &str) -> Vec<Value> {
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let fields = lines.map(|mut line| line["fields"].take());
        fields.filter(|fields| fields["message"] == message).collect()
    }

    /// A series of its metrics.
    pub fn metric(&self, series: &str) -> f64 {
        let text = get(&self.address, "/metrics");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Its resident memory, in MiB.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() / 1024
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.dir.path().join("log")).unwrap());
        }
    }
}

/// A channel as tenants write them. `text`: what changes.
fn channel(name: &str, text: &str) -> Value {
    json!({
        "apiVersion": "aldis.dev/v1alpha1", "kind": "NotificationChannel",
        "metadata": { "name": name },
        "spec": {
            "parentRefs": [{ "name": "shared", "namespace": "realtime", "sectionName": "web" }],
            "authentication": { "anonymous": {} },
            "sources": [{ "name": "orders", "kafka": { "topics": ["orders"] }, "type": "{body.type}", "data": "{body.data}" }],
            "rooms": [
                { "name": "orders", "key": "orders:{tenant}", "allow": "identity.role in ['staff', 'manager'] && args.tenant == identity.tenant",
                  "join": { "event": "subscribe", "with": { "tenant": "args.tenant" } } },
                { "name": "customer", "key": "customer:{user}", "join": { "auto": { "when": "identity.user != null", "with": { "user": "identity.user" } } } }
            ],
            "replies": [{ "event": "echo", "ack": text, "allow": "true" }],
            "routes": [{
                "types": ["order.*"],
                "when": "event.data.status != 'draft'",
                "emit": [{
                    "event": "order", "payload": { "id": "{event.data.id}", "text": "Order {event.data.id} is {event.data.status}" },
                    "to": [{ "room": "orders", "with": { "tenant": "event.data.tenant" } }, { "room": "customer", "with": { "user": "event.data.user" } }]
                }]
            }]
        }
    })
}

impl Cluster {
    /// A gateway that grants every namespace what is below its name.
    async fn gateway_for_all(&self) {
        let mut gateway = gateway();
        gateway["spec"]["tenants"] = json!([{
            "name": "all",
            "namespaces": { "matchExpressions": [{ "key": "kubernetes.io/metadata.name", "operator": "Exists" }] },
            "listeners": ["web"], "paths": ["/{namespace}/*"], "topics": ["orders"], "authentication": ["anonymous"]
        }]);
        self.create::<NotificationGateway>("realtime", gateway).await;
    }

    /// So many namespaces, with so many channels in each: `t0/c0` and so on.
    async fn tenants(&self, namespaces: usize, channels: std::ops::Range<usize>) {
        let all: Api<Namespace> = Api::all(self.client.clone());
        stream::iter(0..namespaces)
            .for_each_concurrent(WRITERS, |n| {
                let (all, channels) = (&all, channels.clone());
                async move {
                    let namespace = serde_json::from_value(json!({ "metadata": { "name": format!("t{n}") } })).unwrap();
                    // It may be there already.
                    all.create(&PostParams::default(), &namespace).await.ok();
                    for c in channels {
                        self.create::<NotificationChannel>(&format!("t{n}"), channel(&format!("c{c}"), "{args}"))
                            .await;
                    }
                }
            })
            .await;
    }

    async fn until_attached(&self, expected: usize) {
        until(&format!("{expected} channels are served"), async || {
            let index = self.index("shared").await;
            (index["channels"].as_array().unwrap().len() == expected).then_some(())
        })
        .await;
    }

    /// Requests that the API server has answered so far, by verb and resource; without what goes on by itself.
    async fn requests(&self) -> BTreeMap<String, u64> {
        let request = axum::http::Request::get("/metrics").body(Vec::new()).unwrap();
        let text = self.client.request_text(request).await.unwrap();
        let mut requests = BTreeMap::new();
        for line in text
            .lines()
            .filter_map(|line| line.strip_prefix("apiserver_request_total{"))
        {
            let (labels, count) = line.rsplit_once("} ").unwrap();
            let label = |name: &str| {
                let at = labels
                    .split(',')
                    .find_map(|label| label.strip_prefix(&format!("{name}=")));
                at.unwrap_or_default().trim_matches('"').to_owned()
            };
            let (verb, resource) = (label("verb"), label("resource"));
            let kinds = [
                "notification",
                "gatewayconfigs",
                "deployments",
                "services",
                "secrets",
                "roles",
                "events",
                "networkpolicies",
            ];
            let is_ours = kinds.iter().any(|kind| resource.starts_with(kind));
            if is_ours && verb != "WATCH" && !(verb == "GET" && resource == "gatewayconfigs") {
                let name = format!(
                    "{verb} {resource}{}",
                    Some(label("subresource"))
                        .filter(|s| !s.is_empty())
                        .map(|s| format!("/{s}"))
                        .unwrap_or_default()
                );
                *requests.entry(name).or_default() += count.parse::<f64>().unwrap() as u64;
            }
        }
        requests
    }

    /// Changes a channel, and gives how long it took until the index said so.
    async fn change(&self, namespace: &str, name: &str, text: &str) -> Duration {
        let before = self.index("shared").await["hash"].clone();
        let started = Instant::now();
        let patch = json!({ "spec": { "replies": [{ "event": "echo", "ack": text, "allow": "true" }] } });
        self.merge::<NotificationChannel>(namespace, name, patch).await;
        until("the index has changed", async || {
            (self.index("shared").await["hash"] != before).then_some(())
        })
        .await;
        started.elapsed()
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures for minutes: make operator-bench"]
async fn what_a_change_costs_does_not_grow_with_the_channels_that_do_not_change() {
    let cluster = Cluster::start().await;
    let operator = Program::operator(&cluster).await;
    cluster.gateway_for_all().await;
    let mut costs = Vec::new();
    for (channels, from) in [(1, 0), (5, 1), (10, 5)] {
        cluster.tenants(100, from..channels).await;
        let count = 100 * channels;
        cluster.until_attached(count).await;
        // Statuses of all of them are written.
        let statuses = "aldis_operator_statuses_total{kind=\"NotificationChannel\",result=\"ok\"}";
        until("every channel has its status", async || {
            (operator.metric(statuses) >= count as f64).then_some(())
        })
        .await;
        tokio::time::sleep(CALM).await;
        let (before, passes, seconds) = (
            cluster.requests().await,
            operator.metric("aldis_operator_pass_seconds_count"),
            operator.metric("aldis_operator_pass_seconds_sum"),
        );
        let mut times = Vec::new();
        for n in 0..CHANGES {
            times.push(
                cluster
                    .change(&format!("t{}", n * 6), "c0", &format!("{{args}} {channels} {n}"))
                    .await,
            );
        }
        tokio::time::sleep(CALM).await;
        let after = cluster.requests().await;
        let passes = operator.metric("aldis_operator_pass_seconds_count") - passes;
        let seconds = operator.metric("aldis_operator_pass_seconds_sum") - seconds;
        // The test's own: a PATCH of a channel for each change.
        let made = after
            .iter()
            .map(|(what, count)| (what, count - before.get(what).unwrap_or(&0)));
        let made: BTreeMap<_, _> = made
            .filter(|(_, count)| *count > 0)
            .map(|(what, count)| (what.clone(), count))
            .collect();
        println!(
            "{count:5} channels: index changed after {:?} (median of {CHANGES}), {:.1} passes of {:.0} ms a change, memory {} MiB; requests for all changes, the test's included: {made:?}",
            median(&mut times),
            passes / CHANGES as f64,
            1000.0 * seconds / passes,
            operator.memory(),
        );
        costs.push(made.values().sum::<u64>());
    }
    // One pass more or less looks at what it has written.
    assert!(
        costs[2] <= costs[0] + CHANGES as u64,
        "requests grow with channels: {costs:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures for a minute: make operator-bench"]
async fn a_change_of_one_channel_among_200_reaches_all_replicas_and_nobody_is_disconnected() {
    let cluster = Cluster::start().await;
    let _operator = Program::operator(&cluster).await;
    cluster.gateway_for_all().await;
    cluster.tenants(20, 0..10).await;
    cluster.until_attached(200).await;
    let mut pods = Vec::new();
    for name in ["aldis-shared-a", "aldis-shared-b", "aldis-shared-c"] {
        pods.push(cluster.pod_named(name).await);
    }
    let mut clients = Vec::new();
    for pod in &pods {
        for path in ["/t0/c0", "/t7/c3"] {
            clients.push(pod.client(path).await);
        }
    }
    let mut times = Vec::new();
    for n in 0..CHANGES {
        let started = Instant::now();
        cluster.change("t0", "c0", &format!("{{args}} {n}")).await;
        let wanted = cluster.index("shared").await["hash"].clone();
        until("all replicas serve it", async || {
            let served = |pod: &crate::pod::Pod| {
                let health: Value = serde_json::from_str(&get(&pod.admin(), "/health")).unwrap();
                health["config"] == wanted
            };
            pods.iter().all(served).then_some(())
        })
        .await;
        times.push(started.elapsed());
    }
    let reconnects: usize = clients.iter().map(|client| client.count("disconnect")).sum();
    println!(
        "200 channels, 3 replicas: a change is in force everywhere after {:?} (median of {CHANGES}), {:?} at most; {reconnects} of {} clients were disconnected",
        median(&mut times),
        times[CHANGES - 1],
        clients.len(),
    );
    assert_eq!(reconnects, 0);
}
