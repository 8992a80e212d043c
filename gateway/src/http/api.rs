//! The built-in endpoints of each channel that says who may use them: `/aldis/v1/<namespace>/<channel>/…`.

use std::sync::Arc;

use aldis_core::channel::Channel;
use aldis_core::http::{BuiltIn, MAX_KEY, MAX_TYPE, Operation, Published, Refused, published_json};
use aldis_core::identity::Identity;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{delete, get, post};
use serde_json::json;

use super::{BODY_TIMEOUT, Side, idempotency_key, json_response, max_body, read_json, refusal};
use crate::adapter::Adapter;
use crate::replicas::orders::Target;

const ROOT: &str = "/aldis/v1/{namespace}/{channel}";

/// Where they are.
pub(super) fn routes<A: Adapter>() -> Router<Side<A>> {
    BuiltIn::ALL.into_iter().fold(Router::new(), |router, endpoint| {
        let handler = match endpoint {
            BuiltIn::Publish => post(publish::<A>),
            BuiltIn::Rooms => get(rooms::<A>),
            BuiltIn::Room => get(room::<A>),
            BuiltIn::DisconnectRoom => delete(disconnect_room::<A>),
            BuiltIn::DisconnectUser => delete(disconnect_user::<A>),
            BuiltIn::DisconnectSocket => delete(disconnect_socket::<A>),
            BuiltIn::Stats => get(stats::<A>),
        };
        router.route(&format!("{ROOT}{}", endpoint.path()), handler)
    })
}

type Place = Path<(String, String)>;
type PlaceOf = Path<(String, String, String)>;

/// A caller who may.
struct Caller {
    channel: Arc<Channel>,
    identity: Option<Identity>,
}

impl<A: Adapter> Side<A> {
    /// The channel, if it is on this listener and lets the caller.
    async fn caller(
        &self,
        namespace: &str,
        channel: &str,
        headers: &HeaderMap,
        operation: Operation,
    ) -> Result<Caller, Refused> {
        let unknown = || {
            let message = format!("there is no channel {namespace}/{channel} here, or it has no spec.api");
            Refused::new(404, "not_found", message)
        };
        let table = self.http.shared.table.load_full();
        let channel = table.named(namespace, channel).ok_or_else(unknown)?;
        let mut attachments = channel.attachments.iter();
        if !channel.api.is_there() || !attachments.any(|at| at.listener == self.listener) {
            return Err(unknown());
        }
        let identity = self.http.identity(channel, headers).await?;
        channel.api.check(identity.as_ref(), operation)?;
        Ok(Caller {
            channel: Arc::clone(channel),
            identity,
        })
    }

    fn answer(
        &self,
        operation: &'static str,
        namespace: &str,
        channel: &str,
        answer: Result<Response, Refused>,
    ) -> Response {
        let response = answer.unwrap_or_else(|refused| refusal(&refused));
        if let Some(channel) = self.http.shared.table.load().named(namespace, channel) {
            self.http.count(channel, operation, &response);
        }
        response
    }

    async fn read(&self, Path((namespace, channel)): Place, headers: HeaderMap, what: &'static str) -> Response {
        let answer = async {
            let caller = self.caller(&namespace, &channel, &headers, Operation::Read).await?;
            let counted = self.http.shared.counted(&caller.channel).await;
            let stats = &counted.json;
            let body = match what {
                "rooms" => format!(
                    "{{\"rooms\":{},\"count\":{},\"replicas\":{}}}",
                    text(stats, "rooms"),
                    text(stats, "roomCount"),
                    text(stats, "replicas")
                ),
                _ => stats.text().to_owned(),
            };
            Ok(json_response(StatusCode::OK, body))
        };
        let answer = answer.await;
        self.answer(what, &namespace, &channel, answer)
    }

    /// Sends clients away, at all replicas.
    async fn disconnect(
        &self,
        Path((namespace, channel, of)): PlaceOf,
        headers: HeaderMap,
        what: &'static str,
        target: impl FnOnce(String) -> Target,
    ) -> Response {
        let answer = async {
            let caller = self
                .caller(&namespace, &channel, &headers, Operation::Disconnect)
                .await?;
            let (count, replicas) = self.http.shared.dismiss(&caller.channel, target(of)).await;
            let body = json!({ "disconnected": count, "replicas": replicas });
            Ok(json_response(StatusCode::OK, body.to_string()))
        };
        let answer = answer.await;
        self.answer(what, &namespace, &channel, answer)
    }
}

fn text<'j>(json: &'j aldis_core::json::Json, field: &str) -> &'j str {
    json.get(field).map_or("null", |value| value.text())
}

async fn publish<A: Adapter>(State(side): State<Side<A>>, place: Place, headers: HeaderMap, body: Body) -> Response {
    let Path((namespace, channel)) = place;
    let answer = async {
        let caller = side.caller(&namespace, &channel, &headers, Operation::Publish).await?;
        let body = read_json(&headers, body, max_body(&caller.channel), BODY_TIMEOUT).await?;
        let field = |name: &str, max: usize| {
            let value = body.get(name).filter(|value| !value.is_null());
            let value = value.map(|value| value.as_str().filter(|text| !text.is_empty() && text.len() <= max));
            value
                .map(|text| text.map(|text| text.into_owned()).ok_or_else(|| invalid(name, max)))
                .transpose()
        };
        let type_ = field("type", MAX_TYPE)?.ok_or_else(|| invalid("type", MAX_TYPE))?;
        let event = Published {
            type_,
            key: field("key", MAX_KEY)?,
            data: text(&body, "data").to_owned(),
        };
        let key = idempotency_key(&headers, &caller.channel, caller.identity.as_ref())?;
        let id = side.http.publish(&caller.channel, event, key).await?;
        Ok(json_response(StatusCode::ACCEPTED, published_json(&id)))
    };
    let answer = answer.await;
    side.answer("publish", &namespace, &channel, answer)
}

fn invalid(name: &str, max: usize) -> Refused {
    Refused {
        field: Some(name.to_owned()),
        ..Refused::new(400, "invalid", format!("{name} is a text of 1 to {max} bytes"))
    }
}

async fn rooms<A: Adapter>(State(side): State<Side<A>>, place: Place, headers: HeaderMap) -> Response {
    side.read(place, headers, "rooms").await
}

async fn stats<A: Adapter>(State(side): State<Side<A>>, place: Place, headers: HeaderMap) -> Response {
    side.read(place, headers, "stats").await
}

async fn room<A: Adapter>(State(side): State<Side<A>>, place: PlaceOf, headers: HeaderMap) -> Response {
    let Path((namespace, channel, room)) = place;
    let answer = async {
        let caller = side.caller(&namespace, &channel, &headers, Operation::Read).await?;
        let counted = side.http.shared.counted(&caller.channel).await;
        let shown = |known: &_| caller.channel.lobby.shown(known).is_some_and(|name| name == room);
        let rooms = counted.rooms.iter();
        let members: usize = rooms
            .filter(|(known, _)| shown(known))
            .map(|(_, members)| members)
            .sum();
        let body = json!({ "name": room, "members": members, "replicas": counted.answered });
        Ok(json_response(StatusCode::OK, body.to_string()))
    };
    let answer = answer.await;
    side.answer("room", &namespace, &channel, answer)
}

async fn disconnect_room<A: Adapter>(State(side): State<Side<A>>, place: PlaceOf, headers: HeaderMap) -> Response {
    side.disconnect(place, headers, "disconnect_room", Target::Room).await
}

async fn disconnect_user<A: Adapter>(State(side): State<Side<A>>, place: PlaceOf, headers: HeaderMap) -> Response {
    side.disconnect(place, headers, "disconnect_user", Target::User).await
}

async fn disconnect_socket<A: Adapter>(State(side): State<Side<A>>, place: PlaceOf, headers: HeaderMap) -> Response {
    side.disconnect(place, headers, "disconnect_socket", Target::Socket)
        .await
}
