//! Who is connected, asked for over the socket.

use serde_json::json;

use crate::gateway::Gateway;
use crate::manifests::Manifests;
use crate::node::Node;

#[tokio::test]
async fn a_client_that_may_is_told_over_the_socket_who_is_there() {
    let manifests = Manifests::gateway();
    manifests.write(
        "news.yaml",
        "apiVersion: aldis.dev/v1alpha1
kind: NotificationChannel
metadata: {name: news, namespace: press}
spec:
  parentRefs: [{name: shared}]
  paths: [/news]
  authentication: {query: {required: [user], identity: {user: query.user}}}
  rooms: [{name: room, key: \"room:{room}\", join: {event: join, with: {room: args.room}}, allow: \"true\"}]
  replies:
  - {event: \"request:stats\", emit: {event: stats, payload: \"{stats}\"}, ack: \"{stats.connections}\", allow: identity.user == 'ann'}
",
    );
    let gateway = Gateway::start(&manifests.path(), None).await;
    let node = Node::start();
    let connect = async |user: &str| {
        node.connect(&gateway.url("/news"), json!({"query": {"user": user}}))
            .await
    };
    let (ann, bob, _also_bob) = (connect("ann").await, connect("bob").await, connect("bob").await);
    bob.join("join", json!({"room": "a"})).await;
    assert_eq!(ann.ask("request:stats", json!([])).await, 3);
    let told = ann.event("stats").await;
    assert_eq!(
        told.args,
        [json!({
            "connections": 3,
            "uniqueUsers": 2,
            "users": [{"user": "ann", "connections": 1}, {"user": "bob", "connections": 2}],
            "roomCount": 1,
            "rooms": [{"name": "room:a", "members": 1}],
            "replicas": {"answered": 1, "of": 1},
        })]
    );
    assert_eq!(bob.ask("request:stats", json!([])).await["code"], "denied");
}
