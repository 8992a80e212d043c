//! Health and metrics.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch::Receiver;

use crate::metrics::Metrics;

#[derive(Clone)]
struct Served {
    metrics: Arc<Metrics>,
    ready: Receiver<NotReady>,
}

/// Why the operator can not work yet; `None`: it can.
pub type NotReady = Option<String>;

/// Serves `/health/live`, `/health/ready` (the CRDs fit and every store is in sync) and `/metrics` until it is dropped; gives where
/// first.
///
/// # Errors
/// Where the port can not be had.
pub async fn start(
    address: SocketAddr,
    metrics: Arc<Metrics>,
    ready: Receiver<NotReady>,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let router = Router::new()
        .route("/health/live", get(|| async { "ok" }))
        .route("/health/ready", get(readiness))
        .route(
            "/metrics",
            get(async |State(served): State<Served>| served.metrics.text()),
        )
        .with_state(Served { metrics, ready });
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the port of health and metrics failed");
        }
    });
    Ok(address)
}

async fn readiness(State(served): State<Served>) -> (StatusCode, String) {
    match &*served.ready.borrow() {
        None => (StatusCode::OK, "ok".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason.clone()),
    }
}
