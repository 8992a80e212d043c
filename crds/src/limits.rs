//! Limits: what a tenant, or one of its channels, may use at most.
//!
//! A gateway grants them to a tenant, a channel may name lower ones; [`ResolvedLimits`] are what then counts, as numbers.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What a tenant or a channel may use at most. What is absent has its default ([`ResolvedLimits::default`]).
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// Clients that are connected at once. Default 100000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub connections: Option<u32>,
    /// Clients of one user of a channel that are connected at once; those without a user count by address alone. Default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub connections_per_user: Option<u32>,
    /// Clients from one address (IPv6: from one /64) that are connected at once. Default 10000. Behind a proxy that the
    /// listener does not name in `trustedProxies`, all clients have the proxy's address.
    #[serde(default, rename = "connectionsPerIP", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub connections_per_ip: Option<u32>,
    /// Deliveries that are made each second, whoever gets them. Default 100000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub deliveries_per_second: Option<u32>,
    /// Events that one client may send each second. Default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub client_events_per_second: Option<u32>,
    /// Rooms that have clients at once. Default 100000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub rooms: Option<u32>,
    /// Rooms that one client may be in. Default 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub rooms_per_connection: Option<u32>,
    /// Bytes of payloads that are kept for clients that come back. Default 256Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 11), regex(pattern = r"^[1-9][0-9]{0,8}(k|M|G|Ki|Mi|Gi)?$"))]
    pub history_bytes: Option<String>,
    /// For how long they are kept, whatever `history.ttl` says: seconds, minutes or hours, 24h at most. Default 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 8), regex(pattern = r"^[1-9][0-9]{0,5}[smh]$"))]
    pub history_ttl: Option<String>,
    /// Bytes of one event from a client. The listener's own bound counts too. Default 100k.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 11), regex(pattern = r"^[1-9][0-9]{0,8}(k|M|G|Ki|Mi|Gi)?$"))]
    pub max_payload: Option<String>,
}

impl Limits {
    pub(crate) fn say_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// [`Limits`] in force: numbers, all of them there.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct ResolvedLimits {
    /// Clients at once.
    pub connections: u32,
    /// Clients of one user of a channel at once.
    pub connections_per_user: u32,
    /// Clients from one address at once.
    #[serde(rename = "connectionsPerIP")]
    pub connections_per_ip: u32,
    /// Deliveries each second.
    pub deliveries_per_second: u32,
    /// Events of one client each second.
    pub client_events_per_second: u32,
    /// Rooms with clients at once.
    pub rooms: u32,
    /// Rooms of one client.
    pub rooms_per_connection: u32,
    /// Bytes of payloads in history.
    pub history_bytes: u64,
    /// Age of history, in ms.
    pub history_ttl_ms: i64,
    /// Bytes of one event from a client.
    pub max_payload: u64,
}

/// Where nobody has said anything: enough for all but the largest tenants, and little enough that one of them alone does not
/// take a replica down.
impl Default for ResolvedLimits {
    fn default() -> Self {
        Self {
            connections: 100_000,
            connections_per_user: 100,
            connections_per_ip: 10_000,
            deliveries_per_second: 100_000,
            client_events_per_second: 100,
            rooms: 100_000,
            rooms_per_connection: 1_000,
            history_bytes: 256 << 20,
            history_ttl_ms: MAX_TTL_MS,
            max_payload: 100_000,
        }
    }
}

impl ResolvedLimits {
    pub(crate) fn are_default(&self) -> bool {
        *self == Self::default()
    }

    /// What a gateway grants with `limits`: the default is replaced, upwards too.
    pub fn granted(limits: &Limits) -> Self {
        let default = Self::default();
        let bytes = |declared: &Option<String>, default| declared.as_deref().map_or(default, bytes);
        Self {
            connections: limits.connections.unwrap_or(default.connections),
            connections_per_user: limits.connections_per_user.unwrap_or(default.connections_per_user),
            connections_per_ip: limits.connections_per_ip.unwrap_or(default.connections_per_ip),
            deliveries_per_second: limits.deliveries_per_second.unwrap_or(default.deliveries_per_second),
            client_events_per_second: limits
                .client_events_per_second
                .unwrap_or(default.client_events_per_second),
            rooms: limits.rooms.unwrap_or(default.rooms),
            rooms_per_connection: limits.rooms_per_connection.unwrap_or(default.rooms_per_connection),
            history_bytes: bytes(&limits.history_bytes, default.history_bytes),
            history_ttl_ms: limits.history_ttl.as_deref().map_or(default.history_ttl_ms, ttl_ms),
            max_payload: bytes(&limits.max_payload, default.max_payload),
        }
    }

    /// What a channel gets that names `limits` where its tenant has these: never more.
    #[must_use]
    pub fn within(&self, limits: &Limits) -> Self {
        let Self {
            connections,
            connections_per_user,
            connections_per_ip,
            deliveries_per_second,
            client_events_per_second,
            rooms,
            rooms_per_connection,
            history_bytes,
            history_ttl_ms,
            max_payload,
        } = *self;
        let least = |granted: u32, wanted: Option<u32>| granted.min(wanted.unwrap_or(granted));
        let least_bytes = |granted: u64, wanted: &Option<String>| granted.min(wanted.as_deref().map_or(granted, bytes));
        let wanted_ttl = limits.history_ttl.as_deref().map_or(history_ttl_ms, ttl_ms);
        Self {
            connections: least(connections, limits.connections),
            connections_per_user: least(connections_per_user, limits.connections_per_user),
            connections_per_ip: least(connections_per_ip, limits.connections_per_ip),
            deliveries_per_second: least(deliveries_per_second, limits.deliveries_per_second),
            client_events_per_second: least(client_events_per_second, limits.client_events_per_second),
            rooms: least(rooms, limits.rooms),
            rooms_per_connection: least(rooms_per_connection, limits.rooms_per_connection),
            history_bytes: least_bytes(history_bytes, &limits.history_bytes),
            history_ttl_ms: history_ttl_ms.min(wanted_ttl),
            max_payload: least_bytes(max_payload, &limits.max_payload),
        }
    }
}

/// No history is older: 24 hours.
const MAX_TTL_MS: i64 = 24 * 3_600_000;

/// `30s`, `10m` or `1h` in milliseconds, 24 hours at most; 0 for anything else, which the schema refuses.
pub(crate) fn ttl_ms(text: &str) -> i64 {
    let units = [("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
    amount(text, &units).map_or(0, |ms| MAX_TTL_MS.min(i64::try_from(ms).unwrap_or(MAX_TTL_MS)))
}

/// A quantity as Kubernetes writes it (`64Ki`, `1M`, `1000`) in bytes; 0 for anything else, which the schema refuses.
pub fn bytes(text: &str) -> u64 {
    let units = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("", 1),
    ];
    amount(text, &units).unwrap_or(0)
}

/// A number and its unit, multiplied; at most `u64::MAX`.
fn amount(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    Some(number.parse::<u64>().ok()?.saturating_mul(*factor))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn limits(declared: Value) -> Limits {
        serde_json::from_value(declared).unwrap()
    }

    #[test]
    fn quantities_are_those_of_kubernetes() {
        for (text, expected) in [
            ("1", 1),
            ("100k", 100_000),
            ("64Ki", 65_536),
            ("1Mi", 1 << 20),
            ("2G", 2_000_000_000),
            ("999999999Gi", 999_999_999 << 30),
            ("", 0),
            ("Ki", 0),
            ("1Ti", 0),
            ("-1", 0),
            ("1 ", 0),
            ("99999999999999999999", 0),
            ("é", 0),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
        for (text, expected) in [
            ("1s", 1_000),
            ("10m", 600_000),
            ("1h", 3_600_000),
            ("25h", MAX_TTL_MS),
            ("999999h", MAX_TTL_MS),
            ("10", 0),
            ("m", 0),
            ("", 0),
            ("é", 0),
        ] {
            assert_eq!(ttl_ms(text), expected, "{text}");
        }
    }

    #[test]
    fn a_grant_replaces_defaults_and_a_channel_only_lowers_what_is_granted() {
        let default = ResolvedLimits::default();
        assert_eq!(ResolvedLimits::granted(&Limits::default()), default);
        let declared = limits(json!({
            "connections": 200_000, "connectionsPerUser": 5, "connectionsPerIP": 200, "deliveriesPerSecond": 5000,
            "clientEventsPerSecond": 20, "rooms": 200_000, "roomsPerConnection": 50, "historyBytes": "1Gi", "historyTtl": "1h",
            "maxPayload": "64Ki"
        }));
        let granted = ResolvedLimits::granted(&declared);
        assert_eq!(
            (granted.connections, granted.rooms, granted.history_bytes),
            (200_000, 200_000, 1 << 30)
        );
        assert_eq!((granted.history_ttl_ms, granted.max_payload), (3_600_000, 65_536));
        assert_eq!(granted.within(&Limits::default()), granted);
        let lower = limits(json!({
            "connections": 1, "connectionsPerUser": 1, "connectionsPerIP": 1, "deliveriesPerSecond": 1,
            "clientEventsPerSecond": 1, "rooms": 1, "roomsPerConnection": 1, "historyBytes": "1", "historyTtl": "1s", "maxPayload": "1"
        }));
        assert_eq!(granted.within(&lower), ResolvedLimits::granted(&lower));
        // What asks for more gets what is granted.
        assert_eq!(
            ResolvedLimits::granted(&lower).within(&declared),
            ResolvedLimits::granted(&lower)
        );
    }
}
