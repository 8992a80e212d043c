//! Stock Socket.IO clients, of the versions and with the transports that people have.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::gateway::{Gateway, aldis};
use crate::kafka::{make_topic, shared};
use crate::manifests::Manifests;
use crate::node::{Node, position};
use crate::records::Producer;

/// How a client gets to its transport.
#[derive(Clone, Copy)]
enum Transport {
    WebSocket,
    Polling,
    /// The default: polling, then an upgrade.
    Upgrade,
}

impl Transport {
    fn options(self) -> Value {
        match self {
            Transport::WebSocket => json!({"transports": ["websocket"]}),
            Transport::Polling => json!({"transports": ["polling"]}),
            Transport::Upgrade => json!({}),
        }
    }

    /// Those that the client goes through.
    fn all(self) -> &'static [&'static str] {
        match self {
            Transport::WebSocket => &["websocket"],
            Transport::Polling => &["polling"],
            Transport::Upgrade => &["polling", "websocket"],
        }
    }
}

/// Everything that a client can do, in one sitting.
async fn speaks(library: &str, transport: Transport) {
    let kafka = shared().await;
    let manifests = Manifests::bistro();
    make_topic(&kafka.address(), &manifests.topic, 4, &[]).await;
    let gateway = Gateway::start(&manifests.path(), Some(&kafka.address())).await;
    let producer = Producer::to(&kafka.address());
    let node = Node::start();

    let mut options = transport.options();
    options["query"] = json!({"user_id": "ann", "tenant_id": "t1", "type": "staff"});
    let client = node.connect_as(library, &gateway.url("/"), &options).await.unwrap();
    let transports = transport.all();
    client
        .wait("its transports", |seen| seen.transports.len() >= transports.len())
        .await;
    assert_eq!(
        client.event("connection:established").await.args,
        [json!({"socketId": client.connected().id})]
    );

    let joined = client.ask("subscribe:orders", json!([{"tenant_id": "t1"}])).await;
    let (epoch, from) = position(&joined["position"]);
    assert_eq!(
        joined,
        json!({"ok": true, "room": "orders:t1", "position": format!("{epoch}:{from}")})
    );
    client.join("subscribe:kitchen", json!({"tenant_id": "t1"})).await;
    let denied = client.ask("subscribe:orders", json!([{"tenant_id": "t2"}])).await;
    assert_eq!(
        denied,
        json!({"ok": false, "code": "denied", "message": "you may not join this room"})
    );
    let invalid = client.ask("subscribe:orders", json!([])).await;
    assert_eq!(
        (&invalid["ok"], &invalid["code"]),
        (&json!(false), &json!("invalid_room"))
    );
    let unknown = client.ask("subscribe:everything", json!([])).await;
    assert_eq!(
        (&unknown["ok"], &unknown["code"]),
        (&json!(false), &json!("unknown_event"))
    );

    assert_eq!(client.ask("ping", json!([])).await, json!({"ok": true}));
    let pong = client.event("pong").await;
    assert!(
        pong.args[0]["timestamp"]
            .as_str()
            .is_some_and(|time| time.ends_with('Z')),
        "{pong:?}"
    );

    let created = |order: u32| json!({"event_type": "order.created", "data": {"order_id": order, "tenant_id": "t1", "note": "Crème brûlée 🍮"}});
    producer.json(&manifests.topic, 0, &created(1)).await;
    let event = client.event("order:created").await;
    let payload = event.payload();
    assert_eq!(payload["eventType"], "order.created");
    assert_eq!(payload["data"], created(1)["data"]);
    assert!(payload["timestamp"].is_string());
    assert_eq!(event.position(), (epoch.clone(), from + 1));
    assert_eq!(
        client.event("kitchen:order_received").await.position(),
        (epoch, from + 2)
    );

    let left = client.ask("unsubscribe:orders", json!([{"tenant_id": "t1"}])).await;
    assert_eq!((&left["ok"], &left["room"]), (&json!(true), &json!("orders:t1")));
    producer.json(&manifests.topic, 0, &created(2)).await;
    // The kitchen's event of the same record comes after the one that must not come.
    let after_leaving = client
        .until("the kitchen's second", |seen| seen.events.len() >= 5)
        .await;
    let names = after_leaving.names();
    assert_eq!(
        names,
        [
            "connection:established",
            "pong",
            "order:created",
            "kitchen:order_received",
            "kitchen:order_received"
        ]
    );
    assert_eq!(after_leaving.transports, transports);
    client.disconnect().await;
    gateway
        .wait_for_metric("aldis_connections{channel=\"bistro/orders\"}", 0.0)
        .await;
}

macro_rules! matrix {
    ($($name:ident: $library:literal, $transport:ident;)*) => {
        $(#[tokio::test]
        async fn $name() {
            speaks($library, Transport::$transport).await;
        })*
    };
}

matrix! {
    client_4_7_connects_joins_receives_and_leaves_over_websocket: "4.7", WebSocket;
    client_4_7_connects_joins_receives_and_leaves_over_polling: "4.7", Polling;
    client_4_7_connects_joins_receives_and_leaves_through_an_upgrade: "4.7", Upgrade;
    client_4_8_connects_joins_receives_and_leaves_over_websocket: "4.8", WebSocket;
    client_4_8_connects_joins_receives_and_leaves_over_polling: "4.8", Polling;
    client_4_8_connects_joins_receives_and_leaves_through_an_upgrade: "4.8", Upgrade;
}

#[tokio::test]
async fn two_namespaces_share_a_connection_and_keep_their_events_apart() {
    let manifests = Manifests::bistro();
    let gateway = Gateway::start(&manifests.path(), None).await;
    let node = Node::start();
    for library in ["4.7", "4.8"] {
        let token = gateway.channel("bistro/kitchen").token.clone().unwrap();
        let options =
            json!({"query": {"user_id": "ann", "tenant_id": "tenant-456", "type": "staff"}, "auth": {"token": token}});
        let orders = node.connect_as(library, &gateway.url("/"), &options).await.unwrap();
        let kitchen = node
            .connect_as(library, &gateway.url("/kitchen/display"), &options)
            .await
            .unwrap();
        assert_eq!(orders.connected().engine, kitchen.connected().engine, "one connection");
        orders
            .join("subscribe:kitchen", json!({"tenant_id": "tenant-456"}))
            .await;

        let record =
            json!({"event_type": "order.created", "data": {"order_id": 1, "tenant_id": "tenant-456", "items": []}});
        Producer::to(gateway.broker()).json(&manifests.topic, 0, &record).await;
        kitchen.event("kitchen:ticket").await;
        orders.event("kitchen:order_received").await;
        assert_eq!(kitchen.seen().names(), ["kitchen:ticket"]);
        assert_eq!(
            orders.seen().names(),
            ["connection:established", "kitchen:order_received"]
        );

        kitchen.disconnect().await;
        assert_eq!(
            orders.ask("ping", json!([])).await,
            json!({"ok": true}),
            "the other goes on"
        );
        orders.disconnect().await;
    }
}

#[tokio::test]
async fn refusals_are_connect_errors_with_their_exact_texts() {
    let manifests = Manifests::bistro();
    manifests.write(
        "query.yaml",
        "apiVersion: aldis.dev/v1alpha1
kind: NotificationChannel
metadata: {name: query, namespace: bistro}
spec:
  parentRefs: [{name: shared}]
  paths: [/query]
  authentication: {query: {required: [user_id, tenant_id], identity: {user: query.user_id}}}
",
    );
    let gateway = Gateway::start(&manifests.path(), None).await;
    let node = Node::start();
    let refused = async |library: &str, path: &str, options: &Value| {
        let error = node.connect_as(library, &gateway.url(path), options).await.err();
        let error = error.unwrap_or_else(|| panic!("{path} let in {options}"));
        assert_eq!(
            error["active"], false,
            "a stock client does not try again by itself: {error}"
        );
        error["message"].as_str().unwrap().to_owned()
    };
    let with = |token: &Value| json!({"auth": {"token": token}, "forceNew": true});
    let expired = issue("only-for-a-first-try", &["--claim", "exp=1000000000"]).await;
    let forged = issue("another-secret", &[]).await;
    let other_algorithm = issue("only-for-a-first-try", &["--algorithm", "HS512"]).await;
    for library in ["4.7", "4.8"] {
        for absent in [
            json!({"forceNew": true}),
            with(&json!("")),
            with(&Value::Null),
            json!({"auth": {}, "forceNew": true}),
        ] {
            assert_eq!(
                refused(library, "/kitchen/display", &absent).await,
                "Authentication token required",
                "{absent}"
            );
        }
        for bad in [&expired, &forged, &other_algorithm, "x", "a.b.c"] {
            assert_eq!(
                refused(library, "/kitchen/display", &with(&json!(bad))).await,
                "Invalid authentication token",
                "{bad}"
            );
        }
        assert_eq!(
            refused(library, "/nowhere", &json!({"forceNew": true})).await,
            "Invalid namespace"
        );
        let incomplete = json!({"query": {"user_id": "ann"}, "forceNew": true});
        assert_eq!(
            refused(library, "/query", &incomplete).await,
            "Query field tenant_id required"
        );
    }
    let good = issue("only-for-a-first-try", &["--claim", "role=kitchen"]).await;
    node.connect(&gateway.url("/kitchen/display"), with(&json!(good))).await;
    let refusals = gateway.metrics().await;
    let count = |code: &str| {
        refusals.value(&format!(
            "aldis_connects_total{{channel=\"bistro/kitchen\",outcome=\"{code}\"}}"
        ))
    };
    assert_eq!(
        (
            count("token_required"),
            count("token_invalid"),
            count("token_expired"),
            count("accepted")
        ),
        (8.0, 8.0, 2.0, 1.0)
    );
}

/// A token, by `aldis token`.
pub(super) async fn issue(secret: &str, args: &[&str]) -> String {
    let mut command = Command::new(aldis());
    command
        .arg("token")
        .args(["--claim", "sub=ann", "--claim", "tenant_id=t1"])
        .args(args);
    let output = command
        .env("ALDIS_SECRET", secret)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
