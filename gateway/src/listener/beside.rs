//! What a listener answers beside Socket.IO: everything that is not below `/socket.io`.

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;

/// Where Socket.IO is. Its clients' default.
const SOCKET_IO: &str = "/socket.io";

/// The HTTP side of a listener.
#[derive(Clone)]
pub struct Beside(TowerToHyperService<Router>);

impl Beside {
    /// Answers with `router`.
    pub fn new(router: Router) -> Self {
        Self(TowerToHyperService::new(router))
    }

    /// The answer to a request that is not Socket.IO's; gives back one that is.
    ///
    /// # Errors
    /// The request.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Request<Incoming>> {
        if request.uri().path().starts_with(SOCKET_IO) {
            return Err(request);
        }
        let response = match self.0.call(request.map(Body::new)).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let (parts, body) = response.into_parts();
        // Answers are made in memory: collecting one neither waits nor fails.
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        Ok(Response::from_parts(parts, Full::new(body)))
    }
}
