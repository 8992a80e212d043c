//! Whose field it is.

use aldis_crds::NotificationGateway;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::cluster::{Cluster, until};
use crate::scale::Program;

impl Cluster {
    pub async fn replicas(&self) -> i32 {
        let deployment = self.api::<Deployment>("realtime").get("aldis-shared").await.unwrap();
        deployment.spec.unwrap().replicas.unwrap()
    }

    /// What an autoscaler does.
    pub async fn scale(&self, replicas: i32) {
        let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
        let params = PatchParams {
            field_manager: Some("autoscaler".to_owned()),
            ..PatchParams::default()
        };
        self.api::<Deployment>("realtime")
            .patch_scale("aldis-shared", &params, &patch)
            .await
            .unwrap();
    }

    /// Changes what pods are made of, and waits until the operator has written it.
    pub async fn roll(&self, image: &str) {
        self.merge::<NotificationGateway>(
            "realtime",
            "shared",
            json!({ "spec": { "template": { "image": image } } }),
        )
        .await;
        until("the image is written", async || {
            let deployment = self.api::<Deployment>("realtime").get("aldis-shared").await.unwrap();
            (deployment.spec?.template.spec?.containers[0].image.as_deref() == Some(image)).then_some(())
        })
        .await;
    }

    async fn annotate(&self, value: Value) {
        let patch = json!({ "metadata": { "annotations": { "aldis.dev/replicas": value } } });
        self.merge::<NotificationGateway>("realtime", "shared", patch).await;
    }
}

#[tokio::test]
async fn replicas_go_over_to_an_autoscaler_and_back_without_a_dip() {
    let cluster = Cluster::start().await;
    let _operator = cluster.operator("one").await;
    cluster.shared_gateway().await;
    cluster.pods_are_ready(3).await;
    assert_eq!(cluster.replicas().await, 3);
    // Off: what somebody else writes is put right at the next change.
    cluster.annotate(json!("external")).await;
    cluster.roll("image:1").await;
    assert_eq!(cluster.replicas().await, 3, "handed over as it was");
    cluster.scale(7).await;
    cluster.roll("image:2").await;
    assert_eq!(cluster.replicas().await, 7, "left alone");
    cluster.annotate(json!(null)).await;
    until("taken back", async || (cluster.replicas().await == 3).then_some(())).await;
    cluster.annotate(json!("external")).await;
    cluster.roll("image:3").await;
    assert_eq!(cluster.replicas().await, 3);
}

#[tokio::test]
async fn what_others_add_to_an_object_stays_and_a_name_that_is_taken_is_not_taken_over() {
    let cluster = Cluster::start().await;
    let theirs = json!({ "metadata": { "name": "aldis-shared" }, "spec": { "ports": [{ "port": 1 }] } });
    cluster.create::<Service>("realtime", theirs).await;
    let _operator = cluster.operator("one").await;
    cluster.shared_gateway().await;
    let condition = cluster.until_gateway("shared", "Programmed=False NameTaken").await;
    assert!(
        condition.message.contains("Service aldis-shared is there already"),
        "{}",
        condition.message
    );
    let service = cluster.api::<Service>("realtime").get("aldis-shared").await.unwrap();
    assert_eq!(service.spec.unwrap().ports.unwrap()[0].port, 1);

    cluster
        .api::<Service>("realtime")
        .delete("aldis-shared", &Default::default())
        .await
        .unwrap();
    cluster.until_gateway("shared", "Programmed=False NoReplicas").await;
    let annotate = json!({ "metadata": { "annotations": { "example.com/theirs": "1" } } });
    cluster.merge::<Service>("realtime", "aldis-shared", annotate).await;
    let listeners = json!({ "spec": { "listeners": [{ "name": "web", "port": 3005 }] } });
    cluster
        .merge::<NotificationGateway>("realtime", "shared", listeners)
        .await;
    until("the port is written, and the annotation still there", async || {
        let service = cluster.api::<Service>("realtime").get("aldis-shared").await.unwrap();
        let kept = service
            .metadata
            .annotations
            .unwrap_or_default()
            .contains_key("example.com/theirs");
        (service.spec?.ports?[0].port == 3005 && kept).then_some(())
    })
    .await;
}

#[tokio::test]
async fn nothing_about_a_paused_gateway_is_changed_and_it_says_so() {
    let cluster = Cluster::start().await;
    let _operator = cluster.operator("one").await;
    cluster.shared_gateway().await;
    cluster.channel("bistro", "orders").await;
    cluster.until_served(&["bistro/orders"]).await;
    let pause = |value: Value| json!({ "metadata": { "annotations": { "aldis.dev/pause": value } } });
    cluster
        .merge::<NotificationGateway>("realtime", "shared", pause(json!("true")))
        .await;
    cluster.until_gateway("shared", "Paused=True Paused").await;
    cluster.channel("bistro", "tables").await;
    cluster
        .until_channel("bistro", "tables", "Programmed=False NoReplicas")
        .await;
    assert_eq!(cluster.served().await, ["bistro/orders"]);
    cluster
        .merge::<NotificationGateway>("realtime", "shared", pause(json!(null)))
        .await;
    cluster.until_served(&["bistro/orders", "bistro/tables"]).await;
}

#[tokio::test]
async fn what_somebody_else_wrote_over_is_put_right_and_it_is_logged_whose_it_was() {
    let cluster = Cluster::start().await;
    let operator = cluster.operator("one").await;
    cluster.shared_gateway().await;
    cluster.until_gateway("shared", "Programmed=False NoReplicas").await;
    drop(operator);
    let services = cluster.api::<Service>("realtime");
    let theirs = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "aldis-shared" }, "spec": { "sessionAffinity": "None" } });
    let params = PatchParams::apply("somebody").force();
    services
        .patch("aldis-shared", &params, &Patch::Apply(theirs))
        .await
        .unwrap();
    let affinity = async || {
        services
            .get("aldis-shared")
            .await
            .unwrap()
            .spec
            .unwrap()
            .session_affinity
            .unwrap()
    };
    assert_eq!(affinity().await, "None");

    // Everything is written anew, as at intervals.
    let operator = Program::operator(&cluster).await;
    until("it is put right", async || {
        (affinity().await == "ClientIP").then_some(())
    })
    .await;
    let told = until("it is logged", async || {
        operator
            .logged("overridden what somebody else had written")
            .into_iter()
            .next()
    })
    .await;
    assert_eq!(
        (&told["kind"], &told["name"]),
        (&json!("Service"), &json!("aldis-shared"))
    );
    let conflict = told["conflict"].as_str().unwrap();
    assert!(
        conflict.contains("\"somebody\"") && conflict.contains(".spec.sessionAffinity"),
        "{conflict}"
    );
    assert_eq!(
        operator.metric("aldis_operator_overridden_total{kind=\"Service\"}"),
        1.0
    );
    assert_eq!(
        operator.logged("overridden what somebody else had written").len(),
        1,
        "nothing else"
    );
}
