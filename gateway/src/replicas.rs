//! replicas: what gateways that share a Redis know of each other, so that limits and answers hold over all of them.
//!
//! ```text
//! places   clients of a tenant: asked for at CONNECT, in one step with all replicas' counts
//! beat     every BEAT: I am there, and want so much of each rate → who else is there, and what they want → this one's shares
//! tell     as it changes: who is connected here, of channels of which somebody may ask
//! orders   whom to send away, to all at once
//! ```
//! Nothing of it is asked for each event or delivery. Where Redis does not answer, each replica counts for itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use tokio::time::MissedTickBehavior;

use crate::adapter::Adapter;
use crate::adapter::census::{Heard, Peer};
use crate::sockets::Shared;

pub mod orders;
pub mod places;
pub mod shares;
mod tell;

use orders::Answered;
use places::Places;
use shares::Demands;

/// How often a replica says that it is there, and hears of the others. 500 ms.
pub const BEAT: Duration = Duration::from_millis(500);
/// Beats after which what a replica has of tenants' clients is said again: 2, each second, and it may be late twice.
const SAY_PLACES: u32 = 2;
/// How long a replica counts as live after it said so, and what it heard of others holds. 3 s: five beats may be late.
pub const LIVE: Duration = Duration::from_secs(3);
/// Rates of which a replica says what it wants. 1,000, those that it wants most of; of others it takes an even share.
const RATES_SAID: usize = 1_000;
/// Tenants of which it is said at once what this replica has. 32.
const TENANTS_AT_ONCE: usize = 32;

/// What this replica knows of the others, and has of what they share.
#[derive(Debug, Default)]
pub struct Replicas {
    /// Places of clients.
    pub places: Places,
    heard: Mutex<Option<(Instant, Vec<Peer>)>>,
}

impl Replicas {
    /// The others that are live, as far as is known.
    fn live(&self, now: Instant) -> Vec<Peer> {
        let heard = self.lock();
        let Some((at, peers)) = &*heard else { return Vec::new() };
        let since = now.saturating_duration_since(*at);
        let is_live = |peer: &&Peer| Duration::from_millis(peer.age_ms) + since <= LIVE;
        peers.iter().filter(is_live).cloned().collect()
    }

    /// How many replicas there are and how many of them are live, this one among them; and which others that are.
    pub fn known(&self) -> (Answered, Vec<Arc<str>>) {
        let live: Vec<_> = self.live(Instant::now()).into_iter().map(|peer| peer.replica).collect();
        let answered = Answered {
            answered: 1 + live.len(),
            ..self.alone()
        };
        (answered, live)
    }

    /// None of the others has answered.
    pub fn alone(&self) -> Answered {
        let others = self.lock().as_ref().map_or(0, |(_, peers)| peers.len());
        Answered {
            answered: 1,
            of: 1 + others,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Instant, Vec<Peer>)>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says what this replica has, as it changes, and that it still has it, for as long as this runs.
pub async fn keep<A: Adapter>(shared: Arc<Shared<A>>) {
    if shared.adapter.is_shared() {
        tokio::join!(keep_places(&shared), keep_beat(&shared), tell::keep(&shared));
    }
}

async fn keep_places<A: Adapter>(shared: &Arc<Shared<A>>) {
    let tenants = futures_util::stream::unfold((), async |()| Some((shared.replicas.places.todo().await, ())));
    let tenants = tenants.flat_map(futures_util::stream::iter);
    tenants
        .for_each_concurrent(TENANTS_AT_ONCE, |tenant| tenant.say(&shared.adapter))
        .await;
}

async fn keep_beat<A: Adapter>(shared: &Arc<Shared<A>>) {
    let mut every = tokio::time::interval(BEAT);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ordered = shared.adapter.ordered();
    let (mut round, mut last) = (0_u32, String::new());
    loop {
        let is_ordered = tokio::select! {
            _ = every.tick() => false,
            Ok(()) = ordered.changed() => true,
        };
        if !is_ordered {
            round = round.wrapping_add(1);
            if round.is_multiple_of(SAY_PLACES) {
                shared.replicas.places.due();
            }
        }
        beat(shared, &mut last).await;
    }
}

/// One beat: rates are shared by what was heard, and orders carried out.
async fn beat<A: Adapter>(shared: &Arc<Shared<A>>, last: &mut String) {
    let unsaid = shares::unsaid(shared.replicas.live(Instant::now()).len() + 1);
    let mine = most(shared.rates.demands(Instant::now(), unsaid));
    let said = serde_json::to_string(&mine).unwrap_or_default();
    match shared.adapter.beat(&said, last).await {
        Ok(Heard {
            peers,
            orders,
            last: now,
        }) => {
            *shared.replicas.lock() = Some((Instant::now(), peers));
            *last = now;
            for order in orders {
                shared.carry_out(&order).await;
            }
        }
        Err(error) => tracing::debug!(%error, "other replicas are not heard"),
    }
    let live = shared.replicas.live(Instant::now());
    let wanted: Vec<Demands> = live
        .iter()
        .map(|peer| serde_json::from_str(&peer.demands).unwrap_or_default())
        .collect();
    let shares = shares::shares(&mine, &wanted);
    shared.rates.share(&shares, shares::even(live.len() + 1));
    shared.metrics.replicas(live.len() + 1);
}

/// Those that are wanted most, as many as are said.
fn most(demands: Demands) -> Demands {
    let mut demands: Vec<_> = demands.into_iter().collect();
    demands.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    demands.truncate(RATES_SAID);
    demands.into_iter().collect()
}
