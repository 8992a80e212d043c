//! Who is there: counts of a channel's clients here, and ways to send some of them away.

use std::collections::BTreeMap;

use aldis_core::room::RoomKey;
use aldis_crds::names::ChannelName;

use super::clients::Clients;
use super::{Client, ClientId, CloseReason, Hub, Observe};

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
    /// One connection, by the id that its client knows.
    Socket(&'a str),
}

impl<O: Observe> Hub<O> {
    /// How often it has changed who is connected to a channel here, or in which room.
    pub fn changes(&self, channel: &ChannelName) -> u64 {
        self.with(channel, |clients| clients.changes)
    }

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
                Whom::User(user) => those(clients, |client| client.user() == Some(user)),
                Whom::Socket(socket) => those(clients, |client| client.socket() == Some(socket)),
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

/// Connected clients that are such.
fn those(clients: &Clients, such: impl Fn(&dyn Client) -> bool) -> Vec<ClientId> {
    let members = clients.clients.iter();
    let such = members.filter(|(_, member)| member.link.client.get().is_some_and(|client| such(&**client)));
    such.map(|(id, _)| *id).collect()
}
