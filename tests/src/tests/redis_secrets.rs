//! A Redis that lets nobody in without a password, over TLS: credentials come from Secrets, change while the gateway runs, and are
//! shown nowhere.

use serde_json::json;

use crate::authority::{Authority, indented};
use crate::deadline::until_equal;
use crate::kafka::free_ports;
use crate::manifests::Manifests;
use crate::node::Node;
use crate::redis::Redis;
use crate::standalone::{ADMIN_TOKEN, Standalone};

/// A Redis whose user `aldis` comes in over TLS with a password. Its other port is for the test.
struct Guarded {
    redis: Redis,
    tls_port: u16,
    authority: Authority,
}

impl Guarded {
    async fn start() -> Self {
        let (authority, tls_port) = (Authority::new(), free_ports());
        let files = tempfile::tempdir().unwrap();
        let (chain, key) = authority.certificate();
        let file = |name: &str, pem: &str| {
            let path = files.path().join(name);
            std::fs::write(&path, pem).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (chain, key, ca) = (file("chain", &chain), file("key", &key), file("ca", &authority.pem));
        let port = tls_port.to_string();
        let tls = [
            "--save",
            "",
            "--tls-port",
            &port,
            "--tls-cert-file",
            &chain,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &ca,
            "--tls-auth-clients",
            "no",
        ];
        let redis = Redis::start_with(&tls).await;
        let guarded = Self {
            redis,
            tls_port,
            authority,
        };
        guarded.let_in("hunter2").await;
        guarded
    }

    /// The password of `aldis` from now on, whose connections end.
    async fn let_in(&self, password: &str) {
        let password = format!(">{password}");
        let rights = [
            "~aldis:*",
            "&aldis:*",
            "+@read",
            "+@write",
            "+@scripting",
            "+@pubsub",
            "+@connection",
            "+info",
        ];
        let user = ["ACL", "SETUSER", "aldis", "reset", "on", &password];
        let _: String = self.redis.ask(&[&user[..], &rights].concat()).await;
        let _: u64 = self.redis.ask(&["CLIENT", "KILL", "USER", "aldis"]).await;
    }

    /// A gateway that gets in with this password, and trusts this authority.
    fn manifests(&self, manifests: &Manifests, password: &str, trusted: &Authority) {
        manifests.gateway_with(&format!(
            "listeners: [{{name: web, port: 3000}}]\n  redis: {{url: \"rediss://localhost:{}\", secretRef: {{name: redis}}, tls: {{caSecretRef: {{name: redis, key: ca.crt}}}}}}",
            self.tls_port
        ));
        manifests.write(
            "redis.yaml",
            &format!(
                "apiVersion: v1\nkind: Secret\nmetadata: {{name: redis, namespace: press, labels: {{aldis.dev/use: gateway}}}}\nstringData:\n  username: aldis\n  password: {password}\n  ca.crt: |\n{}",
                indented(&trusted.pem)
            ),
        );
    }
}

async fn hears_redis(gateway: &Standalone, expected: bool) {
    until_equal("whether it hears redis", expected, async || {
        let health = gateway.health().await;
        !health["problems"].as_array().unwrap().contains(&json!("redis"))
    })
    .await;
}

#[tokio::test]
async fn a_gateway_gets_into_redis_by_secrets_that_change_while_it_runs_and_shows_them_nowhere() {
    let guarded = Guarded::start().await;
    let manifests = Manifests::news();
    guarded.manifests(&manifests, "hunter2", &guarded.authority);
    let gateway = Standalone::start(&manifests, &["--port", "web=0"]).await;
    hears_redis(&gateway, true).await;
    let node = Node::start();
    let url = format!("http://{}/news", gateway.listener("web").await);
    let client = node.connect(&url, json!({})).await;
    assert_eq!(client.join("join", json!({"room": "a"})).await["ok"], true);

    // The old one is refused; the new one lets it in again.
    guarded.let_in("hunter3").await;
    hears_redis(&gateway, false).await;
    guarded.manifests(&manifests, "hunter3", &guarded.authority);
    gateway.follow(&manifests).await;
    hears_redis(&gateway, true).await;
    assert_eq!(client.join("join", json!({"room": "b"})).await["ok"], true);
    assert!(client.seen().disconnects.is_empty());

    let config = gateway
        .admin("/config", &[("Authorization", &format!("Bearer {ADMIN_TOKEN}"))])
        .await;
    assert_eq!(config.status, 200);
    for shown in [config.body, gateway.log()] {
        assert!(!shown.contains("hunter"), "{shown}");
    }
}

#[tokio::test]
async fn a_redis_with_a_certificate_of_somebody_elses_is_told_nothing() {
    let guarded = Guarded::start().await;
    let manifests = Manifests::news();
    guarded.manifests(&manifests, "hunter2", &Authority::new());
    let gateway = Standalone::start(&manifests, &["--port", "web=0"]).await;
    hears_redis(&gateway, false).await;
    until_equal("it says why", true, async || gateway.log().contains("certificate")).await;
    // It is no reason to send clients elsewhere: its peers trust no other.
    assert_eq!(gateway.admin("/health/ready", &[]).await.status, 200);
    let users: String = guarded.redis.ask(&["CLIENT", "LIST"]).await;
    assert!(!users.contains("user=aldis"), "{users}");

    guarded.manifests(&manifests, "hunter2", &guarded.authority);
    gateway.follow(&manifests).await;
    hears_redis(&gateway, true).await;
}
