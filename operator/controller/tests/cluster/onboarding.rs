//! From YAML to Programmed, and back.

use aldis_crds::{ConfigObject, NotificationGateway};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Namespace, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::cluster::{Cluster, until};

#[tokio::test]
async fn a_channel_is_programmed_when_every_ready_pod_acknowledges_and_out_of_service_when_its_grant_is_revoked() {
    let cluster = Cluster::start().await;
    let _operator = cluster.operator("one").await;
    cluster.shared_gateway().await;
    cluster.channel("bistro", "orders").await;
    cluster
        .until_channel("bistro", "orders", "Programmed=False NoReplicas")
        .await;
    cluster.api::<Service>("realtime").get("aldis-shared").await.unwrap();
    cluster
        .api::<ServiceAccount>("realtime")
        .get("aldis-shared")
        .await
        .unwrap();
    cluster.api::<Role>("realtime").get("aldis-shared").await.unwrap();
    cluster
        .api::<RoleBinding>("realtime")
        .get("aldis-shared")
        .await
        .unwrap();
    cluster
        .api::<PodDisruptionBudget>("realtime")
        .get("aldis-shared")
        .await
        .unwrap();
    cluster
        .api::<NetworkPolicy>("realtime")
        .get("aldis-shared")
        .await
        .unwrap();

    cluster.pods_are_ready(2).await;
    let first = cluster.pod_acknowledges("aldis-shared-a").await;
    cluster
        .until_channel("bistro", "orders", "Programmed=False Pending")
        .await;
    cluster.pod_acknowledges("aldis-shared-b").await;
    cluster
        .until_channel("bistro", "orders", "Programmed=True Programmed")
        .await;
    let gateway = cluster.until_gateway("shared", "Programmed=True Programmed").await;
    assert_eq!(gateway.observed_generation, Some(1));

    // A second channel changes nothing for the first, which the pods go on to serve.
    cluster.channel("bistro", "tables").await;
    cluster
        .until_channel("bistro", "tables", "Programmed=False Pending")
        .await;
    cluster
        .until_channel("bistro", "orders", "Programmed=True Programmed")
        .await;

    cluster
        .merge::<NotificationGateway>("realtime", "shared", json!({ "spec": { "tenants": [] } }))
        .await;
    let refused = cluster
        .until_channel("bistro", "orders", "Accepted=False TenantNotAllowed")
        .await;
    assert!(
        refused
            .message
            .contains("no entry of its spec.tenants selects namespace bistro"),
        "{}",
        refused.message
    );
    cluster
        .until_channel("bistro", "orders", "Programmed=False NotAccepted")
        .await;
    cluster.until_served(&[]).await;
    assert_ne!(cluster.pod_acknowledges("aldis-shared-a").await, first);
    cluster.pod_acknowledges("aldis-shared-b").await;
    // What nobody serves any more is gone.
    let configs = cluster.api::<ConfigObject>("realtime");
    until("only the index is left", async || {
        let left = configs.list_metadata(&ListParams::default()).await.unwrap().items;
        (left.len() == 1 && left[0].metadata.name.as_deref() == Some("shared.index")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn only_the_named_key_of_a_labelled_secret_of_the_tenant_is_copied_and_it_rotates() {
    let cluster = Cluster::start().await;
    let _operator = cluster.operator("one").await;
    cluster.shared_gateway().await;
    let mut orders = crate::cluster::channel("orders");
    orders["spec"]["authentication"] = json!({ "jwt": [{
        "name": "staff", "secretRef": { "name": "jwt", "key": "secret" }, "algorithms": ["HS256"], "identity": { "user": "claims.sub" }
    }] });
    cluster
        .create::<aldis_crds::NotificationChannel>("bistro", orders)
        .await;
    cluster
        .until_channel("bistro", "orders", "ResolvedRefs=False SecretNotFound")
        .await;
    let key = |text: &str| json!({ "metadata": { "name": "jwt" }, "stringData": { "secret": text.repeat(16), "other": "not-asked-for" } });
    cluster.create::<Secret>("bistro", key("ab")).await;
    // Without the label it is not even seen.
    cluster
        .until_channel("bistro", "orders", "ResolvedRefs=False SecretNotFound")
        .await;
    cluster
        .merge::<Secret>(
            "bistro",
            "jwt",
            json!({ "metadata": { "labels": { "aldis.dev/use": "channel" } } }),
        )
        .await;
    let copied = async |expected: &str| {
        let expected = expected.repeat(16);
        until("the key is copied", async || {
            let keys = cluster
                .api::<Secret>("realtime")
                .get_opt("aldis-shared-keys")
                .await
                .unwrap()?;
            let data = keys.data.unwrap_or_default();
            let is = data
                .get("channel_bistro_jwt_secret")
                .is_some_and(|key| key.0 == expected.as_bytes());
            is.then_some(data.len())
        })
        .await
    };
    assert_eq!(copied("ab").await, 1);
    cluster
        .until_channel("bistro", "orders", "ResolvedRefs=True ResolvedRefs")
        .await;
    cluster.merge::<Secret>("bistro", "jwt", key("cd")).await;
    assert_eq!(copied("cd").await, 1);
}

#[tokio::test]
async fn labels_of_namespaces_are_followed() {
    let cluster = Cluster::start().await;
    let _operator = cluster.operator("one").await;
    let mut gateway = crate::cluster::gateway();
    gateway["spec"]["tenants"][0]["namespaces"] =
        json!({ "matchExpressions": [{ "key": "kitchen", "operator": "Exists" }] });
    cluster.create::<NotificationGateway>("realtime", gateway).await;
    cluster.channel("zoo", "orders").await;
    cluster
        .until_channel("zoo", "orders", "Accepted=False TenantNotAllowed")
        .await;
    let namespaces: kube::Api<Namespace> = kube::Api::all(cluster.client.clone());
    let label = |value: serde_json::Value| Patch::Merge(json!({ "metadata": { "labels": { "kitchen": value } } }));
    namespaces
        .patch("zoo", &PatchParams::default(), &label(json!("1")))
        .await
        .unwrap();
    cluster.until_served(&["zoo/orders"]).await;
    namespaces
        .patch("zoo", &PatchParams::default(), &label(json!(null)))
        .await
        .unwrap();
    cluster.until_served(&[]).await;
    cluster
        .until_channel("zoo", "orders", "Accepted=False TenantNotAllowed")
        .await;
}

#[tokio::test]
async fn what_a_deleted_gateway_leaves_is_swept_by_its_owner_and_nothing_else_is_touched() {
    let cluster = Cluster::start().await;
    let operator = cluster.operator("one").await;
    let mut gateway = crate::cluster::gateway();
    gateway["spec"]["autoscaling"] = json!({ "minReplicas": 2, "maxReplicas": 4 });
    cluster.create::<NotificationGateway>("realtime", gateway).await;
    until("the autoscaler is there", async || {
        cluster
            .api::<HorizontalPodAutoscaler>("realtime")
            .get_opt("aldis-shared")
            .await
            .unwrap()
    })
    .await;
    let foreign = json!({ "metadata": { "name": "foreign", "labels": { "aldis.dev/installation": "another" } } });
    cluster.create::<Secret>("realtime", foreign).await;
    drop(operator);
    // No controller manager is here that would collect what it owned.
    cluster
        .api::<NotificationGateway>("realtime")
        .delete("shared", &DeleteParams::default())
        .await
        .unwrap();
    let _operator = cluster.operator("one").await;
    until("all of it is gone", async || {
        let services = cluster
            .api::<Service>("realtime")
            .list(&ListParams::default())
            .await
            .unwrap();
        let scalers = cluster
            .api::<HorizontalPodAutoscaler>("realtime")
            .list(&ListParams::default())
            .await
            .unwrap();
        let secrets = cluster
            .api::<Secret>("realtime")
            .list(&ListParams::default())
            .await
            .unwrap();
        (services.items.is_empty() && scalers.items.is_empty() && secrets.items.len() == 1).then_some(())
    })
    .await;
    cluster.api::<Secret>("realtime").get("foreign").await.unwrap();
}
