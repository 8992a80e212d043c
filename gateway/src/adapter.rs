//! adapter: numbers deliveries, exactly once per record and channel, and publishes them in that order.
//!
//! One implementation for now, [`memory`]: one process, gone with it. What every adapter must keep:
//! - **Marks.** A record of a partition is taken once per channel: what is at or below the partition's mark changes nothing.
//!   So a redelivery, a rebalance or a late zombie consumer is harmless.
//! - **Numbering.** Each delivery gets the channel's next seq, in the order of its partition. A seq never names two things.
//! - **Order.** Deliveries are published in the order of their seq, each once.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use aldis_core::channel::Channel;
use aldis_core::room::RoomKey;
use aldis_core::route::Delivery;
use aldis_crds::names::ChannelName;
use thiserror::Error;

pub mod memory;

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

/// The adapter can not be reached for now.
#[derive(Debug, Error)]
#[error("adapter: {0}")]
pub struct AdapterError(pub String);

/// How much of a channel's rooms can be read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Deliveries per room; 0 for none.
    pub size: usize,
    /// For how long, in ms.
    pub ttl_ms: i64,
}

impl Keep {
    /// What a channel's `history` says.
    pub fn of(channel: &Channel) -> Self {
        Self {
            size: channel.history_size,
            ttl_ms: channel.history_ttl_ms,
        }
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
}

/// Numbers deliveries. See the module for what must hold.
pub trait Adapter: Send + Sync + 'static {
    /// Takes units of one channel, in order, in one atomic step.
    ///
    /// # Errors
    /// [`AdapterError`] where nothing was taken and trying again may help.
    fn append(
        &self,
        channel: &ChannelName,
        keep: Keep,
        units: Vec<Unit>,
    ) -> impl Future<Output = Result<Appended, AdapterError>> + Send;

    /// Reads back what a client has missed: all of it, or nothing. No more than `bound` is held in memory for it.
    ///
    /// # Errors
    /// [`Incomplete`].
    fn read(
        &self,
        channel: &ChannelName,
        epoch: &str,
        since: &Since,
        bound: Bound,
    ) -> impl Future<Output = Result<Missed, Incomplete>> + Send;

    /// Drops everything that can be read back of a channel that is gone. Its numbering goes on, should it come back.
    fn forget(&self, channel: &ChannelName);

    /// Drops what a channel no longer keeps, also where nothing new comes.
    fn drop_old(&self, channel: &ChannelName, keep: Keep);
}

/// Where numbered deliveries go: the hub.
pub trait Publish: Send + Sync + 'static {
    /// Called in the order of `seq`, one at a time per channel, after the delivery can be read back. Must not block.
    fn publish(&self, channel: &ChannelName, numbered: &Arc<Numbered>);
}
