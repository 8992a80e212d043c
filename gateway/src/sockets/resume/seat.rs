//! The place in the hub of a client that is about to connect.

use std::sync::Arc;

use aldis_core::room::RoomKey;
use aldis_crds::names::ChannelName;

use crate::adapter::{Hosted, Position};
use crate::hub::{Client, ClientId, Hub, Parted, RoomLimits, RoomsFull};
use crate::metrics::Metrics;

/// A client in the hub, until it is told to leave. One that never connects is out again when this is dropped.
pub(in crate::sockets) struct Seat {
    hub: Arc<Hub<Arc<Metrics>>>,
    pub(super) channel: ChannelName,
    pub(in crate::sockets) id: ClientId,
    /// Where it entered.
    pub(super) position: Position,
    /// The rooms that it entered.
    _hosted: Hosted,
}

impl Seat {
    /// Into the hub and these rooms, which are hosted; what comes for the client is held from now on.
    pub(super) fn enter(
        hub: &Arc<Hub<Arc<Metrics>>>,
        channel: &ChannelName,
        rooms: &[RoomKey],
        hosted: Hosted,
        limits: RoomLimits,
    ) -> Result<Self, RoomsFull> {
        hub.reach(channel, &hosted.at);
        let (id, position) = hub.enter(channel, rooms, limits)?;
        Ok(Self {
            hub: Arc::clone(hub),
            channel: channel.clone(),
            id,
            position,
            _hosted: hosted,
        })
    }

    /// The client is connected. Gives whether it still has its place.
    #[must_use]
    pub(super) fn attach(&self, client: Box<dyn Client>) -> bool {
        self.hub.attach(&self.channel, self.id, client)
    }

    /// Out of the hub; gives how far it had come, where it was still there.
    pub(in crate::sockets) fn leave(&self) -> Option<Parted> {
        self.hub.disconnect(&self.channel, self.id)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.leave();
    }
}
