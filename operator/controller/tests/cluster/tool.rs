//! `aldis status` and `aldis why`, as kubectl runs them.

use std::process::Command;

use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::control_plane::program;
use crate::pod::binary;

impl Cluster {
    /// Whether it ended well, and all that it said.
    async fn kubectl_aldis(&self, args: &[&str]) -> (bool, String) {
        let plugins = TempDir::new().unwrap();
        std::os::unix::fs::symlink(binary("aldis"), plugins.path().join("kubectl-aldis")).unwrap();
        let mut command = Command::new(program("kubectl"));
        command.arg("aldis").args(args);
        command
            .env("PATH", plugins.path())
            .env("KUBECONFIG", self.plane.kubeconfig());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }
}

#[tokio::test]
async fn a_channel_is_shown_and_followed_by_the_tool_as_kubectl_finds_it() {
    let cluster = Cluster::start().await;
    let why = async || cluster.kubectl_aldis(&["why", "bistro/orders"]).await;
    let (well, said) = why().await;
    assert!(
        !well && said.contains("there is no NotificationChannel bistro/orders"),
        "{said}"
    );
    cluster.channel("bistro", "orders").await;
    let (well, said) = why().await;
    assert!(
        !well && said.contains("there is no NotificationGateway realtime/shared"),
        "{said}"
    );
    cluster.shared_gateway().await;
    let (well, said) = why().await;
    assert!(
        !well && said.contains("the operator has not looked at it yet"),
        "{said}"
    );

    let _operator = cluster.operator("one").await;
    cluster
        .until_channel("bistro", "orders", "Programmed=False NoReplicas")
        .await;
    let (well, said) = why().await;
    assert!(!well && said.contains("ok  its Secrets are there"), "{said}");
    assert!(
        said.contains("error: no pod of gateway realtime/shared takes clients"),
        "{said}"
    );
    let (well, said) = cluster.kubectl_aldis(&["status", "--all-namespaces"]).await;
    assert!(
        !well && said.contains("bistro/orders  realtime/shared  False: NoReplicas: "),
        "{said}"
    );

    cluster.pods_are_ready(1).await;
    cluster.pod_acknowledges("aldis-shared-a").await;
    cluster
        .until_channel("bistro", "orders", "Programmed=True Programmed")
        .await;
    cluster.until_gateway("shared", "Programmed=True Programmed").await;
    let (well, said) = cluster.kubectl_aldis(&["status", "-A"]).await;
    assert!(
        well && said.contains("realtime/shared  1         1/3   1        True"),
        "{said}"
    );
    let (well, said) = cluster.kubectl_aldis(&["status"]).await;
    assert!(
        well && !said.contains("bistro"),
        "nothing is in the namespace of the context: {said}"
    );
}
