//! One writes, the others watch.

use aldis_controller::run::RunError;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::cluster::{Cluster, micro_time, until};

impl Cluster {
    pub async fn holder(&self) -> Option<String> {
        let lease = self
            .api::<Lease>("aldis-system")
            .get_opt("aldis-operator")
            .await
            .unwrap()?;
        lease.spec?.holder_identity.filter(|holder| !holder.is_empty())
    }
}

#[tokio::test]
async fn of_two_operators_one_writes_and_the_other_takes_over_when_it_is_killed() {
    let cluster = Cluster::start().await;
    let first = cluster.operator("first").await;
    until("the first holds the lease", async || {
        (cluster.holder().await? == "first").then_some(())
    })
    .await;
    let _second = cluster.operator("second").await;
    cluster.shared_gateway().await;
    cluster.channel("bistro", "orders").await;
    cluster.until_served(&["bistro/orders"]).await;
    assert_eq!(cluster.holder().await.as_deref(), Some("first"));
    drop(first);
    cluster.channel("bistro", "tables").await;
    cluster.until_served(&["bistro/orders", "bistro/tables"]).await;
    assert_eq!(cluster.holder().await.as_deref(), Some("second"));
}

#[tokio::test]
async fn an_operator_that_loses_the_lease_ends() {
    let cluster = Cluster::start().await;
    let mut operator = cluster.operator("first").await;
    until("it holds the lease", async || {
        (cluster.holder().await? == "first").then_some(())
    })
    .await;
    let theirs = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "aldis-operator" },
        "spec": { "holderIdentity": "somebody-else", "leaseDurationSeconds": 3600, "renewTime": micro_time() }
    });
    let params = PatchParams::apply("somebody-else").force();
    cluster
        .api::<Lease>("aldis-system")
        .patch("aldis-operator", &params, &Patch::Apply(theirs))
        .await
        .unwrap();
    let ended = operator.ended().await;
    assert!(matches!(ended, RunError::LeaseLost), "{ended}");
    assert_eq!(cluster.holder().await.as_deref(), Some("somebody-else"));
}
