//! What a listener answers to each request.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use aldis_crds::gateway::Transport;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::TokioIo;
use tower::{Layer as _, ServiceExt as _};

use super::polling::Reply;
use super::refusal::Refusal;
use super::{Ends, polling, transports, upgrade};
use crate::connection::Connection;
use crate::forward::{Answer, Failed, Mark, Whose};
use crate::http::BODY_TIMEOUT;
use crate::limits::{Busy, Peer, Place, Visit};
use crate::wire::open_with_max_payload;

/// Answers one request: what the listener refuses, then with the headers that browsers need.
pub(super) async fn respond(
    mut request: Request<Incoming>,
    peer: IpAddr,
    connection: Connection,
    ends: Ends,
) -> Result<Response<Full<Bytes>>, Infallible> {
    detach(&mut request);
    let policy = ends.policy.load_full();
    if let Err(refusal) = policy.admit(&request) {
        return Ok(refused(&ends, refusal));
    }
    let address = Peer::of(policy.proxies.client(peer, request.headers()));
    request.extensions_mut().insert(address);
    let answer = tower::service_fn(move |request| {
        let (connection, ends) = (connection.clone(), ends.clone());
        async move { Ok::<_, Infallible>(answer(request, connection, ends).await) }
    });
    match &policy.cors {
        Some(cors) => cors.layer(answer).oneshot(request).await,
        None => answer.oneshot(request).await,
    }
}

async fn answer(request: Request<Incoming>, connection: Connection, ends: Ends) -> Response<Full<Bytes>> {
    let request = match ends.beside.answer(request).await {
        Ok(response) => return response,
        Err(request) => request,
    };
    if let Err(refusal) = admit(&request, &ends) {
        return refused(&ends, refusal);
    }
    match whose(&request, &ends) {
        Whose::Another(mark) => elsewhere(mark, request, connection, ends).await,
        Whose::Ours(uri) => here(uri, request, connection, ends).await,
    }
}

/// Answers a request that another replica passes on, which has judged its host and origin.
pub(super) async fn of_peer(
    mut request: Request<Incoming>,
    connection: Connection,
    ends: Ends,
) -> Response<Full<Bytes>> {
    detach(&mut request);
    let response = match (admit(&request, &ends), whose(&request, &ends)) {
        (Err(refusal), _) => refused(&ends, refusal),
        (Ok(()), Whose::Ours(Some(uri))) => here(Some(uri), request, connection, ends.clone()).await,
        // Its client is told to begin anew; nothing is passed on twice.
        (Ok(()), _) => refused(&ends, Refusal::SessionClosed),
    };
    ends.refusals.answered(&response);
    response
}

/// Whose the session of a request is. A listener that ends TLS keeps to itself: what is passed on is not encrypted.
fn whose(request: &Request<Incoming>, ends: &Ends) -> Whose {
    match &ends.forward {
        Some(forward) if ends.policy.load().tls.is_none() => forward.whose(request.uri()),
        _ => Whose::Ours(None),
    }
}

/// Passes a request on to the replica that has its session.
async fn elsewhere(
    mark: Mark,
    mut request: Request<Incoming>,
    connection: Connection,
    ends: Ends,
) -> Response<Full<Bytes>> {
    let Some(forward) = &ends.forward else {
        return refused(&ends, Refusal::SessionClosed);
    };
    let accept = upgrade::accept_key(&request);
    let on_upgrade = accept.is_some().then(|| hyper::upgrade::on(&mut request));
    let settings = &ends.settings;
    // A poll waits for the next ping at most.
    let patience = settings.ping_interval + settings.ping_timeout + BODY_TIMEOUT;
    match (
        forward.ask(&mark, &ends.name, request, patience).await,
        accept,
        on_upgrade,
    ) {
        (Ok(Answer::Upgraded(tunnel)), Some(accept), Some(client)) => {
            let open = ends.transports.passes_on(connection);
            ends.tasks.spawn(async move {
                if let Ok(client) = client.await {
                    tunnel.carry(TokioIo::new(client)).await;
                }
                drop(open);
            });
            upgrade::switching_protocols(accept)
        }
        (Ok(Answer::Whole(response)), ..) => response,
        (Err(Failed::Busy), ..) => refused(&ends, Refusal::PeersBusy),
        (Ok(Answer::Upgraded(_)) | Err(_), ..) => refused(&ends, Refusal::SessionLost),
    }
}

/// Answers a request of a session of this replica, or one that begins one. `uri`: as engineioxide understands it, where that is
/// not what was asked.
async fn here(
    uri: Option<Uri>,
    mut request: Request<Incoming>,
    connection: Connection,
    ends: Ends,
) -> Response<Full<Bytes>> {
    if let Some(uri) = uri {
        *request.uri_mut() = uri;
        if let Err(refusal) = admit(&request, &ends) {
            return refused(&ends, refusal);
        }
    }
    let place = match begin(&request, &ends) {
        Ok(place) => place,
        Err(busy) => return refused(&ends, Refusal::Busy(busy)),
    };
    if let Some(accept) = upgrade::accept_key(&request) {
        if let Some(place) = &place {
            request.extensions_mut().insert(Visit::WebSocket(Arc::downgrade(place)));
        }
        let tasks = ends.tasks.clone();
        tasks.spawn(upgrade::take_over(request, place, connection, ends));
        return upgrade::switching_protocols(accept);
    }
    if upgrade::claims_websocket(&request) {
        return refused(&ends, Refusal::Upgrade);
    }
    if let Some(place) = place {
        request.extensions_mut().insert(Visit::Polling(place));
    }
    let (uri, is_get) = (request.uri().clone(), request.method() == Method::GET);
    request.extensions_mut().insert(connection);
    let (engine, transports) = (Arc::clone(&ends.engine), Arc::clone(&ends.transports));
    if transports::begins_session(&uri) {
        let mut reply = Reply::of(engine.answer(request).await).await;
        let sid = transports.opens(&reply).map(str::to_owned);
        if let Some(sid) = sid {
            for request in polling::answering_first_ping(&sid) {
                engine.ask(request).await;
            }
            let forward = ends.forward.as_ref().filter(|_| ends.policy.load().tls.is_none());
            let marked = forward.and_then(|forward| Some(forward.opened(reply.text()?, &sid)));
            reply = match marked {
                Some(text) => reply.with_text(text),
                None => reply,
            };
        }
        return open_packet(reply, &ends).into_response();
    }
    match transports.polled(&uri).filter(|_| is_get) {
        Some(polled) => {
            let asked = uri.clone();
            let ask = async move {
                let reply = Reply::of(engine.answer(request).await).await;
                transports.complete(&asked, reply)
            };
            polled.poll(transports::timestamp(&uri), ask).await.into_response()
        }
        // A polling client sends packets.
        None => match tokio::time::timeout(BODY_TIMEOUT, engine.answer(request)).await {
            Ok(response) => response,
            Err(_) => refused(&ends, Refusal::BodyTimeout),
        },
    }
}

/// Lets a request pass to its session, or begin one.
fn admit(request: &Request<Incoming>, ends: &Ends) -> Result<(), Refusal> {
    let settings = &ends.settings;
    if transports::transport(request.uri()).is_some_and(|transport| !settings.transports.contains(&transport)) {
        return Err(Refusal::Transport);
    }
    ends.transports.admit(request.uri())?;
    if request.method() != Method::POST {
        return Ok(());
    }
    match request.body().size_hint().exact() {
        Some(length) if length <= settings.max_payload as u64 => Ok(()),
        Some(_) => Err(Refusal::TooLarge),
        None => Err(Refusal::LengthRequired),
    }
}

/// A place for the session that a request begins, where it does.
fn begin(request: &Request<Incoming>, ends: &Ends) -> Result<Option<Arc<Place<Peer>>>, Busy> {
    if !transports::begins_session(request.uri()) {
        return Ok(None);
    }
    let address = request.extensions().get::<Peer>().copied().unwrap_or(Peer::UNKNOWN);
    let place = ends.entrance.begin(address, Instant::now());
    place.map(|place| Some(Arc::new(place)))
}

fn refused(ends: &Ends, refusal: Refusal) -> Response<Full<Bytes>> {
    tracing::debug!(listener = %ends.name, reason = refusal.as_str(), "request refused");
    refusal.response(ends.settings.max_payload)
}

/// The open packet with what clients may send at once, and the transports that there are.
fn open_packet(reply: Reply, ends: &Ends) -> Reply {
    let told = reply
        .text()
        .and_then(|text| open_with_max_payload(text, ends.settings.max_payload));
    let Some(told) = told else { return reply };
    reply.with_text(match ends.settings.transports.contains(&Transport::Websocket) {
        true => told,
        false => told.replacen("\"upgrades\":[\"websocket\"]", "\"upgrades\":[]", 1),
    })
}

/// Headers and URI are parts of hyper's read buffer, which a socket that keeps them would keep: 16 KiB a client.
fn detach<B>(request: &mut Request<B>) {
    let headers: HeaderMap = request
        .headers()
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), HeaderValue::from_bytes(value.as_bytes()).ok()?)))
        .collect();
    *request.headers_mut() = headers;
    if let Ok(uri) = request.uri().to_string().parse() {
        *request.uri_mut() = uri;
    }
}
