//! http: what a listener answers beside Socket.IO: a channel's own endpoints, the built-in ones, and health.
//!
//! ```text
//! declared   decode the path → which endpoint → who calls → check → publish (Kafka) → respond
//! built in   /aldis/v1/<namespace>/<channel>/…  → who calls → spec.api.allow → publish, read, disconnect
//! health     /health, /health/live, /health/ready, unless a channel has the path
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use aldis_core::channel::Channel;
use aldis_core::http::{Facts, Health, Refused, Request as Call, Routed, decode_path, object};
use aldis_core::identity::{Identity, Refusal};
use aldis_core::json::Json;
use aldis_crds::channel::Method;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::adapter::Adapter;
use crate::sockets::Shared;
use crate::sockets::identify::{NotAdmitted, identify_by_token};
use crate::status::Status;

mod api;
mod docs;
mod publish;

pub use publish::{IdempotencyKey, PublishError, Publisher};

/// Longest body of a request, in bytes, whatever a tenant's `maxPayload` grants. 900 kB: with its headers it fits into a record as
/// brokers take them by default (1 MB).
pub const MAX_BODY: u64 = 900_000;
/// How long the body of a request may take. 30 s: [`MAX_BODY`] over the slowest mobile network.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What the HTTP side of all listeners shares.
pub struct Http<A> {
    pub(crate) shared: Arc<Shared<A>>,
    publisher: Publisher,
    /// When the gateway began.
    started: Instant,
    /// Whether clients should come.
    status: Arc<Status>,
}

/// The HTTP side of one listener.
struct Side<A> {
    listener: String,
    http: Arc<Http<A>>,
}

impl<A> Clone for Side<A> {
    fn clone(&self) -> Self {
        Self {
            listener: self.listener.clone(),
            http: Arc::clone(&self.http),
        }
    }
}

/// What a listener answers beside Socket.IO.
pub fn router<A: Adapter>(listener: &str, http: Arc<Http<A>>) -> Router {
    let side = Side {
        listener: listener.to_owned(),
        http,
    };
    api::routes().fallback(declared::<A>).with_state(side)
}

/// A request to a channel's own endpoint, or to health where no channel has that path.
async fn declared<A: Adapter>(State(side): State<Side<A>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let table = side.http.shared.table.load_full();
    let path = decode_path(parts.uri.path());
    let routed = path.as_deref().map_or(Routed::Nowhere, |path| {
        table.endpoint(&side.listener, parts.method.as_str(), path)
    });
    let (channel, index, params) = match routed {
        Routed::To((channel, endpoint), params) => (table.channel(*channel), *endpoint, params),
        Routed::OtherMethods(methods) => return not_allowed(&methods),
        Routed::Nowhere => return side.health(&parts),
    };
    let endpoint = &channel.endpoints[index];
    if endpoint.is_document() && docs::wants_page(&parts.headers) {
        let page = docs::page();
        side.http.count(channel, &endpoint.path.text, &page);
        return page;
    }
    let answer = async {
        let body = read_json(&parts.headers, body, max_body(channel), BODY_TIMEOUT).await?;
        let identity = side.http.identity(channel, &parts.headers).await?;
        let query = parts.uri.query().unwrap_or_default();
        let query: Vec<_> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let call = Call {
            params: &object(params.iter().map(|(name, value)| (*name, value.as_str()))),
            query: &object(query.iter().map(|(name, value)| (name.as_str(), value.as_str()))),
            body: &body,
            identity: identity.as_ref(),
            now: side.http.shared.clock.now(),
        };
        endpoint.check(&call)?;
        let published = match endpoint.publish(&call)? {
            Some(event) => {
                let key = idempotency_key(&parts.headers, channel, identity.as_ref())?;
                Some(side.http.publish(channel, event, key).await?)
            }
            None => None,
        };
        let stats = if endpoint.needs_stats {
            side.http.shared.counted(channel).await.json.clone()
        } else {
            Json::null()
        };
        let facts = Facts {
            stats: &stats,
            uptime: side.http.started.elapsed().as_secs() as i64,
            published: published.as_deref(),
        };
        let (code, body) = endpoint.respond(&call, &facts)?;
        Ok(json_response(
            StatusCode::from_u16(code).unwrap_or(StatusCode::OK),
            body,
        ))
    };
    let response = answer.await.unwrap_or_else(|refused: Refused| refusal(&refused));
    side.http.count(channel, &endpoint.path.text, &response);
    response
}

impl<A: Adapter> Side<A> {
    fn health(&self, parts: &Parts) -> Response {
        if parts.method != http::Method::GET {
            return refusal(&Refused::new(404, "not_found", "there is nothing here"));
        }
        let ready = self.http.status.is_ready();
        let status = if ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        match Health::at(parts.uri.path()) {
            Some(Health::Whole | Health::Ready) => {
                let state = if ready { "ok" } else { "stopping" };
                json_response(status, json!({ "status": state }).to_string())
            }
            Some(Health::Live) => json_response(StatusCode::OK, json!({ "status": "ok" }).to_string()),
            None => refusal(&Refused::new(
                404,
                "not_found",
                "there is nothing here: clients connect at /socket.io/, channels declare endpoints in spec.http",
            )),
        }
    }
}

impl<A: Adapter> Http<A> {
    /// Of channels and their clients, with the way to Kafka.
    pub fn new(shared: Arc<Shared<A>>, publisher: Publisher, status: Arc<Status>) -> Self {
        Self {
            shared,
            publisher,
            started: Instant::now(),
            status,
        }
    }

    /// Who calls: `None` for who shows no token. A token that fails never counts as none.
    async fn identity(&self, channel: &Channel, headers: &HeaderMap) -> Result<Option<Identity>, Refused> {
        let Some(authorization) = headers.get(header::AUTHORIZATION) else {
            return Ok(None);
        };
        let invalid = || {
            Refused::new(
                401,
                "unauthorized",
                "the token is not valid: send Authorization: Bearer <token>",
            )
        };
        let text = authorization.to_str().map_err(|_| invalid())?;
        let (scheme, token) = text.split_once(' ').ok_or_else(invalid)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(invalid());
        }
        let refused = match identify_by_token(&self.shared, channel, token.trim()).await {
            Ok(identity) => return Ok(Some(identity)),
            Err(refused) => refused,
        };
        Err(match refused {
            NotAdmitted::Refused(Refusal::Token(fault)) => {
                self.shared.metrics.token_refused(&channel.name, fault.reason);
                invalid()
            }
            NotAdmitted::Refused(_) => Refused::new(
                401,
                "unauthorized",
                "this channel takes no tokens: send none, or see spec.authentication.jwt",
            ),
            NotAdmitted::ForNow(_) => Refused::new(
                503,
                "unavailable",
                "the keys of the token's issuer are not to be had: repeat the request",
            ),
        })
    }

    async fn publish(
        &self,
        channel: &Channel,
        event: aldis_core::http::Published,
        key: Option<IdempotencyKey>,
    ) -> Result<String, Refused> {
        if !self.shared.deliveries_owed([channel]).is_zero() {
            let message = "this channel's tenant is over its deliveriesPerSecond: repeat the request";
            return Err(Refused::new(429, "too_many_deliveries", message));
        }
        let now = self.shared.clock.now();
        let published = self.publisher.publish(&channel.name, event, key, now).await;
        published.map_err(|error| Refused::new(503, "unavailable", error.to_string()))
    }

    fn count(&self, channel: &Channel, endpoint: &str, response: &Response) {
        self.shared
            .metrics
            .http(&channel.name, endpoint, response.status().as_u16());
    }
}

/// The key of the header `Idempotency-Key`, where it has one.
fn idempotency_key(
    headers: &HeaderMap,
    channel: &Channel,
    identity: Option<&Identity>,
) -> Result<Option<IdempotencyKey>, Refused> {
    let Some(key) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let key = key
        .to_str()
        .ok()
        .filter(|key| !key.is_empty() && key.len() <= publish::MAX_KEY);
    let key = key.ok_or_else(|| {
        let message = format!(
            "Idempotency-Key is printable ASCII of 1 to {} characters",
            publish::MAX_KEY
        );
        Refused::new(400, "invalid", message)
    })?;
    Ok(Some(IdempotencyKey {
        channel: channel.name.clone(),
        user: identity.and_then(|identity| identity.user.clone()).unwrap_or_default(),
        key: key.to_owned(),
    }))
}

/// How long the body of a request to a channel may be.
fn max_body(channel: &Channel) -> usize {
    channel.limits.max_payload.min(MAX_BODY) as usize
}

/// The JSON body of a request; null where there is none. Only what says that it is JSON is read as JSON: so no web page can
/// post here behind its reader's back.
async fn read_json(headers: &HeaderMap, body: Body, max: usize, within: Duration) -> Result<Json, Refused> {
    let read = tokio::time::timeout(within, axum::body::to_bytes(body, max)).await;
    let read = read.map_err(|_| {
        let seconds = within.as_secs();
        Refused::new(408, "too_slow", format!("the body was not there within {seconds} s"))
    })?;
    let bytes = read.map_err(|_| {
        Refused::new(
            413,
            "too_large",
            format!("the body is longer than {max} bytes, or broke off"),
        )
    })?;
    if bytes.is_empty() {
        return Ok(Json::null());
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.map(|value| value.split(';').next().unwrap_or_default().trim());
    if !essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
        return Err(Refused::new(
            415,
            "not_json",
            "send the body as Content-Type: application/json",
        ));
    }
    Json::parse_bytes(&bytes).map_err(|error| Refused::new(400, "not_json", format!("the body is no JSON: {error}")))
}

fn json_response(status: StatusCode, body: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (status, headers, body).into_response()
}

fn refusal(refused: &Refused) -> Response {
    let status = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = json_response(status, refused.json());
    if status == StatusCode::UNAUTHORIZED {
        let scheme = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    }
    if matches!(status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT) {
        // What is left of the body is not read: the connection is of no more use.
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn not_allowed(methods: &[Method]) -> Response {
    let methods: Vec<_> = methods.iter().map(|method| method.as_str()).collect();
    let methods = methods.join(", ");
    let mut response = refusal(&Refused::new(
        405,
        "method_not_allowed",
        format!("this path takes {methods}"),
    ));
    if let Ok(allow) = HeaderValue::from_str(&methods) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_that_does_not_come_to_its_end_is_given_up() {
        let endless = Body::from_stream(futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>());
        let refused = read_json(&HeaderMap::new(), endless, 9, Duration::from_millis(1))
            .await
            .unwrap_err();
        assert_eq!((refused.status, refused.code), (408, "too_slow"));
        assert_eq!(refusal(&refused).headers()[header::CONNECTION], "close");
    }

    #[tokio::test]
    async fn a_body_is_no_longer_than_its_tenant_may_send() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let read = async |max| read_json(&headers, Body::from("[1,2,3]"), max, BODY_TIMEOUT).await;
        assert_eq!(read(7).await.unwrap().text(), "[1,2,3]");
        let refused = read(6).await.unwrap_err();
        assert_eq!((refused.status, refused.code), (413, "too_large"));
        assert!(refused.message.contains("6 bytes"), "{}", refused.message);
    }
}
