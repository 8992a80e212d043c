//! stats: who is there, over all replicas. Counted at most once a second for each channel, however often it is asked: an endpoint
//! that is open to everybody, or an event that a client may send, must not keep a channel's clients waiting.
//!
//! Nobody is asked for it: each replica says in Redis who is connected to the channels of which somebody may ask
//! ([`crate::replicas`]), and what the live ones have said is added up.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aldis_core::channel::Channel;
use aldis_core::json::Json;
use aldis_core::room::RoomKey;
use aldis_crds::names::ChannelName;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::adapter::{Adapter, ChannelRef};
use crate::hub::Presence;
use crate::replicas::orders::Answered;
use crate::sockets::Shared;

/// How old an answer may be. 1 s; what others have said is up to 1.5 s older.
pub const FRESH: Duration = Duration::from_secs(1);
/// Rooms and users that an answer lists. 1,000; beyond it the answer says how many there are in all.
pub const MAX_LISTED: usize = 1_000;
/// How long it is waited for what others have said. 500 ms; then this replica's own clients are the answer.
const TOLD_WITHIN: Duration = Duration::from_millis(500);
/// Bytes of names that a replica says of a channel, of users and of rooms each. 512 KiB; of what is beyond it only says how many they
/// are, and they count as if no other replica had them.
const SAID: usize = 512 * 1024;

/// Who is connected to a channel.
pub(crate) struct Counted {
    /// By the rooms' keys.
    pub rooms: HashMap<RoomKey, usize>,
    /// `{connections, uniqueUsers, users: [{user, connections}], roomCount, rooms: [{name, members}], replicas: {answered, of}}`.
    pub json: Json,
    /// Whose clients that are.
    pub answered: Answered,
}

/// What one replica says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Said {
    connections: usize,
    users: BTreeMap<String, usize>,
    /// Name, values and members.
    rooms: Vec<(String, Vec<String>, usize)>,
    /// Those beside the ones that are named.
    more_users: usize,
    more_rooms: usize,
}

/// The last count of each channel that was asked for; those of channels that are gone leave with the next count.
#[derive(Default)]
pub struct Counts(Mutex<HashMap<ChannelName, Arc<Last>>>);

/// The last count of a channel, and when. While it is counted, others wait for that count.
type Last = tokio::sync::Mutex<Option<(Instant, Arc<Counted>)>>;

impl Counts {
    fn last(&self, channel: &ChannelName) -> Arc<Last> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = |last: &Arc<Last>| {
            let last = last.try_lock();
            last.is_ok_and(|last| last.as_ref().is_none_or(|(at, _)| at.elapsed() >= FRESH))
        };
        known.retain(|of, last| of == channel || !is_old(last));
        Arc::clone(known.entry(channel.clone()).or_default())
    }
}

impl<A: Adapter> Shared<A> {
    /// Who is connected to a channel, or was [`FRESH`] ago.
    pub(crate) async fn counted(&self, channel: &Channel) -> Arc<Counted> {
        let last = self.counts.last(&channel.name);
        let mut last = last.lock().await;
        if let Some((at, counted)) = &*last
            && at.elapsed() < FRESH
        {
            return Arc::clone(counted);
        }
        let counted = Arc::new(self.count(channel).await);
        *last = Some((Instant::now(), Arc::clone(&counted)));
        counted
    }

    async fn count(&self, channel: &Channel) -> Counted {
        let mut total = Total::default();
        total.add(Said::all(self.hub.presence(&channel.name)));
        if !self.adapter.is_shared() {
            return total.counted(channel, Answered::ALONE);
        }
        let (mut answered, live) = self.replicas.known();
        let told = self.adapter.told(ChannelRef::of(channel), &live);
        match tokio::time::timeout(TOLD_WITHIN, told).await {
            Ok(Ok(told)) => {
                let said = told.iter().filter_map(|said| serde_json::from_str(said).ok());
                said.for_each(|said| total.add(said));
            }
            _ => answered.answered = 1,
        }
        self.metrics.silent("read", answered.missing());
        total.counted(channel, answered)
    }
}

impl Said {
    /// All of it.
    fn all(presence: Presence) -> Self {
        let rooms = presence.rooms.into_iter().map(|(room, members)| {
            let values = room.values.iter().map(|value| value.to_string());
            (room.name.to_string(), values.collect(), members)
        });
        Self {
            connections: presence.connections,
            users: presence.users,
            rooms: rooms.collect(),
            ..Self::default()
        }
    }

    /// As much of it as is said to others.
    pub(crate) fn bounded(presence: Presence) -> Self {
        let mut said = Self::all(presence);
        let mut left = SAID;
        let mut fits = |bytes: usize| {
            left = left.saturating_sub(bytes);
            left > 0
        };
        let (users, rooms) = (said.users.len(), said.rooms.len());
        said.users.retain(|user, _| fits(user.len()));
        left = SAID;
        let mut fits = |bytes: usize| {
            left = left.saturating_sub(bytes);
            left > 0
        };
        said.rooms
            .retain(|(name, values, _)| fits(name.len() + values.iter().map(String::len).sum::<usize>()));
        said.more_users = users - said.users.len();
        said.more_rooms = rooms - said.rooms.len();
        said
    }

    /// As text.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether nobody is there.
    pub(crate) fn is_empty(&self) -> bool {
        self.connections == 0 && self.rooms.is_empty()
    }
}

/// What several replicas say, added up.
#[derive(Default)]
struct Total {
    connections: usize,
    users: BTreeMap<String, usize>,
    rooms: HashMap<RoomKey, usize>,
    more_users: usize,
    more_rooms: usize,
}

impl Total {
    fn add(&mut self, said: Said) {
        self.connections += said.connections;
        self.more_users += said.more_users;
        self.more_rooms += said.more_rooms;
        for (user, connections) in said.users {
            *self.users.entry(user).or_default() += connections;
        }
        for (name, values, members) in said.rooms {
            let room = RoomKey {
                name: name.as_str().into(),
                values: values.into_iter().map(String::into_boxed_str).collect(),
            };
            *self.rooms.entry(room).or_default() += members;
        }
    }

    fn counted(self, channel: &Channel, answered: Answered) -> Counted {
        let shown = |(room, members): (&RoomKey, &usize)| Some((channel.lobby.shown(room)?, *members));
        let mut rooms: Vec<_> = self.rooms.iter().filter_map(shown).collect();
        rooms.sort_unstable();
        let rooms = rooms.iter().take(MAX_LISTED);
        let users = self.users.iter().take(MAX_LISTED);
        let json = Json::from_value(&json!({
            "connections": self.connections,
            "uniqueUsers": self.users.len() + self.more_users,
            "users": users.map(|(user, connections)| json!({ "user": user, "connections": connections })).collect::<Vec<_>>(),
            "roomCount": self.rooms.len() + self.more_rooms,
            "rooms": rooms.map(|(name, members)| json!({ "name": name, "members": members })).collect::<Vec<_>>(),
            "replicas": answered,
        }));
        Counted {
            rooms: self.rooms,
            json,
            answered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presence(users: &[(&str, usize)], rooms: &[(&str, usize)]) -> Presence {
        let room = |value: &str| RoomKey {
            name: "r".into(),
            values: [Box::from(value)].into(),
        };
        Presence {
            connections: users.iter().map(|(_, connections)| connections).sum::<usize>() + 1,
            users: users
                .iter()
                .map(|(user, connections)| ((*user).to_owned(), *connections))
                .collect(),
            rooms: rooms.iter().map(|(value, members)| (room(value), *members)).collect(),
        }
    }

    #[test]
    fn what_replicas_say_adds_up_and_a_user_of_both_is_one() {
        let mut total = Total::default();
        total.add(Said::all(presence(&[("ann", 1), ("bob", 2)], &[("a", 2), ("b", 1)])));
        let said = Said::bounded(presence(&[("ann", 3)], &[("a", 1), ("c", 4)]));
        total.add(serde_json::from_str(&said.text()).unwrap());
        assert_eq!(total.connections, 8);
        assert_eq!(
            total.users,
            BTreeMap::from([("ann".to_owned(), 4), ("bob".to_owned(), 2)])
        );
        let mut rooms: Vec<_> = total
            .rooms
            .iter()
            .map(|(room, members)| (&*room.values[0], *members))
            .collect();
        rooms.sort_unstable();
        assert_eq!(rooms, [("a", 3), ("b", 1), ("c", 4)]);
        assert_eq!((total.more_users, total.more_rooms), (0, 0));
    }

    #[test]
    fn what_is_said_of_a_channel_is_bounded_and_says_how_many_more_there_are() {
        let long: Vec<_> = (0..600)
            .map(|number| format!("{number:04}{}", "x".repeat(1_020)))
            .collect();
        let named: Vec<_> = long.iter().map(|name| (name.as_str(), 1)).collect();
        let said = Said::bounded(presence(&named, &named));
        assert!(said.text().len() < 2 * SAID + 64 * 1024, "{}", said.text().len());
        assert!(said.more_users > 0 && said.more_rooms > 0);
        assert_eq!(said.users.len() + said.more_users, 600);
        assert_eq!(said.rooms.len() + said.more_rooms, 600);
        assert_eq!(said.connections, 601, "all are counted");
    }
}
