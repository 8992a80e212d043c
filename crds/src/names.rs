//! Names that are more than strings.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A channel: its namespace (the tenant) and name. Part of every key that leads to a client, so that crossing tenants
/// would need another type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChannelName {
    /// The tenant.
    pub namespace: String,
    /// The channel within it.
    pub name: String,
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Event names that a Socket.IO client keeps for itself (socket.io-client `RESERVED_EVENTS`).
pub const RESERVED_EVENTS: [&str; 6] = [
    "connect",
    "connect_error",
    "disconnect",
    "disconnecting",
    "newListener",
    "removeListener",
];

/// Event names that begin so are the gateway's own.
pub const OWN_EVENTS: &str = "aldis:";

/// Whether a channel may emit or answer an event of this name.
pub fn event_name_is_free(name: &str) -> bool {
    !name.is_empty() && !RESERVED_EVENTS.contains(&name) && !name.starts_with(OWN_EVENTS)
}
