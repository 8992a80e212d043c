//! admin: health, metrics and the configuration in force, on a port of their own, for kubelets, Prometheus and operators.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aldis_core::time::Millis;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::consume::ConsumerState;
use crate::listener::http1;
use crate::listener::refused::Refusals;
use crate::metrics::Metrics;
use crate::status::{Phase, Status};

/// Bytes of a token file that are read. 4 KiB: more than any token.
const MAX_TOKEN: usize = 4096;

/// Connections to the admin port at once. 256: kubelets and Prometheus have a few; more are closed, and counted.
const CONNECTIONS: usize = 256;

/// Partitions that are behind, as health tells them: those with most records that wait. 50: enough for all of a topic.
const BEHIND: usize = 50;

/// What health is judged by.
#[derive(Clone)]
pub struct Admin {
    /// Everything that is counted.
    pub metrics: Arc<Metrics>,
    /// What is in force, and what is wrong.
    pub status: Arc<Status>,
    /// Kafka. Its absence is shown as degraded; it takes no replica out of service, or nobody could come back.
    pub consumer: watch::Receiver<ConsumerState>,
    /// The file with the token that `/config` asks for; without it nobody sees the configuration.
    pub token_file: Option<PathBuf>,
}

/// Serves `/health`, `/health/live`, `/health/ready`, `/metrics` and `/config` on `address` until `stop`; gives where.
///
/// # Errors
/// Where the port can not be had.
pub async fn serve(address: SocketAddr, admin: Admin, stop: CancellationToken) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let refusals = Refusals::of_admin(Arc::clone(&admin.metrics));
    let counted = refusals.clone();
    let router = Router::new()
        .route("/health", get(health))
        .route("/health/live", get(|| async { "ok" }))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/config", get(config))
        .with_state(admin)
        .layer(map_response(move |response: Response| {
            counted.answered(&response);
            std::future::ready(response)
        }));
    tokio::spawn(accept(listener, router, refusals, stop));
    Ok(address)
}

async fn accept(listener: TcpListener, router: Router, refusals: Refusals, stop: CancellationToken) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection to the admin port could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
            refusals.too_many();
            continue;
        };
        let (router, refusals, stop) = (router.clone(), refusals.clone(), stop.clone());
        tokio::spawn(async move {
            http1::serve(stream, TowerToHyperService::new(router), &stop, &refusals).await;
            drop(permit);
        });
    }
}

async fn health(State(admin): State<Admin>) -> impl IntoResponse {
    let consumer = admin.consumer.borrow().clone();
    let waiting = admin.metrics.dead_letters_waiting();
    let mut problems = admin.status.degraded();
    problems.extend((!consumer.connected).then_some("kafka"));
    problems.extend((waiting > 0).then_some("dead_letters"));
    let status = match (admin.status.phase(), problems.is_empty()) {
        (Phase::Starting, _) => "starting",
        (Phase::Draining, _) => "draining",
        (Phase::Serving, true) => "ok",
        (Phase::Serving, false) => "degraded",
    };
    let behind = admin.metrics.behind_most(BEHIND).into_iter().map(|behind| {
        let until = behind.taken_until.map(|seconds| Millis(seconds * 1000).rfc3339());
        json!({ "topic": behind.topic, "partition": behind.partition, "records": behind.records, "takenUntil": until })
    });
    let behind: Vec<_> = behind.collect();
    Json(json!({
        "status": status,
        "ready": admin.status.is_ready(),
        "problems": problems,
        "config": admin.status.in_force().hash,
        "kafka": {
            "connected": consumer.connected,
            "missingTopics": consumer.missing,
            "deadLettersWaiting": waiting,
            "refused": admin.status.kafka_refused().as_deref(),
            "behind": behind,
        },
    }))
}

async fn ready(State(admin): State<Admin>) -> impl IntoResponse {
    match admin.status.not_ready() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        admin.metrics.text(),
    )
}

async fn config(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    let Some(file) = &admin.token_file else {
        let message = "nobody may see the configuration: start the gateway with --admin-token-file\n";
        return (StatusCode::FORBIDDEN, message).into_response();
    };
    // Read each time: a mounted Secret changes.
    let token = match tokio::fs::read(file).await {
        Ok(token) if token.len() <= MAX_TOKEN => token.trim_ascii().to_vec(),
        _ => Vec::new(),
    };
    if token.is_empty() || !is_authorized(&headers, &token) {
        let message = "send the token of the file that --admin-token-file names: Authorization: Bearer …\n";
        let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
        return (StatusCode::UNAUTHORIZED, challenge, message).into_response();
    }
    Json(shown(&admin.status)).into_response()
}

/// Compared as digests, in a time that does not tell how much of the token was right, or how long it is.
pub(crate) fn is_authorized(headers: &HeaderMap, token: &[u8]) -> bool {
    let given = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let Some(given) = given.and_then(|value| value.strip_prefix(b"Bearer ")) else {
        return false;
    };
    let (given, token) = (digest(&SHA256, given), digest(&SHA256, token));
    verify_slices_are_equal(given.as_ref(), token.as_ref()).is_ok()
}

fn shown(status: &Status) -> Value {
    let in_force = status.in_force();
    let bad_channels = in_force.bad_channels.iter().map(|bad| {
        let problems = bad.problems.iter();
        let problems: Vec<_> = problems
            .map(|problem| json!({"field": problem.field, "message": problem.message}))
            .collect();
        json!({"channel": bad.channel.to_string(), "problems": problems})
    });
    let bad_listeners = in_force.bad_listeners.iter();
    let bad_listeners = bad_listeners.map(|(name, error)| json!({"listener": name, "problem": error.to_string()}));
    let rejected = status.rejected();
    let mut config = json!(in_force.config);
    redact(&mut config);
    json!({
        "hash": in_force.hash,
        "since": in_force.since,
        "rejected": rejected.map(|rejected| json!({"reason": rejected.reason, "since": rejected.since})),
        "badChannels": bad_channels.collect::<Vec<_>>(),
        "badListeners": bad_listeners.collect::<Vec<_>>(),
        "needsRestart": in_force.needs_restart,
        "keys": in_force.keys,
        "config": config,
    })
}

/// Takes the user and password out of every URL: keys are not in a configuration, but a URL may have been given one.
fn redact(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some((scheme, rest)) = text.split_once("://") {
                let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
                if let Some(at) = authority.rfind('@') {
                    *text = format!("{scheme}://…{}", &rest[at..]);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Object(fields) => fields.values_mut().for_each(redact),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_the_token() {
        let given = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            is_authorized(&headers, b"secret")
        };
        assert!(given("Bearer secret"));
        for wrong in [
            "Bearer secre",
            "Bearer secrets",
            "Bearer ",
            "secret",
            "Basic secret",
            "bearer",
        ] {
            assert!(!given(wrong), "{wrong}");
        }
        assert!(!is_authorized(&HeaderMap::new(), b"secret"));
    }

    #[test]
    fn passwords_in_urls_are_not_shown() {
        let mut value = json!({"a": ["redis://user:pa@ss@redis:6379/0?x=@", "https://id.example/a@b", "no url", 1]});
        redact(&mut value);
        assert_eq!(
            value,
            json!({"a": ["redis://…@redis:6379/0?x=@", "https://id.example/a@b", "no url", 1]})
        );
    }
}
