//! What must not harm anybody: objects that cannot be read, an API server that goes away.

use aldis_crds::NotificationChannel;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Resource as _};
use serde_json::{Value, json};

use crate::cluster::{Cluster, until};

impl Cluster {
    /// Takes the schema of channels away, as a newer version would change it: this operator then meets what it cannot read.
    async fn loosen_schema(&self) {
        let crds: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let name = "notificationchannels.aldis.dev";
        let mut crd = serde_json::to_value(crds.get(name).await.unwrap()).unwrap();
        let any = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
        let versions = crd["spec"]["versions"].take();
        let mut version = versions[0].clone();
        version["schema"]["openAPIV3Schema"] = any;
        let patch = Patch::Merge(json!({ "spec": { "versions": [version] } }));
        crds.patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    async fn spoil(&self, name: &str) {
        let resource = ApiResource::erase::<NotificationChannel>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), "bistro", &resource);
        let spoilt = |spec: Value| Patch::Merge(json!({ "spec": spec }));
        // Schemas are taken up by and by.
        until("the channel is spoilt", async || {
            let patch = spoilt(json!({ "parentRefs": 7, "ofTheFuture": {} }));
            api.patch(name, &PatchParams::default(), &patch).await.ok()
        })
        .await;
    }
}

#[tokio::test]
async fn a_channel_that_cannot_be_read_stays_as_it_was_served_and_stops_nobody() {
    let cluster = Cluster::start().await;
    let operator = cluster.operator("one").await;
    cluster.shared_gateway().await;
    cluster.channel("bistro", "future").await;
    cluster.until_served(&["bistro/future"]).await;
    cluster
        .until_channel("bistro", "future", "Programmed=False NoReplicas")
        .await;
    cluster.loosen_schema().await;
    cluster.spoil("future").await;
    cluster.channel("bistro", "orders").await;
    cluster.until_served(&["bistro/future", "bistro/orders"]).await;
    let raw: Api<DynamicObject> = Api::namespaced_with(
        cluster.client.clone(),
        "bistro",
        &ApiResource::erase::<NotificationChannel>(&()),
    );
    let said = until("it says that it cannot be read", async || {
        let channel = raw.get("future").await.unwrap();
        let conditions = channel.data["status"]["conditions"].as_array()?.clone();
        let is_told = |condition: &Value| condition["type"] == "Accepted" && condition["reason"] == "Unreadable";
        conditions
            .iter()
            .any(is_told)
            .then_some((channel.metadata.generation, conditions))
    })
    .await;
    let (generation, conditions) = said;
    assert_eq!(conditions[0]["observedGeneration"], json!(generation));
    let message = conditions[0]["message"].as_str().unwrap();
    assert!(
        message.contains("spec.ofTheFuture: unknown field `ofTheFuture`"),
        "{message}"
    );
    assert_eq!(
        conditions[2]["reason"], "NoReplicas",
        "what was served stays as it was: {conditions:?}"
    );
    // A new process has never seen it readable.
    drop(operator);
    let _operator = cluster.operator("two").await;
    cluster.channel("bistro", "tables").await;
    cluster
        .until_served(&["bistro/future", "bistro/orders", "bistro/tables"])
        .await;
    assert_eq!(NotificationChannel::kind(&()), "NotificationChannel");
}

#[tokio::test]
async fn an_api_server_that_restarts_is_followed_again() {
    let mut cluster = Cluster::start().await;
    let _operator = cluster.operator("one").await;
    cluster.shared_gateway().await;
    cluster.channel("bistro", "orders").await;
    cluster.until_served(&["bistro/orders"]).await;
    cluster.plane.restart_api_server().await;
    cluster.client = cluster.plane.client().await;
    cluster.channel("bistro", "tables").await;
    cluster.until_served(&["bistro/orders", "bistro/tables"]).await;
}
