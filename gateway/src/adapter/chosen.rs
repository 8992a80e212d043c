//! The adapter that the configuration chooses.

use std::collections::HashMap;
use std::sync::Arc;

use aldis_core::identity::Identity;
use aldis_core::room::RoomKey;
use tokio::sync::watch;

use super::census::{Census, Count, Counted, Dismissed, Heard};
use super::memory::MemoryAdapter;
use super::redis::RedisAdapter;
use super::{
    Adapter, AdapterError, Appended, Bound, ChannelRef, Hosted, Incomplete, Mark, Missed, Publish, SessionChange,
    SharedClaim, Since, TopicPartition, Unit, Written,
};
use crate::sessions::{Generation, Pid};

/// One of them.
pub enum ChosenAdapter<P> {
    /// This process alone.
    Memory(MemoryAdapter<P>),
    /// All replicas.
    Redis(RedisAdapter<P>),
}

macro_rules! chosen {
    ($self:ident.$method:ident($($argument:expr),*)) => {
        match $self {
            ChosenAdapter::Memory(adapter) => adapter.$method($($argument),*).await,
            ChosenAdapter::Redis(adapter) => adapter.$method($($argument),*).await,
        }
    };
}

impl<P: Publish> Census for ChosenAdapter<P> {
    async fn count(&self, tenant: &str, count: &Count) -> Result<Counted, AdapterError> {
        chosen!(self.count(tenant, count))
    }

    async fn beat(&self, demands: &str, since: &str) -> Result<Heard, AdapterError> {
        chosen!(self.beat(demands, since))
    }

    async fn leave(&self) {
        chosen!(self.leave())
    }

    async fn tell(&self, channel: ChannelRef<'_>, said: Option<&str>) -> Result<bool, AdapterError> {
        chosen!(self.tell(channel, said))
    }

    async fn told(&self, channel: ChannelRef<'_>, replicas: &[Arc<str>]) -> Result<Vec<String>, AdapterError> {
        chosen!(self.told(channel, replicas))
    }

    async fn order(&self, order: &str) -> Result<(String, Vec<u64>), AdapterError> {
        chosen!(self.order(order))
    }

    fn ordered(&self) -> watch::Receiver<u64> {
        match self {
            ChosenAdapter::Memory(adapter) => adapter.ordered(),
            ChosenAdapter::Redis(adapter) => adapter.ordered(),
        }
    }

    async fn answer(&self, id: &str, number: usize) -> Result<(), AdapterError> {
        chosen!(self.answer(id, number))
    }

    async fn answers(&self, id: &str) -> Result<Vec<usize>, AdapterError> {
        chosen!(self.answers(id))
    }

    async fn dismiss_sessions(&self, channel: ChannelRef<'_>, whose: Dismissed<'_>) -> Result<(), AdapterError> {
        chosen!(self.dismiss_sessions(channel, whose))
    }
}

impl<P: Publish> Adapter for ChosenAdapter<P> {
    fn is_shared(&self) -> bool {
        matches!(self, ChosenAdapter::Redis(_))
    }

    async fn host(&self, channel: ChannelRef<'_>, rooms: &[RoomKey]) -> Result<Hosted, AdapterError> {
        chosen!(self.host(channel, rooms))
    }

    async fn append(&self, channel: ChannelRef<'_>, units: Vec<Unit>) -> Result<Appended, AdapterError> {
        chosen!(self.append(channel, units))
    }

    async fn check_mark(
        &self,
        channel: ChannelRef<'_>,
        topic: &Arc<str>,
        partition: i32,
        gone: Option<i64>,
    ) -> Result<Mark, AdapterError> {
        chosen!(self.check_mark(channel, topic, partition, gone))
    }

    fn restarts(&self) -> watch::Receiver<u64> {
        match self {
            ChosenAdapter::Memory(adapter) => adapter.restarts(),
            ChosenAdapter::Redis(adapter) => adapter.restarts(),
        }
    }

    async fn stand_in(&self, owned: Option<&[TopicPartition]>) -> Result<Vec<TopicPartition>, AdapterError> {
        chosen!(self.stand_in(owned))
    }

    async fn read(
        &self,
        channel: ChannelRef<'_>,
        epoch: &str,
        since: &Since,
        bound: Bound,
    ) -> Result<Missed, Incomplete> {
        chosen!(self.read(channel, epoch, since, bound))
    }

    fn set_history_bytes(&self, tenants: HashMap<String, usize>) {
        match self {
            ChosenAdapter::Memory(adapter) => adapter.set_history_bytes(tenants),
            ChosenAdapter::Redis(adapter) => adapter.set_history_bytes(tenants),
        }
    }

    async fn forget(&self, channel: ChannelRef<'_>) {
        chosen!(self.forget(channel))
    }

    async fn drop_old(&self, channel: ChannelRef<'_>) {
        chosen!(self.drop_old(channel))
    }

    async fn claim_session(
        &self,
        channel: ChannelRef<'_>,
        pid: &Pid,
        identity: &Identity,
    ) -> Result<SharedClaim, AdapterError> {
        chosen!(self.claim_session(channel, pid, identity))
    }

    async fn write_session(
        &self,
        channel: ChannelRef<'_>,
        pid: &Pid,
        generation: Generation,
        change: SessionChange<'_>,
    ) -> Result<Written, AdapterError> {
        chosen!(self.write_session(channel, pid, generation, change))
    }
}
