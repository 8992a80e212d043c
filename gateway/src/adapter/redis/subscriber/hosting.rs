//! Rooms that are hosted here, and the fences by which one knows from where on.

use std::sync::{Arc, Mutex};

use aldis_core::room::RoomKey;
use tokio::sync::oneshot;

use super::{DEAF, Subscriber, away, lock, run};
use crate::adapter::redis::channel::Followed;
use crate::adapter::redis::keys::Keys;
use crate::adapter::redis::scripts::{self, Call};
use crate::adapter::{AdapterError, ChannelRef, Hosted, Position, Publish};
use crate::sabotage::Rule;

/// A fence that is waited for.
pub(in crate::adapter::redis) struct Fence<'s, P> {
    pub(in crate::adapter::redis) token: u64,
    receiver: oneshot::Receiver<Position>,
    followed: Arc<Mutex<Followed>>,
    subscriber: &'s Subscriber<P>,
}

impl<P: Publish> Subscriber<P> {
    pub(in crate::adapter::redis) async fn host(
        &self,
        channel: &ChannelRef<'_>,
        keys: &Keys,
        rooms: &[RoomKey],
        room_ttl: i64,
    ) -> Result<Hosted, AdapterError> {
        let followed = self.here.followed_or(keys.base(), || {
            Followed::new(channel.name.clone(), keys.clone(), room_ttl, self.number)
        });
        // The guards are taken first: what is subscribed for them is not taken away again.
        let (guards, new, is_live) = {
            let mut followed = lock(&followed);
            if followed.home != self.number {
                return Err(away("the channel moves to another node of redis"));
            }
            followed.room_ttl = room_ttl;
            let (guards, new) = followed.host(rooms);
            (guards, new, followed.is_live() && followed.is_subscribed)
        };
        match (is_live, new.is_empty()) {
            (true, true) => {}
            (true, false) => self.host_new(keys, new, room_ttl).await?,
            (false, _) => return Err(away("the channel catches up with redis")),
        }
        Ok(lock(&followed).hosted(guards))
    }

    /// Subscribes to rooms, and waits for the fence from which on they are heard.
    async fn host_new(&self, keys: &Keys, new: Vec<String>, room_ttl: i64) -> Result<(), AdapterError> {
        let names = new.iter().map(|room| keys.published(room));
        let names = names.chain([self.fences(keys)]).collect();
        self.subscribe(names).await?;
        let fence = self.fence(keys, new.clone())?;
        let call = self.host_call(keys, &fence, room_ttl, true, &new);
        run(&self.server, keys, &call).await?;
        fence.passed().await.map(drop)
    }

    pub(super) fn host_call(
        &self,
        keys: &Keys,
        fence: &Fence<'_, P>,
        room_ttl: i64,
        begin: bool,
        rooms: &[String],
    ) -> Call {
        Call::new(scripts::host(), keys)
            .arg(self.fences(keys))
            .arg(fence.token)
            .arg(room_ttl)
            .arg(u8::from(begin))
            .args(rooms)
    }

    /// A fence of a channel that is followed, to be published by a script.
    pub(in crate::adapter::redis) fn fence(
        &self,
        keys: &Keys,
        rooms: Vec<String>,
    ) -> Result<Fence<'_, P>, AdapterError> {
        let followed = self
            .followed(keys.base())
            .ok_or_else(|| away("no room of the channel is hosted here"))?;
        let token = self.here.number();
        let receiver = {
            let mut followed = lock(&followed);
            if !followed.is_live() {
                return Err(away("the channel catches up with redis"));
            }
            followed.expect_fence(token, rooms)
        };
        Ok(Fence {
            token,
            receiver,
            followed,
            subscriber: self,
        })
    }

    pub(super) async fn subscribe(&self, names: Vec<String>) -> Result<(), AdapterError> {
        let mut connection = self.connection.lock().await;
        let connection = connection.as_mut().ok_or_else(|| away("redis can not be reached"))?;
        self.subscribe_on(connection, &names).await
    }
}

impl<P> Fence<'_, P> {
    /// Waits until it has come back.
    pub(in crate::adapter::redis) async fn passed(mut self) -> Result<Position, AdapterError> {
        match tokio::time::timeout(DEAF, &mut self.receiver).await {
            Ok(Ok(position)) => Ok(position),
            Ok(Err(_)) => Err(away("the connection to redis was lost meanwhile")),
            Err(_) => {
                if Rule::Subscription.is_on() {
                    self.subscriber.lost.notify_one();
                }
                Err(away("what is published in redis does not come back"))
            }
        }
    }
}

impl<P> Drop for Fence<'_, P> {
    fn drop(&mut self) {
        lock(&self.followed).forget_fence(self.token);
    }
}
