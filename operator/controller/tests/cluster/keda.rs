//! The example for KEDA: what it names is there, and the operator leaves it what it scales.

use serde_json::Value;

use crate::chart::metrics;
use crate::cluster::{Cluster, repository, until};

#[tokio::test]
async fn the_example_for_keda_scales_the_deployment_of_its_gateway_on_a_metric_that_there_is() {
    let cluster = Cluster::start().await;
    cluster.install("scaledobjects.yaml").await;
    let _operator = cluster.operator("one").await;
    let example = repository().join("examples/keda");
    let example = example.to_str().unwrap();
    cluster.kubectl(&["apply", "--validate=strict", "-f", example]).await;
    let text = cluster.kubectl(&["get", "-o", "json", "-f", example]).await;
    let objects: Value = serde_json::from_str(&text).unwrap();
    let of = |kind: &str| {
        objects["items"]
            .as_array()
            .unwrap()
            .iter()
            .find(|object| object["kind"] == kind)
    };
    let (scaled, gateway) = (of("ScaledObject").unwrap(), of("NotificationGateway").unwrap());

    assert_eq!(gateway["metadata"]["annotations"]["aldis.dev/replicas"], "external");
    assert_eq!(scaled["metadata"]["namespace"], gateway["metadata"]["namespace"]);
    let target = &scaled["spec"]["scaleTargetRef"];
    let [kind, name] = ["kind", "name"].map(|field| target[field].as_str().unwrap());
    let namespace = scaled["metadata"]["namespace"].as_str().unwrap();
    until("what it scales is there", async || {
        let named = ["-n", namespace, "get", kind, "--output=name"];
        let named = cluster.kubectl(&named).await;
        named
            .lines()
            .any(|line| line == format!("deployment.apps/{name}"))
            .then_some(())
    })
    .await;

    let query = scaled["spec"]["triggers"][0]["metadata"]["query"].as_str().unwrap();
    let gateways = std::fs::read_to_string(repository().join("gateway/src/metrics.rs")).unwrap();
    let asked = metrics(query);
    assert!(asked.len() == 1 && asked.is_subset(&metrics(&gateways)), "{asked:?}");
    assert!(query.contains(&format!("namespace=\"{namespace}\"")), "{query}");
    assert!(query.contains(&format!("pod=~\"{name}-.*\"")), "{query}");

    // As KEDA's autoscaler does, through the subresource.
    let bound = |name: &str| i32::try_from(scaled["spec"][name].as_i64().unwrap()).unwrap();
    for replicas in [bound("minReplicaCount"), bound("maxReplicaCount")] {
        cluster.scale(replicas).await;
        cluster.roll(&format!("image:{replicas}")).await;
        assert_eq!(cluster.replicas().await, replicas, "the operator leaves it alone");
    }
}
