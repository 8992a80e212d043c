//! A listener: one Socket.IO server on a port of the gateway, and what it asks of those who connect.

use std::ops::RangeInclusive;
use std::time::Duration;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::Expose;
use crate::schema;

/// Longest message from a client where a listener says nothing, in bytes. 100 kB: joins are short, and replies to what is
/// longer would pile up.
const MAX_PAYLOAD: usize = 100_000;
/// Engine.IO's own defaults.
const PING_INTERVAL: Duration = Duration::from_secs(25);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// What heartbeats and time-outs may be, 100 ms to 5 min. Shorter ones take a busy network for one that is gone, longer ones
/// outlive every proxy.
const TIME_SPANS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(300);
/// Socket.IO's own default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(45);

/// One Socket.IO server.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listener {
    /// Channels name it in `parentRefs[].sectionName`.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// TCP port. Each listener has its own: two host names need two listeners, or one with a wildcard.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// The host that requests must name, exactly or as `*.suffix` (any number of labels in place of the star); another is
    /// answered 404. Default: any host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub hostname: Option<String>,
    /// TLS, ended by the gateway. Default: none; something in front ends it, or nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Which web pages may connect. Default: those that come from the host that they connect to. Clients that are no
    /// browsers name no origin and are let in whatever this says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// How clients are found to be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Heartbeat>,
    /// How clients may connect. Default: both, which stock clients begin with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2))]
    #[x_kube(validation = ("self.all(t, self.exists_one(o, o == t))", "list each transport once"))]
    pub transports: Option<Vec<Transport>>,
    /// How long a connection may be there without a namespace: `ms`, `s` or `m`, from 100ms to 5m. Default 45s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time_span")]
    pub connect_timeout: Option<String>,
    /// Longest message from a client, in bytes: 1Ki to 1Mi, with `k`, `Ki`, `M` or `Mi`. Default 100k.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 9), regex(pattern = r"^[1-9][0-9]{0,6}(k|Ki|M|Mi)?$"))]
    pub max_payload: Option<String>,
    /// Address ranges of the proxies in front. What they say in X-Forwarded-For is believed: a client's address is the
    /// right-most one there that is in no such range. Default: none, and it is the peer's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::address_ranges")]
    pub trusted_proxies: Vec<String>,
    /// How clients outside the cluster reach it. Default: by whatever leads to the Service `aldis-<gateway>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expose: Option<Expose>,
}

/// How a listener ends TLS.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tls {
    /// A Secret of type `kubernetes.io/tls` in the gateway's namespace: `tls.crt` (the chain) and `tls.key`. A new one is
    /// taken up while clients stay connected.
    pub secret_ref: SecretRef,
}

/// A Secret in the gateway's namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// Which web pages may connect.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = ("has(self.allowedOrigins) != (has(self.reflect) && self.reflect)", "name allowedOrigins, or reflect: true, and not both"),
    validation = ("!has(self.allowedOrigins) || !('*' in self.allowedOrigins) || (size(self.allowedOrigins) == 1 && !(has(self.allowCredentials) && self.allowCredentials))", "\"*\" stands alone and without allowCredentials, which browsers refuse with it; reflect: true is what allows any origin with credentials")
)]
pub struct Cors {
    /// Origins of pages, `https://app.example.com`, as browsers send them; or `"*"` alone: any, and without credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::origins")]
    pub allowed_origins: Option<Vec<String>>,
    /// Any origin, answered by its own name: with `allowCredentials` browsers then send cookies too. For development, or where
    /// nothing that a browser adds by itself lets anybody in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reflect: bool,
    /// Whether browsers may send cookies and the like (`withCredentials` of the client).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_credentials: bool,
}

/// Engine.IO's heartbeat. Clients are told when they connect.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Heartbeat {
    /// How often a client is pinged: `ms`, `s` or `m`, from 100ms to 5m. Default 25s; less than the idle time-out of any proxy in
    /// front.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time_span")]
    pub interval: Option<String>,
    /// How long its answer may take: as `interval`. Default 20s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time_span")]
    pub timeout: Option<String>,
}

/// How Engine.IO carries packets.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// HTTP long polling.
    Polling,
    /// WebSocket.
    Websocket,
}

impl Transport {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Polling, Self::Websocket];

    /// As requests name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Polling => "polling",
            Self::Websocket => "websocket",
        }
    }
}

/// What a listener's Engine.IO is built with; a change begins a new server on the same port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineSettings {
    /// How often a client is pinged.
    pub ping_interval: Duration,
    /// How long its answer may take.
    pub ping_timeout: Duration,
    /// How long a connection may be there without a namespace.
    pub connect_timeout: Duration,
    /// Longest message from a client, in bytes.
    pub max_payload: usize,
    /// How clients may connect: at least one.
    pub transports: Vec<Transport>,
}

/// A field of a listener that says nothing that can be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadField {
    /// Path below the listener: `heartbeat.interval`.
    pub field: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Listener {
    /// The settings in numbers, with the defaults.
    ///
    /// # Errors
    /// Every field that is wrong. A schema refuses most of it before.
    pub fn engine_settings(&self) -> Result<EngineSettings, Vec<BadField>> {
        let mut bad = Vec::new();
        let mut span = |field, text: &Option<String>, default| match text.as_deref().map(time_span) {
            None => default,
            Some(Some(span)) => span,
            Some(None) => {
                let message = "write a time from 100ms to 5m, such as 25s".to_owned();
                bad.push(BadField { field, message });
                default
            }
        };
        let heartbeat = self.heartbeat.clone().unwrap_or_default();
        let ping_interval = span("heartbeat.interval", &heartbeat.interval, PING_INTERVAL);
        let ping_timeout = span("heartbeat.timeout", &heartbeat.timeout, PING_TIMEOUT);
        let connect_timeout = span("connectTimeout", &self.connect_timeout, CONNECT_TIMEOUT);
        let max_payload = match self.max_payload.as_deref().map(payload) {
            None => MAX_PAYLOAD,
            Some(Some(bytes)) => bytes,
            Some(None) => {
                let message = "write a number of bytes from 1Ki to 1Mi, such as 100k".to_owned();
                bad.push(BadField {
                    field: "maxPayload",
                    message,
                });
                MAX_PAYLOAD
            }
        };
        let wanted = self.transports.as_deref().unwrap_or(&Transport::ALL);
        if wanted.is_empty() {
            bad.push(BadField {
                field: "transports",
                message: "name polling, websocket or both; nobody could connect".to_owned(),
            });
        }
        let transports = Transport::ALL
            .into_iter()
            .filter(|transport| wanted.contains(transport))
            .collect();
        match bad.is_empty() {
            true => Ok(EngineSettings {
                ping_interval,
                ping_timeout,
                connect_timeout,
                max_payload,
                transports,
            }),
            false => Err(bad),
        }
    }
}

/// `1500ms`, `25s`, `2m`: within [`TIME_SPANS`].
fn time_span(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let span = match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60)?),
        _ => return None,
    };
    TIME_SPANS.contains(&span).then_some(span)
}

/// `100k`, `1Mi`: from 1 KiB to 1 MiB. What a client sends at once is kept whole in memory, and may come back as a reply.
fn payload(text: &str) -> Option<usize> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "" => 1,
        "k" => 1_000,
        "Ki" => 1 << 10,
        "M" => 1_000_000,
        "Mi" => 1 << 20,
        _ => return None,
    };
    let bytes = number.parse::<usize>().ok()?.checked_mul(unit)?;
    (1 << 10..=1 << 20).contains(&bytes).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_listener_leaves_out_has_engine_ios_defaults() {
        let listener: Listener = serde_json::from_str(r#"{"name": "web", "port": 3000}"#).unwrap();
        assert_eq!(
            listener.engine_settings(),
            Ok(EngineSettings {
                ping_interval: Duration::from_secs(25),
                ping_timeout: Duration::from_secs(20),
                connect_timeout: Duration::from_secs(45),
                max_payload: 100_000,
                transports: Transport::ALL.to_vec(),
            })
        );
        // And is left out again: a gateway of the last version reads what it knows.
        assert_eq!(
            serde_json::to_string(&listener).unwrap(),
            r#"{"name":"web","port":3000}"#
        );
    }

    #[test]
    fn times_and_sizes_are_read_within_their_bounds() {
        for (text, ms) in [("100ms", 100), ("1s", 1_000), ("1500ms", 1_500), ("5m", 300_000)] {
            assert_eq!(time_span(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "25", "99ms", "6m", "1h", "99999999999999999999s", "-1s"] {
            assert_eq!(time_span(text), None, "{text}");
        }
        for (text, bytes) in [
            ("1Ki", 1_024),
            ("100k", 100_000),
            ("1M", 1_000_000),
            ("1Mi", 1_048_576),
            ("4096", 4_096),
        ] {
            assert_eq!(payload(text), Some(bytes), "{text}");
        }
        for text in ["", "Mi", "1023", "2Mi", "1Gi", "99999999999999999999Mi"] {
            assert_eq!(payload(text), None, "{text}");
        }
    }

    #[test]
    fn every_bad_field_is_told_at_once() {
        let listener: Listener = serde_json::from_str(
            r#"{"name": "web", "port": 3000, "heartbeat": {"interval": "1h", "timeout": "0s"}, "connectTimeout": "x", "maxPayload": "1Gi", "transports": []}"#,
        )
        .unwrap();
        let fields: Vec<_> = listener
            .engine_settings()
            .unwrap_err()
            .into_iter()
            .map(|bad| bad.field)
            .collect();
        assert_eq!(
            fields,
            [
                "heartbeat.interval",
                "heartbeat.timeout",
                "connectTimeout",
                "maxPayload",
                "transports"
            ]
        );
    }
}
