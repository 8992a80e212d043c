//! How statuses and events come to be written.

use aldis_crds::NotificationChannel;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use crate::cluster::{Cluster, until};

impl Cluster {
    /// An event of an object with this reason: its type, and what it says.
    async fn until_event(&self, namespace: &str, kind: &str, reason: &str) -> (String, String) {
        let events = self.api::<Event>(namespace);
        until(&format!("an event {reason} of a {kind}"), async || {
            let events = events.list(&ListParams::default()).await.unwrap();
            let found = events.items.into_iter().find(|event| {
                let of = event.regarding.as_ref().and_then(|object| object.kind.as_deref());
                of == Some(kind) && event.reason.as_deref() == Some(reason)
            })?;
            Some((found.type_?, found.note.unwrap_or_default()))
        })
        .await
    }
}

#[tokio::test]
async fn what_conditions_say_is_told_by_events_with_the_same_reasons() {
    let cluster = Cluster::start().await;
    let _operator = cluster.operator("one").await;
    cluster.shared_gateway().await;
    cluster.channel("bistro", "orders").await;
    cluster.channel("zoo", "orders").await;
    let condition = cluster
        .until_channel("zoo", "orders", "Accepted=False TenantNotAllowed")
        .await;
    let told = cluster
        .until_event("zoo", "NotificationChannel", "TenantNotAllowed")
        .await;
    assert_eq!(told, ("Warning".to_owned(), condition.message));
    let condition = cluster.until_gateway("shared", "Programmed=False NoReplicas").await;
    let told = cluster
        .until_event("realtime", "NotificationGateway", "NoReplicas")
        .await;
    assert_eq!(told, ("Warning".to_owned(), condition.message));
    cluster.pods_are_ready(1).await;
    cluster.pod_acknowledges("aldis-shared-a").await;
    let condition = cluster
        .until_channel("bistro", "orders", "Programmed=True Programmed")
        .await;
    let told = cluster.until_event("bistro", "NotificationChannel", "Programmed").await;
    assert_eq!(told, ("Normal".to_owned(), condition.message));
    // What is well from the start is no news.
    let events = cluster
        .api::<Event>("bistro")
        .list(&ListParams::default())
        .await
        .unwrap();
    assert!(
        events
            .items
            .iter()
            .all(|event| event.reason.as_deref() != Some("Accepted"))
    );
}

#[tokio::test]
async fn a_status_is_written_although_others_write_the_object_again_and_again() {
    let cluster = Cluster::start().await;
    let _operator = cluster.operator("one").await;
    cluster.shared_gateway().await;
    cluster.channel("bistro", "orders").await;
    cluster.until_served(&["bistro/orders"]).await;
    let channels = cluster.api::<NotificationChannel>("bistro");
    let others = tokio::spawn(async move {
        for n in 0..300 {
            let patch = Patch::Merge(json!({ "metadata": { "annotations": { "example.com/n": n.to_string() } } }));
            channels.patch("orders", &PatchParams::default(), &patch).await.unwrap();
        }
    });
    cluster.pods_are_ready(1).await;
    cluster.pod_acknowledges("aldis-shared-a").await;
    others.await.unwrap();
    cluster
        .until_channel("bistro", "orders", "Programmed=True Programmed")
        .await;
    let orders = cluster
        .api::<NotificationChannel>("bistro")
        .get("orders")
        .await
        .unwrap();
    assert_eq!(
        orders.metadata.annotations.unwrap()["example.com/n"],
        "299",
        "and what they wrote stays"
    );
}
