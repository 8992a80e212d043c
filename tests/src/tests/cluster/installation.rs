//! The beginning and the end: `helm install`, what is applied, what the tool says, `helm uninstall`.

use std::time::Instant;

use serde_json::Value;

use super::channel::{CHANNEL, gateway, token_secret};
use super::load::Tenant;
use super::world::{GATEWAY_PODS, World, channel_is, tool, until_rolled_out};
use crate::kubernetes::{apply, get, helm, kubectl, until};

/// Installs everything; gives a client that receives.
pub(super) async fn installed(world: &World) -> Tenant {
    helm(&["install", "aldis-crds", "charts/aldis-crds"]).await;
    let images = "image=localhost/aldis-operator:test,gatewayImage=localhost/aldis-gateway:test";
    let install = ["install", "aldis", "charts/aldis", "-n", "aldis-system"];
    let settings = ["--create-namespace", "--set", images, "--wait", "--timeout", "120s"];
    helm(&[&install[..], &settings].concat()).await;
    let applied = Instant::now();
    apply(&gateway(&world.kafka.address(), &world.redis.url(), "first-password")).await;
    apply(&token_secret(&world.secret).to_string()).await;
    apply(CHANNEL).await;
    channel_is("Programmed").await;
    println!(
        "Programmed {:.1} s after the first apply",
        applied.elapsed().as_secs_f64()
    );

    // As a platform team might: the operator leaves what it does not own.
    let soon = ["set", "env", "deployment/aldis-shared", "ALDIS_ERASE_AFTER=15"];
    kubectl(&[&["-n", "realtime"][..], &soon].concat()).await;
    until("pods erase what is gone soon", async || {
        let pods = get(&["-n", "realtime", "pods", "-l", GATEWAY_PODS]).await;
        let env = |pod: &Value| pod["spec"]["containers"][0]["env"].to_string();
        let pods = pods["items"].as_array().unwrap();
        let all = pods.iter().all(|pod| env(pod).contains("ALDIS_ERASE_AFTER"));
        (all && !pods.is_empty()).then_some(())
    })
    .await;
    until_rolled_out(None, 1).await;

    let client = world.connect().await.unwrap();
    world.load.is_with("installed", &client).await;
    client
}

/// `/health` of the pods comes through the API server.
pub(super) async fn the_tool_sees_the_pods(world: &World) {
    let (well, said) = until("aldis why finds nothing wrong", async || {
        let said = tool(&["why", "bistro/orders"], &[]).await;
        said.0.then_some(said)
    })
    .await;
    // This line is there only where a pod has told of its Kafka.
    let heard = "ok  Kafka is reached, and its topics are there";
    assert!(well && said.contains(heard), "{said}");
    let (well, said) = tool(&["status", "--all-namespaces"], &[]).await;
    assert!(well && said.contains("bistro/orders  realtime/shared  True"), "{said}");
    assert!(world.load.published() > 0);
}

/// The operator goes; clients stay, and what is published goes on.
pub(super) async fn uninstalled(world: &World, client: &Tenant) {
    let before = client.connections();
    helm(&[
        "uninstall",
        "aldis",
        "-n",
        "aldis-system",
        "--wait",
        "--timeout",
        "120s",
    ])
    .await;
    world.load.is_with("the operator is uninstalled", client).await;
    assert_eq!(client.connections(), before);
}

/// The gateway goes with all that was made for it; channels stay.
pub(super) async fn gateway_deleted() {
    let delete = ["-n", "realtime", "delete", "notificationgateway", "shared"];
    kubectl(&[&delete[..], &["--timeout=120s"]].concat()).await;
    until("what ran the gateway is gone", async || {
        let kinds = "pods,deployments,services,secrets,gatewayconfigs,leases";
        let left = get(&["-n", "realtime", kinds]).await;
        // The platform team's own.
        let own = ["redis", "notify-tls"];
        let is_own = |name: &str| own.contains(&name);
        let left = left["items"].as_array().unwrap();
        left.iter()
            .all(|object| is_own(object["metadata"]["name"].as_str().unwrap()))
            .then_some(())
    })
    .await;
    helm(&["uninstall", "aldis-crds"]).await;
    kubectl(&["-n", "bistro", "get", "notificationchannel", "orders"]).await;
}
