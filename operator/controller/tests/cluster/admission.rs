//! What a real API server takes and refuses.

use std::process::Command;

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

/// What `aldis validate` refuses and kubectl takes: an object that replaces another of the same file, and YAML that most likely
/// means something else than it seems to.
const STRICTER_THAN_KUBECTL: [&str; 4] = ["same-name", "yaml-deep", "yaml-duplicate-key", "yaml-end"];
