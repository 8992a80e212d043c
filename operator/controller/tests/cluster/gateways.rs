//! The operator and a gateway, as they are in a cluster: the real program follows what the operator writes, with the rights
//! that the operator gives it.

use aldis_crds::config_object::{SERVES_ANNOTATION, index_name, part_name};
use aldis_crds::{ConfigObject, NotificationChannel, NotificationGateway};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::cluster::{Cluster, channel, gateway, until};
use crate::pod::POD;

/// Anybody may connect, and `echo` is answered.
fn open(name: &str) -> Value {
    let mut channel = channel(name);
    channel["spec"]["authentication"] = json!({ "anonymous": {} });
    channel["spec"]["replies"] =
        json!([{ "event": "echo", "emit": { "event": "echoed" }, "allow": "true", "ack": "{args}" }]);
    channel
}

fn open_tenants() -> Value {
    let mut tenants = gateway()["spec"]["tenants"].clone();
    tenants[0]["authentication"] = json!(["anonymous", "jwt"]);
    tenants
}

impl Cluster {
    async fn open_gateway(&self) {
        let mut gateway = gateway();
        gateway["spec"]["tenants"] = open_tenants();
        self.create::<NotificationGateway>("realtime", gateway).await;
    }

    async fn open_channel(&self, name: &str) {
        self.create::<NotificationChannel>("bistro", open(name)).await;
    }

    async fn acknowledged(&self) -> Option<String> {
        let lease = self.api::<Lease>("realtime").get_opt(POD).await.unwrap()?;
        assert_eq!(lease.spec?.holder_identity.as_deref(), Some(POD));
        lease.metadata.annotations?.remove(SERVES_ANNOTATION)
    }

    /// Waits until the pod says that it serves what the index wants.
    async fn until_acknowledged(&self) {
        until("what is wanted is acknowledged", async || {
            let wanted = self.index("shared").await["hash"].clone();
            (wanted == self.acknowledged().await?.as_str()).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_applied_is_served_and_acknowledged_and_what_is_revoked_sends_its_clients_away() {
    let cluster = Cluster::start().await;
    let _operator = cluster.operator("one").await;
    cluster.open_gateway().await;
    cluster.open_channel("orders").await;
    let pod = cluster.pod().await;
    cluster.pods_are_ready(1).await;
    cluster
        .until_channel("bistro", "orders", "Programmed=True Programmed")
        .await;
    cluster.until_gateway("shared", "Programmed=True Programmed").await;
    let mut orders = pod.client("/bistro/orders").await;

    // One more channel, and a key, come in force and are acknowledged; nobody notices.
    let mut tables = open("tables");
    tables["spec"]["authentication"]["jwt"] = json!([{
        "name": "staff", "secretRef": { "name": "jwt", "key": "secret" }, "algorithms": ["HS256"], "identity": { "user": "claims.sub" }
    }]);
    let key = |text: &str| json!({ "metadata": { "name": "jwt", "labels": { "aldis.dev/use": "channel" } }, "stringData": { "secret": text.repeat(16) } });
    cluster.create::<Secret>("bistro", key("ab")).await;
    cluster.create::<NotificationChannel>("bistro", tables).await;
    cluster
        .until_channel("bistro", "tables", "Programmed=True Programmed")
        .await;
    let tables = pod.client("/bistro/tables").await;
    let before = cluster.acknowledged().await;
    cluster.merge::<Secret>("bistro", "jwt", key("cd")).await;
    until("the other key is in force", async || {
        (cluster.acknowledged().await != before).then_some(())
    })
    .await;
    cluster.until_acknowledged().await;
    orders.ask().await;
    assert_eq!((orders.count("disconnect"), tables.count("disconnect")), (0, 0));

    let nobody = json!({ "spec": { "tenants": [] } });
    cluster.merge::<NotificationGateway>("realtime", "shared", nobody).await;
    orders.sent_away().await;
    tables.sent_away().await;
    cluster
        .until_channel("bistro", "orders", "Programmed=False NotAccepted")
        .await;
    cluster.until_gateway("shared", "Programmed=True Programmed").await;
    until("what nobody serves is gone", async || {
        let configs = cluster.api::<ConfigObject>("realtime");
        let left = configs.list_metadata(&ListParams::default()).await.unwrap();
        (left.items.len() == 1).then_some(())
    })
    .await;

    // Granted again, it is the same as before, and has to be written again.
    let granted = json!({ "spec": { "tenants": open_tenants() } });
    cluster
        .merge::<NotificationGateway>("realtime", "shared", granted)
        .await;
    cluster
        .until_channel("bistro", "orders", "Programmed=True Programmed")
        .await;
    pod.client("/bistro/orders").await;
}

#[tokio::test]
async fn a_pod_may_read_its_configuration_and_its_keys_and_nothing_else() {
    let cluster = Cluster::start().await;
    let _operator = cluster.operator("one").await;
    cluster.open_gateway().await;
    cluster.index("shared").await;
    let client = cluster.plane.client_with(&cluster.pod_token().await).await;
    let configs: Api<ConfigObject> = Api::namespaced(client.clone(), "realtime");
    configs.list(&ListParams::default()).await.unwrap();
    let secrets = |namespace: &str| Api::<Secret>::namespaced(client.clone(), namespace);
    secrets("realtime").get("aldis-shared-keys").await.unwrap();
    let named = ListParams::default().fields("metadata.name=aldis-shared-keys");
    secrets("realtime").list(&named).await.unwrap();
    let forbidden = |result: Result<(), kube::Error>, what: &str| match result {
        Err(kube::Error::Api(status)) if status.is_forbidden() => {}
        other => panic!("{what}: {other:?}"),
    };
    let list = ListParams::default();
    forbidden(secrets("realtime").list(&list).await.map(drop), "other Secrets");
    forbidden(
        secrets("realtime").get("aldis-other-keys").await.map(drop),
        "another's keys",
    );
    forbidden(secrets("bistro").get("jwt").await.map(drop), "a tenant's Secret");
    let delete = configs.delete("shared.index", &DeleteParams::default()).await;
    forbidden(delete.map(drop), "the configuration");
    let gateways: Api<NotificationGateway> = Api::namespaced(client.clone(), "realtime");
    forbidden(gateways.list(&list).await.map(drop), "gateways");
    let leases: Api<Lease> = Api::namespaced(client.clone(), "realtime");
    forbidden(leases.list(&list).await.map(drop), "Leases");
    let elsewhere: Api<Lease> = Api::namespaced(client.clone(), "aldis-system");
    let params = kube::api::PatchParams::apply("pod").force();
    let lease =
        json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "aldis-operator" } });
    let patch = kube::api::Patch::Apply(lease);
    forbidden(
        elsewhere.patch("aldis-operator", &params, &patch).await.map(drop),
        "the operator's Lease",
    );
}

#[tokio::test]
async fn without_the_api_server_and_the_operator_nothing_changes_for_clients_and_afterwards_all_goes_on() {
    let mut cluster = Cluster::start().await;
    let operator = cluster.operator("one").await;
    cluster.open_gateway().await;
    cluster.open_channel("orders").await;
    let pod = cluster.pod().await;
    cluster.until_acknowledged().await;
    let mut client = pod.client("/bistro/orders").await;
    drop(operator);
    cluster.plane.stop_api_server();
    until("the pod notices", async || {
        (pod.metric("aldis_config_watch_failures_total") > 0.0).then_some(())
    })
    .await;
    client.ask().await;
    pod.client("/bistro/orders").await;
    cluster.plane.restart_api_server().await;
    cluster.client = cluster.plane.client().await;
    cluster.open_channel("tables").await;
    client.ask().await;
    let _operator = cluster.operator("two").await;
    cluster.until_served(&["bistro/orders", "bistro/tables"]).await;
    cluster.until_acknowledged().await;
    pod.client("/bistro/tables").await;
    client.ask().await;
    assert_eq!((client.count("connect"), client.count("disconnect")), (1, 0));
}

#[tokio::test]
async fn what_is_half_there_or_of_another_version_leaves_the_last_good_one_in_force() {
    let cluster = Cluster::start().await;
    let operator = cluster.operator("one").await;
    cluster.open_gateway().await;
    cluster.open_channel("orders").await;
    let pod = cluster.pod().await;
    cluster.until_acknowledged().await;
    let mut client = pod.client("/bistro/orders").await;
    drop(operator);
    let configs = cluster.api::<ConfigObject>("realtime");
    let index = cluster.index("shared").await;
    let part = part_name("shared", index["channels"][0].as_str().unwrap());
    configs.delete(&part, &DeleteParams::default()).await.unwrap();
    let name = index_name("shared");
    let rejected = async |times: f64| {
        until("it is told", async || {
            (pod.metric("aldis_config_rejected_total") == times).then_some(())
        })
        .await;
        assert_eq!(pod.metric("aldis_config_rejected"), 1.0);
    };
    rejected(1.0).await;
    let newer = json!({ "spec": { "contractVersion": 99 } });
    cluster.merge::<ConfigObject>("realtime", &name, newer).await;
    rejected(2.0).await;
    configs.delete(&name, &DeleteParams::default()).await.unwrap();
    client.ask().await;
    pod.client("/bistro/orders").await;
    assert_eq!(cluster.acknowledged().await.as_deref(), index["hash"].as_str());
    let _operator = cluster.operator("two").await;
    cluster.until_served(&["bistro/orders"]).await;
    until("it is well again", async || {
        (pod.metric("aldis_config_rejected") == 0.0).then_some(())
    })
    .await;
    client.ask().await;
    assert_eq!((client.count("connect"), client.count("disconnect")), (1, 0));
}
