//! A control plane with the CRDs, operators on it, and what the tests look at and do.

use std::fmt::Debug;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use aldis_controller::run::{RunError, Settings, run};
use aldis_crds::{ConfigObject, NotificationChannel, NotificationGateway};
use aldis_operator::objects::Installation;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::control_plane::{ControlPlane, program};

/// How long anything may take. 60 s: a watch that was cut backs off for some seconds, twice if it is unlucky.
const DEADLINE: Duration = Duration::from_secs(60);

pub struct Cluster {
    pub plane: ControlPlane,
    pub client: Client,
}

impl Cluster {
    /// With the CRDs, and namespaces `aldis-system`, `realtime`, `bistro`, `zoo` and `tests`.
    pub async fn start() -> Self {
        let plane = ControlPlane::start().await;
        let client = plane.client().await;
        let cluster = Self { plane, client };
        let crds: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
        for crd in aldis_crds::crd::all() {
            let name = crd.metadata.name.clone().unwrap();
            crds.create(&PostParams::default(), &crd).await.unwrap();
            let established = await_condition(crds.clone(), &name, conditions::is_crd_established());
            tokio::time::timeout(DEADLINE, established).await.unwrap().unwrap();
        }
        let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
        for name in ["aldis-system", "realtime", "bistro", "zoo", "tests"] {
            let namespace = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
            namespaces.create(&PostParams::default(), &namespace).await.unwrap();
        }
        cluster
    }

    /// An operator in this process; it ends with what is given back, as a process does that is killed.
    pub async fn operator(&self, identity: &str) -> Operator {
        self.operator_as(identity, None).await
    }

    /// With the rights of this account.
    pub async fn operator_as(&self, identity: &str, account: Option<&str>) -> Operator {
        self.operator_in(None, identity, account).await
    }

    /// One that looks at this namespace alone.
    pub async fn operator_in(&self, namespace: Option<&str>, identity: &str, account: Option<&str>) -> Operator {
        let settings = Settings {
            watch_namespace: namespace.map(str::to_owned),
            ..settings(identity, ([127, 0, 0, 1], 0).into())
        };
        Operator(tokio::spawn(run(self.plane.client_as(account).await, settings)))
    }

    /// With where its health and metrics are.
    pub async fn operator_at(&self, identity: &str) -> (Operator, String) {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = port.local_addr().unwrap();
        drop(port);
        let operator = Operator(tokio::spawn(run(self.client.clone(), settings(identity, address))));
        until("its port is there", async || {
            tokio::net::TcpStream::connect(address).await.ok()
        })
        .await;
        (operator, address.to_string())
    }

    /// Installs a CRD of somebody else's, of `fixtures`.
    pub async fn install(&self, fixture: &str) {
        let file = repository().join("operator/controller/tests/fixtures").join(fixture);
        let file = file.to_str().unwrap();
        self.kubectl(&["apply", "--server-side", "-f", file]).await;
        self.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "-f", file])
            .await;
    }

    /// What kubectl prints.
    pub async fn kubectl(&self, args: &[&str]) -> String {
        let mut kubectl = Command::new(program("kubectl"));
        kubectl.arg("--kubeconfig").arg(self.plane.kubeconfig()).args(args);
        let output = tokio::task::spawn_blocking(move || kubectl.output().unwrap())
            .await
            .unwrap();
        assert!(
            output.status.success(),
            "kubectl {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub async fn create<K>(&self, namespace: &str, value: Value)
    where
        K: Resource<Scope = NamespaceResourceScope> + DeserializeOwned + serde::Serialize + Clone + Debug,
        K::DynamicType: Default,
    {
        let object: K = serde_json::from_value(value).unwrap();
        self.api::<K>(namespace)
            .create(&PostParams::default(), &object)
            .await
            .unwrap();
    }

    pub async fn merge<K>(&self, namespace: &str, name: &str, patch: Value)
    where
        K: Resource<Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
        K::DynamicType: Default,
    {
        let api = self.api::<K>(namespace);
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    /// A gateway `realtime/shared` on which namespace `bistro` may have what is below its name.
    pub async fn shared_gateway(&self) {
        self.create::<NotificationGateway>("realtime", gateway()).await;
    }

    /// A channel with the default path.
    pub async fn channel(&self, namespace: &str, name: &str) {
        self.create::<NotificationChannel>(namespace, channel(name)).await;
    }

    /// What a kubelet would say: this many pods of the gateway take clients.
    pub async fn pods_are_ready(&self, ready: i32) {
        let deployments = self.api::<Deployment>("realtime");
        until("the Deployment is there", async || {
            deployments.get_opt("aldis-shared").await.unwrap()
        })
        .await;
        let status = json!({ "status": { "readyReplicas": ready, "replicas": ready } });
        let params = PatchParams::default();
        deployments
            .patch_status("aldis-shared", &params, &Patch::Merge(status))
            .await
            .unwrap();
    }

    /// What a gateway would say: this pod serves what is in the index now. Gives its hash.
    pub async fn pod_acknowledges(&self, pod: &str) -> String {
        let hash = self.index("shared").await["hash"].as_str().unwrap().to_owned();
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": pod, "labels": { "aldis.dev/gateway": "shared" }, "annotations": { "aldis.dev/serves": hash } },
            "spec": { "holderIdentity": pod, "leaseDurationSeconds": 3600, "renewTime": micro_time() }
        });
        let params = PatchParams::apply("gateway").force();
        self.api::<Lease>("realtime")
            .patch(pod, &params, &Patch::Apply(lease))
            .await
            .unwrap();
        hash
    }

    /// The index of a gateway, once it is there.
    pub async fn index(&self, gateway: &str) -> Value {
        let configs = self.api::<ConfigObject>("realtime");
        let name = aldis_crds::config_object::index_name(gateway);
        let found = until("the index is there", async || {
            configs.get_opt(&name).await.ok().flatten()
        })
        .await;
        json!(found.spec.index)
    }

    /// Names of the channels that the configuration of `shared` has, in the order of the index.
    pub async fn served(&self) -> Vec<String> {
        let configs = self.api::<ConfigObject>("realtime");
        let index = self.index("shared").await;
        let mut names = Vec::new();
        for hash in index["channels"].as_array().unwrap() {
            let name = aldis_crds::config_object::part_name("shared", hash.as_str().unwrap());
            let part = configs.get(&name).await.unwrap();
            names.push(part.spec.channel.unwrap().channel.to_string());
        }
        names
    }

    pub async fn until_served(&self, expected: &[&str]) {
        until(&format!("served are {expected:?}"), async || {
            (self.served().await == expected).then_some(())
        })
        .await;
    }

    /// Waits until a condition of a channel is this: `Programmed=True Programmed`.
    pub async fn until_channel(&self, namespace: &str, name: &str, expected: &str) -> Condition {
        let channels = self.api::<NotificationChannel>(namespace);
        until(&format!("{namespace}/{name} is {expected}"), async || {
            let channel = channels.get(name).await.ok()?;
            find(&channel.status?.conditions, expected)
        })
        .await
    }

    pub async fn until_gateway(&self, name: &str, expected: &str) -> Condition {
        let gateways = self.api::<NotificationGateway>("realtime");
        until(&format!("{name} is {expected}"), async || {
            let gateway = gateways.get(name).await.ok()?;
            find(&gateway.status?.conditions, expected)
        })
        .await
    }
}

fn settings(identity: &str, address: std::net::SocketAddr) -> Settings {
    Settings {
        installation: Installation {
            id: "aldis-system.aldis".to_owned(),
            gateway_image: "localhost/aldis-gateway:test".to_owned(),
        },
        watch_namespace: None,
        namespace: "aldis-system".to_owned(),
        lease: "aldis-operator".to_owned(),
        identity: identity.to_owned(),
        address,
    }
}

fn find(conditions: &[Condition], expected: &str) -> Option<Condition> {
    let said =
        |condition: &&Condition| format!("{}={} {}", condition.type_, condition.status, condition.reason) == expected;
    conditions.iter().find(said).cloned()
}

pub struct Operator(JoinHandle<Result<(), RunError>>);

impl Operator {
    /// Why it ended.
    pub async fn ended(&mut self) -> RunError {
        tokio::time::timeout(DEADLINE, &mut self.0)
            .await
            .unwrap()
            .unwrap()
            .unwrap_err()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub fn gateway() -> Value {
    json!({
        "apiVersion": "aldis.dev/v1alpha1", "kind": "NotificationGateway",
        "metadata": { "name": "shared", "namespace": "realtime" },
        "spec": {
            "kafka": { "bootstrapServers": ["kafka:9092"] },
            "listeners": [{ "name": "web", "port": 3000 }],
            "replicas": 3,
            "tenants": [{
                "name": "bistro", "namespaces": { "matchLabels": { "kubernetes.io/metadata.name": "bistro" } },
                "listeners": ["web"], "paths": ["/{namespace}/*"], "authentication": ["jwt"]
            }]
        }
    })
}

pub fn channel(name: &str) -> Value {
    json!({
        "apiVersion": "aldis.dev/v1alpha1", "kind": "NotificationChannel",
        "metadata": { "name": name },
        "spec": { "parentRefs": [{ "name": "shared", "namespace": "realtime" }] }
    })
}

/// Now, with the microseconds that Kubernetes wants.
pub fn micro_time() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// Looks until `found` says something.
pub async fn until<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = found().await {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// The clone's root.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
