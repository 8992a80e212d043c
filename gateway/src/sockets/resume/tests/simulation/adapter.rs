//! The real adapter and hub, which let others go first wherever ones that replicas share would, and what passes between them.

use std::collections::HashMap;
use std::task::Poll;

use aldis_core::room::RoomKey;
use aldis_crds::names::ChannelName;

use super::super::*;
use crate::adapter::census::Census;
use crate::adapter::{Appended, Hosted, Mark, Numbered, Publish};

/// What was published: seq, number of the record, and to which rooms (none: everyone).
pub(super) type Published = (u64, u64, Vec<RoomKey>);
pub(super) type Log = HashMap<ChannelName, Vec<Published>>;

/// Writes down what passes to the hub.
pub(super) struct Witness {
    pub(super) hub: Arc<Hub<Arc<Metrics>>>,
    pub(super) published: Arc<Mutex<Log>>,
}

impl Publish for Witness {
    fn publish(&self, channel: &ChannelName, numbered: &Arc<Numbered>) {
        let rooms = match &numbered.delivery.audience {
            Audience::Everyone => Vec::new(),
            Audience::Rooms(rooms) => rooms.iter().map(|(room, _)| room.clone()).collect(),
        };
        let number = numbered.delivery.payloads[0].parse().unwrap();
        let mut published = self.published.lock().unwrap();
        let of_channel = published.entry(channel.clone()).or_default();
        of_channel.push((numbered.position.seq, number, rooms));
        drop(published);
        self.hub.publish(channel, numbered);
    }

    fn broken(&self, channel: &ChannelName, rooms: Option<&[RoomKey]>) {
        self.hub.broken(channel, rooms);
    }
}

/// The memory adapter, which lets others go first wherever one that replicas share would.
pub(super) struct Interrupted(pub(super) MemoryAdapter<Witness>);

pub(super) async fn let_others_go_first() {
    let mut waited = false;
    std::future::poll_fn(|_| match std::mem::replace(&mut waited, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

impl Census for Interrupted {}

impl Adapter for Interrupted {
    async fn host(&self, channel: ChannelRef<'_>, rooms: &[RoomKey]) -> Result<Hosted, AdapterError> {
        let_others_go_first().await;
        let hosted = self.0.host(channel, rooms).await;
        let_others_go_first().await;
        hosted
    }

    async fn append(&self, channel: ChannelRef<'_>, units: Vec<Unit>) -> Result<Appended, AdapterError> {
        let_others_go_first().await;
        let appended = self.0.append(channel, units).await;
        let_others_go_first().await;
        appended
    }

    async fn read(
        &self,
        channel: ChannelRef<'_>,
        epoch: &str,
        since: &Since,
        bound: Bound,
    ) -> Result<Missed, Incomplete> {
        let_others_go_first().await;
        let missed = self.0.read(channel, epoch, since, bound).await;
        let_others_go_first().await;
        missed
    }

    async fn check_mark(
        &self,
        channel: ChannelRef<'_>,
        topic: &Arc<str>,
        partition: i32,
        gone: Option<i64>,
    ) -> Result<Mark, AdapterError> {
        self.0.check_mark(channel, topic, partition, gone).await
    }

    fn set_history_bytes(&self, tenants: HashMap<String, usize>) {
        self.0.set_history_bytes(tenants);
    }

    async fn forget(&self, channel: ChannelRef<'_>) {
        self.0.forget(channel).await;
    }

    async fn drop_old(&self, channel: ChannelRef<'_>) {
        self.0.drop_old(channel).await;
    }

    async fn write_session(
        &self,
        _: ChannelRef<'_>,
        _: &crate::sessions::Pid,
        _: Generation,
        _: SessionChange<'_>,
    ) -> Result<Written, AdapterError> {
        let_others_go_first().await;
        Ok(Written::Yes)
    }
}
