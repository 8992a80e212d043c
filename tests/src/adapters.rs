//! Adapters under test, and what they publish.

use std::sync::{Arc, Mutex};

use aldis_core::room::RoomKey;
use aldis_core::route::{Audience, Delivery};
use aldis_crds::names::ChannelName;
use aldis_gateway::adapter::memory::{MemoryAdapter, new_epoch};
use aldis_gateway::adapter::redis::{Endpoint, RedisAdapter};
use aldis_gateway::adapter::{
    Adapter, Appended, Bound, ChannelRef, Hosted, Incomplete, Keep, Numbered, Publish, Since, Unit,
};
use aldis_gateway::clock::Clock;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::deadline::until;
use crate::redis::Redis;

/// A channel that keeps enough for every test that does not say otherwise.
pub(crate) const KEEP: Keep = Keep {
    size: 100,
    ttl_ms: 60_000,
    bytes: 1024 * 1024,
};

/// More than any test reads back.
pub(crate) const BOUND: Bound = Bound {
    deliveries: 5_000,
    bytes: 16 * 1024 * 1024,
};

/// What was published, in order.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) deliveries: Mutex<Vec<Arc<Numbered>>>,
    /// Rooms that were said to be broken; `None` for all.
    pub(crate) broken: Mutex<Vec<Option<Vec<RoomKey>>>>,
}

impl Publish for Seen {
    fn publish(&self, _: &ChannelName, numbered: &Arc<Numbered>) {
        self.deliveries.lock().unwrap().push(Arc::clone(numbered));
    }

    fn broken(&self, _: &ChannelName, rooms: Option<&[RoomKey]>) {
        self.broken.lock().unwrap().push(rooms.map(<[_]>::to_vec));
    }
}

impl Seen {
    /// Names of the events that were published.
    pub(crate) fn events(&self) -> Vec<String> {
        let deliveries = self.deliveries.lock().unwrap();
        deliveries
            .iter()
            .map(|numbered| numbered.delivery.event.to_string())
            .collect()
    }

    pub(crate) fn seqs(&self) -> Vec<u64> {
        let deliveries = self.deliveries.lock().unwrap();
        deliveries.iter().map(|numbered| numbered.position.seq).collect()
    }

    /// Waits until so many deliveries have been published.
    pub(crate) async fn wait_for(&self, count: usize) {
        let published = async || (self.deliveries.lock().unwrap().len() >= count).then_some(());
        until("the deliveries are published", published).await;
    }
}

/// An adapter, and what it publishes.
pub(crate) struct Lab<A> {
    pub(crate) adapter: Arc<A>,
    pub(crate) seen: Arc<Seen>,
    _stop: DropGuard,
}

pub(crate) fn memory() -> Lab<MemoryAdapter<Seen>> {
    let seen = Arc::new(Seen::default());
    Lab {
        adapter: Arc::new(MemoryAdapter::new(new_epoch(), Arc::clone(&seen), Clock::default())),
        seen,
        _stop: CancellationToken::new().drop_guard(),
    }
}

/// One replica on this Redis.
pub(crate) fn replica(redis: &Redis) -> Lab<RedisAdapter<Seen>> {
    replica_at(redis.endpoint())
}

/// One replica of the gateway g, on the Redis of this URL.
pub(crate) fn replica_by(url: &str) -> Lab<RedisAdapter<Seen>> {
    replica_at(Endpoint::parse(url).unwrap())
}

/// One replica of the gateway g.
pub(crate) fn replica_at(endpoint: Endpoint) -> Lab<RedisAdapter<Seen>> {
    let seen = Arc::new(Seen::default());
    let stop = CancellationToken::new();
    let adapter = RedisAdapter::start("g", endpoint, Arc::clone(&seen), Clock::default(), stop.clone());
    Lab {
        adapter: Arc::new(adapter),
        seen,
        _stop: stop.drop_guard(),
    }
}

pub(crate) fn name(name: &str) -> ChannelName {
    ChannelName {
        namespace: "bistro".to_owned(),
        name: name.to_owned(),
    }
}

pub(crate) fn room(value: &str) -> RoomKey {
    RoomKey {
        name: "r".into(),
        values: [Box::from(value)].into(),
    }
}

pub(crate) fn rooms(values: &[&str]) -> Vec<RoomKey> {
    values.iter().map(|value| room(value)).collect()
}

/// A delivery to rooms, or to everyone where none is named.
pub(crate) fn delivery(event: &str, to: &[&str]) -> Delivery {
    let audience = match to {
        [] => Audience::Everyone,
        to => Audience::Rooms(rooms(to).into_iter().map(|room| (room, 0)).collect()),
    };
    Delivery {
        event: event.into(),
        payloads: vec![r#"{"n":1}"#.into()],
        audience,
    }
}

/// A record of the topic orders.
pub(crate) fn unit(partition: i32, offset: i64, deliveries: Vec<Delivery>) -> Unit {
    Unit {
        topic: "orders".into(),
        partition,
        offset,
        deliveries,
    }
}

impl<A: Adapter> Lab<A> {
    /// Hosts rooms of the channel orders.
    pub(crate) async fn host(&self, values: &[&str]) -> Hosted {
        self.adapter.host(orders(KEEP).of(), &rooms(values)).await.unwrap()
    }

    /// Takes records of the channel orders.
    pub(crate) async fn append(&self, keep: Keep, units: Vec<Unit>) -> Appended {
        self.adapter.append(orders(keep).of(), units).await.unwrap()
    }

    /// One record of partition 0 with one delivery, which is named like its offset.
    pub(crate) async fn deliver(&self, keep: Keep, offset: i64, to: &[&str]) {
        let taken = self
            .append(keep, vec![unit(0, offset, vec![delivery(&offset.to_string(), to)])])
            .await;
        assert_eq!(taken.deliveries, 1, "{taken:?}");
    }

    /// Events that went to rooms of the channel orders after a place of each, `(room, seq)`.
    pub(crate) async fn read(&self, epoch: &str, since: &[(&str, u64)]) -> Result<Vec<String>, Incomplete> {
        let since = Since {
            rooms: since.iter().map(|(value, after)| (room(value), *after)).collect(),
            everyone: since.iter().map(|(_, after)| *after).min().unwrap_or_default(),
        };
        let missed = self.adapter.read(orders(KEEP).of(), epoch, &since, BOUND).await?;
        Ok(missed
            .0
            .iter()
            .map(|numbered| numbered.delivery.event.to_string())
            .collect())
    }

    /// Seqs of the events that go to rooms, by their order of coming: what is read since `at`.
    pub(crate) async fn seqs(&self, at: &Hosted, of: &[&str]) -> Vec<u64> {
        let since = Since {
            rooms: rooms(of).into_iter().map(|room| (room, at.at.seq)).collect(),
            everyone: at.at.seq,
        };
        let missed = self
            .adapter
            .read(orders(KEEP).of(), &at.at.epoch, &since, BOUND)
            .await
            .unwrap();
        missed.0.iter().map(|numbered| numbered.position.seq).collect()
    }
}

/// A channel and what it keeps.
pub(crate) struct Kept {
    name: ChannelName,
    pub(crate) uid: String,
    keep: Keep,
}

impl Kept {
    pub(crate) fn of(&self) -> ChannelRef<'_> {
        ChannelRef {
            name: &self.name,
            uid: &self.uid,
            keep: self.keep,
        }
    }
}

/// The channel orders, keeping so much.
pub(crate) fn orders(keep: Keep) -> Kept {
    channel("orders", keep)
}

pub(crate) fn channel(of: &str, keep: Keep) -> Kept {
    Kept {
        name: name(of),
        uid: of.to_owned(),
        keep,
    }
}
