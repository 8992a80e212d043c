//! Whether there is room for a client now: its turn in a herd, and a permit within the limits.

use std::sync::Arc;
use std::time::Instant;

use socketioxide::socket::Socket;

use super::Namespace;
use super::identify::{NOT_SERVED, NotAdmitted};
use crate::adapter::Adapter;
use crate::adapter::census::Asked;
use crate::limits::{Busy, Full, HOLD, LOOK_EVERY, Peer, Permit, Permits, Visit};

impl<A: Adapter> Namespace<A> {
    /// The turn of a CONNECT: in a herd, one waits.
    pub(super) async fn turn(&self) -> Result<(), NotAdmitted> {
        let _waits = self.shared.metrics.connect_waits("turn");
        let turn = self.shared.entrance.turn().await;
        turn.map_err(|_| NotAdmitted::ForNow(Busy::Line.as_str()))
    }

    /// A permit within the limits that are in force. Where there is none it is waited for: somebody may go. `from`: the replica
    /// that had the connection before this one, whose places it takes over.
    pub(super) async fn permit(
        &self,
        socket: &Socket,
        user: Option<&str>,
        from: Option<&Arc<str>>,
    ) -> Result<Permit, NotAdmitted> {
        let extensions = &socket.req_parts().extensions;
        let peer = super::peer(socket);
        let is_gone = || extensions.get::<Visit>().is_some_and(Visit::is_over);
        let mut waits = None;
        let until = Instant::now() + HOLD;
        loop {
            match self.take_permit(peer, user, from).await? {
                Ok(permit) => return Ok(permit),
                Err(full) if is_gone() || Instant::now() >= until => return Err(NotAdmitted::ForNow(full.as_str())),
                Err(_) => waits.get_or_insert_with(|| self.shared.metrics.connect_waits("permit")),
            };
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// A permit here, then within what all replicas have.
    async fn take_permit(
        &self,
        peer: Peer,
        user: Option<&str>,
        from: Option<&Arc<str>>,
    ) -> Result<Result<Permit, Full>, NotAdmitted> {
        let (shared, name) = (&self.shared, &self.channel);
        let channel = self.channel().ok_or(NOT_SERVED)?;
        let tenant = shared.table.load().tenant(&name.namespace);
        let permit = match shared.permits.take(name, peer, user, &tenant, &channel.limits) {
            Ok(permit) if shared.adapter.is_shared() => permit,
            here => return Ok(here),
        };
        let (of, places): (Vec<_>, _) = Permits::wanted(name, peer, user, &tenant, &channel.limits)
            .into_iter()
            .unzip();
        let asked = Asked {
            places,
            from: from.cloned(),
        };
        Ok(match shared.replicas.places.take(&name.namespace, asked).await {
            Ok(held) => {
                if held.alone {
                    shared.metrics.let_in_alone(&name.namespace);
                }
                permit.hold(held);
                Ok(permit)
            }
            Err(place) => Err(of.get(place).copied().unwrap_or(Full::Tenant)),
        })
    }
}
