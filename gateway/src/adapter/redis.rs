//! The adapter in Redis, which replicas share.
//!
//! ```text
//! append   units → one script: marks, seq, history of the rooms, PUBLISH         scripts/append.lua
//! host     SUBSCRIBE rooms → a fence: from here on all of it comes               subscriber.rs, scripts/host.lua
//! publish  pushed → gap? another epoch? → hub, in the order of seq               channel.rs
//! read     rooms after a place → a fence: all before it has been published here  scripts/read.lua
//! ```
//! Publish/subscribe only hints, what Redis keeps is the truth: a lost subscription, a gap in a room's chain, another epoch or
//! a probe that does not come back make this replica read what it has missed, and go on from there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aldis_core::identity::Identity;
use aldis_core::room::RoomKey;
use aldis_core::route::Audience;
use aldis_core::time::Millis;
use redis::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Adapter, AdapterError, Appended, Bound, ChannelRef, Hosted, Incomplete, Mark, Missed, Numbered, Position, Publish,
    SessionChange, SharedClaim, Since, Source, TopicPartition, Unit, Written,
};
use crate::clock::Clock;
use crate::sabotage::Rule;
use crate::sessions::{Generation, Pid};

mod answer;
mod census;
mod channel;
mod endpoint;
mod keys;
mod leases;
mod packed;
mod peers;
mod scripts;
mod server;
mod sessions;
mod subscriber;

pub use endpoint::Endpoint;
pub use peers::Peers;
pub use subscriber::Link;

use answer::{Answer, ReadBack};
use keys::{EVERYONE, Keys};
use scripts::{Call, outcome};
use server::Server;
use subscriber::Subscriber;

/// Deliveries, and bytes of them, that one script takes. 512 and 1 MiB: some ms, for which Redis does nothing else. One record
/// that makes more is taken whole.
const BATCH_DELIVERIES: usize = 512;
const BATCH_BYTES: usize = 1024 * 1024;

/// Most that a channel catches up with at once, 10,000 deliveries and 16 MiB: what is more its clients get by coming back.
const CATCH_UP: Bound = Bound {
    deliveries: 10_000,
    bytes: 16 * 1024 * 1024,
};

/// What a room's place is kept for beyond twice its history's ttl. 60 s: a room that keeps no history has a place too.
const ROOM_TTL_SPARE: i64 = 60_000;

/// How many deliveries one sweep drops at most. 1,000: some ms; the next one goes on.
const SWEEP_DELIVERIES: usize = 1_000;

/// A millisecond has so many numbers, when an epoch begins: more than Redis can give out in it, so each epoch begins above the
/// last. That keeps them below 2^53, which scripts count up to, until 2300.
const SEQ_PER_MS: u64 = 1 << 10;
/// Milliseconds are counted from 2025-01-01, so numbers stay short.
const SEQ_SINCE_MS: u64 = 1_735_689_600_000;

/// What this replica has been told is taken, by the base of the channel's keys, topic and partition.
type Taken = HashMap<(String, Arc<str>, i32), i64>;

/// Numbers deliveries in Redis, and follows what is published there.
pub struct RedisAdapter<P> {
    /// Uid of the gateway: gateways that share a Redis share nothing else.
    gateway: String,
    server: Arc<Server>,
    subscriber: Arc<Subscriber<P>>,
    taken: Mutex<Taken>,
    clock: Clock,
}

impl<P: Publish> RedisAdapter<P> {
    /// Follows Redis until `stop`; Redis need not be there yet.
    ///
    /// # Errors
    /// Where the Redis is of a form that is not served.
    pub fn start(
        gateway: &str,
        endpoint: Endpoint,
        publish: Arc<P>,
        clock: Clock,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        anyhow::ensure!(
            !endpoint.is_cluster(),
            "a Redis Cluster can not be used yet: name one Redis, or Sentinels"
        );
        let server = Arc::new(Server::new(endpoint));
        let subscriber = Subscriber::start(Arc::clone(&server), publish, stop);
        Ok(Self {
            gateway: gateway.to_owned(),
            server,
            subscriber,
            taken: Mutex::default(),
            clock,
        })
    }

    /// From the next connection on it is reached so; those that are there stay.
    pub fn reach(&self, endpoint: Endpoint) {
        self.server.reach(endpoint);
    }

    /// Follows whether this replica hears what is published.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.subscriber.link()
    }

    /// How many deliveries have been pushed to this replica; one that goes to several of its rooms counts for each.
    pub fn pushed(&self) -> u64 {
        self.subscriber.pushed()
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
        run(&self.server, keys, call).await
    }

    /// One script: units that fit together.
    async fn append_batch(&self, channel: &ChannelRef<'_>, units: &[Unit]) -> Result<Appended, AdapterError> {
        let keys = self.keys(channel);
        let mut call = Call::new(scripts::append(), &keys)
            .arg(self.clock.now().0)
            .arg(channel.keep.size)
            .arg(channel.keep.ttl_ms)
            .arg(channel.keep.bytes)
            .arg(room_ttl(channel))
            .arg("PUBLISH")
            .arg(new_epoch())
            .arg(first_seq(self.clock.now()));
        for unit in units {
            call = call
                .arg(mark_field(&unit.topic, unit.partition))
                .arg(unit.offset)
                .arg(self.reached(&keys, unit))
                .arg(unit.deliveries.len());
            for (index, delivery) in (0..).zip(&unit.deliveries) {
                let source = Source {
                    topic: Arc::clone(&unit.topic),
                    partition: unit.partition,
                    offset: unit.offset,
                    index,
                };
                let rooms = rooms_of(&delivery.audience);
                call = call.bytes(packed::pack(delivery, &source)).arg(rooms.len()).args(rooms);
            }
        }
        let answer = self.run(&keys, &call).await?;
        match outcome(&answer) {
            "ok" => {
                let answer = Answer(&answer);
                for unit in units {
                    self.take_note(&keys, &unit.topic, unit.partition, unit.offset);
                }
                Ok(Appended {
                    deliveries: answer.number(1) as usize,
                    refused: answer.number(2) as usize,
                })
            }
            "rewound" => {
                let answer = Answer(&answer);
                let (field, mark) = (answer.text(1), answer.number(2) as i64);
                let unit = units
                    .iter()
                    .find(|unit| mark_field(&unit.topic, unit.partition) == field);
                let Some(unit) = unit else {
                    return Err(AdapterError::Unavailable(format!(
                        "redis speaks of {field}, which was not asked"
                    )));
                };
                self.forget_beyond(&keys, &unit.topic, unit.partition, mark);
                Err(AdapterError::Rewound {
                    topic: Arc::clone(&unit.topic),
                    partition: unit.partition,
                    offset: mark + 1,
                })
            }
            _ => Err(AdapterError::Unavailable(format!(
                "redis failed while it wrote, and began a new epoch: {}",
                Answer(&answer).text(1)
            ))),
        }
    }

    /// What the mark must have reached before this unit: what this replica knows is taken.
    fn reached(&self, keys: &Keys, unit: &Unit) -> i64 {
        let taken = self.lock_taken();
        let known = taken.get(&(keys.base().to_owned(), Arc::clone(&unit.topic), unit.partition));
        known.map_or(-1, |known| (*known).min(unit.offset - 1))
    }

    fn take_note(&self, keys: &Keys, topic: &Arc<str>, partition: i32, offset: i64) {
        let mut taken = self.lock_taken();
        let known = taken
            .entry((keys.base().to_owned(), Arc::clone(topic), partition))
            .or_insert(-1);
        *known = (*known).max(offset);
    }

    fn forget_beyond(&self, keys: &Keys, topic: &Arc<str>, partition: i32, mark: i64) {
        let key = (keys.base().to_owned(), Arc::clone(topic), partition);
        self.lock_taken().insert(key, mark);
    }

    fn lock_taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
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
        let fence = self.subscriber.fence(&keys, Vec::new())?;
        let mut call = read_call(&keys, epoch, &self.subscriber.fences(&keys), fence.token, bound)
            .arg(EVERYONE)
            .arg(since.everyone);
        for (room, after) in &since.rooms {
            call = call.arg(keys::room(room)).arg(after);
        }
        let answer = ReadBack::of(&self.run(&keys, &call).await?);
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
        .arg("PUBLISH")
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

fn mark_field(topic: &str, partition: i32) -> String {
    format!("m|{topic}|{partition}")
}

/// Names of the rooms of a delivery, each once.
fn rooms_of(audience: &Audience) -> Vec<String> {
    match audience {
        Audience::Everyone => vec![EVERYONE.to_owned()],
        Audience::Rooms(rooms) => {
            let mut names: Vec<String> = Vec::with_capacity(rooms.len());
            for (room, _) in rooms {
                let name = keys::room(room);
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            names
        }
    }
}

/// Bytes of a unit's payloads.
fn bytes_of(unit: &Unit) -> usize {
    let payloads = unit.deliveries.iter().flat_map(|delivery| &delivery.payloads);
    payloads.map(|payload| payload.len()).sum()
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
        self.subscriber.host(&channel, &keys, rooms, room_ttl(&channel)).await
    }

    async fn append(&self, channel: ChannelRef<'_>, units: Vec<Unit>) -> Result<Appended, AdapterError> {
        let mut appended = Appended::default();
        let mut rest = &units[..];
        while !rest.is_empty() {
            let (mut deliveries, mut bytes) = (0, 0);
            let fits = |unit: &&Unit| {
                let first = deliveries == 0 && bytes == 0;
                deliveries += unit.deliveries.len();
                bytes += bytes_of(unit);
                first || (deliveries <= BATCH_DELIVERIES && bytes <= BATCH_BYTES)
            };
            let (batch, later) = rest.split_at(rest.iter().take_while(fits).count());
            let taken = self.append_batch(&channel, batch).await?;
            appended.deliveries += taken.deliveries;
            appended.refused += taken.refused;
            rest = later;
        }
        Ok(appended)
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
            (_, Ok(mark)) => Mark::At(mark),
            (_, Err(_)) => Mark::None,
        })
    }

    async fn stand_in(&self, owned: Option<&[TopicPartition]>) -> Result<Vec<TopicPartition>, AdapterError> {
        self.lease(owned).await
    }

    fn restarts(&self) -> watch::Receiver<u64> {
        self.server.restarts()
    }

    async fn read(
        &self,
        channel: ChannelRef<'_>,
        epoch: &str,
        since: &Since,
        bound: Bound,
    ) -> Result<Missed, Incomplete> {
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
                Ok(Missed(numbered.collect::<Result<_, Incomplete>>()?))
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
        if let Err(error) = self.server.run(&Call::new(scripts::forget(), &keys)).await {
            tracing::warn!(channel = %channel.name, %error, "what a channel that is gone has kept is not dropped; it expires");
        }
    }

    /// Each channel is counted alone here: those of a tenant are in places of their own.
    fn set_history_bytes(&self, _: HashMap<String, usize>) {}

    async fn drop_old(&self, channel: ChannelRef<'_>) {
        let call = Call::new(scripts::sweep(), &self.keys(&channel))
            .arg(self.clock.now().0)
            .arg(channel.keep.ttl_ms)
            .arg(channel.keep.bytes)
            .arg(SWEEP_DELIVERIES);
        // What is not dropped now is dropped by the next one, or by the next delivery.
        if let Err(error) = self.server.run(&call).await {
            tracing::debug!(channel = %channel.name, %error, "what is too old is not dropped yet");
        }
    }
}
