//! A tenant of a real cluster, from the installation to its end, as its clients see it. `make cluster-test` runs this.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::gateway::aldis;
use crate::kafka::{Kafka, make_topic};
use crate::kubernetes::{Logs, apply, crash, get, helm, kubectl, node, ready, until};
use crate::node::{Client, Node};
use crate::records::Producer;
use crate::redis::Redis;

const TOPIC: &str = "orders";
const PARTITIONS: u64 = 4;
/// Between records: 20 a second, so that a client may be away for a while and still gets back what it missed.
const PACE: Duration = Duration::from_millis(50);
const GATEWAY_PODS: &str = "app.kubernetes.io/name=aldis-gateway";
/// An annotation of pods that a rolling update changes.
const ROUND: &str = "example.com/round";
const OPERATOR_PODS: &str = "app.kubernetes.io/name=aldis-operator";

/// Records that are published until it is dropped: numbers, from 0.
struct Load {
    acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    publishing: JoinHandle<()>,
}

impl Load {
    fn start(broker: &str) -> Self {
        let (acknowledged, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (counted, stopped, producer) = (Arc::clone(&acknowledged), Arc::clone(&stop), Producer::to(broker));
        let publishing = tokio::spawn(async move {
            for number in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let partition = i32::try_from(number % PARTITIONS).unwrap();
                producer.json(TOPIC, partition, &json!({ "number": number })).await;
                counted.store(number + 1, Ordering::Relaxed);
                tokio::time::sleep(PACE).await;
            }
        });
        Self {
            acknowledged,
            stop,
            publishing,
        }
    }

    /// Waits until a client has all that is published by now. It has each once since it connected, in the order of its
    /// partition, and was told each time it came back that it missed nothing.
    async fn is_with(&self, step: &str, client: &Tenant) {
        // Something that was published after the step.
        let now = self.acknowledged.load(Ordering::Relaxed);
        until(&format!("{step}: records go on"), async || {
            (self.acknowledged.load(Ordering::Relaxed) > now + 20).then_some(())
        })
        .await;
        let end = self.acknowledged.load(Ordering::Relaxed);
        until(&format!("{step}: the client has what is published"), async || {
            let last = client.partitions().map(|numbers| numbers.last().copied());
            let has_all = |last: Option<u64>| last.is_some_and(|last| last + PARTITIONS >= end);
            last.into_iter().all(has_all).then_some(())
        })
        .await;
        client.has_each_once(step);
    }

    async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.publishing.await.unwrap();
        self.acknowledged.load(Ordering::Relaxed)
    }
}

/// A client of the tenant.
struct Tenant(Client);

impl Tenant {
    async fn connect(node: &Node, secret: &str) -> Result<Self, Value> {
        let service = get(&["-n", "realtime", "service", "aldis-shared"]).await;
        let url = format!(
            "http://{}:3000/bistro/orders",
            service["spec"]["clusterIP"].as_str().unwrap()
        );
        let options = json!({ "auth": { "token": token(secret).await }, "reconnectionDelayMax": 1000 });
        Ok(Self(node.connect_as("4.8", &url, &options).await?))
    }

    /// What it has received of each partition, in the order in which it came.
    fn partitions(&self) -> [Vec<u64>; PARTITIONS as usize] {
        let mut partitions = [const { Vec::new() }; PARTITIONS as usize];
        for event in self.0.seen().events.iter().filter(|event| event.name == "placed") {
            let number = event.payload()["data"]["number"].as_u64().unwrap();
            partitions[(number % PARTITIONS) as usize].push(number);
        }
        partitions
    }

    fn has_each_once(&self, step: &str) {
        for numbers in self.partitions() {
            let wrong = numbers.windows(2).find(|pair| pair[1] != pair[0] + PARTITIONS);
            assert_eq!(wrong, None, "{step}: lost, twice or out of order");
        }
        let ready = self.0.seen().ready;
        assert!(
            ready[1..].iter().all(|info| info["recovered"] == true),
            "{step}: {ready:?}"
        );
    }

    fn connections(&self) -> usize {
        self.0.seen().connects.len()
    }
}

async fn token(secret: &str) -> String {
    let mut command = tokio::process::Command::new(aldis());
    command
        .args(["token", "--claim", "sub=ann"])
        .env("ALDIS_SECRET", secret);
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What the platform team applies.
fn gateway(kafka: &str, redis: &str) -> String {
    format!(
        "apiVersion: v1
kind: Namespace
metadata: {{name: realtime, labels: {{pod-security.kubernetes.io/enforce: restricted}}}}
---
apiVersion: v1
kind: Namespace
metadata: {{name: bistro}}
---
apiVersion: aldis.dev/v1alpha1
kind: NotificationGateway
metadata: {{name: shared, namespace: realtime}}
spec:
  kafka: {{bootstrapServers: [\"{kafka}\"]}}
  redis: {{url: \"{redis}\"}}
  listeners: [{{name: web, port: 3000}}]
  replicas: 1
  tenants: {TENANTS}
"
    )
}

const TENANTS: &str = r#"[{"name": "bistro", "namespaces": {"matchLabels": {"kubernetes.io/metadata.name": "bistro"}}, "listeners": ["web"], "paths": ["/{namespace}/*"], "topics": ["orders"], "authentication": ["jwt"]}]"#;

/// What the tenant applies.
const CHANNEL: &str = "apiVersion: aldis.dev/v1alpha1
kind: NotificationChannel
metadata: {name: orders, namespace: bistro}
spec:
  parentRefs: [{name: shared, namespace: realtime}]
  authentication:
    jwt: [{name: staff, secretRef: {name: jwt, key: secret}, algorithms: [HS256], identity: {user: claims.sub}}]
  sources: [{name: orders, kafka: {topics: [orders]}, type: placed, data: \"{body}\"}]
  rooms: [{name: all, key: all, join: {auto: {}}}]
  routes: [{types: [placed], emit: [{event: placed, to: [{room: all}]}]}]
  history: {size: 5000, ttl: 10m}
";

async fn secret(value: &str) {
    apply(&format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: jwt, namespace: bistro, labels: {{aldis.dev/use: channel}}}}, stringData: {{secret: {value}}}}}"
    ))
    .await;
}

async fn patch_gateway(patch: &str) {
    kubectl(&[
        "-n",
        "realtime",
        "patch",
        "notificationgateway",
        "shared",
        "--type=merge",
        "-p",
        patch,
    ])
    .await;
}

/// Waits until so many pods take clients, each of this round and with what is wanted, and no other pod is left.
async fn until_rolled_out(round: Option<&str>, replicas: usize) {
    until("the pods are there, and serve", async || {
        let pods = get(&["-n", "realtime", "pods", "-l", GATEWAY_PODS]).await;
        let pods = pods["items"].as_array().unwrap();
        let is_of = |pod: &Value| pod["metadata"]["annotations"][ROUND].as_str() == round;
        let gateway = get(&["-n", "realtime", "notificationgateway", "shared"]).await;
        let serving = gateway["status"]["replicas"]["serving"] == replicas;
        let ready = ready("realtime", GATEWAY_PODS).await.len() == replicas;
        (ready && serving && pods.len() == replicas && pods.iter().all(is_of)).then_some(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: make cluster-test"]
async fn a_tenant_of_a_real_cluster_loses_nothing_from_installation_to_its_end() {
    let _logs = Logs;
    let host = node();
    let mut kafka = Kafka::down_at(&host);
    kafka.start().await;
    make_topic(&kafka.address(), TOPIC, PARTITIONS as i32, &[]).await;
    let redis = Redis::start_at(&host).await;

    helm(&["install", "aldis-crds", "charts/aldis-crds"]).await;
    let images = "image=localhost/aldis-operator:test,gatewayImage=localhost/aldis-gateway:test";
    let install = [
        "install",
        "aldis",
        "charts/aldis",
        "-n",
        "aldis-system",
        "--create-namespace",
        "--set",
        images,
    ];
    helm(&[&install[..], &["--wait", "--timeout", "90s"]].concat()).await;
    apply(&gateway(&kafka.address(), &redis.url())).await;
    secret("0123456789-of-a-first-secret").await;
    apply(CHANNEL).await;
    kubectl(&[
        "-n",
        "bistro",
        "wait",
        "--for=condition=Programmed",
        "notificationchannel/orders",
        "--timeout=90s",
    ])
    .await;

    let load = Load::start(&kafka.address());
    let agent = Node::start();
    let client = Tenant::connect(&agent, "0123456789-of-a-first-secret").await.unwrap();
    load.is_with("installed", &client).await;

    patch_gateway(r#"{"spec": {"replicas": 2}}"#).await;
    until_rolled_out(None, 2).await;
    load.is_with("scaled out", &client).await;
    assert_eq!(client.connections(), 1, "who is connected stays so");

    patch_gateway(r#"{"spec": {"template": {"podAnnotations": {"example.com/round": "second"}}}}"#).await;
    until_rolled_out(Some("second"), 2).await;
    load.is_with("rolled", &client).await;
    assert!(client.connections() > 1, "its pod was replaced");

    let before = client.connections();
    for pod in ready("realtime", GATEWAY_PODS).await {
        crash("realtime", &pod).await;
        until("the pod is back", async || {
            let object = get(&["-n", "realtime", "pod", &pod]).await;
            let container = &object["status"]["containerStatuses"][0];
            (container["restartCount"] == 1 && container["ready"] == true).then_some(())
        })
        .await;
        load.is_with("killed", &client).await;
    }
    assert!(client.connections() > before, "its pod was killed");
    until_rolled_out(Some("second"), 2).await;

    let before = client.connections();
    for pod in ready("aldis-system", OPERATOR_PODS).await {
        crash("aldis-system", &pod).await;
    }
    load.is_with("the operator was killed", &client).await;
    secret("0123456789-of-another-secret").await;
    // An operator that is back makes it so; who is connected stays.
    let _newcomer = until("the other secret is in force", async || {
        Tenant::connect(&agent, "0123456789-of-another-secret").await.ok()
    })
    .await;
    let refused = Tenant::connect(&agent, "0123456789-of-a-first-secret").await;
    assert!(refused.is_err(), "the first secret is not in force any more");
    load.is_with("credentials were rotated", &client).await;
    assert_eq!(client.connections(), before);

    patch_gateway(r#"{"spec": {"tenants": []}}"#).await;
    until("the tenant is sent away", async || {
        let seen = client.0.seen();
        (seen.disconnects.len() >= seen.connects.len()).then_some(())
    })
    .await;
    kubectl(&[
        "-n",
        "bistro",
        "wait",
        "--for=condition=Accepted=false",
        "notificationchannel/orders",
        "--timeout=60s",
    ])
    .await;
    let refused = Tenant::connect(&agent, "0123456789-of-another-secret").await;
    assert!(refused.is_err(), "a tenant that is revoked is refused");

    patch_gateway(&format!("{{\"spec\": {{\"tenants\": {TENANTS}}}}}")).await;
    kubectl(&[
        "-n",
        "bistro",
        "wait",
        "--for=condition=Programmed",
        "notificationchannel/orders",
        "--timeout=90s",
    ])
    .await;
    let client = until("it is let in again", async || {
        Tenant::connect(&agent, "0123456789-of-another-secret").await.ok()
    })
    .await;
    helm(&["uninstall", "aldis", "-n", "aldis-system", "--wait", "--timeout", "60s"]).await;
    load.is_with("the operator is uninstalled", &client).await;
    assert_eq!(client.connections(), 1);

    kubectl(&[
        "-n",
        "realtime",
        "delete",
        "notificationgateway",
        "shared",
        "--timeout=60s",
    ])
    .await;
    until("what ran the gateway is gone", async || {
        let left = get(&[
            "-n",
            "realtime",
            "pods,deployments,services,secrets,gatewayconfigs,leases",
        ])
        .await;
        left["items"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
    helm(&["uninstall", "aldis-crds"]).await;
    kubectl(&["-n", "bistro", "get", "notificationchannel", "orders"]).await;
    assert!(load.end().await > 0);
}
