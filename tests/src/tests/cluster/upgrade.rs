//! From the first packaged charts to those of today, and back. `make upgrade-test` runs this, with the images of both.

use serde_json::json;

use super::channel::{CHANNEL, gateway, token_secret};
use super::installation;
use super::load::Tenant;
use super::world::{
    GATEWAY_PODS, OPERATOR_PODS, World, channel_is, patch_gateway, pods_and_restarts, until_rolled_out,
};
use crate::kubernetes::{apply, get, helm, kubectl, until};

const FIRST: &str = "first";
const TODAY: &str = "test";
/// Pods of the gateway: one of them serves while the other is replaced.
const REPLICAS: usize = 2;

/// What both charts are told.
fn images(tag: &str) -> String {
    format!("image=localhost/aldis-operator:{tag},gatewayImage=localhost/aldis-gateway:{tag}")
}

async fn helm_on_operator(command: &[&str], options: &[&str]) {
    let of_all = ["-n", "aldis-system", "--wait", "--timeout", "240s"];
    helm(&[command, &of_all, options].concat()).await;
}

async fn upgrade_operator() {
    let images = images(TODAY);
    // Values that came with later charts have their defaults.
    let options = ["--reset-then-reuse-values", "--set", &images];
    helm_on_operator(&["upgrade", "aldis", "charts/aldis"], &options).await;
}

/// Waits until nothing but the images of this tag runs, and serves.
async fn until_runs(tag: &str) {
    for (namespace, pods, name) in [
        ("aldis-system", OPERATOR_PODS, "operator"),
        ("realtime", GATEWAY_PODS, "gateway"),
    ] {
        let image = format!("localhost/aldis-{name}:{tag}");
        until(&format!("all pods run {image}"), async || {
            let found = get(&["-n", namespace, "pods", "-l", pods]).await;
            let found = found["items"].as_array().unwrap();
            let all = found.iter().all(|pod| pod["spec"]["containers"][0]["image"] == image);
            (all && !found.is_empty()).then_some(())
        })
        .await;
    }
    until_rolled_out(None, REPLICAS).await;
    channel_is("Programmed").await;
}

/// After each step the client has everything once, in order, and was told each time it came back that it missed nothing.
async fn until_replaced(world: &World, client: &Tenant, step: &str, tag: &str) {
    until_runs(tag).await;
    world.load.is_with(step, client).await;
    let fresh = world.connect().await.unwrap();
    world.load.is_with(&format!("{step}: who comes now"), &fresh).await;
}

#[tokio::test]
#[ignore = "needs a cluster and images of two versions: make upgrade-test"]
async fn a_tenant_of_an_upgraded_cluster_loses_nothing_there_and_back() {
    let mut world = World::start().await;
    world.step("helm install of the first charts, and apply").await;
    helm(&["install", "aldis-crds", "tests/upgrade/aldis-crds-0.1.0.tgz"]).await;
    let first = images(FIRST);
    let install = ["install", "aldis", "tests/upgrade/aldis-0.1.0.tgz"];
    helm_on_operator(&install, &["--create-namespace", "--set", &first]).await;
    apply(&gateway(&world.kafka.address(), &world.redis.url(), "first-password")).await;
    apply(&token_secret(&world.secret).to_string()).await;
    apply(CHANNEL).await;
    patch_gateway(&json!({ "spec": { "replicas": REPLICAS } })).await;
    until_runs(FIRST).await;
    let client = world.connect().await.unwrap();
    world.load.is_with("installed", &client).await;
    let pods = pods_and_restarts().await;

    world.step("helm upgrade of the CRDs").await;
    helm(&["upgrade", "aldis-crds", "charts/aldis-crds"]).await;
    world.load.is_with("later CRDs", &client).await;
    assert_eq!(pods_and_restarts().await, pods, "CRDs are nothing to pods");
    assert_eq!(client.connections(), 1);

    world.step("helm upgrade").await;
    upgrade_operator().await;
    until_replaced(&world, &client, "upgraded", TODAY).await;
    let upgraded = client.connections();
    assert!(upgraded > 1, "its pod was replaced");

    world.step("helm rollback").await;
    helm_on_operator(&["rollback", "aldis", "1"], &[]).await;
    until_replaced(&world, &client, "rolled back", FIRST).await;
    let back = client.connections();
    assert!(back > upgraded, "its pod was replaced");

    world.step("helm upgrade once more").await;
    upgrade_operator().await;
    until_replaced(&world, &client, "upgraded once more", TODAY).await;
    // What only later CRDs know can be said now.
    let exposed =
        json!([{ "name": "web", "port": 3000, "hostname": "notify.example.com", "expose": { "ingress": {} } }]);
    patch_gateway(&json!({ "spec": { "listeners": exposed } })).await;
    until("the Ingress is there", async || {
        let found = get(&["-n", "realtime", "ingresses"]).await;
        (found["items"].as_array().unwrap().len() == 1).then_some(())
    })
    .await;
    kubectl(&["-n", "realtime", "get", "ingress", "aldis-shared.web"]).await;

    world.step("helm uninstall").await;
    installation::uninstalled(&world, &client).await;
    world.step("gateway deleted").await;
    installation::gateway_deleted().await;
    world.end().await;
}
