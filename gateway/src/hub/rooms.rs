//! The rooms of one channel that have clients, and how many there may be.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aldis_core::room::RoomKey;
use indexmap::IndexMap;
use thiserror::Error;

use super::ClientId;
use super::clients::Link;

/// How many rooms there may be here. What is lowered ends no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomLimits {
    /// That one client is in.
    pub of_client: usize,
    /// That have clients of one channel.
    pub of_channel: usize,
    /// That have clients of any channel of one tenant.
    pub of_tenant: usize,
}

impl RoomLimits {
    /// As many as anybody wants.
    pub const NONE: Self = Self {
        of_client: usize::MAX,
        of_channel: usize::MAX,
        of_tenant: usize::MAX,
    };
}

/// A channel or its tenant has as many rooms as it may have: a room that nobody is in finds no place for now.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("this channel, or its tenant, has no place for another room now: try again later")]
pub struct RoomsFull;

/// How many rooms of a tenant have clients, over all its channels.
#[derive(Clone, Debug, Default)]
pub(super) struct TenantRooms(Arc<AtomicUsize>);

/// Rooms with their clients. One without is not there.
#[derive(Default)]
pub(super) struct Rooms {
    rooms: HashMap<RoomKey, IndexMap<ClientId, Arc<Link>>>,
    tenant: TenantRooms,
}

impl Rooms {
    pub(super) fn of(tenant: TenantRooms) -> Self {
        Self {
            rooms: HashMap::new(),
            tenant,
        }
    }

    /// Takes a place for each of these rooms (each named once) that has no clients yet; who comes into it is added next, under
    /// the same lock.
    pub(super) fn take<'r>(
        &self,
        rooms: impl IntoIterator<Item = &'r RoomKey>,
        limits: RoomLimits,
    ) -> Result<(), RoomsFull> {
        let new = rooms.into_iter().filter(|room| !self.rooms.contains_key(room)).count();
        if new > 0 && self.rooms.len() + new > limits.of_channel {
            return Err(RoomsFull);
        }
        let fits = |rooms: usize| (new == 0 || rooms + new <= limits.of_tenant).then_some(rooms + new);
        let taken = self.tenant.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.map(drop).map_err(|_| RoomsFull)
    }

    /// Adds a client to a room that has clients, or a place.
    pub(super) fn add(&mut self, room: RoomKey, id: ClientId, link: &Arc<Link>) {
        self.rooms.entry(room).or_default().insert(id, Arc::clone(link));
    }

    /// Takes a client out of a room. One that nobody is left in gives its place back.
    pub(super) fn remove(&mut self, room: &RoomKey, id: ClientId) {
        let Some(members) = self.rooms.get_mut(room) else {
            return;
        };
        members.swap_remove(&id);
        if members.is_empty() {
            self.rooms.remove(room);
            self.tenant.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(super) fn get(&self, room: &RoomKey) -> Option<&IndexMap<ClientId, Arc<Link>>> {
        self.rooms.get(room)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&RoomKey, &IndexMap<ClientId, Arc<Link>>)> {
        self.rooms.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.rooms.len()
    }
}
