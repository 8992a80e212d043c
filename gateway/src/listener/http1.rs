//! http1: requests of one connection, for listeners and the admin port alike.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::refused::Refusals;

/// How long a client may take for the headers of a request, and how long its connection may be idle between two. 10 s.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers requests until the client has no more, or, after the one that it is at, until `stop`.
pub(crate) async fn serve<I, S, B>(stream: I, service: S, stop: &CancellationToken, refusals: &Refusals)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let asked = Arc::new(AtomicBool::new(false));
    let asks = Arc::clone(&asked);
    let service = service_fn(move |request| {
        asks.store(true, Ordering::Relaxed);
        service.call(request)
    });
    let http = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(http);
    let result = tokio::select! {
        result = &mut http => result,
        () = stop.cancelled() => {
            http.as_mut().graceful_shutdown();
            http.await
        }
    };
    if let Err(error) = result {
        // Who has asked before, and asks no more, is done.
        if !(error.is_timeout() && asked.load(Ordering::Relaxed)) {
            refusals.broken(&error);
        }
        tracing::debug!(%error, "a connection ended with an error");
    }
}
