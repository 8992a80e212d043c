//! Pods come and go: scaling, a rolling update, a drained node, crashes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::load::Tenant;
use super::world::{GATEWAY_PODS, ROUND, World, patch_gateway, pods_and_restarts, until_rolled_out};
use crate::kubernetes::{crash, get, kubectl, ready, until};

/// Pods of the second rolling update.
const SECOND: Option<&str> = Some("second");

/// A second pod comes; who is connected stays so.
pub(super) async fn scaled_out(world: &World, client: &Tenant) {
    patch_gateway(&json!({ "spec": { "replicas": 2 } })).await;
    until_rolled_out(None, 2).await;
    world.load.is_with("scaled out", client).await;
    assert_eq!(client.connections(), 1, "who is connected stays so");
}

/// Each pod is replaced.
pub(super) async fn rolled(world: &World, client: &Tenant) {
    let template = json!({ "podAnnotations": { ROUND: SECOND } });
    patch_gateway(&json!({ "spec": { "template": template } })).await;
    until_rolled_out(SECOND, 2).await;
    world.load.is_with("rolled", client).await;
    assert!(client.connections() > 1, "its pod was replaced");
}

/// `kubectl drain` evicts both pods and the operator, one pod of the gateway after the other: the disruption budget holds it up only
/// until the first has found a place. There is one node, so that it is the same one, once it takes pods again.
pub(super) async fn drained(world: &World, client: &Tenant) {
    let uids = async || -> BTreeSet<String> { pods_and_restarts().await.into_iter().map(|(uid, _)| uid).collect() };
    let (before, connections) = (uids().await, client.connections());
    let nodes = get(&["nodes"]).await;
    let node = nodes["items"][0]["metadata"]["name"].as_str().unwrap().to_owned();
    let draining = tokio::spawn({
        let node = node.clone();
        async move {
            let which = "--pod-selector=app.kubernetes.io/name in (aldis-gateway, aldis-operator)";
            kubectl(&["drain", &node, which, "--delete-emptydir-data", "--timeout=240s"]).await
        }
    });
    until("what was evicted waits for a node", async || {
        let pods = get(&["-n", "realtime", "pods", "-l", GATEWAY_PODS]).await;
        let waits = |pod: &Value| pod["spec"]["nodeName"].is_null();
        pods["items"].as_array().unwrap().iter().any(waits).then_some(())
    })
    .await;
    let budget = get(&["-n", "realtime", "poddisruptionbudget", "aldis-shared"]).await;
    assert_eq!(
        budget["status"]["disruptionsAllowed"], 0,
        "the other pod is kept: {budget}"
    );
    assert_eq!(ready("realtime", GATEWAY_PODS).await.len(), 1);
    kubectl(&["uncordon", &node]).await;
    println!("{}", draining.await.unwrap());
    until_rolled_out(SECOND, 2).await;
    world.load.is_with("drained", client).await;
    assert!(uids().await.is_disjoint(&before), "both were evicted");
    assert!(client.connections() > connections, "its pod was evicted");
}

/// Each pod's container crashes, one after the other.
pub(super) async fn killed(world: &World, client: &Tenant) {
    let before = client.connections();
    for pod in ready("realtime", GATEWAY_PODS).await {
        let restarts = restarts(&pod).await.1;
        crash("realtime", &pod).await;
        until("the pod is back", async || {
            let (ready, now) = self::restarts(&pod).await;
            (ready && now > restarts).then_some(())
        })
        .await;
        world.load.is_with("killed", client).await;
    }
    assert!(client.connections() > before, "its pod was killed");
    until_rolled_out(SECOND, 2).await;
}

/// Whether the container of a pod of the gateway is ready, and how often it was started anew.
async fn restarts(pod: &str) -> (bool, u64) {
    let object = get(&["-n", "realtime", "pod", pod]).await;
    let container = &object["status"]["containerStatuses"][0];
    (
        container["ready"] == true,
        container["restartCount"].as_u64().unwrap_or_default(),
    )
}
