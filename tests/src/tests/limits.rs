//! What a tenant, a user, an address or a client may use at most: who is above it is told so or comes back, nobody else notices.

use aldis_gateway::sabotage::Rule;
use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::manifests::Manifests;
use crate::node::{Client, Node};

mod beside;
mod connections;
mod deliveries;
mod events;
mod expiry;

/// Writes a channel TENANT/news on `/TENANT` that reads these topics. Anybody may `join` `{room}`, where a record `{room, n}` goes as
/// `news`, and POST such a one to `/TENANT/news`.
fn write_channel(manifests: &Manifests, tenant: &str, topics: &[&str]) {
    let topics = topics.join(", ");
    manifests.write(
        &format!("{tenant}.yaml"),
        &format!(
            "apiVersion: aldis.dev/v1alpha1
kind: NotificationChannel
metadata: {{name: news, namespace: {tenant}}}
spec:
  parentRefs: [{{name: shared, namespace: press}}]
  paths: [/{tenant}]
  authentication: {{anonymous: {{}}}}
  sources: [{{name: news, kafka: {{topics: [{topics}]}}, type: news}}]
  rooms: [{{name: room, key: \"room:{{room}}\", join: {{event: join, with: {{room: args.room}}}}, allow: \"true\"}}]
  routes:
  - types: [news]
    emit: [{{event: news, payload: \"{{event.data.n}}\", to: [{{room: room, with: {{room: event.data.room}}}}]}}]
  http:
  - {{method: POST, path: /{tenant}/news, allow: \"true\", publish: {{type: news, data: \"{{body}}\"}}, respond: {{code: 202}}}}
"
        ),
    );
}

/// What a client has received of `news`.
fn numbers(client: &Client) -> Vec<u64> {
    let events = client.seen().events;
    let news = events.iter().filter(|event| event.name == "news");
    news.map(|event| event.payload().as_u64().unwrap()).collect()
}

/// Options of a stock client with this transport, on a connection of its own.
fn by(transport: &str) -> Value {
    json!({"transports": [transport], "forceNew": true, "reconnectionDelay": 100, "reconnectionDelayMax": 500})
}
