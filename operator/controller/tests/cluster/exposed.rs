//! What leads to listeners: as the gateway asks for it, and gone when it does not any more.

use aldis_crds::NotificationGateway;
use k8s_openapi::api::networking::v1::Ingress;
use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use crate::cluster::{Cluster, until};

impl Cluster {
    async fn expose(&self, expose: Value) {
        let listener = json!({ "name": "web", "port": 3000, "hostname": "notify.example.com", "expose": expose });
        let patch = json!({ "spec": { "listeners": [listener] } });
        self.merge::<NotificationGateway>("realtime", "shared", patch).await;
    }

    fn routes(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute");
        Api::namespaced_with(self.client.clone(), "realtime", &ApiResource::from_gvk(&kind))
    }

    async fn install_gateway_api(&self) {
        self.install("httproutes.yaml").await;
    }
}

#[tokio::test]
async fn an_ingress_and_a_route_come_and_go_with_the_listener_that_asks_for_them() {
    let cluster = Cluster::start().await;
    // Of nobody that the operator knows.
    let theirs = json!({
        "metadata": { "name": "theirs" },
        "spec": { "defaultBackend": { "service": { "name": "x", "port": { "number": 1 } } } }
    });
    cluster.create::<Ingress>("realtime", theirs).await;
    let _operator = cluster.operator("one").await;
    cluster.shared_gateway().await;
    cluster.channel("bistro", "orders").await;
    cluster.until_served(&["bistro/orders"]).await;
    let hash = cluster.index("shared").await["hash"].clone();

    cluster
        .expose(json!({
            "ingress": { "className": "nginx", "tls": { "secretRef": { "name": "notify" } } },
            "httpRoute": { "parentRefs": [{ "name": "public", "namespace": "edge" }] }
        }))
        .await;
    let ingresses = cluster.api::<Ingress>("realtime");
    let found = until("the Ingress is there", async || {
        ingresses.get_opt("aldis-shared.web").await.unwrap()
    })
    .await;
    let spec = json!(found.spec);
    assert_eq!(spec["rules"][0]["host"], "notify.example.com");
    let backend = json!({ "service": { "name": "aldis-shared", "port": { "number": 3000 } } });
    assert_eq!(spec["rules"][0]["http"]["paths"][0]["backend"], backend);
    assert_eq!(spec["tls"][0]["hosts"], json!(["notify.example.com"]));

    // Without Gateway API everything else is there, and the gateway says what is missing.
    let condition = cluster.until_gateway("shared", "Programmed=False ApplyFailed").await;
    assert!(
        condition.message.contains("install Gateway API"),
        "{}",
        condition.message
    );
    cluster.install_gateway_api().await;
    let routes = cluster.routes();
    let found = until("the HTTPRoute is there", async || {
        routes.get_opt("aldis-shared.web").await.ok().flatten()
    })
    .await;
    let rule = &found.data["spec"]["rules"][0];
    assert_eq!(rule["backendRefs"][0]["name"], "aldis-shared");
    assert_eq!(found.data["spec"]["parentRefs"][0]["name"], "public");
    cluster.until_gateway("shared", "Programmed=False NoReplicas").await;

    // What stands in front of listeners is nothing to pods: only the host name is new to them.
    cluster.expose(json!(null)).await;
    until("both are gone", async || {
        let ingress = ingresses.get_opt("aldis-shared.web").await.unwrap();
        let route = routes.get_opt("aldis-shared.web").await.unwrap();
        (ingress.is_none() && route.is_none()).then_some(())
    })
    .await;
    let index = cluster.index("shared").await;
    assert_ne!(index["hash"], hash);
    cluster.expose(json!({ "ingress": {} })).await;
    until("the Ingress is there again", async || {
        ingresses.get_opt("aldis-shared.web").await.unwrap()
    })
    .await;
    assert_eq!(cluster.index("shared").await["hash"], index["hash"]);
    assert!(ingresses.get_opt("theirs").await.unwrap().is_some());
}
