//! Who is there: counts of a channel's clients here, and ways to send some of them away.

use std::collections::BTreeMap;

use aldis_core::room::RoomKey;
use aldis_crds::names::ChannelName;

use super::{ClientId, CloseReason, Hub, Member, Observe};

/// Who is connected to a channel here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    /// All connections, also of clients without a user.
    pub connections: usize,
    /// Connections of each user, by name.
    pub users: BTreeMap<String, usize>,
    /// Clients of each room.
    pub rooms: Vec<(RoomKey, usize)>,
}

/// Whom to send away.
#[derive(Clone, Copy, Debug)]
pub enum Whom<'a> {
    /// Everybody in a room.
    Room(&'a RoomKey),
    /// All connections of a user.
    User(&'a str),
}

impl<O: Observe> Hub<O> {
    /// Counts a channel's clients.
    pub fn presence(&self, channel: &ChannelName) -> Presence {
        self.with(channel, |clients| {
            let mut presence = Presence::default();
            // Who is only about to connect has no way to it yet.
            for client in clients.clients.values().filter_map(|member| member.link.client.get()) {
                presence.connections += 1;
                if let Some(user) = client.user() {
                    *presence.users.entry(user.to_owned()).or_default() += 1;
                }
            }
            let rooms = clients.rooms.iter();
            presence.rooms = rooms.map(|(room, members)| (room.clone(), members.len())).collect();
            presence
        })
    }

    /// Disconnects clients for good: stock clients do not come back by themselves. Gives how many.
    pub fn dismiss(&self, channel: &ChannelName, whom: Whom<'_>) -> usize {
        let chosen: Vec<_> = self.with(channel, |clients| {
            let ids: Vec<ClientId> = match whom {
                Whom::Room(room) => clients
                    .rooms
                    .get(room)
                    .into_iter()
                    .flat_map(|members| members.keys().copied())
                    .collect(),
                Whom::User(user) => {
                    let members = clients.clients.iter();
                    let user_of =
                        |member: &Member| member.link.client.get().and_then(|client| client.user()) == Some(user);
                    let of_user = members.filter(|(_, member)| user_of(member));
                    of_user.map(|(id, _)| *id).collect()
                }
            };
            let links = ids.iter().filter_map(|id| clients.clients.get(id));
            links.map(|member| std::sync::Arc::clone(&member.link)).collect()
        });
        let clients = chosen.iter().filter_map(|link| link.client.get());
        let mut count = 0;
        for client in clients {
            self.observe.closed(channel, CloseReason::Dismissed);
            client.dismiss();
            count += 1;
        }
        count
    }
}
