//! Orders to all replicas: clients are sent away wherever they are connected.
//!
//! ```text
//! here     sessions that wait are not to be come back to → clients here → the order → answers, until ANSWERED_WITHIN
//! there    told at once, or by the next beat → clients there → an answer
//! ```
//! An order is kept for a while: a replica that was paused, or did not hear of it, carries it out with its next beat.

use std::sync::Arc;
use std::time::Duration;

use aldis_core::channel::Channel;
use aldis_crds::names::ChannelName;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::LIVE;
use crate::adapter::census::{Dismissed, Order};
use crate::adapter::{Adapter, ChannelRef};
use crate::hub::Whom;
use crate::sockets::Shared;

/// How long it is waited for the answers of other replicas: 2 s. Live ones answer within some ms.
pub const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// How often it is looked for them. 25 ms.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Who is to be sent away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Everybody in a room, as its key shows it.
    Room(String),
    /// All connections of a user.
    User(String),
    /// One connection, by the id that its client knows.
    Socket(String),
}

/// An order, as it goes from one replica to all others.
#[derive(Debug, Serialize, Deserialize)]
struct Dismiss {
    namespace: String,
    channel: String,
    #[serde(flatten)]
    target: Target,
}

/// How many of the replicas are in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Answered {
    /// Those that are, this one among them.
    pub answered: usize,
    /// Those that there are: that have said within the last 10 s that they are there, and have not said goodbye.
    pub of: usize,
}

impl Answered {
    /// There is no other.
    pub const ALONE: Self = Self { answered: 1, of: 1 };

    /// How many have not answered.
    pub fn missing(self) -> usize {
        self.of - self.answered.min(self.of)
    }
}

impl<A: Adapter> Shared<A> {
    /// Sends clients of a channel away, at all replicas. Gives how many connections that were, as far as answers came.
    pub(crate) async fn dismiss(&self, channel: &Arc<Channel>, target: Target) -> (usize, Answered) {
        let forbid = match &target {
            Target::Room(room) => Some(Dismissed::Room(room)),
            Target::User(user) => Some(Dismissed::User(user)),
            // Its client comes back under another id.
            Target::Socket(_) => None,
        };
        if !self.adapter.is_shared() {
            if let Some(whose) = forbid {
                self.sessions.dismiss(&channel.name, whose);
            }
            return (self.dismiss_here(channel, &target), Answered::ALONE);
        }
        if let Some(whose) = forbid
            && let Err(error) = self.adapter.dismiss_sessions(ChannelRef::of(channel), whose).await
        {
            tracing::warn!(channel = %channel.name, %error, "sessions of clients that are sent away may still be come back to");
        }
        let here = self.dismiss_here(channel, &target);
        let (there, answered) = self.order(&channel.name, target).await;
        self.metrics.silent("disconnect", answered.missing());
        (here + there, answered)
    }

    fn dismiss_here(&self, channel: &Channel, target: &Target) -> usize {
        let (hub, name) = (&self.hub, &channel.name);
        match target {
            Target::User(user) => hub.dismiss(name, Whom::User(user)),
            Target::Socket(socket) => hub.dismiss(name, Whom::Socket(socket)),
            Target::Room(room) => {
                let rooms = hub.presence(name).rooms.into_iter();
                let shown = |known: &_| channel.lobby.shown(known).is_some_and(|name| name == *room);
                let shown = rooms.filter(|(known, _)| shown(known));
                shown.map(|(known, _)| hub.dismiss(name, Whom::Room(&known))).sum()
            }
        }
    }

    /// Tells the others, and waits for their answers.
    async fn order(&self, channel: &ChannelName, target: Target) -> (usize, Answered) {
        let deadline = Instant::now() + ANSWERED_WITHIN;
        let order = Dismiss {
            namespace: channel.namespace.clone(),
            channel: channel.name.clone(),
            target,
        };
        let order = serde_json::to_string(&order).unwrap_or_default();
        let (id, peers) = match tokio::time::timeout_at(deadline, self.adapter.order(&order)).await {
            Ok(Ok(ordered)) => ordered,
            failed => {
                tracing::warn!(%channel, ?failed, "other replicas can not be told whom to send away");
                return (0, self.replicas.alone());
            }
        };
        // Who has not been heard for longer than that is not waited for: it hears of it when it is back.
        let is_live = |age: &u64| Duration::from_millis(*age) <= LIVE;
        let live = peers.iter().copied().filter(is_live).count();
        let mut answers = Vec::new();
        while answers.len() < live && Instant::now() < deadline {
            if let Ok(Ok(now)) = tokio::time::timeout_at(deadline, self.adapter.answers(&id)).await {
                answers = now;
            }
            if answers.len() < live {
                tokio::time::sleep_until(deadline.min(Instant::now() + LOOK_EVERY)).await;
            }
        }
        let answered = Answered {
            answered: 1 + answers.len(),
            of: 1 + peers.len().max(answers.len()),
        };
        (answers.iter().sum(), answered)
    }

    /// Does what another replica has ordered, and answers.
    pub(super) async fn carry_out(&self, order: &Order) {
        let Ok(dismiss) = serde_json::from_str::<Dismiss>(&order.text) else {
            tracing::warn!("a replica orders what this one does not know: is it of another version?");
            return;
        };
        let table = self.table.load_full();
        let channel = table.named(&dismiss.namespace, &dismiss.channel);
        let count = channel.map_or(0, |channel| self.dismiss_here(channel, &dismiss.target));
        if let Err(error) = self.adapter.answer(&order.id, count).await {
            tracing::debug!(%error, "an order was carried out, and its answer is lost");
        }
    }
}
