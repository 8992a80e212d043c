//! The charts: what Helm makes of them, and whether the rights are enough.

use std::path::Path;
use std::process::Command;

use aldis_crds::NotificationGateway;
use serde_json::json;

use crate::cluster::{Cluster, gateway, repository};
use crate::control_plane::program;

/// What Helm renders of a chart, in namespace `aldis-system`.
fn render(chart: &str, release: &str, options: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program("helm"));
    command
        .args(["template", release])
        .arg(repository().join("charts").join(chart));
    // Helm as it is built here takes the oldest for what is there.
    command.args(["--namespace", "aldis-system", "--kube-version", "1.34.0"]);
    let output = command.args(options).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(text(output.stderr))
    }
}

/// What Helm renders of the operator's chart.
fn rendered(settings: &str) -> Result<String, String> {
    render("aldis", "aldis", &["--set", settings])
}

/// In place of the dashboard, which is a file of its own.
const DASHBOARD: &str = "    (charts/aldis/dashboards/gateways.json)\n";

/// Without what is checked in elsewhere.
fn without_dashboard(render: &str) -> String {
    let dashboard = std::fs::read_to_string(repository().join("charts/aldis/dashboards/gateways.json")).unwrap();
    let indented: String = dashboard.lines().map(|line| format!("    {line}\n")).collect();
    render.replace(&indented, DASHBOARD)
}

/// `BLESS=1` writes them anew.
#[test]
fn the_charts_render_as_they_are_checked_in() {
    let folder = repository().join("operator/controller/tests/fixtures/charts");
    let mut wrong = Vec::new();
    for values in ["smallest", "one-namespace", "monitored"] {
        let file = folder.join(format!("{values}.values.yaml"));
        let now = render("aldis", "aldis", &["--values", file.to_str().unwrap()]).unwrap();
        let now = without_dashboard(&now);
        assert_eq!(now.contains(DASHBOARD), values == "monitored", "{values}");
        wrong.extend(differs(&folder.join(format!("{values}.yaml")), &now));
    }
    assert!(
        wrong.is_empty(),
        "look at what changed, then BLESS=1:\n{}",
        wrong.join("\n")
    );

    // The other chart is its files, whatever is set.
    for options in [&[][..], &["--set", "allowDowngrade=true"]] {
        let now = render("aldis-crds", "aldis-crds", options).unwrap();
        let mut expected = String::new();
        for plural in aldis_crds::crd::plurals() {
            let name = format!("templates/{plural}.yaml");
            let text = std::fs::read_to_string(repository().join("charts/aldis-crds").join(&name)).unwrap();
            assert!(
                now.contains(&format!("---\n# Source: aldis-crds/{name}\n{text}")),
                "{plural}"
            );
            expected += &text;
        }
        let lines = |text: &str| {
            text.lines()
                .filter(|line| *line != "---" && !line.starts_with("# Source"))
                .count()
        };
        assert_eq!(lines(&now), expected.lines().count(), "there is more than CRDs");
    }
}

/// The first line that is not as in the file, unless the file is to be written anew.
fn differs(file: &Path, now: &str) -> Option<String> {
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(file, now).unwrap();
        return None;
    }
    let before = std::fs::read_to_string(file).unwrap_or_default();
    if before == now {
        return None;
    }
    let mut lines = before.lines().zip(now.lines()).enumerate();
    let at = lines.find(|(_, (before, now))| before != now);
    let what = match at {
        Some((line, (before, now))) => format!("line {}: {now:?} in place of {before:?}", line + 1),
        None => format!("{} lines in place of {}", now.lines().count(), before.lines().count()),
    };
    Some(format!("{}: {what}", file.display()))
}

/// Who the operator is where the chart runs it.
const ACCOUNT: &str = "system:serviceaccount:aldis-system:aldis-operator";

impl Cluster {
    /// Applies what Helm renders.
    async fn install_chart(&self, settings: &str) {
        let manifests = rendered(settings).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), manifests).unwrap();
        let mut kubectl = Command::new(program("kubectl"));
        kubectl.arg("--kubeconfig").arg(self.plane.kubeconfig());
        let output = kubectl
            .args(["apply", "--validate=strict", "-f"])
            .arg(file.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test]
async fn with_the_rights_of_the_chart_and_no_others_the_operator_does_its_work() {
    let cluster = Cluster::start().await;
    cluster
        .install_chart("image=operator:test,gatewayImage=gateway:test")
        .await;
    let _operator = cluster.operator_as("one", Some(ACCOUNT)).await;
    cluster.shared_gateway().await;
    cluster.channel("bistro", "orders").await;
    cluster.pods_are_ready(1).await;
    cluster.until_served(&["bistro/orders"]).await;
    cluster.pod_acknowledges("aldis-shared-a").await;
    cluster
        .until_channel("bistro", "orders", "Programmed=True Programmed")
        .await;
    cluster.until_gateway("shared", "Programmed=True Programmed").await;
    let autoscaling = json!({ "minReplicas": 4, "maxReplicas": 6, "targetConnectionsPerReplica": 1000 });
    let patch = json!({ "spec": { "autoscaling": autoscaling } });
    cluster.merge::<NotificationGateway>("realtime", "shared", patch).await;
    cluster.until_replicas(4).await;
}

#[tokio::test]
async fn of_one_namespace_everything_is_served_with_rights_in_it_alone_and_nothing_of_another() {
    let cluster = Cluster::start().await;
    cluster
        .install_chart("image=operator:test,gatewayImage=gateway:test,watchNamespace=realtime")
        .await;
    let _operator = cluster.operator_in(Some("realtime"), "one", Some(ACCOUNT)).await;
    let mut gateway = gateway();
    gateway["spec"]["tenants"][0]["namespaces"] = json!({});
    cluster.create::<NotificationGateway>("realtime", gateway).await;
    // It would be the first, and is not seen.
    cluster.channel("bistro", "orders").await;
    cluster.channel("realtime", "orders").await;
    cluster.until_served(&["realtime/orders"]).await;
    cluster.pods_are_ready(1).await;
    cluster.pod_acknowledges("aldis-shared-a").await;
    cluster
        .until_channel("realtime", "orders", "Programmed=True Programmed")
        .await;
    cluster.until_gateway("shared", "Programmed=True Programmed").await;
    cluster
        .until_channel("bistro", "orders", "Accepted=Unknown Pending")
        .await;
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
pub fn metrics(text: &str) -> std::collections::BTreeSet<&str> {
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
