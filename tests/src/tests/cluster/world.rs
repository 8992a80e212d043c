//! What the steps share: Kafka and Redis beside the pods, records that go on, and the clients' program.

use std::time::Instant;

use serde_json::{Value, json};

use super::channel::{redis_secret, token_secret};
use super::load::{Load, PARTITIONS, TOPIC, Tenant};
use crate::gateway::aldis;
use crate::kafka::{Kafka, make_topic};
use crate::kubernetes::{Logs, apply, get, kubectl, node, ready, until};
use crate::node::Node;
use crate::redis::Redis;

pub(super) const GATEWAY_PODS: &str = "app.kubernetes.io/name=aldis-gateway";
pub(super) const OPERATOR_PODS: &str = "app.kubernetes.io/name=aldis-operator";
/// An annotation of pods that a rolling update changes.
pub(super) const ROUND: &str = "example.com/round";
/// What the user of Redis may do.
const REDIS_RIGHTS: [&str; 8] = [
    "~aldis:*",
    "&aldis:*",
    "+@read",
    "+@write",
    "+@scripting",
    "+@pubsub",
    "+@connection",
    "+info",
];

pub(super) struct World {
    pub(super) kafka: Kafka,
    pub(super) redis: Redis,
    pub(super) load: Load,
    pub(super) agent: Node,
    /// The key of the tenant's tokens.
    pub(super) secret: String,
    step: Option<(&'static str, Instant)>,
    _logs: Logs,
}

impl World {
    pub(super) async fn start() -> Self {
        let host = node();
        let mut kafka = Kafka::down_at(&host);
        kafka.start().await;
        make_topic(&kafka.address(), TOPIC, PARTITIONS as i32, &[]).await;
        let redis = Redis::start_at(&host).await;
        let world = Self {
            load: Load::start(&kafka.address()),
            kafka,
            redis,
            agent: Node::start(),
            secret: "0123456789-of-a-first-secret".to_owned(),
            step: None,
            _logs: Logs,
        };
        world.redis_takes("first-password").await;
        world
    }

    /// Begins a step, and says how long the one before took.
    pub(super) async fn step(&mut self, name: &'static str) {
        self.end_step();
        println!("--- {name}");
        self.step = Some((name, Instant::now()));
    }

    fn end_step(&mut self) {
        if let Some((name, since)) = self.step.take() {
            println!("--- {name}: {:.1} s", since.elapsed().as_secs_f64());
        }
    }

    pub(super) async fn end(mut self) {
        self.end_step();
        println!("--- {} records were published", self.load.end().await);
    }

    /// From now on the gateway's user of Redis has this password too.
    pub(super) async fn redis_takes(&self, password: &str) {
        let password = format!(">{password}");
        let user = ["ACL", "SETUSER", "aldis", "on", &password];
        let _: String = self.redis.ask(&[&user[..], &REDIS_RIGHTS].concat()).await;
    }

    /// From now on it does not, and who came in with any has to come in again. Gives how many those were.
    pub(super) async fn redis_takes_no_more(&self, password: &str) -> u64 {
        let password = format!("<{password}");
        let _: String = self.redis.ask(&["ACL", "SETUSER", "aldis", &password]).await;
        self.redis.ask(&["CLIENT", "KILL", "USER", "aldis"]).await
    }

    /// The gateway comes in with this one from its next connection on.
    pub(super) async fn redis_secret_is(&self, password: &str) {
        apply(&redis_secret(password).to_string()).await;
    }

    /// The tenant's tokens have another key from now on.
    pub(super) async fn token_secret_is(&mut self, value: &str) {
        value.clone_into(&mut self.secret);
        apply(&token_secret(value).to_string()).await;
    }

    /// A client of the tenant, with a token of its key of today.
    pub(super) async fn connect(&self) -> Result<Tenant, Value> {
        self.connect_from(&self.agent).await
    }

    /// The same in another process.
    pub(super) async fn connect_from(&self, agent: &Node) -> Result<Tenant, Value> {
        let auth = json!({ "token": token(&self.secret).await });
        Tenant::connect(agent, &url().await, &json!({ "auth": auth })).await
    }

    /// A client of the tenant, with what it shows of itself.
    pub(super) async fn connect_with(&self, auth: Value) -> Result<Tenant, Value> {
        Tenant::connect(&self.agent, &url().await, &json!({ "auth": auth })).await
    }
}

/// Where clients reach the gateway.
pub(super) async fn address() -> String {
    let service = get(&["-n", "realtime", "service", "aldis-shared"]).await;
    service["spec"]["clusterIP"].as_str().unwrap().to_owned()
}

async fn url() -> String {
    format!("http://{}:3000/bistro/orders", address().await)
}

/// Where each pod of the gateway is reached.
pub(super) async fn pod_addresses() -> Vec<String> {
    let pods = get(&["-n", "realtime", "pods", "-l", GATEWAY_PODS]).await;
    let pods = pods["items"].as_array().unwrap().iter();
    pods.map(|pod| pod["status"]["podIP"].as_str().unwrap().to_owned())
        .collect()
}

/// A token of this key.
pub(super) async fn token(secret: &str) -> String {
    let (well, said) = tool(&["token", "--claim", "sub=ann"], &[("ALDIS_SECRET", secret)]).await;
    assert!(well, "{said}");
    said.trim().to_owned()
}

/// Whether the program `aldis` ended well, and all that it said.
pub(super) async fn tool(args: &[&str], env: &[(&str, &str)]) -> (bool, String) {
    let mut command = tokio::process::Command::new(aldis());
    let output = command.args(args).envs(env.iter().copied()).output().await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

pub(super) async fn patch_gateway(patch: &Value) {
    let patch = patch.to_string();
    let what = ["-n", "realtime", "patch", "notificationgateway", "shared"];
    kubectl(&[&what[..], &["--type=merge", "-p", &patch]].concat()).await;
}

/// Waits until the channel says so of itself.
pub(super) async fn channel_is(condition: &str) {
    let condition = format!("--for=condition={condition}");
    let channel = [
        "-n",
        "bistro",
        "wait",
        &condition,
        "notificationchannel/orders",
        "--timeout=120s",
    ];
    kubectl(&channel).await;
}

/// Which pods the gateway has, and how often each of their containers was started anew.
pub(super) async fn pods_and_restarts() -> Vec<(String, u64)> {
    let pods = get(&["-n", "realtime", "pods", "-l", GATEWAY_PODS]).await;
    let pods = pods["items"].as_array().unwrap().iter().map(|pod| {
        let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
        (
            pod["metadata"]["uid"].as_str().unwrap().to_owned(),
            restarts.as_u64().unwrap(),
        )
    });
    let mut pods: Vec<_> = pods.collect();
    pods.sort();
    pods
}

/// Waits until so many pods take clients, each of this round and with what is wanted, and no other pod is left.
pub(super) async fn until_rolled_out(round: Option<&str>, replicas: usize) {
    until("the pods are there, and serve", async || {
        let pods = get(&["-n", "realtime", "pods", "-l", GATEWAY_PODS]).await;
        let pods = pods["items"].as_array().unwrap();
        let is_of = |pod: &Value| pod["metadata"]["annotations"][ROUND].as_str() == round;
        let gateway = get(&["-n", "realtime", "notificationgateway", "shared"]).await;
        let serving = gateway["status"]["replicas"]["serving"] == replicas;
        let ready = ready("realtime", GATEWAY_PODS).await.len() == replicas;
        (ready && serving && pods.len() == replicas && pods.iter().all(is_of)).then_some(())
    })
    .await;
}
