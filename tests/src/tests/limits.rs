//! What a tenant, a user, an address or a client may use at most: who is above it is told so or comes back, nobody else notices.

use aldis_gateway::sabotage::Rule;
use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::manifests::Manifests;
use crate::node::Node;

mod connections;

/// Options of a stock client with this transport, on a connection of its own.
fn by(transport: &str) -> Value {
    json!({"transports": [transport], "forceNew": true, "reconnectionDelay": 100, "reconnectionDelayMax": 500})
}
