//! adapter: numbers deliveries, exactly once per record and channel, and publishes them in that order.
//!
//! Two implementations: [`memory`], one process and gone with it, and [`redis`], which replicas share. What each must keep
//! is what the contract suite of the tests asks of both:
//! - **Marks.** A record of a partition is taken once per channel: what is at or below the partition's mark changes nothing.
//!   So a redelivery, a rebalance or a late zombie consumer is harmless.
//! - **Numbering.** Each delivery gets the channel's next seq, in the order of its partition. A seq never names two things.
//! - **Order.** Deliveries are published in the order of their seq, each once.
//! - **Hosting.** What goes to a room is kept and published for as long as a replica hosts it ([`Adapter::host`]).
//! - **Reading back.** All that was missed, or why not.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use aldis_core::channel::Channel;
use aldis_core::identity::Identity;
use aldis_core::room::RoomKey;
use aldis_core::route::Delivery;
use aldis_crds::names::ChannelName;
use thiserror::Error;
use tokio::sync::watch;

use self::census::Census;
use crate::hub::{ClientId, Parted};
use crate::sessions::{Generation, Joined, Pid, Start};

pub mod census;
pub mod chosen;
pub mod memory;
pub mod redis;

/// The place of a delivery in its channel, `epoch:seq`. Within an epoch seq only grows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Changes whenever numbering may have gone back.
    pub epoch: Arc<str>,
    /// Number of the last delivery; 0 before the first.
    pub seq: u64,
}

impl Position {
    /// From its text.
    pub fn parse(text: &str) -> Option<Self> {
        let (epoch, seq) = text.rsplit_once(':')?;
        Some(Self {
            epoch: epoch.into(),
            seq: seq.parse().ok()?,
        })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.seq)
    }
}

/// A delivery with its place.
#[derive(Clone, Debug)]
pub struct Numbered {
    /// Its place.
    pub position: Position,
    /// What goes to whom.
    pub delivery: Delivery,
    /// What it was made of; `None` for what the gateway says itself.
    pub source: Option<Source>,
}

/// Which delivery of which record: the same after a redelivery, whatever its number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// Topic of the record.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Index among the deliveries that the channel made of it.
    pub index: u32,
}

impl Numbered {
    /// Bytes of its payloads.
    pub fn bytes(&self) -> usize {
        self.delivery.payloads.iter().map(|payload| payload.len()).sum()
    }
}

/// What one record makes in one channel: all of it is taken, or none.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Topic of the record.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// Its offset: the mark moves here.
    pub offset: i64,
    /// Its deliveries; none for a record that routes nowhere or went to the dead letters.
    pub deliveries: Vec<Delivery>,
}

/// What became of a batch of units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Deliveries that were numbered and published.
    pub deliveries: usize,
    /// Units that changed nothing, because the mark had passed them.
    pub refused: usize,
}

/// Why nothing was taken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AdapterError {
    /// It can not be reached for now, or refuses: trying again may help.
    #[error("adapter: {0}")]
    Unavailable(String),
    /// It can be reached, and something of this channel in it is not as it should be: that is to be mended.
    #[error("adapter: {0}")]
    Refused(String),
    /// It has forgotten records of this partition that it had taken: they are to be read again from this offset on.
    #[error("adapter: records of {topic}/{partition} from offset {offset} on were forgotten and are read again")]
    Rewound {
        /// Topic.
        topic: Arc<str>,
        /// Partition.
        partition: i32,
        /// First offset that is not taken.
        offset: i64,
    },
}

/// A partition of a topic.
pub type TopicPartition = (Arc<str>, i32);

/// How far a channel has come in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It has taken none of its records.
    None,
    /// It has taken those up to this offset.
    At(i64),
    /// It had taken records of another log, up to this offset; that is forgotten, and those of this one are taken.
    Dropped(i64),
}

/// Bytes that one channel keeps, payloads and some overhead. 64 MiB; the oldest go first, and who was before them is told so.
pub const CHANNEL_BYTES: usize = 64 * 1024 * 1024;

/// How much of a channel's rooms can be read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Deliveries per room; 0 for none.
    pub size: usize,
    /// For how long, in ms.
    pub ttl_ms: i64,
    /// Bytes of all its rooms together.
    pub bytes: usize,
}

impl Keep {
    /// What a channel's `history` says.
    pub fn of(channel: &Channel) -> Self {
        Self {
            size: channel.history_size,
            ttl_ms: channel.history_ttl_ms,
            bytes: CHANNEL_BYTES.min(usize::try_from(channel.limits.history_bytes).unwrap_or(usize::MAX)),
        }
    }
}

/// A channel, as an adapter knows it.
#[derive(Clone, Copy, Debug)]
pub struct ChannelRef<'c> {
    /// Its name: how the hub knows it.
    pub name: &'c ChannelName,
    /// Its uid: one that is deleted and made anew inherits nothing.
    pub uid: &'c str,
    /// What it keeps.
    pub keep: Keep,
}

impl<'c> ChannelRef<'c> {
    /// Of a compiled channel.
    pub fn of(channel: &'c Channel) -> Self {
        Self {
            name: &channel.name,
            uid: &channel.uid,
            keep: Keep::of(channel),
        }
    }
}

/// Keeps rooms hosted here: what goes to them is published to this replica for as long as this is held.
#[derive(Clone)]
pub struct Hosted {
    /// Everything after this place is published here. The hub may be ahead of it.
    pub at: Position,
    _guard: Option<Arc<dyn Any + Send + Sync>>,
}

impl Hosted {
    /// Hosted after `at`, until `guard` is dropped.
    pub fn new(at: Position, guard: Option<Arc<dyn Any + Send + Sync>>) -> Self {
        Self { at, _guard: guard }
    }
}

impl fmt::Debug for Hosted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hosted").field(&self.at).finish()
    }
}

/// What a client wants to read back: its rooms, and the seq after which it has had nothing of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Since {
    /// Rooms.
    pub rooms: HashMap<RoomKey, u64>,
    /// The same for what goes to everyone.
    pub everyone: u64,
}

/// How much is read back at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Deliveries.
    pub deliveries: usize,
    /// Bytes of their payloads.
    pub bytes: usize,
}

/// Everything that was asked for, in the order of seq, each delivery once.
#[derive(Clone, Debug, Default)]
pub struct Missed(pub Vec<Arc<Numbered>>);

impl Missed {
    /// Bytes of its payloads.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|numbered| numbered.bytes()).sum()
    }
}

/// Why not everything can be read back.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Incomplete {
    /// Some of it has been dropped, or was never kept.
    #[error("history")]
    History,
    /// The place is of another numbering.
    #[error("epoch")]
    Epoch,
    /// It is more than was to be read.
    #[error("backlog")]
    TooMuch,
    /// It can not be said for now: trying again may help.
    #[error("unavailable")]
    Unavailable,
}

/// A session as it is kept where every replica finds it.
#[derive(Clone, Debug)]
pub struct StoredSession {
    /// Of the one that has just claimed it.
    pub generation: Generation,
    /// Where and how it began.
    pub start: Start,
    /// Where its latest client began.
    pub begun: Position,
    /// How its last client went, where that is known.
    pub parted: Option<Parted>,
    /// The replica that still had its client.
    pub from: Option<Arc<str>>,
    /// Its rooms.
    pub rooms: Vec<Joined>,
}

/// What became of a claim of a session.
#[derive(Clone, Debug)]
pub enum SharedClaim {
    /// Sessions are this process' own.
    NotShared,
    /// There is none of this name.
    Unknown,
    /// It is somebody else's.
    Identity,
    /// Its client was sent away.
    Dismissed,
    /// It is the claimer's, in a new generation.
    Claimed(StoredSession),
}

/// What became of a write to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is there.
    Yes,
    /// A later generation has the session.
    TakenOver,
    /// There is no such session any more.
    Forgotten,
}

/// What a client does to its session.
#[derive(Clone, Debug)]
pub enum SessionChange<'c> {
    /// It has it.
    Take {
        /// Who it is.
        identity: &'c Identity,
        /// Its place in the hub of this replica.
        client: ClientId,
        /// Where and how the session began.
        start: &'c Start,
        /// Where this one begins.
        begun: &'c Position,
        /// Its rooms.
        rooms: &'c [Joined],
    },
    /// It has joined a room.
    Joined(&'c Joined),
    /// It has left a room.
    Left(&'c RoomKey),
    /// It is still there.
    Stay,
    /// It is gone, and may come back.
    Parted(Parted),
    /// It is gone for good.
    End,
}

/// Numbers deliveries. See the module for what must hold.
pub trait Adapter: Census {
    /// Whether replicas share it, with the sessions of its clients.
    fn is_shared(&self) -> bool {
        false
    }

    /// Hosts rooms of a channel, and what goes to everyone in it: from the place that is returned on, all that goes to them
    /// is published here.
    ///
    /// # Errors
    /// [`AdapterError::Unavailable`].
    fn host(
        &self,
        channel: ChannelRef<'_>,
        rooms: &[RoomKey],
    ) -> impl Future<Output = Result<Hosted, AdapterError>> + Send;

    /// Takes units of one channel, in order, in one atomic step.
    ///
    /// # Errors
    /// [`AdapterError`] where nothing was taken.
    fn append(
        &self,
        channel: ChannelRef<'_>,
        units: Vec<Unit>,
    ) -> impl Future<Output = Result<Appended, AdapterError>> + Send;

    /// How far a channel has come in a partition. Where it is still at the mark `gone`, that is dropped: the topic was deleted and
    /// made anew, and its log has not reached it. One that has moved meanwhile is of the log as it is.
    ///
    /// # Errors
    /// [`AdapterError::Unavailable`].
    fn check_mark(
        &self,
        channel: ChannelRef<'_>,
        topic: &Arc<str>,
        partition: i32,
        gone: Option<i64>,
    ) -> impl Future<Output = Result<Mark, AdapterError>> + Send;

    /// Changes whenever marks may have gone back.
    fn restarts(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }

    /// Says that this replica is alive and, where they are given, which partitions the group has given it. Gives those for which
    /// it stands in: their replica is dead, and the group has not noticed yet.
    ///
    /// # Errors
    /// [`AdapterError::Unavailable`].
    fn stand_in(
        &self,
        _owned: Option<&[TopicPartition]>,
    ) -> impl Future<Output = Result<Vec<TopicPartition>, AdapterError>> + Send {
        async { Ok(Vec::new()) }
    }

    /// Reads back what a client has missed: all of it, or nothing. No more than `bound`
    /// is held in memory for it. The rooms are hosted here; when it returns, everything
    /// that was numbered before it read has been published here.
    ///
    /// # Errors
    /// [`Incomplete`].
    fn read(
        &self,
        channel: ChannelRef<'_>,
        epoch: &str,
        since: &Since,
        bound: Bound,
    ) -> impl Future<Output = Result<Missed, Incomplete>> + Send;

    /// How many bytes the channels of each namespace may keep together; the default for those that are not there. What is lowered is
    /// dropped with the next [`Adapter::drop_old`].
    fn set_history_bytes(&self, tenants: HashMap<String, usize>);

    /// Drops everything that can be read back of a channel that is gone. Its numbering goes on, should it come back.
    fn forget(&self, channel: ChannelRef<'_>) -> impl Future<Output = ()> + Send;

    /// Drops what a channel no longer keeps, also where nothing new comes.
    fn drop_old(&self, channel: ChannelRef<'_>) -> impl Future<Output = ()> + Send;

    /// Takes a session that replicas share for who has come back, if it is of this identity.
    ///
    /// # Errors
    /// [`AdapterError::Unavailable`].
    fn claim_session(
        &self,
        _channel: ChannelRef<'_>,
        _pid: &Pid,
        _identity: &Identity,
    ) -> impl Future<Output = Result<SharedClaim, AdapterError>> + Send {
        async { Ok(SharedClaim::NotShared) }
    }

    /// Writes to a session that replicas share, unless a later generation has it, or it is gone.
    ///
    /// # Errors
    /// [`AdapterError::Unavailable`].
    fn write_session(
        &self,
        _channel: ChannelRef<'_>,
        _pid: &Pid,
        _generation: Generation,
        _change: SessionChange<'_>,
    ) -> impl Future<Output = Result<Written, AdapterError>> + Send {
        async { Ok(Written::Yes) }
    }
}

/// Where numbered deliveries go: the hub.
pub trait Publish: Send + Sync + 'static {
    /// Called in the order of `seq`, one at a time per channel, after the delivery can be read back. Must not block.
    fn publish(&self, channel: &ChannelName, numbered: &Arc<Numbered>);

    /// So many deliveries can not be read back any more: a channel of this namespace, or all of them, keep more than they may.
    fn forgot(&self, _namespace: &str, _deliveries: usize) {}

    /// It can not be proven that these rooms (`None`: all of the channel) were given everything: their clients are to be
    /// told so.
    fn broken(&self, channel: &ChannelName, rooms: Option<&[RoomKey]>);

    /// Redis goes on from `good`, without what came after it. Of clients that began after that it is not known what they have had:
    /// they are to be told so.
    fn forked(&self, _channel: &ChannelName, _good: u64) {}

    /// The session of this client has a new connection, at another replica.
    fn taken_over(&self, _channel: &ChannelName, _client: ClientId) {}
}
