//! stats: who is there. Counted at most once a second for each channel, however often it is asked: an endpoint that is open to
//! everybody, or an event that a client may send, must not keep a channel's clients waiting.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aldis_core::channel::Channel;
use aldis_core::json::Json;
use aldis_crds::names::ChannelName;
use serde_json::json;

use crate::hub::{Hub, Observe, Presence};

/// How old an answer may be. 1 s.
pub const FRESH: Duration = Duration::from_secs(1);
/// Rooms and users that an answer lists. 1,000; beyond it the answer says how many there are in all.
pub const MAX_LISTED: usize = 1_000;

/// Who is connected to a channel here.
pub(crate) struct Counted {
    pub presence: Presence,
    /// `{connections, uniqueUsers, users: [{user, connections}], roomCount, rooms: [{name, members}]}`.
    pub json: Json,
}

/// The last count of each channel that was asked for; those of channels that are gone leave with the next count.
#[derive(Default)]
pub struct Counts(Mutex<HashMap<ChannelName, (Instant, Arc<Counted>)>>);

impl Counts {
    /// Who is connected to a channel here, or was [`FRESH`] ago.
    pub(crate) fn of<O: Observe>(&self, hub: &Hub<O>, channel: &Channel) -> Arc<Counted> {
        // While it is counted, others wait for that count.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, counted)) = known.get(&channel.name)
            && at.elapsed() < FRESH
        {
            return Arc::clone(counted);
        }
        let counted = Arc::new(Counted::of(hub.presence(&channel.name), channel));
        known.retain(|_, (at, _)| at.elapsed() < FRESH);
        known.insert(channel.name.clone(), (Instant::now(), Arc::clone(&counted)));
        counted
    }
}

impl Counted {
    fn of(presence: Presence, channel: &Channel) -> Self {
        let rooms = presence.rooms.iter();
        let mut rooms: Vec<_> = rooms
            .filter_map(|(room, members)| Some((channel.lobby.shown(room)?, members)))
            .collect();
        rooms.sort_unstable();
        let rooms = rooms.iter().take(MAX_LISTED);
        let users = presence.users.iter().take(MAX_LISTED);
        let json = Json::from_value(&json!({
            "connections": presence.connections,
            "uniqueUsers": presence.users.len(),
            "users": users.map(|(user, connections)| json!({ "user": user, "connections": connections })).collect::<Vec<_>>(),
            "roomCount": presence.rooms.len(),
            "rooms": rooms.map(|(name, members)| json!({ "name": name, "members": members })).collect::<Vec<_>>(),
        }));
        Self { presence, json }
    }
}
