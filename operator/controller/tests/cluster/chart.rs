//! The chart: what Helm makes of it, and whether its rights are enough.

use std::process::Command;

use crate::cluster::{Cluster, repository};
use crate::control_plane::program;

/// What Helm renders.
fn rendered(settings: &str) -> Result<String, String> {
    let mut command = Command::new(program("helm"));
    command
        .args(["template", "aldis"])
        .arg(repository().join("charts/aldis"));
    // Helm as it is built here takes the oldest for what is there.
    command.args([
        "--namespace",
        "aldis-system",
        "--kube-version",
        "1.34.0",
        "--set",
        settings,
    ]);
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(text(output.stderr))
    }
}

#[tokio::test]
async fn with_the_rights_of_the_chart_and_no_others_the_operator_does_its_work() {
    let cluster = Cluster::start().await;
    let manifests = rendered("image=operator:test,gatewayImage=gateway:test").unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), manifests).unwrap();
    let mut kubectl = Command::new(program("kubectl"));
    kubectl.arg("--kubeconfig").arg(cluster.plane.kubeconfig());
    let output = kubectl
        .args(["apply", "--validate=strict", "-f"])
        .arg(file.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let account = "system:serviceaccount:aldis-system:aldis-operator";
    let _operator = cluster.operator_as("one", Some(account)).await;
    cluster.shared_gateway().await;
    cluster.channel("bistro", "orders").await;
    cluster.pods_are_ready(1).await;
    cluster.until_served(&["bistro/orders"]).await;
    cluster.pod_acknowledges("aldis-shared-a").await;
    cluster
        .until_channel("bistro", "orders", "Programmed=True Programmed")
        .await;
    cluster.until_gateway("shared", "Programmed=True Programmed").await;
}

#[test]
fn values_are_checked_and_one_namespace_needs_no_rights_beyond_it() {
    assert!(rendered("image=a").unwrap_err().contains("gatewayImage"));
    assert!(
        rendered("image=a,gatewayImage=b,replcas=3")
            .unwrap_err()
            .contains("replcas")
    );
    let narrow = rendered("image=a,gatewayImage=b,watchNamespace=realtime").unwrap();
    let of_secrets = |document: &&str| document.contains("resources: [secrets]");
    let role = narrow.split("---").find(of_secrets).unwrap();
    assert!(
        role.contains("kind: Role\n") && role.contains("namespace: realtime"),
        "{role}"
    );
    assert!(narrow.contains("--watch-namespace=realtime"));
}

/// Names of metrics in a text, without the suffixes of histograms.
fn metrics(text: &str) -> std::collections::BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let names = words.filter(|word| word.starts_with("aldis_"));
    names.map(|name| name.strip_suffix("_bucket").unwrap_or(name)).collect()
}

#[test]
fn every_alert_asks_for_metrics_that_there_are_and_all_of_it_is_off_unless_asked_for() {
    let off = rendered("image=a,gatewayImage=b").unwrap();
    assert!(!off.contains("monitoring.coreos.com"));
    let on = "image=a,gatewayImage=b,monitoring.serviceMonitor=true,monitoring.prometheusRule=true,monitoring.labels.release=prometheus";
    let on = rendered(on).unwrap();
    for kind in ["ServiceMonitor", "PodMonitor", "PrometheusRule"] {
        let document = on
            .split("---")
            .find(|document| document.contains(&format!("kind: {kind}\n")));
        assert!(document.unwrap().contains(r#"{"release":"prometheus"}"#), "{kind}");
    }
    let rules = on
        .split("---")
        .find(|document| document.contains("kind: PrometheusRule"))
        .unwrap();
    let source = |file: &str| std::fs::read_to_string(repository().join(file)).unwrap();
    let (gateway, operator) = (
        source("gateway/src/metrics.rs"),
        source("operator/controller/src/metrics.rs"),
    );
    let known: std::collections::BTreeSet<_> = metrics(&gateway).union(&metrics(&operator)).copied().collect();
    let asked = metrics(rules);
    let unknown: Vec<_> = asked.difference(&known).collect();
    assert!(asked.len() > 10 && unknown.is_empty(), "{unknown:?} of {asked:?}");
}
