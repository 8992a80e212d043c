//! Issuers that publish their keys: a real one over HTTP and HTTPS, stock clients, and the guarded way between.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::authority::Authority;
use crate::deadline::within;
use crate::gateway::Gateway;
use crate::manifests::Manifests;
use crate::node::{Client, Node, node};

/// `tests/node/issuer.js`.
struct Issuer {
    _child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    /// Where its keys are: `http://localhost:1234`.
    url: String,
}

impl Issuer {
    /// With a certificate and its key, in PEM, over HTTPS.
    async fn start(tls: Option<(String, String)>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let tls = tls.map(|(cert, key)| json!({"cert": cert, "key": key}));
        let mut child = node(&["issuer.js", &json!({"tls": tls}).to_string()]).spawn().unwrap();
        let mut issuer = Self {
            stdin: child.stdin.take().unwrap(),
            lines: BufReader::new(child.stdout.take().unwrap()).lines(),
            _child: child,
            url: String::new(),
        };
        issuer.url = format!("{scheme}://localhost:{}", issuer.hear().await["port"]);
        issuer
    }

    async fn hear(&mut self) -> Value {
        let line = within("the issuer answers", self.lines.next_line()).await.unwrap();
        serde_json::from_str(&line.expect("the issuer runs")).unwrap()
    }

    async fn tell(&mut self, command: Value) -> Value {
        self.stdin.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        self.hear().await
    }

    async fn key(&mut self, kid: &str) {
        self.tell(json!({"do": "key", "kid": kid})).await;
    }

    /// The options of a client that shows a token of this key.
    async fn token(&mut self, kid: &str) -> Value {
        let claims = json!({"iss": "https://id.example", "aud": "notify", "sub": "ann"});
        let token = self.tell(json!({"do": "token", "kid": kid, "claims": claims})).await;
        json!({"auth": token, "forceNew": true})
    }
}

/// The channel press/vault on `/vault`, for tokens of this issuer, which `egress` lets the gateway ask.
fn vault(issuer: &Issuer, egress: &str) -> Manifests {
    let manifests = Manifests::gateway();
    manifests.write(
        "vault.yaml",
        &format!(
            "apiVersion: aldis.dev/v1alpha1
kind: NotificationChannel
metadata: {{name: vault, namespace: press}}
spec:
  parentRefs: [{{name: shared}}]
  paths: [/vault]
  authentication:
    jwt: [{{name: staff, issuer: \"https://id.example\", audiences: [notify], jwksUri: \"{}/jwks.json\", identity: {{user: claims.sub}}}}]
",
            issuer.url
        ),
    );
    manifests.grant(&format!("egress: [\"{egress}\"]"));
    manifests
}

/// Requests for its keys, by result.
async fn fetches(gateway: &Gateway, result: &str) -> f64 {
    let series = format!("aldis_jwks_fetches_total{{namespace=\"press\",result=\"{result}\"}}");
    gateway.metrics().await.value(&series)
}

async fn connects(node: &Node, gateway: &Gateway, options: &Value) -> Client {
    let client = node.begin("4.8", &gateway.url("/vault"), options).await;
    client.wait("it is let in", |seen| !seen.connects.is_empty()).await;
    assert_eq!(client.seen().connect_errors, [] as [Value; 0], "it was never refused");
    client
}

#[tokio::test]
async fn clients_get_in_by_the_keys_of_their_issuer_through_a_rotation_and_while_it_is_away() {
    let mut issuer = Issuer::start(None).await;
    issuer.key("first").await;
    let manifests = vault(&issuer, &issuer.url);
    let gateway = Gateway::start(&manifests.path(), None).await;
    let node = Node::start();
    let first = issuer.token("first").await;
    let stays = connects(&node, &gateway, &first).await;

    issuer.key("second").await;
    issuer.tell(json!({"do": "withdraw", "kid": "first"})).await;
    let second = issuer.token("second").await;
    connects(&node, &gateway, &second).await;
    let withdrawn = node.connect_as("4.8", &gateway.url("/vault"), &first).await;
    let refused = withdrawn.err().expect("a key that is withdrawn lets nobody in");
    assert_eq!(refused["data"]["code"], "token_invalid");

    // Away: who was in stays, who needs the keys at hand gets in, who needs another waits, and is not refused.
    issuer.tell(json!({"do": "leave"})).await;
    connects(&node, &gateway, &second).await;
    issuer.key("third").await;
    let third = issuer.token("third").await;
    let waits = node.begin("4.8", &gateway.url("/vault"), &third).await;
    crate::deadline::until_equal("its keys were asked for in vain", true, async || {
        fetches(&gateway, "unreachable").await > 0.0
    })
    .await;
    assert!(waits.seen().connects.is_empty());
    issuer.tell(json!({"do": "return"})).await;
    waits.wait("it is in", |seen| !seen.connects.is_empty()).await;
    assert_eq!(waits.seen().connect_errors, [] as [Value; 0]);
    assert!(stays.seen().disconnects.is_empty());
}

#[tokio::test]
async fn an_issuer_over_https_is_asked_where_its_authority_is_trusted_and_its_address_granted() {
    let (ours, others) = (Authority::new(), Authority::new());
    let mut issuer = Issuer::start(Some(ours.certificate())).await;
    issuer.key("first").await;
    let token = issuer.token("first").await;
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start();
    for (egress, authority, result) in [
        ("127.0.0.0/8", &ours, "ok"),
        ("127.0.0.0/8", &others, "unreachable"),
        ("192.0.2.0/24", &ours, "denied"),
    ] {
        let bundle = dir.path().join("ca.pem");
        std::fs::write(&bundle, &authority.pem).unwrap();
        let manifests = vault(&issuer, egress);
        let gateway = Gateway::start_trusting(&manifests.path(), &bundle).await;
        let client = node.begin("4.8", &gateway.url("/vault"), &token).await;
        crate::deadline::until_equal(result, true, async || fetches(&gateway, result).await > 0.0).await;
        if result == "ok" {
            client.wait("it is in", |seen| !seen.connects.is_empty()).await;
        }
        assert_eq!(
            client.seen().connect_errors,
            [] as [Value; 0],
            "{result}: it is not refused for good"
        );
        assert_eq!(client.seen().connects.is_empty(), result != "ok", "{result}");
    }
}
