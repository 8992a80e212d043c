//! Pods follow the CPU: a HorizontalPodAutoscaler asks metrics-server. `make cluster-test HPA=1` runs this.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::installation;
use super::load::Tenant;
use super::world::{ROUND, World, patch_gateway, pod_addresses, until_rolled_out};
use crate::kubernetes::{get, kubectl, until};
use crate::metrics::Metrics;
use crate::node::Node;
use crate::request::request;

/// Pods that are made as they are here.
const SCALED: &str = "scaled";
/// Percent of [`CPU`], on average of all pods.
const TARGET: u64 = 60;
/// What a pod requests. At rest, three pods take less than a third of the target each; what a crowd asks of one is well above it.
const CPU: &str = "200m";
const MOST: u64 = 3;
/// Clients that make a gateway busy.
const CROWD: usize = 10;
/// Clients that come when there are more pods. The Service sends an address to one pod (session affinity), so that all of this test
/// are on one, and need not move where it is another that goes.
const LATER: usize = 8;

/// What the autoscaler says: how many pods there should be, and which percent of what they request they use.
async fn autoscaler() -> Option<(u64, u64)> {
    let found = get(&["-n", "realtime", "horizontalpodautoscalers"]).await;
    let status = &found["items"][0]["status"];
    let cpu = &status["currentMetrics"][0]["resource"]["current"]["averageUtilization"];
    Some((status["desiredReplicas"].as_u64()?, cpu.as_u64()?))
}

/// Waits until the autoscaler wants such a number of pods, and gives what it says.
async fn until_wanted(what: &str, such: impl Fn(u64, u64) -> bool) -> (u64, u64) {
    let mut said = None;
    until(what, async || {
        let says = autoscaler().await?;
        if said != Some(says) {
            println!("{} pods are wanted: they use {} % of {CPU}", says.0, says.1);
            said = Some(says);
        }
        such(says.0, says.1).then_some(says)
    })
    .await
}

/// How many pods serve.
async fn serving() -> u64 {
    let gateway = get(&["-n", "realtime", "notificationgateway", "shared"]).await;
    gateway["status"]["replicas"]["serving"].as_u64().unwrap_or_default()
}

/// How many clients each pod says it has.
async fn clients_of_pods() -> Vec<f64> {
    let mut clients = Vec::new();
    for pod in pod_addresses().await {
        let admin: SocketAddr = format!("{pod}:9901").parse().unwrap();
        let metrics = Metrics::parse(&request(admin, "GET", "/metrics", &[], "").await.body);
        clients.push(metrics.sum("aldis_connections"));
    }
    clients
}

async fn all_have(world: &World, step: &str, clients: &[Tenant]) {
    for client in clients {
        world.load.is_with(step, client).await;
    }
}

#[tokio::test]
#[ignore = "needs a cluster with metrics-server: make cluster-test HPA=1"]
async fn a_gateway_of_an_autoscaling_cluster_follows_its_cpu_and_clients_lose_nothing() {
    let mut world = World::start().await;
    world.step("metrics-server answers").await;
    let metrics = ["apiservice/v1beta1.metrics.k8s.io", "--timeout=240s"];
    kubectl(&[&["wait", "--for=condition=Available"], &metrics[..]].concat()).await;
    world.step("helm install, and apply").await;
    let mut clients = vec![installation::installed(&world).await];

    world.step("autoscaling").await;
    let autoscaling = json!({ "minReplicas": 1, "maxReplicas": MOST, "targetCPUUtilization": TARGET });
    let resources = json!({ "requests": { "cpu": CPU, "memory": "128Mi" } });
    let template = json!({ "resources": resources, "podAnnotations": { ROUND: SCALED } });
    let spec = json!({ "replicas": Value::Null, "autoscaling": autoscaling, "template": template });
    patch_gateway(&json!({ "spec": spec })).await;
    // What it takes to start is over, too.
    until_wanted("one pod is enough", |pods, cpu| pods == 1 && cpu < TARGET).await;
    until_rolled_out(Some(SCALED), 1).await;
    all_have(&world, "at rest", &clients).await;

    world.step("many records for many clients").await;
    let crowds = Node::start();
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        crowd.push(world.connect_from(&crowds).await.unwrap());
    }
    world.load.is_busy(true);
    until_wanted("one pod is not enough", |pods, _| pods > 1).await;
    until("another pod serves", async || (serving().await > 1).then_some(())).await;
    all_have(&world, "scaled out", &clients).await;
    all_have(&world, "scaled out, the crowd", &crowd).await;

    world.step("few records for few clients").await;
    world.load.is_busy(false);
    drop((crowd, crowds));
    for _ in 0..LATER {
        clients.push(world.connect().await.unwrap());
    }
    println!("clients of each pod: {:?}", clients_of_pods().await);
    let before: usize = clients.iter().map(Tenant::connections).sum();
    until_wanted("one pod is enough again", |pods, _| pods == 1).await;
    until_rolled_out(Some(SCALED), 1).await;
    all_have(&world, "scaled in", &clients).await;
    let after: usize = clients.iter().map(Tenant::connections).sum();
    println!("{} clients connected anew {} times", clients.len(), after - before);

    world.step("helm uninstall").await;
    installation::uninstalled(&world, &clients[0]).await;
    world.step("gateway deleted").await;
    installation::gateway_deleted().await;
    world.end().await;
}
