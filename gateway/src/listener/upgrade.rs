//! The WebSocket upgrade, accepted by the gateway itself: the stream goes to socketioxide inside a wire.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::transports::{Transports, WireLink};
use super::{Bare, Ends};
use crate::connection::{Connection, Stream};
use crate::limits::{Peer, Place};
use crate::wire::{Link, wire};

/// Whether a request says that it is a WebSocket of Engine.IO 4. One that is none after all is refused: socketioxide would
/// take some of them up itself, past the wire.
pub(super) fn claims_websocket<B>(request: &Request<B>) -> bool {
    let mut query = request.uri().query().unwrap_or_default().split('&');
    query.clone().any(|pair| pair == "transport=websocket") && query.any(|pair| pair == "EIO=4")
}

/// What answers the key of a WebSocket upgrade of Engine.IO 4 (RFC 6455, 4.2.2); `None` for any other request, which
/// socketioxide answers.
pub(super) fn accept_key<B>(request: &Request<B>) -> Option<HeaderValue> {
    let header = |name| {
        request
            .headers()
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let has = |name, token: &str| {
        header(name).is_some_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    let is_upgrade = request.method() == http::Method::GET
        && has(UPGRADE, "websocket")
        && has(CONNECTION, "upgrade")
        && header(SEC_WEBSOCKET_VERSION) == Some("13")
        && request.uri().path().starts_with("/socket.io")
        && claims_websocket(request);
    let key = header(SEC_WEBSOCKET_KEY).filter(|_| is_upgrade)?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()
}

/// The answer to an upgrade.
pub(super) fn switching_protocols(accept: HeaderValue) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response
        .headers_mut()
        .insert(UPGRADE, HeaderValue::from_static("websocket"));
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
}

/// Waits for the stream, and hands it to socketioxide inside a wire.
pub(super) async fn take_over(
    mut request: Request<Incoming>,
    place: Option<Arc<Place<Peer>>>,
    connection: Connection,
    ends: Ends,
) {
    let upgraded = match hyper::upgrade::on(&mut request).await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!(%error, "a client went while it upgraded to WebSocket");
            return;
        }
    };
    let Ok(parts) = upgraded.downcast::<TokioIo<Stream<Bare>>>() else {
        tracing::error!("an upgraded connection is none of ours; this is a mistake in the gateway");
        return;
    };
    let transports = ends.transports;
    // A copy, mostly of nothing: the buffer itself has 8 KiB, which even an empty part of it would keep for as long as the
    // client is there.
    let (wire, link) = wire(parts.io.into_inner(), Bytes::copy_from_slice(&parts.read_buf));
    let wire = wire.announcing(ends.settings.max_payload);
    let registered = transports.register(&link);
    let mut request = request.map(drop);
    let upgrading = transports
        .upgrades(request.uri(), &connection, &link)
        .map(|sid| Upgrading {
            sid,
            link: Arc::clone(&link),
            transports: Arc::clone(&transports),
        });
    if upgrading.is_none() {
        request.extensions_mut().insert(WireLink(link));
    }
    // Of the peer port, where it came over that.
    let peer = request.extensions_mut().remove::<Arc<OwnedSemaphorePermit>>();
    let wire = wire.keeping(Box::new((registered, upgrading, place, peer)));
    request.extensions_mut().insert(connection);
    if let Err(error) = ends.engine.take_over(wire, request).await {
        tracing::debug!(%error, "a WebSocket was no Engine.IO session");
    }
}

/// Tells when the wire of a session that upgrades, or has, is gone.
struct Upgrading {
    sid: String,
    link: Arc<dyn Link>,
    transports: Arc<Transports>,
}

impl Drop for Upgrading {
    fn drop(&mut self) {
        self.transports.upgrade_ended(&self.sid, &self.link);
    }
}
