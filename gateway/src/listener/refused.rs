//! refused: what a listener or the admin port refuses, and connections that bring no request that can be read, counted once each
//! by reason.

use std::sync::Arc;

use http::{Response, StatusCode};

use super::refusal::Refusal;
use crate::forward::Elsewhere;
use crate::metrics::Metrics;

/// Counts for one port.
#[derive(Clone)]
pub struct Refusals {
    metrics: Arc<Metrics>,
    port: Port,
}

#[derive(Clone)]
enum Port {
    Listener(Arc<str>),
    Admin,
    Peers,
}

impl Refusals {
    /// Counts for a listener.
    pub fn of_listener(metrics: Arc<Metrics>, name: &str) -> Self {
        let port = Port::Listener(name.into());
        Self { metrics, port }
    }

    /// Counts for the admin port.
    pub fn of_admin(metrics: Arc<Metrics>) -> Self {
        let port = Port::Admin;
        Self { metrics, port }
    }

    /// Counts for the peer port.
    pub(crate) fn of_peers(metrics: Arc<Metrics>) -> Self {
        let port = Port::Peers;
        Self { metrics, port }
    }

    /// A connection was refused before it brought a request.
    pub(super) fn refused(&self, refusal: Refusal) {
        self.count(refusal.as_str());
    }

    /// A connection was closed because there are too many.
    pub(crate) fn too_many(&self) {
        self.count("too_many");
    }

    /// A request that was read got this answer. The listener's own refusals go by their name ([`Refusal::response`]); those of
    /// socketioxide, and of what is beside it, by their status. What another replica has answered is counted there.
    pub(crate) fn answered<B>(&self, response: &Response<B>) {
        if response.extensions().get::<Elsewhere>().is_some() {
            return;
        }
        if let Some(refusal) = response.extensions().get::<Refusal>() {
            return self.refused(*refusal);
        }
        let reason = match response.status() {
            status if status.as_u16() < 400 => return,
            StatusCode::BAD_REQUEST => "bad_request",
            StatusCode::UNAUTHORIZED => "unauthorized",
            StatusCode::FORBIDDEN => "forbidden",
            StatusCode::NOT_FOUND => "not_found",
            StatusCode::METHOD_NOT_ALLOWED => "method_not_allowed",
            StatusCode::LENGTH_REQUIRED => "length_required",
            StatusCode::PAYLOAD_TOO_LARGE => "too_large",
            StatusCode::TOO_MANY_REQUESTS => "too_many",
            StatusCode::SERVICE_UNAVAILABLE => "unavailable",
            status if status.is_server_error() => "failed",
            _ => "other",
        };
        self.count(reason);
    }

    /// A connection ended before its request was read. One that the client just left is no refusal.
    pub(crate) fn broken(&self, error: &hyper::Error) {
        let reason = match error {
            error if error.is_parse_too_large() => "headers_too_large",
            error if error.is_parse() => "malformed",
            error if error.is_timeout() => "no_request_in_time",
            error if error.is_incomplete_message() => "incomplete",
            _ => return,
        };
        self.count(reason);
    }

    fn count(&self, reason: &'static str) {
        match &self.port {
            Port::Listener(name) => self.metrics.listener_refused(name, reason),
            Port::Admin => self.metrics.admin_refused(reason),
            Port::Peers => self.metrics.peers_refused(reason),
        }
    }
}
