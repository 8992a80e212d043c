//! What replicas share is asked for a client that comes, and told of one that goes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::identify::NotAdmitted;
use super::resume::NotNow;
use super::{Guest, Namespace};
use crate::adapter::{Adapter, ChannelRef, SessionChange};
use crate::sessions::shared::write;

/// Longest that a CONNECT is held for a Redis that is away: 20 s. With a turn and a permit before it that is less than the 45 s
/// after which a connection without CONNECT is closed.
pub(super) const HOLD: Duration = Duration::from_secs(20);
/// Pause before it is tried again. 250 ms.
const PAUSE: Duration = Duration::from_millis(250);

impl<A: Adapter> Namespace<A> {
    /// What may pass holds the CONNECT: a client whose CONNECT is refused never tries again.
    pub(super) async fn hold<T, F>(&self, until: Instant, attempt: impl Fn() -> F) -> Result<T, NotAdmitted>
    where
        F: Future<Output = Result<T, NotNow>>,
    {
        let mut waits = None;
        loop {
            match attempt().await {
                Ok(done) => return Ok(done),
                Err(NotNow::RoomsFull(_)) => return Err(NotAdmitted::ForNow("rooms_full")),
                Err(NotNow::TakenOver) => return Err(NotAdmitted::ForNow("taken_over")),
                Err(NotNow::Unavailable(error)) if Instant::now() >= until => {
                    tracing::warn!(channel = %self.channel, %error, "a client can not connect now and is closed: it comes back");
                    return Err(NotAdmitted::ForNow("unavailable"));
                }
                Err(NotNow::Unavailable(_)) => {
                    waits.get_or_insert_with(|| self.shared.metrics.connect_waits("redis"));
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Writes down how a client went, where replicas share its session. What does not come through is made up for by what the
    /// client says itself.
    pub(super) fn part(&self, guest: &Guest, change: SessionChange<'static>) {
        let is_shared = self.shared.adapter.is_shared() && guest.may_come_back;
        let Some(channel) = self.channel().filter(|_| is_shared) else {
            return;
        };
        let (shared, session, generation) = (Arc::clone(&self.shared), Arc::clone(&guest.session), guest.generation);
        tokio::spawn(async move {
            let written = write(&shared.adapter, ChannelRef::of(&channel), &session, generation, change);
            if let Err(error) = written.await {
                tracing::debug!(channel = %channel.name, %error, "how a client went is not written down");
            }
        });
    }
}
