//! admin: health and metrics, on a port of their own, for kubelets and Prometheus.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json};
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::consume::ConsumerState;
use crate::metrics::Metrics;

/// What health is judged by.
#[derive(Clone)]
pub struct Admin {
    /// Everything that is counted.
    pub metrics: Arc<Metrics>,
    /// Whether clients should come: configuration in force, listeners open, not stopping.
    pub ready: watch::Receiver<bool>,
    /// Kafka. Its absence is shown as degraded; it takes no replica out of service, or nobody could come back.
    pub consumer: watch::Receiver<ConsumerState>,
}

/// Serves `/health`, `/health/live`, `/health/ready` and `/metrics` on `address` until `stop`; gives where.
///
/// # Errors
/// Where the port can not be had.
pub async fn serve(address: SocketAddr, admin: Admin, stop: CancellationToken) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let router = Router::new()
        .route("/health", get(health))
        .route("/health/live", get(|| async { "ok" }))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(admin);
    tokio::spawn(async move {
        let server = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = server.await {
            tracing::error!(%error, "the admin port failed");
        }
    });
    Ok(address)
}

async fn health(State(admin): State<Admin>) -> impl IntoResponse {
    let consumer = admin.consumer.borrow().clone();
    let ready = *admin.ready.borrow();
    let status = match (ready, consumer.connected) {
        (true, true) => "ok",
        (true, false) => "degraded",
        (false, _) => "stopping",
    };
    Json(
        json!({ "status": status, "ready": ready, "kafka": { "connected": consumer.connected, "missingTopics": consumer.missing } }),
    )
}

async fn ready(State(admin): State<Admin>) -> impl IntoResponse {
    if *admin.ready.borrow() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping")
    }
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        admin.metrics.text(),
    )
}
