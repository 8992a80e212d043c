//! The cluster of `scripts/cluster.sh`, in whose namespaces these tests run: kubelet, containerd, real pods.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::kafka::repository;

/// Where brokers listen so that pods reach them: `scripts/cluster.sh` sets it inside.
const NODE_ENV: &str = "ALDIS_CLUSTER_NODE";
/// How long a cluster may take for anything. 300 s: a pod that drains has a minute, and a node drains one after the other.
const DEADLINE: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(200);

/// The address of the node.
pub(crate) fn node() -> String {
    std::env::var(NODE_ENV).expect("this test runs inside a cluster: make cluster-test")
}

/// Runs a program; gives what it said.
async fn run(program: &str, args: &[&str], input: Option<String>) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(args).current_dir(repository()).kill_on_drop(true);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.unwrap_or_default().as_bytes()).await.unwrap();
    drop(stdin);
    let output = tokio::time::timeout(DEADLINE, child.wait_with_output()).await;
    let output = output
        .unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {program} {args:?}"))
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}

pub(crate) async fn kubectl(args: &[&str]) -> String {
    let said = run("kubectl", args, None).await;
    said.unwrap_or_else(|error| panic!("kubectl {args:?}: {error}"))
}

/// An object or a list, as JSON.
pub(crate) async fn get(args: &[&str]) -> Value {
    let text = kubectl(&[&["get", "-o", "json"], args].concat()).await;
    serde_json::from_str(&text).unwrap()
}

pub(crate) async fn apply(manifests: &str) {
    let said = run("kubectl", &["apply", "-f", "-"], Some(manifests.to_owned())).await;
    said.unwrap_or_else(|error| panic!("kubectl apply: {error}\n{manifests}"));
}

pub(crate) async fn helm(args: &[&str]) {
    let said = run("helm", args, None).await;
    said.unwrap_or_else(|error| panic!("helm {args:?}: {error}"));
}

/// Ends the container of a pod as a crash does.
pub(crate) async fn crash(namespace: &str, pod: &str) {
    let object = get(&["-n", namespace, "pod", pod]).await;
    let id = object["status"]["containerStatuses"][0]["containerID"]
        .as_str()
        .unwrap();
    let id = id.strip_prefix("containerd://").unwrap();
    let said = run(
        "ctr",
        &["-n", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", id],
        None,
    )
    .await;
    said.unwrap_or_else(|error| panic!("ctr: {error}"));
}

/// Looks until `found` says something; panics with `what` and how pods are after [`DEADLINE`].
pub(crate) async fn until<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        if let Some(found) = found().await {
            return found;
        }
        if tokio::time::Instant::now() > deadline {
            let pods = kubectl(&["get", "pods", "-A", "-o", "wide"]).await;
            panic!("not within {DEADLINE:?}: {what}\n{pods}");
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Names of the pods with a label that are ready and are not being deleted.
pub(crate) async fn ready(namespace: &str, label: &str) -> Vec<String> {
    let pods = get(&["-n", namespace, "pods", "-l", label]).await;
    let is_ready = |pod: &&Value| {
        let conditions = pod["status"]["conditions"].as_array();
        let ready = conditions
            .into_iter()
            .flatten()
            .any(|c| c["type"] == "Ready" && c["status"] == "True");
        ready && pod["metadata"]["deletionTimestamp"].is_null()
    };
    let pods = pods["items"].as_array().unwrap().iter().filter(is_ready);
    pods.map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

/// What all pods have said, where a test fails.
pub(crate) struct Logs;

impl Drop for Logs {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (namespace, label) in [
                ("aldis-system", "app.kubernetes.io/name=aldis-operator"),
                ("realtime", "app.kubernetes.io/name=aldis-gateway"),
            ] {
                let mut command = std::process::Command::new("kubectl");
                command.args(["logs", "-n", namespace, "--prefix", "--tail=60", "-l", label]);
                let said = command
                    .output()
                    .map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
                eprintln!("--- {label} logged:\n{}\n---", said.unwrap_or_default());
            }
        }
    }
}
