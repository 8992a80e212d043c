//! Scaling on connections. The tests say what pods would: how many clients they have, in their Leases.

use aldis_crds::NotificationGateway;
use aldis_crds::gateway::Autoscaling;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::cluster::{Cluster, micro_time, until};

impl Cluster {
    /// What a pod would say: it serves, and so many clients are connected to it.
    async fn pod_has(&self, pod: &str, connections: u64) {
        let annotations = json!({ "aldis.dev/serves": "something", "aldis.dev/connections": connections.to_string() });
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": pod, "labels": { "aldis.dev/gateway": "shared" }, "annotations": annotations },
            "spec": { "holderIdentity": pod, "leaseDurationSeconds": 3600, "renewTime": micro_time() }
        });
        let params = PatchParams::apply("gateway").force();
        let leases = self.api::<Lease>("realtime");
        leases.patch(pod, &params, &Patch::Apply(lease)).await.unwrap();
    }

    pub async fn until_replicas(&self, expected: i32) -> Deployment {
        until(&format!("there should be {expected} pods"), async || {
            let deployment = self
                .api::<Deployment>("realtime")
                .get_opt("aldis-shared")
                .await
                .unwrap()?;
            (deployment.spec.as_ref()?.replicas == Some(expected)).then_some(deployment)
        })
        .await
    }

    async fn autoscaling(&self, autoscaling: Value) {
        let patch = json!({ "spec": { "autoscaling": autoscaling } });
        self.merge::<NotificationGateway>("realtime", "shared", patch).await;
    }

    async fn autoscalers(&self) -> usize {
        let api = self.api::<HorizontalPodAutoscaler>("realtime");
        api.list(&ListParams::default()).await.unwrap().items.len()
    }

    /// Waits until the operator has looked at everything again: what is asked for here is in what it writes.
    async fn until_looked_again(&self, image: &str) {
        let template = json!({ "spec": { "template": { "image": image } } });
        self.merge::<NotificationGateway>("realtime", "shared", template).await;
        until("the image is written", async || {
            let deployment = self.api::<Deployment>("realtime").get("aldis-shared").await.unwrap();
            let container = deployment.spec?.template.spec?.containers.into_iter().next()?;
            (container.image.as_deref() == Some(image)).then_some(())
        })
        .await;
        // It was written in one pass, and its condition is of that pass or a later one: scaling lies between.
        let gateways = self.api::<NotificationGateway>("realtime");
        until("the status is of this generation", async || {
            let gateway = gateways.get("shared").await.unwrap();
            let conditions = gateway.status?.conditions;
            let generation = gateway.metadata.generation;
            conditions
                .iter()
                .all(|condition| condition.observed_generation == generation)
                .then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn clients_make_more_pods_at_once_and_never_more_or_fewer_than_there_may_be() {
    let cluster = Cluster::start().await;
    let _operator = cluster.operator("one").await;
    let mut gateway = crate::cluster::gateway();
    gateway["spec"]["autoscaling"] = json!({ "minReplicas": 2, "maxReplicas": 6, "targetConnectionsPerReplica": 1000 });
    cluster.create::<NotificationGateway>("realtime", gateway).await;
    let deployment = cluster.until_replicas(2).await;
    let fields = deployment.metadata.managed_fields.unwrap();
    let mut applied = fields
        .iter()
        .filter(|entry| entry.operation.as_deref() == Some("Apply"));
    let says_a_number = |fields: &Value| fields["f:spec"]["f:replicas"].is_object();
    assert!(
        applied.all(|entry| !says_a_number(&json!(entry.fields_v1))),
        "who applies the Deployment says no number"
    );
    assert_eq!(cluster.autoscalers().await, 0);

    cluster.pods_are_ready(2).await;
    cluster.pod_has("aldis-shared-a", 2000).await;
    cluster.pod_has("aldis-shared-b", 1400).await;
    cluster.until_replicas(4).await;
    let event = until("an event says so", async || {
        let events = cluster
            .api::<Event>("realtime")
            .list(&ListParams::default())
            .await
            .unwrap();
        let said = |event: &Event| {
            event.reason.as_deref() == Some("Scaled") && event.note.as_ref().is_some_and(|note| note.contains("3400"))
        };
        events.items.into_iter().find(said)
    })
    .await;
    assert_eq!(
        event.note.as_deref(),
        Some("replicas 2 → 4: 3400 clients on 2 pods, 1000 aimed at for each")
    );
    assert_eq!(event.regarding.unwrap().kind.as_deref(), Some("NotificationGateway"));

    // More than there may be, and it says so.
    cluster.pods_are_ready(4).await;
    for (pod, clients) in [("a", 3000), ("b", 3000), ("c", 3000), ("d", 3000)] {
        cluster.pod_has(&format!("aldis-shared-{pod}"), clients).await;
    }
    cluster.until_replicas(6).await;
    let limited = cluster
        .until_gateway("shared", "ScalingLimited=True TooManyConnections")
        .await;
    assert!(
        limited.message.contains("maxReplicas, which is 6"),
        "{}",
        limited.message
    );

    // All of them go: nobody knows yet that they stay away.
    cluster.pods_are_ready(6).await;
    for pod in ["a", "b", "c", "d", "e", "f"] {
        cluster.pod_has(&format!("aldis-shared-{pod}"), 0).await;
    }
    until("it is not limited any more", async || {
        let gateway = cluster
            .api::<NotificationGateway>("realtime")
            .get("shared")
            .await
            .unwrap();
        let conditions = gateway.status?.conditions;
        conditions
            .iter()
            .all(|condition| condition.type_ != "ScalingLimited")
            .then_some(())
    })
    .await;
    cluster.until_looked_again("image:1").await;
    cluster.until_replicas(6).await;

    // A lower bound on what may be is no matter of waiting.
    cluster.autoscaling(json!({ "maxReplicas": 3 })).await;
    cluster.until_replicas(3).await;
    // Somebody else scales now.
    let external = json!({ "metadata": { "annotations": { "aldis.dev/replicas": "external" } }, "spec": { "autoscaling": { "minReplicas": 3, "maxReplicas": 9 } } });
    cluster
        .merge::<NotificationGateway>("realtime", "shared", external)
        .await;
    for pod in ["a", "b", "c"] {
        cluster.pod_has(&format!("aldis-shared-{pod}"), 9000).await;
    }
    cluster.until_looked_again("image:2").await;
    cluster.until_replicas(3).await;
    // And back: the number is the gateway's own.
    let own = json!({ "metadata": { "annotations": { "aldis.dev/replicas": null } }, "spec": { "autoscaling": null, "replicas": 5 } });
    cluster.merge::<NotificationGateway>("realtime", "shared", own).await;
    cluster.until_replicas(5).await;
}

#[tokio::test]
async fn a_gateway_has_one_autoscaler_on_cpu_or_the_operator_on_connections() {
    let cluster = Cluster::start().await;
    let _operator = cluster.operator("one").await;
    cluster.shared_gateway().await;
    cluster.until_replicas(3).await;
    cluster.autoscaling(json!({ "minReplicas": 4, "maxReplicas": 6 })).await;
    until("there is an autoscaler", async || {
        (cluster.autoscalers().await == 1).then_some(())
    })
    .await;
    assert_eq!(
        cluster.until_replicas(3).await.spec.unwrap().replicas,
        Some(3),
        "the number is the autoscaler's, which nobody runs here"
    );
    cluster
        .autoscaling(json!({ "targetConnectionsPerReplica": 1000 }))
        .await;
    until("there is none", async || {
        (cluster.autoscalers().await == 0).then_some(())
    })
    .await;
    cluster.until_replicas(4).await;
    // Both are refused, by the schema.
    let both: Autoscaling = serde_json::from_value(json!({
        "minReplicas": 1, "maxReplicas": 2, "targetConnectionsPerReplica": 1, "targetCPUUtilization": 1
    }))
    .unwrap();
    let patch = Patch::Merge(json!({ "spec": { "autoscaling": both } }));
    let gateways = cluster.api::<NotificationGateway>("realtime");
    let refused = gateways
        .patch("shared", &PatchParams::default(), &patch)
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("two autoscalers of one number"),
        "{refused}"
    );
}
