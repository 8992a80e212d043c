//! The page of `aldis dev`: a channel as its clients see it, in a browser.
//!
//! ```text
//! GET  /…            the page, from this program: it needs no network
//! GET  /api/state    channels, how to connect to each, and who is in which room
//! POST /api/records  {topic, key?, value} → Kafka → {topic, partition, offset}
//! ```
//! It hands out tokens and publishes, so it is there for this machine alone: on the loopback interface, under that interface's
//! names (no other name that somebody points here), and without a header that would let pages of other origins read it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aldis_gateway::app::Counts;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaResult;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::about::About;

mod assets;

/// Longest record that the page publishes, with what is around it, in bytes. 1 MB, Kafka's own default for a record.
const MAX_RECORD: usize = 1_000_000;
/// How long Kafka may take for a record. 10 s, as `aldis publish`.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Rooms of a channel that the page lists. 50, those with most clients.
const MAX_ROOMS: usize = 50;

/// The page's port, taken and not yet served.
pub(super) struct Page {
    listener: TcpListener,
    address: SocketAddr,
}

/// What it shows.
pub(super) struct Shows {
    pub(super) dir: PathBuf,
    pub(super) kafka: String,
    pub(super) embedded: bool,
    /// On which address listeners are.
    pub(super) listeners: IpAddr,
    /// Channels in force.
    pub(super) channels: watch::Receiver<Vec<About>>,
    /// Who is there.
    pub(super) counts: Counts,
}

#[derive(Clone)]
struct Serving {
    shows: Arc<Shows>,
    producer: FutureProducer,
    policy: HeaderValue,
}

impl Page {
    /// Takes a port of the loopback interface; 0 is any that is free.
    ///
    /// # Errors
    /// Where it can not be had.
    pub(super) async fn bind(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where to look.
    pub(super) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// The origins that it has in browsers.
    pub(super) fn origins(&self) -> Vec<String> {
        let port = self.address.port();
        NAMES.iter().map(|name| format!("http://{name}:{port}")).collect()
    }

    /// Serves it until the program ends.
    ///
    /// # Errors
    /// Where there can be no producer.
    pub(super) fn serve(self, shows: Shows) -> KafkaResult<()> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &shows.kafka)
            .set("client.id", "aldis-dev-page")
            .set("enable.idempotence", "true")
            .set("linger.ms", "0")
            .set("message.timeout.ms", TIMEOUT.as_millis().to_string())
            .create()?;
        let serving = Serving {
            policy: HeaderValue::try_from(policy(shows.listeners))
                .unwrap_or(HeaderValue::from_static("default-src 'none'")),
            shows: Arc::new(shows),
            producer,
        };
        let router = Router::new()
            .route("/api/state", get(state))
            .route("/api/records", post(publish))
            .fallback(get(async |request: Request| assets::answer(request.uri().path())))
            .layer(DefaultBodyLimit::max(MAX_RECORD))
            .layer(middleware::from_fn_with_state(serving.clone(), guard))
            .with_state(serving);
        tokio::spawn(async move { axum::serve(self.listener, router).await });
        Ok(())
    }
}

/// The names of the loopback interface that browsers know.
const NAMES: [&str; 2] = ["127.0.0.1", "localhost"];

/// The page may run its own scripts and talk to the listeners, on `host`, and nothing else.
fn policy(host: IpAddr) -> String {
    let host = if host.is_unspecified() {
        Ipv4Addr::LOCALHOST.into()
    } else {
        host
    };
    let listeners = ["http", "ws", "https", "wss"].map(|scheme| format!("{scheme}://{host}:*"));
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' {}; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        listeners.join(" ")
    )
}

/// Refuses names and pages that are not its own, and gives every answer the headers that keep the page to itself.
async fn guard(State(serving): State<Serving>, request: Request, next: Next) -> Response {
    let mut response = match is_own(request.headers()) {
        true => next.run(request).await,
        false => (
            StatusCode::FORBIDDEN,
            "this page is for this machine alone: http://127.0.0.1\n",
        )
            .into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, serving.policy);
    let fixed: [(HeaderName, &'static str); 4] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether a request names the loopback interface, and comes from no other page.
fn is_own(headers: &HeaderMap) -> bool {
    let is_ours = |authority: &str| {
        let name = authority.rsplit_once(':').map_or(authority, |(name, _)| name);
        NAMES.contains(&name)
    };
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(header::HOST);
    let same = |origin: &str| origin.strip_prefix("http://") == host;
    host.is_some_and(is_ours) && text(header::ORIGIN).is_none_or(same)
}

async fn state(State(Serving { shows, .. }): State<Serving>) -> Json<Value> {
    let channels = shows.channels.borrow().clone();
    let channels = channels.into_iter().map(|about| {
        let counts = shows.counts.of(&about.name, MAX_ROOMS);
        let mut channel = json!(about);
        channel["connections"] = counts.connections.into();
        channel["rooms"] = json!(counts.rooms);
        channel
    });
    Json(json!({
        "dir": shows.dir.display().to_string(),
        "kafka": shows.kafka,
        "embedded": shows.embedded,
        "channels": channels.collect::<Vec<_>>(),
    }))
}

/// A record to publish.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Publish {
    topic: String,
    key: Option<String>,
    value: Value,
}

async fn publish(State(serving): State<Serving>, Json(record): Json<Publish>) -> Response {
    let topics: Vec<_> = serving
        .shows
        .channels
        .borrow()
        .iter()
        .flat_map(|about| about.topics.clone())
        .collect();
    if !topics.contains(&record.topic) {
        return (
            StatusCode::BAD_REQUEST,
            format!("no channel reads the topic {:?}", record.topic),
        )
            .into_response();
    }
    let value = record.value.to_string();
    let mut message = FutureRecord::<str, str>::to(&record.topic).payload(&value);
    message.key = record.key.as_deref();
    match serving.producer.send(message, Duration::ZERO).await {
        Ok(landed) => {
            let landed = json!({"topic": record.topic, "partition": landed.partition, "offset": landed.offset});
            Json(landed).into_response()
        }
        Err((error, _)) => (StatusCode::BAD_GATEWAY, format!("Kafka does not take it: {error}")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        pairs.collect()
    }

    #[test]
    fn only_this_machine_and_the_page_itself_are_answered() {
        for own in [
            headers(&[("host", "127.0.0.1:9900")]),
            headers(&[("host", "localhost:9900"), ("origin", "http://localhost:9900")]),
        ] {
            assert!(is_own(&own), "{own:?}");
        }
        for foreign in [
            headers(&[]),
            headers(&[("host", "rebound.example:9900")]),
            headers(&[("host", "127.0.0.1.example")]),
            headers(&[("host", "127.0.0.1:9900"), ("origin", "http://evil.example")]),
            headers(&[("host", "127.0.0.1:9900"), ("origin", "http://127.0.0.1:3000")]),
            headers(&[("host", "127.0.0.1:9900"), ("origin", "null")]),
        ] {
            assert!(!is_own(&foreign), "{foreign:?}");
        }
    }
}
