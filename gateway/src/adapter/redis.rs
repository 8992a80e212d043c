//! The adapter in Redis, which replicas share.
//!
//! ```text
//! append   units → one script: marks, seq, history of the rooms, SPUBLISH        scripts/append.lua
//! host     SSUBSCRIBE rooms → a fence: from here on all of it comes               subscriber.rs, scripts/host.lua
//! publish  pushed → gap? another epoch? → hub, in the order of seq               channel.rs
//! read     rooms after a place → a fence: all before it has been published here  scripts/read.lua
//! ```
//! Of a Redis Cluster each channel is at the node that has its hash slot (nodes.rs); all of this is as if that node were alone.
//!
//! Publish/subscribe only hints, what Redis keeps is the truth: a lost subscription, a gap in a room's chain, another epoch or
//! a probe that does not come back make this replica read what it has missed, and go on from there.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aldis_core::identity::Identity;
use aldis_core::room::RoomKey;
use aldis_core::time::Millis;
use redis::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Adapter, AdapterError, Appended, Bound, ChannelRef, Hosted, Incomplete, Mark, Missed, Numbered, Position, Publish,
    SessionChange, SharedClaim, Since, TopicPartition, Unit, Written,
};
use crate::clock::Clock;
use crate::sabotage::Rule;
use crate::sessions::{Generation, Pid};

mod answer;
mod append;
mod census;
mod channel;
mod cluster;
mod endpoint;
mod erasure;
mod fork;
mod here;
mod keys;
mod leases;
mod nodes;
mod packed;
mod peers;
mod scripts;
mod server;
mod sessions;
mod subscriber;

pub use endpoint::Endpoint;
pub use here::Link;
pub use peers::Peers;

use answer::{Answer, ReadBack};
use append::{Taken, mark_field};
use keys::{EVERYONE, Keys};
use nodes::Nodes;
use scripts::{Call, outcome};
use server::Server;

/// Most that a channel catches up with at once, 10,000 deliveries and 16 MiB: what is more its clients get by coming back.
const CATCH_UP: Bound = Bound {
    deliveries: 10_000,
    bytes: 16 * 1024 * 1024,
};

/// What a room's place is kept for beyond twice its history's ttl. 60 s: a room that keeps no history has a place too.
const ROOM_TTL_SPARE: i64 = 60_000;

/// How many deliveries one sweep drops at most. 1,000: some ms; the next one goes on.
const SWEEP_DELIVERIES: usize = 1_000;

/// Longest that hosting a room waits for a Redis that is away, and for a channel that catches up. 3 s; then the client is told
/// to try again.
const HOST_PATIENCE: Duration = Duration::from_secs(3);
/// Pause before either is tried again. 50 ms.
const RETRY: Duration = Duration::from_millis(50);

/// A millisecond has so many numbers, when an epoch begins: more than Redis can give out in it, so each epoch begins above the
/// last. That keeps them below 2^53, which scripts count up to, until 2300.
const SEQ_PER_MS: u64 = 1 << 10;
/// Milliseconds are counted from 2025-01-01, so numbers stay short.
const SEQ_SINCE_MS: u64 = 1_735_689_600_000;

/// Numbers deliveries in Redis, and follows what is published there.
pub struct RedisAdapter<P> {
    /// Uid of the gateway: gateways that share a Redis share nothing else.
    gateway: String,
    nodes: Arc<Nodes<P>>,
    taken: Mutex<Taken>,
    clock: Clock,
}

impl<P: Publish> RedisAdapter<P> {
    /// Follows Redis until `stop`; Redis need not be there yet.
    pub fn start(gateway: &str, endpoint: Endpoint, publish: Arc<P>, clock: Clock, stop: CancellationToken) -> Self {
        Self {
            gateway: gateway.to_owned(),
            nodes: Nodes::start(endpoint, publish, Keys::of(gateway, "").orders(), stop),
            taken: Mutex::default(),
            clock,
        }
    }

    /// From the next connection on it is reached so; those that are there stay.
    pub fn reach(&self, endpoint: Endpoint) {
        self.nodes.reach(endpoint);
    }

    /// Follows whether this replica hears what is published.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.nodes.link()
    }

    /// How many deliveries have been pushed to this replica; one that goes to several of its rooms counts for each.
    pub fn pushed(&self) -> u64 {
        self.nodes.here.pushed.load(Ordering::Relaxed)
    }

    fn keys(&self, channel: &ChannelRef<'_>) -> Keys {
        if Rule::ChannelState.is_on() {
            Keys::of(&self.gateway, channel.uid)
        } else {
            Keys::of("", &channel.name.to_string())
        }
    }

    /// Runs a script of a channel; where this is not the Redis that wrote last, in a new epoch.
    async fn run(&self, keys: &Keys, call: &Call) -> Result<Vec<Value>, AdapterError> {
        run(&self.nodes.of(keys).await?.server, keys, call).await
    }

    /// Runs a script that needs no epoch.
    async fn run_as_it_is(&self, keys: &Keys, call: &Call) -> Result<Vec<Value>, AdapterError> {
        self.nodes.of(keys).await?.server.run(call).await
    }

    /// Whether clients here have had what Redis has forgotten.
    async fn is_forked(&self, channel: &ChannelRef<'_>) -> bool {
        let keys = self.keys(channel);
        let node = self.nodes.of(&keys).await;
        node.is_ok_and(|node| node.subscriber.is_forked(&keys))
    }

    /// A client here is given what it has missed. `false` where Redis may have forgotten it meanwhile.
    async fn gives(&self, channel: &ChannelRef<'_>, missed: &Missed) -> bool {
        let keys = self.keys(channel);
        let node = self.nodes.of(&keys).await;
        node.is_ok_and(|node| node.subscriber.gives(&keys, &missed.0))
    }

    /// Reads, and waits until everything before it has been published here.
    async fn read_fenced(
        &self,
        channel: &ChannelRef<'_>,
        epoch: &str,
        since: &Since,
        bound: Bound,
    ) -> Result<ReadBack, AdapterError> {
        let keys = self.keys(channel);
        let node = self.nodes.of(&keys).await?;
        let fence = node.subscriber.fence(&keys, Vec::new())?;
        let mut call = read_call(&keys, epoch, &node.subscriber.fences(&keys), fence.token, bound)
            .arg(EVERYONE)
            .arg(since.everyone);
        for (room, after) in &since.rooms {
            call = call.arg(keys::room(room)).arg(after);
        }
        let answer = ReadBack::of(&run(&node.server, &keys, &call).await?);
        if let ReadBack::Read { .. } = answer {
            fence.passed().await?;
        }
        Ok(answer)
    }
}

/// Runs a script of a channel; where this is not the Redis that wrote last, in a new epoch.
async fn run(server: &Server, keys: &Keys, call: &Call) -> Result<Vec<Value>, AdapterError> {
    let answer = server.run(call).await?;
    if outcome(&answer) != "epoch" {
        return Ok(answer);
    }
    let mint = Call::new(scripts::mint(), keys)
        .arg(new_epoch())
        .arg(first_seq(Clock::default().now()));
    server.run(&mint).await?;
    let answer = server.run(call).await?;
    match outcome(&answer) {
        "epoch" => Err(AdapterError::Unavailable("redis changes under our hands".to_owned())),
        _ => Ok(answer),
    }
}

fn read_call(keys: &Keys, epoch: &str, fences: &str, token: u64, bound: Bound) -> Call {
    Call::new(scripts::read(), keys)
        .arg(epoch)
        .arg(fences)
        .arg(token)
        .arg(bound.deliveries)
        .arg(bound.bytes)
}

/// For how long a room's place is kept after the last replica that hosts it said so, in ms.
fn room_ttl(channel: &ChannelRef<'_>) -> i64 {
    channel
        .keep
        .ttl_ms
        .max(0)
        .saturating_mul(2)
        .saturating_add(ROOM_TTL_SPARE)
}

/// A name that no other epoch has.
fn new_epoch() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// Where an epoch that begins now begins to count.
fn first_seq(now: Millis) -> u64 {
    let now = u64::try_from(now.0).unwrap_or(0);
    now.saturating_sub(SEQ_SINCE_MS) * SEQ_PER_MS
}

impl<P: Publish> Adapter for RedisAdapter<P> {
    async fn host(&self, channel: ChannelRef<'_>, rooms: &[RoomKey]) -> Result<Hosted, AdapterError> {
        let keys = self.keys(&channel);
        let deadline = Instant::now() + HOST_PATIENCE;
        loop {
            // Another node may have the channel meanwhile.
            let hosted = match self.nodes.of(&keys).await {
                Ok(node) => {
                    let hosting = node.subscriber.host(&channel, &keys, rooms, room_ttl(&channel));
                    hosting.await
                }
                Err(error) => Err(error),
            };
            match hosted {
                Err(_) if Instant::now() < deadline => tokio::time::sleep(RETRY).await,
                hosted => return hosted,
            }
        }
    }

    async fn append(&self, channel: ChannelRef<'_>, units: Vec<Unit>) -> Result<Appended, AdapterError> {
        self.append_all(&channel, &units).await
    }

    async fn check_mark(
        &self,
        channel: ChannelRef<'_>,
        topic: &Arc<str>,
        partition: i32,
        gone: Option<i64>,
    ) -> Result<Mark, AdapterError> {
        let keys = self.keys(&channel);
        let call = Call::new(scripts::mark(), &keys)
            .arg(mark_field(topic, partition))
            .arg(gone.map(|mark| mark.to_string()).unwrap_or_default());
        let answer = self.run(&keys, &call).await?;
        let mark = Answer(&answer).text(1).parse();
        Ok(match (outcome(&answer), mark) {
            ("dropped", Ok(mark)) => {
                self.forget_beyond(&keys, topic, partition, -1);
                Mark::Dropped(mark)
            }
            (_, Ok(mark)) => {
                // A Redis that has less than that, when this replica first appends, has forgotten it.
                self.take_note(&keys, topic, partition, mark);
                Mark::At(mark)
            }
            (_, Err(_)) => Mark::None,
        })
    }

    async fn stand_in(&self, owned: Option<&[TopicPartition]>) -> Result<Vec<TopicPartition>, AdapterError> {
        self.lease(owned).await
    }

    fn restarts(&self) -> watch::Receiver<u64> {
        self.nodes.here.signals.restarts.subscribe()
    }

    async fn read(
        &self,
        channel: ChannelRef<'_>,
        epoch: &str,
        since: &Since,
        bound: Bound,
    ) -> Result<Missed, Incomplete> {
        // Clients here have had what Redis has forgotten: that comes again first. It was said when it began.
        if self.is_forked(&channel).await {
            return Err(Incomplete::Unavailable);
        }
        let answer = self.read_fenced(&channel, epoch, since, bound).await.map_err(|error| {
            tracing::warn!(channel = %channel.name, %error, "what a client has missed can not be read");
            Incomplete::Unavailable
        })?;
        match answer {
            ReadBack::Unknown => Err(Incomplete::Epoch),
            ReadBack::Dropped => Err(Incomplete::History),
            ReadBack::Backlog => Err(Incomplete::TooMuch),
            ReadBack::Read { beyond, .. } if !beyond.is_empty() => Err(Incomplete::Epoch),
            ReadBack::Read { broken, .. } if !broken.is_empty() => Err(Incomplete::History),
            ReadBack::Read { epoch, deliveries, .. } => {
                let numbered = deliveries.into_iter().map(|(seq, bytes)| {
                    let (delivery, source) = packed::unpack(&bytes).ok_or(Incomplete::History)?;
                    let position = Position {
                        epoch: Arc::clone(&epoch),
                        seq,
                    };
                    Ok(Arc::new(Numbered {
                        position,
                        delivery,
                        source: Some(source),
                    }))
                });
                let missed = Missed(numbered.collect::<Result<_, Incomplete>>()?);
                match self.gives(&channel, &missed).await {
                    true => Ok(missed),
                    false => Err(Incomplete::Unavailable),
                }
            }
        }
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn claim_session(
        &self,
        channel: ChannelRef<'_>,
        pid: &Pid,
        identity: &Identity,
    ) -> Result<SharedClaim, AdapterError> {
        self.claim(&channel, pid, identity).await
    }

    async fn write_session(
        &self,
        channel: ChannelRef<'_>,
        pid: &Pid,
        generation: Generation,
        change: SessionChange<'_>,
    ) -> Result<Written, AdapterError> {
        self.write(&channel, pid, generation, change).await
    }

    async fn forget(&self, channel: ChannelRef<'_>) {
        let keys = self.keys(&channel);
        if let Err(error) = self.run_as_it_is(&keys, &Call::new(scripts::forget(), &keys)).await {
            tracing::warn!(channel = %channel.name, %error, "what a channel that is gone has kept is not dropped; it expires");
        }
    }

    /// Each channel is counted alone here: those of a tenant are in places of their own.
    fn set_history_bytes(&self, _: HashMap<String, usize>) {}

    async fn drop_old(&self, channel: ChannelRef<'_>) {
        let keys = self.keys(&channel);
        let call = Call::new(scripts::sweep(), &keys)
            .arg(self.clock.now().0)
            .arg(channel.keep.ttl_ms)
            .arg(channel.keep.bytes)
            .arg(SWEEP_DELIVERIES);
        // What is not dropped now is dropped by the next one, or by the next delivery.
        if let Err(error) = self.run_as_it_is(&keys, &call).await {
            tracing::debug!(channel = %channel.name, %error, "what is too old is not dropped yet");
        }
    }
}
