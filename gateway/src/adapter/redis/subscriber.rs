//! What is published reaches this replica, or it is noticed that it does not.
//!
//! One connection to each node of Redis, subscribed to the rooms that are hosted here and to nothing else. What is pushed is handled
//! on the task that reads it, in the order in which Redis published it. A **fence** is published by a script and comes back in that
//! order: what the script saw is before it, all else behind it.
//!
//! ```text
//! keep     connect → resubscribe → every channel catches up → live ─┐
//!   ↑      connection lost · unsubscribed · probe not back          │
//!   └───────────────────────────────────────────────────────────────┘
//! catch_up a gap in one channel: hold → read → fence → hub → go on
//! mend     a channel that has come here, or whose subscription was ended: subscribe → catch_up
//! ```
//! What is published to rooms is published as shard channels, which one Redis knows as well as a Cluster.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::channel::{Followed, Pushed};
use super::here::{Here, Link};
use super::keys::{self, Keys};
use super::run;
use super::server::{Server, unavailable};
use crate::adapter::{AdapterError, Numbered, Publish};
use crate::hub::ClientId;
use crate::sabotage::Rule;

mod catching_up;
mod hosting;

use catching_up::{Behind, Caught};

/// How often a probe goes through Redis. 1 s.
const PROBE: Duration = Duration::from_secs(1);
/// How long a probe, or a fence, may take to come back before this replica counts as deaf. 3 s: with the next probe that is
/// noticed in under 5 s.
const DEAF: Duration = Duration::from_secs(3);
/// Pauses before Redis is tried again: doubled from 50 ms to 1 s.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Names that are subscribed to at once. 512.
const SUBSCRIBE: usize = 512;
/// Rooms whose place is refreshed, and compared, by one script. 512.
const REFRESH: usize = 512;
/// How often every room's place is compared with what was heard, and kept from expiring. 20 s: a third of the least that it is
/// kept for.
const COMPARE: Duration = Duration::from_secs(20);
/// How often it is looked whether a fence has passed. 1 ms.
const LOOK: Duration = Duration::from_millis(1);
/// Channels that catch up at the same time. 8: a herd after a restart of Redis comes in turns.
const TOGETHER: usize = 8;

/// Follows what is published.
pub(super) struct Subscriber<P> {
    /// Of its node.
    number: u64,
    server: Arc<Server>,
    here: Arc<Here<P>>,
    /// The connection; locked while it is subscribed on, so that an unsubscribe never overtakes a subscribe.
    connection: tokio::sync::Mutex<Option<MultiplexedConnection>>,
    /// Which connection is the current one: what an older one still pushes is not heard.
    generation: AtomicU64,
    lost: Notify,
    /// Channels that have missed something, by the base of their keys.
    gaps: Mutex<HashSet<String>>,
    gap: Notify,
    /// Number of the last probe that came back.
    probed: watch::Sender<u64>,
}

fn lock(followed: &Mutex<Followed>) -> MutexGuard<'_, Followed> {
    followed.lock().unwrap_or_else(PoisonError::into_inner)
}

fn away(what: &str) -> AdapterError {
    AdapterError::Unavailable(what.to_owned())
}

impl<P: Publish> Subscriber<P> {
    pub(super) fn start(number: u64, server: Arc<Server>, here: Arc<Here<P>>, stop: CancellationToken) -> Arc<Self> {
        let subscriber = Arc::new(Self {
            number,
            server,
            here,
            connection: tokio::sync::Mutex::default(),
            generation: AtomicU64::new(0),
            lost: Notify::new(),
            gaps: Mutex::default(),
            gap: Notify::new(),
            probed: watch::Sender::new(0),
        });
        let keeper = Arc::clone(&subscriber);
        tokio::spawn(async move {
            tokio::select! {
                () = keeper.keep() => {}
                () = stop.cancelled() => {}
            }
        });
        subscriber
    }

    pub(super) fn fences(&self, keys: &Keys) -> String {
        keys.fences(&self.here.replica)
    }

    /// Whether clients here have had what Redis has forgotten.
    pub(super) fn is_forked(&self, keys: &Keys) -> bool {
        self.followed(keys.base())
            .is_some_and(|followed| lock(&followed).is_forked())
    }

    /// A client here is given this, which it has missed. `false` where Redis may have forgotten it meanwhile.
    pub(super) fn gives(&self, keys: &Keys, missed: &[Arc<Numbered>]) -> bool {
        self.followed(keys.base())
            .is_some_and(|followed| lock(&followed).gives(missed))
    }

    /// A channel that its node has.
    fn followed(&self, base: &str) -> Option<Arc<Mutex<Followed>>> {
        let followed = self.here.followed(base)?;
        let is_here = lock(&followed).home == self.number;
        is_here.then_some(followed)
    }

    fn all_followed(&self) -> Vec<Arc<Mutex<Followed>>> {
        let mut all = self.here.all_followed();
        all.retain(|followed| lock(followed).home == self.number);
        all
    }

    /// What is to be subscribed to for a channel.
    fn names(&self, followed: &Followed) -> Vec<String> {
        let rooms = followed.room_names().map(|room| followed.keys.published(room));
        rooms.chain([self.fences(&followed.keys)]).collect()
    }

    /// The channel is to be subscribed to, where it is not, and to catch up.
    pub(super) fn mend(&self, base: &str) {
        let mut gaps = self.gaps.lock().unwrap_or_else(PoisonError::into_inner);
        gaps.insert(base.to_owned());
        self.gap.notify_one();
    }

    /// Unsubscribes from rooms that nobody hosts any more.
    async fn abandon(&self) {
        for followed in self.all_followed() {
            let mut connection = self.connection.lock().await;
            let names: Vec<_> = {
                let mut followed = lock(&followed);
                let abandoned = followed.take_abandoned();
                abandoned.iter().map(|room| followed.keys.published(room)).collect()
            };
            if let Some(connection) = connection.as_mut() {
                for names in names.chunks(SUBSCRIBE) {
                    // Where it fails the connection is lost, and what comes next subscribes to what is hosted.
                    let _: Result<(), _> = each("SUNSUBSCRIBE", names).query_async(connection).await;
                }
            }
        }
    }

    fn on_push(&self, generation: u64, push: &PushInfo) {
        if generation != self.generation.load(Ordering::Acquire) {
            return;
        }
        match (&push.kind, &push.data[..]) {
            (PushKind::Message | PushKind::SMessage, [Value::BulkString(name), Value::BulkString(message)]) => {
                let name = std::str::from_utf8(name).unwrap_or_default();
                self.on_message(name, message);
            }
            (PushKind::Unsubscribe | PushKind::SUnsubscribe, [Value::BulkString(name), ..]) => {
                self.on_unsubscribed(std::str::from_utf8(name).unwrap_or_default());
            }
            (PushKind::Disconnection, _) => self.lose("the connection for subscriptions is lost"),
            _ => {}
        }
    }

    fn on_message(&self, name: &str, message: &[u8]) {
        if name == self.probe_name() {
            let number = std::str::from_utf8(message).ok().and_then(|number| number.parse().ok());
            self.probed.send_replace(number.unwrap_or(0));
            return;
        }
        if name == self.here.orders {
            self.here.ordered.send_modify(|ordered| *ordered += 1);
            return;
        }
        let Some((base, rest)) = keys::split(name) else { return };
        let Some(followed) = self.here.followed(base) else {
            return;
        };
        let mut channel = lock(&followed);
        // What a node still pushes that no longer has the channel is read from the one that has.
        if channel.home != self.number {
            return;
        }
        let pushed = match rest.split_once(':') {
            Some(("p", room)) => {
                self.here.pushed.fetch_add(1, Ordering::Relaxed);
                channel.pushed(room, message, &*self.here.publish)
            }
            Some(("f", _)) => match kicked(message) {
                Some(client) => {
                    self.here.publish.taken_over(&channel.name, client);
                    Pushed::Fine
                }
                None => channel.pushed_fence(message),
            },
            _ => Pushed::Fine,
        };
        if let Pushed::Gap(reason) = pushed {
            tracing::warn!(channel = %channel.name, reason, "this replica has missed something and catches up");
            // Nothing more goes to the hub from here on.
            channel.fall_behind(0);
            self.mend(base);
        }
    }

    /// A subscription has ended. Where nobody here wanted that, the node does not have the channel any more.
    fn on_unsubscribed(&self, name: &str) {
        let Some((base, rest)) = keys::split(name) else {
            if name == self.probe_name() {
                self.lose("redis has ended the subscription of the probes");
            }
            return;
        };
        let Some(followed) = self.followed(base).filter(|_| Rule::Subscription.is_on()) else {
            return;
        };
        let mut channel = lock(&followed);
        let is_wanted = match rest.split_once(':') {
            Some(("p", room)) => channel.is_hosted(room),
            _ => true,
        };
        if is_wanted && channel.is_subscribed {
            tracing::warn!(channel = %channel.name, "redis has ended a subscription, the channel catches up");
            channel.is_subscribed = false;
            channel.fall_behind(0);
            self.here.signals.moved.notify_one();
            self.mend(base);
        }
    }

    fn lose(&self, why: &'static str) {
        if Rule::Subscription.is_on() {
            tracing::warn!("{why}");
            self.lost.notify_one();
        }
    }

    fn probe_name(&self) -> String {
        format!("aldis:probe:{}:{}", self.here.replica, self.number)
    }

    async fn keep(self: Arc<Self>) {
        let mut pause = RETRY.0;
        let mut told = None;
        loop {
            match self.connect().await {
                Ok(()) => {
                    pause = RETRY.0;
                    told = None;
                    self.here.links.set(self.number, Link::Live);
                    tracing::info!("this replica hears what is published in redis");
                    self.watch().await;
                }
                Err(error) if told.as_ref() != Some(&error) => {
                    tracing::warn!(%error, "redis can not be followed, it is tried again until it can");
                    told = Some(error);
                }
                Err(_) => {}
            }
            self.silence().await;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
        }
    }

    /// Nothing is heard: what comes is to be read.
    async fn silence(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        *self.connection.lock().await = None;
        for followed in self.all_followed() {
            lock(&followed).fall_behind(0);
        }
        let link = match self.server.is_reachable().await {
            true => Link::Deaf,
            false => Link::Away,
        };
        self.here.links.set(self.number, link);
    }

    async fn connect(self: &Arc<Self>) -> Result<(), AdapterError> {
        // What was lost before is known.
        let _ = self.lost.notified().now_or_never();
        let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        let this = Arc::downgrade(self);
        let pushed = move |push: PushInfo| {
            if let Some(this) = this.upgrade() {
                this.on_push(generation, &push);
            }
        };
        let mut connection = self.server.subscriber(pushed).await?;
        connection
            .subscribe(vec![self.probe_name(), self.here.orders.clone()])
            .await
            .map_err(|error| unavailable(&error))?;
        for followed in self.all_followed() {
            let names = self.names(&lock(&followed));
            self.subscribe_on(&mut connection, &names).await?;
            lock(&followed).is_subscribed = true;
        }
        *self.connection.lock().await = Some(connection);
        let behind = stream::iter(self.all_followed()).map(|followed| async move {
            match self.catch_up(&followed).await {
                Ok(Caught::Up) => Ok(()),
                Ok(Caught::Superseded) => self.wait_until_live(&followed).await,
                Err(Behind::Deaf(error)) => Err(error),
                Err(Behind::Unread(error)) => {
                    self.tell_unread(&followed, &error);
                    Ok(())
                }
            }
        });
        let caught_up: Vec<_> = behind.buffer_unordered(TOGETHER).collect().await;
        caught_up.into_iter().collect()
    }

    /// Probes, compares and lets go, until the connection is lost.
    async fn watch(self: &Arc<Self>) {
        let mut probe = tokio::time::interval(PROBE);
        let mut compare = tokio::time::interval(COMPARE);
        compare.reset();
        let mut number = 0;
        loop {
            tokio::select! {
                () = self.lost.notified() => return,
                () = self.gap.notified() => {
                    let gaps = std::mem::take(&mut *self.gaps.lock().unwrap_or_else(PoisonError::into_inner));
                    for followed in gaps.iter().filter_map(|base| self.followed(base)) {
                        let this = Arc::clone(self);
                        tokio::spawn(async move { this.mend_now(&followed).await });
                    }
                }
                _ = probe.tick() => {
                    number += 1;
                    if !self.probe(number).await {
                        self.lose("a probe did not come back: this replica is deaf");
                    }
                    self.abandon().await;
                    for followed in self.all_followed() {
                        lock(&followed).wait_for_fork(&*self.here.publish);
                    }
                }
                _ = compare.tick() => {
                    let this = Arc::clone(self);
                    tokio::spawn(async move { this.compare().await });
                }
            }
        }
    }

    /// Whether what is published comes back. One that can not be published proves nothing.
    async fn probe(&self, number: u64) -> bool {
        let mut probed = self.probed.subscribe();
        let sent = self.server.probe(&self.probe_name(), &number.to_string()).await;
        if sent.is_err() {
            return true;
        }
        let back = probed.wait_for(|probed| *probed >= number);
        tokio::time::timeout(DEAF, back).await.is_ok()
    }

    /// Says for every room that it is hosted, and compares its last seq with what was heard.
    async fn compare(&self) {
        for followed in self.all_followed() {
            let (keys, room_ttl, rooms) = {
                let followed = lock(&followed);
                let rooms: Vec<_> = followed.room_names().cloned().collect();
                (followed.keys.clone(), followed.room_ttl, rooms)
            };
            for rooms in rooms.chunks(REFRESH) {
                // A channel that catches up compares by itself; a room whose host fence is on its way is not asked for.
                let Ok(fence) = self.fence(&keys, rooms.to_vec()) else {
                    break;
                };
                let call = self.host_call(&keys, &fence, room_ttl, false, rooms);
                if run(&self.server, &keys, &call).await.is_ok() {
                    fence.passed().await.ok();
                }
            }
        }
    }

    /// Subscribes to shard channels of one channel.
    async fn subscribe_on(&self, connection: &mut MultiplexedConnection, names: &[String]) -> Result<(), AdapterError> {
        for names in names.chunks(SUBSCRIBE) {
            let subscribed: Result<(), _> = each("SSUBSCRIBE", names).query_async(connection).await;
            subscribed.map_err(|error| {
                self.server.note(&error);
                unavailable(&error)
            })?;
        }
        Ok(())
    }
}

/// `kick <client>`: its session has a new connection at another replica.
fn kicked(message: &[u8]) -> Option<ClientId> {
    let client = message.strip_prefix(b"kick ")?;
    std::str::from_utf8(client).ok()?.parse().ok()
}

/// A command for each name: each is answered, or refused, alone.
fn each(command: &str, names: &[String]) -> redis::Pipeline {
    let mut each = redis::pipe();
    for name in names {
        each.cmd(command).arg(name).ignore();
    }
    each
}
