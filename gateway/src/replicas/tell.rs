//! Who is connected here, said to the other replicas: of channels of which somebody may ask, as it changes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aldis_core::channel::Channel;
use aldis_crds::names::ChannelName;
use futures_util::StreamExt as _;
use tokio::time::MissedTickBehavior;

use super::BEAT;
use crate::adapter::{Adapter, ChannelRef};
use crate::sockets::Shared;
use crate::stats::Said;

/// How often a channel is said at most, and how often that it is as it was: 1 s. What is said holds for 3 s.
const SAID_EVERY: Duration = Duration::from_secs(1);
/// Channels that are said at once. 32.
const TOGETHER: usize = 32;

/// What was last said of a channel.
#[derive(Clone, Copy)]
struct Last {
    /// How often the channel had changed then.
    changes: u64,
    at: Instant,
    /// Whether nobody was there.
    is_empty: bool,
}

/// Says it, for as long as this runs.
pub(super) async fn keep<A: Adapter>(shared: &Arc<Shared<A>>) {
    let mut every = tokio::time::interval(BEAT);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last: HashMap<ChannelName, Last> = HashMap::new();
    loop {
        every.tick().await;
        let table = shared.table.load_full();
        let channels = table.channels().iter().filter(|channel| channel.tells_stats());
        let said = Mutex::new(HashMap::new());
        futures_util::stream::iter(channels)
            .for_each_concurrent(TOGETHER, |channel| {
                let (last, said) = (last.get(&channel.name).copied(), &said);
                async move {
                    if let Some(now) = say(shared, channel, last).await {
                        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                        said.insert(channel.name.clone(), now);
                    }
                }
            })
            .await;
        last = said.into_inner().unwrap_or_else(PoisonError::into_inner);
    }
}

/// Says what there is to say of one channel; gives what was said last. `None` where that is not known: it is said next time.
async fn say<A: Adapter>(shared: &Arc<Shared<A>>, channel: &Channel, last: Option<Last>) -> Option<Last> {
    let (changes, now) = (shared.hub.changes(&channel.name), Instant::now());
    let due = last.is_none_or(|last| now.saturating_duration_since(last.at) >= SAID_EVERY);
    let is_same = last.is_some_and(|last| last.changes == changes);
    match last {
        Some(_) if !due => return last,
        // Where nobody is, nothing has to be kept.
        Some(Last { is_empty: true, .. }) if is_same => return last,
        _ => {}
    }
    if is_same {
        let kept = shared.adapter.tell(ChannelRef::of(channel), None).await;
        return last.filter(|_| kept == Ok(true)).map(|last| Last { at: now, ..last });
    }
    let said = Said::bounded(shared.hub.presence(&channel.name));
    if said.is_empty() && last.is_none() {
        // Nobody has been there yet.
        return Some(Last {
            changes,
            at: now,
            is_empty: true,
        });
    }
    let told = shared.adapter.tell(ChannelRef::of(channel), Some(&said.text())).await;
    told.is_ok().then_some(Last {
        changes,
        at: now,
        is_empty: said.is_empty(),
    })
}
