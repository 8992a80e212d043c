//! What a real API server takes and refuses.

use std::process::Command;

use aldis_crds::NotificationChannel;

use crate::cluster::{Cluster, repository};
use crate::control_plane::program;

/// Applies a file as people do, without storing it.
pub async fn dry_run(cluster: &Cluster, file: &std::path::Path) -> Result<(), String> {
    let mut command = Command::new(program("kubectl"));
    command.arg("--kubeconfig").arg(cluster.plane.kubeconfig());
    command
        .args(["apply", "--dry-run=server", "--validate=strict", "-f"])
        .arg(file);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(said) }
}

fn files(folder: &str) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(repository().join("crds/testdata").join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn every_valid_example_is_taken_and_every_invalid_one_refused() {
    let cluster = Cluster::start().await;
    let mut wrong = Vec::new();
    for file in files("valid") {
        if let Err(said) = dry_run(&cluster, &file).await {
            wrong.push(format!("{} is refused: {said}", file.display()));
        }
    }
    for file in files("invalid") {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let taken = dry_run(&cluster, &file).await.is_ok();
        if taken != STRICTER_THAN_KUBECTL.contains(&name.as_str()) {
            wrong.push(format!("{name}: taken: {taken}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_no_operator_has_looked_at_yet_says_so_and_can_be_waited_for() {
    let cluster = Cluster::start().await;
    cluster.shared_gateway().await;
    cluster.channel("bistro", "orders").await;
    for (namespace, object) in [
        ("realtime", "notificationgateway/shared"),
        ("bistro", "notificationchannel/orders"),
    ] {
        let mut kubectl = Command::new(program("kubectl"));
        kubectl.arg("--kubeconfig").arg(cluster.plane.kubeconfig());
        kubectl.args(["-n", namespace, "wait", object, "--timeout=60s"]);
        kubectl.arg("--for=condition=Programmed=Unknown");
        let output = tokio::task::spawn_blocking(move || kubectl.output().unwrap())
            .await
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let channel = cluster
        .api::<NotificationChannel>("bistro")
        .get("orders")
        .await
        .unwrap();
    let conditions = channel.status.unwrap().conditions;
    assert_eq!(
        (conditions[0].reason.as_str(), conditions[0].message.as_str()),
        ("Pending", "Waiting for controller")
    );
    let _operator = cluster.operator("one").await;
    cluster
        .until_channel("bistro", "orders", "Accepted=True Accepted")
        .await;
    cluster.until_gateway("shared", "Programmed=False NoReplicas").await;
}

/// What `aldis validate` refuses and kubectl takes: an object that replaces another of the same file, and YAML that most likely
/// means something else than it seems to.
const STRICTER_THAN_KUBECTL: [&str; 4] = ["same-name", "yaml-deep", "yaml-duplicate-key", "yaml-end"];
