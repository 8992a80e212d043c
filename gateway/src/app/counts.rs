//! Who is connected, for the page of `aldis dev`.

use std::sync::Arc;

use aldis_crds::names::ChannelName;

use super::Shared;

/// Counts clients as often as somebody asks.
#[derive(Clone)]
pub struct Counts {
    pub(super) shared: Arc<Shared>,
}

/// A channel's clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// All connections.
    pub connections: usize,
    /// Rooms as their keys show them, and their clients; those with most clients first.
    pub rooms: Vec<(String, usize)>,
}

impl Counts {
    /// The clients of a channel, and `most` of its rooms. Nobody where there is no such channel.
    pub fn of(&self, channel: &ChannelName, most: usize) -> Counted {
        let table = self.shared.table.load();
        let Some(channel) = table.named(&channel.namespace, &channel.name) else {
            return Counted::default();
        };
        let presence = self.shared.hub.presence(&channel.name);
        let shown = |(room, members)| Some((channel.lobby.shown(&room)?, members));
        let mut rooms: Vec<(String, usize)> = presence.rooms.into_iter().filter_map(shown).collect();
        rooms.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        rooms.truncate(most);
        Counted {
            connections: presence.connections,
            rooms,
        }
    }
}
