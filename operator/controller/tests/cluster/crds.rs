//! CRDs that are not of the operator's version: it says what they lack, and writes nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use aldis_crds::NotificationGateway;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::cluster::{Cluster, repository, until};
use crate::control_plane::program;
use crate::pod::get;

const GATEWAYS: &str = "notificationgateways.aldis.dev";

impl Cluster {
    fn crds(&self) -> Api<CustomResourceDefinition> {
        Api::all(self.client.clone())
    }

    /// Installs the CRD of gateways of an older version: without `spec.listeners[].expose`; or that of today.
    async fn crd_of_gateways(&self, older: bool) {
        let crds = aldis_crds::crd::all();
        let own = crds.iter().find(|crd| crd.metadata.name.as_deref() == Some(GATEWAYS));
        let mut crd = json!(own.unwrap());
        if older {
            let listener =
                "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/listeners/items/properties";
            let properties = crd.pointer_mut(listener).and_then(Value::as_object_mut).unwrap();
            properties.remove("expose").unwrap();
        }
        let patch = Patch::Merge(json!({ "spec": { "versions": crd["spec"]["versions"] } }));
        self.crds()
            .patch(GATEWAYS, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    async fn port_is(&self, port: u16) {
        let listeners = json!({ "spec": { "listeners": [{ "name": "web", "port": port }] } });
        self.merge::<NotificationGateway>("realtime", "shared", listeners).await;
    }

    async fn written_port(&self) -> i32 {
        let service = self.api::<Service>("realtime").get("aldis-shared").await.unwrap();
        service.spec.unwrap().ports.unwrap()[0].port
    }
}

/// What the operator, which is in this process, answers.
async fn asked(address: &str, path: &'static str) -> String {
    let address = address.to_owned();
    tokio::task::spawn_blocking(move || get(&address, path)).await.unwrap()
}

async fn readiness(address: &str) -> String {
    asked(address, "/health/ready").await
}

async fn misfit(address: &str) -> bool {
    count(&asked(address, "/metrics").await, "aldis_operator_crds_misfit") == 1
}

#[tokio::test]
async fn nothing_is_written_while_the_crds_of_the_cluster_are_older_and_it_says_what_they_lack() {
    let cluster = Cluster::start().await;
    cluster.crd_of_gateways(true).await;
    let (_operator, address) = cluster.operator_at("one").await;
    let lacks = "v1alpha1.spec.listeners[].expose is not there";
    let said = until("it says what they lack", async || {
        let said = readiness(&address).await;
        said.contains(GATEWAYS).then_some(said)
    })
    .await;
    assert!(
        said.contains(lacks) && said.contains("helm upgrade aldis-crds"),
        "{said}"
    );
    assert!(misfit(&address).await);
    cluster.shared_gateway().await;
    // It has not even claimed the lease, without which nobody writes.
    assert_eq!(cluster.holder().await, None);

    cluster.crd_of_gateways(false).await;
    until("it works once they fit", async || {
        (readiness(&address).await == "ok").then_some(())
    })
    .await;
    cluster.pods_are_ready(1).await;
    assert!(!misfit(&address).await);

    // Under an operator that runs, too.
    cluster.crd_of_gateways(true).await;
    until("it notices", async || misfit(&address).await.then_some(())).await;
    cluster.port_is(3005).await;
    // That is the first thing that a pass looks at.
    let passes = async || count(&asked(&address, "/metrics").await, "aldis_operator_pass_seconds_count");
    let before = passes().await;
    until("passes go on", async || (passes().await > before).then_some(())).await;
    assert_eq!(cluster.written_port().await, 3000);
    cluster.crd_of_gateways(false).await;
    until("what waited is written", async || {
        (cluster.written_port().await == 3005).then_some(())
    })
    .await;
}

/// The value of a series without labels.
fn count(metrics: &str, name: &str) -> u64 {
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn without_crds_an_operator_asks_for_them_and_deletes_nothing() {
    let cluster = Cluster::start().await;
    let (_operator, address) = cluster.operator_at("one").await;
    cluster.shared_gateway().await;
    cluster.pods_are_ready(1).await;
    cluster.crds().delete(GATEWAYS, &DeleteParams::default()).await.unwrap();
    until("it notices", async || misfit(&address).await.then_some(())).await;
    cluster.api::<Deployment>("realtime").get("aldis-shared").await.unwrap();
    // One that starts now says so, too.
    let (_another, another) = cluster.operator_at("two").await;
    until("it asks for them", async || {
        let said = readiness(&another).await;
        said.contains("the cluster has no CRD notificationgateways.aldis.dev: helm install aldis-crds")
            .then_some(())
    })
    .await;
}

/// The chart of CRDs, of another version than it is.
fn chart_of(version: &str, dir: &Path) -> PathBuf {
    let chart = dir.join(version);
    let copied = Command::new("cp")
        .arg("-r")
        .arg(repository().join("charts/aldis-crds"))
        .arg(&chart)
        .status();
    assert!(copied.unwrap().success());
    for folder in ["", "templates"] {
        for entry in std::fs::read_dir(chart.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let text = std::fs::read_to_string(&path).unwrap();
                let own = aldis_crds::crd::VERSION;
                let text = text.replace(&format!("\nversion: {own}\n"), &format!("\nversion: {version}\n"));
                let text = text.replace(
                    &format!("crds-version: \"{own}\""),
                    &format!("crds-version: \"{version}\""),
                );
                std::fs::write(&path, text).unwrap();
            }
        }
    }
    chart
}

impl Cluster {
    async fn helm_upgrade(&self, chart: &Path, settings: &[&str]) -> Result<(), String> {
        let mut helm = Command::new(program("helm"));
        helm.args(["upgrade", "--install", "aldis-crds"]).arg(chart);
        helm.args(["--kubeconfig"]).arg(self.plane.kubeconfig()).args(settings);
        let output = tokio::task::spawn_blocking(move || helm.output().unwrap())
            .await
            .unwrap();
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }
}

#[tokio::test]
async fn the_chart_of_crds_does_not_go_back_behind_a_later_version_unless_it_is_told_to() {
    let (cluster, dir) = (Cluster::start().await, tempfile::tempdir().unwrap());
    for crd in aldis_crds::crd::all() {
        let name = crd.metadata.name.unwrap();
        cluster.crds().delete(&name, &DeleteParams::default()).await.unwrap();
        until("it is gone", async || {
            cluster.crds().get_opt(&name).await.unwrap().is_none().then_some(())
        })
        .await;
    }
    let [older, later] = ["0.0.9", "0.2.0"].map(|version| chart_of(version, dir.path()));
    let own = repository().join("charts/aldis-crds");
    cluster.helm_upgrade(&older, &[]).await.unwrap();
    cluster.helm_upgrade(&own, &[]).await.unwrap();
    cluster.helm_upgrade(&own, &[]).await.unwrap();
    cluster.helm_upgrade(&later, &[]).await.unwrap();
    let said = cluster.helm_upgrade(&own, &[]).await.unwrap_err();
    assert!(said.contains("0.2.0") && said.contains("allowDowngrade"), "{said}");
    let said = cluster
        .helm_upgrade(&own, &["--set", "allowDowngrad=true"])
        .await
        .unwrap_err();
    assert!(said.contains("allowDowngrad"), "{said}");
    cluster
        .helm_upgrade(&own, &["--set", "allowDowngrade=true"])
        .await
        .unwrap();
    let there = cluster.crds().get(GATEWAYS).await.unwrap();
    let version = &there.metadata.annotations.unwrap()[aldis_crds::crd::VERSION_ANNOTATION];
    assert_eq!(version, aldis_crds::crd::VERSION);
}

#[test]
fn charts_are_of_the_version_that_crds_are_annotated_with() {
    for chart in ["aldis", "aldis-crds"] {
        let path = repository().join("charts").join(chart).join("Chart.yaml");
        let text = std::fs::read_to_string(path).unwrap();
        for field in ["version", "appVersion"] {
            let expected = format!("\n{field}: {}\n", aldis_crds::crd::VERSION);
            assert!(text.contains(&expected), "{chart}: no {}", expected.trim());
        }
    }
}
