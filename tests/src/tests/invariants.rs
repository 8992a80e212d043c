//! What must always hold, where one test can try all of it at once. Others of these are where they belong: 2 and 3 with the
//! recoveries, 4 with the poison, 5 with the changes of configuration.

use serde_json::{Value, json};
use tokio::process::Command;

use crate::gateway::{Gateway, aldis};
use crate::hostile::Witness;
use crate::manifests::Manifests;
use crate::node::{Client, Node};
use crate::raw::{FIN, Raw, Server, TEXT, frame};
use crate::records::Producer;
use crate::request::request;

/// The secret of a namespace's tokens.
fn secret(namespace: &str) -> String {
    format!("a secret that only {namespace} knows")
}

/// A channel NAMESPACE/NAME on `/NAMESPACE/NAME`, for tokens of its namespace. Its rooms are called like those of all others; a
/// record of `topic` goes to room `{room}` as an event that is called as the channel.
fn channel(manifests: &Manifests, namespace: &str, name: &str) {
    manifests.write(
        &format!("{namespace}-{name}.yaml"),
        &format!(
            "apiVersion: aldis.dev/v1alpha1
kind: NotificationChannel
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  parentRefs: [{{name: shared, namespace: press}}]
  paths: [/{namespace}/{name}]
  authentication: {{jwt: [{{name: staff, secretRef: {{name: jwt, key: secret}}, algorithms: [HS256], identity: {{user: claims.sub}}}}]}}
  sources: [{{name: all, kafka: {{topics: [{topic}]}}, type: \"{{body.type}}\", where: \"body.to == '{namespace}/{name}'\", data: \"{{body}}\"}}]
  rooms: [{{name: room, key: \"room:{{room}}\", join: {{event: join, with: {{room: args.room}}}}, allow: \"true\"}}]
  routes:
  - types: [news]
    emit: [{{event: \"{namespace}/{name}\", payload: \"{{event.data.n}}\", to: [{{room: room, with: {{room: event.data.room}}}}]}}]
",
            topic = manifests.topic
        ),
    );
}

/// A namespace's key, for all of its channels, and a token by it.
async fn token(manifests: &Manifests, namespace: &str) -> String {
    manifests.write(
        &format!("{namespace}.yaml"),
        &format!(
            "apiVersion: v1
kind: Secret
metadata: {{name: jwt, namespace: {namespace}, labels: {{aldis.dev/use: channel}}}}
stringData: {{secret: \"{}\"}}
",
            secret(namespace)
        ),
    );
    let mut command = Command::new(aldis());
    command
        .args(["token", "--claim", "sub=ann"])
        .env("ALDIS_SECRET", secret(namespace));
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The rooms that each client joins: those that others are in, called as the others' channels call them, and more.
const ROOMS: [&str; 6] = ["a", "room:a", "press/news:a", "other/news:a", "../a", "*"];

#[tokio::test]
async fn invariant_1_no_delivery_crosses_a_channel_by_any_room_token_path_or_pid() {
    let manifests = Manifests::gateway();
    let channels = [("press", "news"), ("press", "second"), ("other", "news")];
    for (namespace, name) in channels {
        channel(&manifests, namespace, name);
    }
    let (press, other) = (token(&manifests, "press").await, token(&manifests, "other").await);
    let gateway = Gateway::start(&manifests.path(), None).await;
    let node = Node::start();
    let token_of = |namespace: &str| if namespace == "press" { &press } else { &other };
    let auth = |token: &str, more: Value| {
        let mut auth = more;
        auth["token"] = json!(token);
        json!({"auth": auth})
    };
    let mut clients: Vec<Client> = Vec::new();
    let mut at = Value::Null;
    for (namespace, name) in channels {
        let url = gateway.url(&format!("/{namespace}/{name}"));
        let client = node.connect(&url, auth(token_of(namespace), json!({}))).await;
        for room in ROOMS {
            at = client.join("join", json!({"room": room})).await["position"].clone();
        }
        clients.push(client);
    }

    // Another's token, and paths that are nearly its own.
    let url = gateway.url("/other/news");
    let options = json!({"auth": {"token": press}, "forceNew": true});
    let refused = node.connect_as("4.8", &url, &options).await.err().unwrap();
    assert_eq!(refused["data"]["code"], "token_invalid");
    for path in [
        "/other",
        "/other/News",
        "/other/news/",
        "/press/../other/news",
        "/other%2Fnews",
    ] {
        let refused = node.connect_as("4.8", &gateway.url(path), &options).await.err();
        assert_eq!(refused.unwrap()["message"], "Invalid namespace", "{path}");
    }
    // Another's session: at another channel of the tenant, and at another tenant's.
    let pid = clients[0].connected().pid;
    let shown = json!({"pid": pid, "offset": at, "joins": [["join", {"room": "a"}]]});
    for (namespace, name) in [("press", "second"), ("other", "news")] {
        let url = gateway.url(&format!("/{namespace}/{name}"));
        let thief = node.connect(&url, auth(token_of(namespace), shown.clone())).await;
        let ready = &thief.until("it is told", |seen| !seen.ready.is_empty()).await.ready[0];
        assert_eq!(
            (thief.connected().recovered, &ready["recovered"]),
            (false, &json!(false)),
            "{ready}"
        );
        clients.push(thief);
    }

    let producer = Producer::to(gateway.broker());
    let mut expected: Vec<Vec<(String, Value)>> = vec![Vec::new(); clients.len()];
    for (n, (namespace, name)) in channels.into_iter().enumerate() {
        let channel = format!("{namespace}/{name}");
        for (m, room) in ROOMS.into_iter().enumerate() {
            let n = json!(10 * n + m);
            let record = json!({"type": "news", "to": channel, "room": room, "n": n});
            producer.json(&manifests.topic, 0, &record).await;
            // Of the thieves, each is a client of a channel, in room a where it asked for it.
            for (expected, has_it) in expected.iter_mut().zip([
                channel == "press/news",
                channel == "press/second",
                channel == "other/news",
                channel == "press/second" && room == "a",
                channel == "other/news" && room == "a",
            ]) {
                if has_it {
                    expected.push((channel.clone(), n.clone()));
                }
            }
        }
    }
    for (client, expected) in clients.iter().zip(&expected) {
        client.events(expected.len()).await;
    }
    // All was sent, so that what is too much would have come.
    let sent: f64 = gateway.metrics().await.all("aldis_sends_total").into_values().sum();
    assert_eq!(sent, expected.iter().map(Vec::len).sum::<usize>() as f64);
    for (client, expected) in clients.iter().zip(expected) {
        let seen = client.seen();
        let got: Vec<_> = seen
            .events
            .iter()
            .map(|event| (event.name.clone(), event.payload().clone()))
            .collect();
        assert_eq!(got, expected);
        assert!(seen.disconnects.is_empty(), "nobody's session was taken");
    }
}

/// How often each kind of bad input is sent.
const TIMES: usize = 500;

/// What `aldis validate` says of a channel with this change.
async fn validated(manifests: &Manifests, from: &str, to: &str) -> String {
    let bad = Manifests::gateway();
    let channel = std::fs::read_to_string(manifests.path().join("target.yaml")).unwrap();
    assert!(channel.contains(from), "{from}");
    bad.write("target.yaml", &channel.replace(from, to));
    let output = Command::new(aldis())
        .arg("validate")
        .arg(bad.path())
        .output()
        .await
        .unwrap();
    assert!(!output.status.success(), "{to} is refused");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn invariant_6_what_is_bad_gets_an_error_that_names_it_and_memory_stays_bounded() {
    let manifests = Manifests::news();
    manifests.channel("target", "hit");
    let channel = std::fs::read_to_string(manifests.path().join("target.yaml")).unwrap();
    let endpoint = "  http:\n  - {method: POST, path: /press/hit, allow: \"true\", require: [body.title], publish: {type: hit, data: \"{body}\"}}\n";
    manifests.write("target.yaml", &format!("{channel}{endpoint}"));
    manifests.channel("door", "opened");
    let channel = std::fs::read_to_string(manifests.path().join("door.yaml")).unwrap();
    let asks = "{query: {required: [user_id], identity: {user: query.user_id}}}";
    manifests.write("door.yaml", &channel.replace("{anonymous: {}}", asks));
    let gateway = Gateway::start_logging(&manifests.path(), None, Some("error")).await;
    let witness = Witness::start(&gateway, &manifests.topic).await;

    // YAML and expressions: the field, by line and column.
    for (from, to, named) in [
        (
            "kind: NotificationChannel",
            "kind: NotificationChannel\nkind: again",
            "target.yaml:3:",
        ),
        ("routes:", "rutes:", "spec.rutes"),
        ("allow: \"true\"", "allow: \"1 +\"", "spec.rooms[0].allow"),
        ("require: [data.room]", "require: [5]", "spec.sources[0].require"),
        ("room:{room}", "room:{rom}", "spec.rooms[0].join.with.room"),
    ] {
        let said = validated(&manifests, from, to).await;
        assert!(said.contains(named), "{named} is not in: {said}");
    }

    let server = Server::of(&gateway);
    let address = server.address.parse().unwrap();
    for _ in 0..TIMES {
        // A body.
        let answer = request(
            address,
            "POST",
            "/press/hit",
            &[("Content-Type", "application/json")],
            "{\"titel\": 1}",
        )
        .await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(answer.body.contains("body.title"), "{answer:?}");
        // What it shows when it connects, a packet, and a frame.
        let mut raw = Raw::connect(&server.address, "/target").await;
        raw.text("40/door,").await.unwrap();
        let answer = raw.until("44/door,").await.expect("it is told");
        assert!(answer.contains("Query field user_id required"), "{answer}");
        raw.text("42/target,7[\"join\"] and more").await.unwrap();
        let answer = raw.until("43/target,7").await.expect("it is acknowledged");
        assert!(answer.contains("malformed_event"), "{answer}");
        raw.bytes(&frame(FIN | 0x70 | TEXT, b"42/target,[\"join\"]", true))
            .await
            .unwrap();
        assert_eq!(raw.until("4").await, None, "it is closed");
        raw.hang_up().await;
    }
    let counted = "aldis_disconnects_total{channel=\"press/target\",reason=\"bad_frame\"}";
    gateway.wait_for_metric(counted, TIMES as f64).await;
    let counted = "aldis_client_events_total{channel=\"press/target\",outcome=\"malformed_event\"}";
    assert_eq!(gateway.metrics().await.value(counted), TIMES as f64);
    witness.has_noticed_nothing(&gateway, 50.0).await;
}
