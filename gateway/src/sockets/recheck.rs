//! recheck: the rules have changed, and clients are in rooms by those of before. Nobody is disconnected: who may no longer be
//! in a room leaves it, and hears so.

use aldis_core::channel::Channel;
use serde_json::json;

use super::{Shared, rooms};
use crate::sessions::Session;

/// `aldis:left (info {room, reason}, position)`: the client is no longer in a room, though it has not left it.
const LEFT_EVENT: &str = "aldis:left";

/// Asks for every room of every client of a channel again. What joins at the same time does so by the channel of before, and
/// asks again by itself ([`client`]) when it finds that another is in force.
pub(crate) fn channel<A>(shared: &Shared<A>, channel: &Channel) {
    for session in shared.sessions.live(&channel.name) {
        client(shared, channel, &session);
    }
}

/// Asks for every room of the client of a session again.
pub(super) fn client<A>(shared: &Shared<A>, channel: &Channel, session: &Session) {
    let Some((identity, id, generation, joined)) = session.present() else {
        return;
    };
    for joined in joined {
        let Err(lost) = rooms::still_allowed(channel, &identity, &joined, shared.clock.now()) else {
            continue;
        };
        let info = json!({ "room": &*joined.shown, "reason": lost.as_str() }).to_string();
        // One that has not been told yet what it has missed asks again once it has.
        if shared
            .hub
            .expel(&channel.name, id, &joined.room, LEFT_EVENT, info.into())
        {
            tracing::info!(channel = %channel.name, client = id, room = &*joined.shown, reason = lost.as_str(), "client may no longer be in a room");
            shared.metrics.client_event(&channel.name, "left_by_rule");
            // A later connection asks for itself.
            let _later = session.left(generation, &joined.room);
        }
    }
}
