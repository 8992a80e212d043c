//! What is published reaches this replica, or it is noticed that it does not.
//!
//! One connection, subscribed to the rooms that are hosted here and to nothing else. What is pushed is handled on the task
//! that reads it, in the order in which Redis published it. A **fence** is published by a script and comes back in that
//! order: what the script saw is before it, all else behind it.
//!
//! ```text
//! keep     connect → resubscribe → every channel catches up → live ─┐
//!   ↑      connection lost · unsubscribed · probe not back          │
//!   └───────────────────────────────────────────────────────────────┘
//! catch_up a gap in one channel: hold → read → fence → hub → go on
//! ```

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::answer::ReadBack;
use super::channel::{CaughtUp, Followed, Pushed};
use super::keys::{self, Keys};
use super::server::{Server, unavailable};
use super::{CATCH_UP, read_call, run};
use crate::adapter::{AdapterError, Publish};
use crate::hub::ClientId;
use crate::sabotage::Rule;

mod hosting;

/// How often a probe goes through Redis. 1 s.
const PROBE: Duration = Duration::from_secs(1);
/// How long a probe, or a fence, may take to come back before this replica counts as deaf. 3 s: with the next probe that is
/// noticed in under 5 s.
const DEAF: Duration = Duration::from_secs(3);
/// Pauses before Redis is tried again: doubled from 50 ms to 1 s.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Names in one SUBSCRIBE. 512.
const SUBSCRIBE: usize = 512;
/// Rooms whose place is refreshed, and compared, by one script. 512.
const REFRESH: usize = 512;
/// How often every room's place is compared with what was heard, and kept from expiring. 20 s: a third of the least that it is
/// kept for.
const COMPARE: Duration = Duration::from_secs(20);
/// Channels that catch up at the same time. 8: a herd after a restart of Redis comes in turns.
const TOGETHER: usize = 8;

/// Whether this replica hears what is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// It does, and has missed nothing.
    Live,
    /// It does not, or has not caught up, though Redis answers: its peers can do better.
    Deaf,
    /// Redis does not answer.
    Away,
}

/// Follows what is published.
pub(super) struct Subscriber<P> {
    server: Arc<Server>,
    publish: Arc<P>,
    /// Names the fences and probes of this replica.
    replica: String,
    channels: Mutex<HashMap<String, Arc<Mutex<Followed>>>>,
    /// The connection; locked while it is subscribed on, so that an unsubscribe never overtakes a subscribe.
    connection: tokio::sync::Mutex<Option<MultiplexedConnection>>,
    /// Which connection is the current one: what an older one still pushes is not heard.
    generation: AtomicU64,
    lost: Notify,
    /// Channels that have missed something, by the base of their keys.
    gaps: Mutex<HashSet<String>>,
    gap: Notify,
    link: watch::Sender<Link>,
    tokens: AtomicU64,
    /// Number of the last probe that came back.
    probed: watch::Sender<u64>,
    pushed: AtomicU64,
}

fn lock(followed: &Mutex<Followed>) -> MutexGuard<'_, Followed> {
    followed.lock().unwrap_or_else(PoisonError::into_inner)
}

fn away(what: &str) -> AdapterError {
    AdapterError::Unavailable(what.to_owned())
}

impl<P: Publish> Subscriber<P> {
    pub(super) fn start(server: Arc<Server>, publish: Arc<P>, stop: CancellationToken) -> Arc<Self> {
        let subscriber = Arc::new(Self {
            server,
            publish,
            replica: format!("{:016x}", rand::random::<u64>()),
            channels: Mutex::default(),
            connection: tokio::sync::Mutex::default(),
            generation: AtomicU64::new(0),
            lost: Notify::new(),
            gaps: Mutex::default(),
            gap: Notify::new(),
            link: watch::Sender::new(Link::Away),
            tokens: AtomicU64::new(1),
            probed: watch::Sender::new(0),
            pushed: AtomicU64::new(0),
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

    pub(super) fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    pub(super) fn pushed(&self) -> u64 {
        self.pushed.load(Ordering::Relaxed)
    }

    /// Names this replica.
    pub(super) fn replica(&self) -> &str {
        &self.replica
    }

    pub(super) fn fences(&self, keys: &Keys) -> String {
        keys.fences(&self.replica)
    }

    fn followed(&self, base: &str) -> Option<Arc<Mutex<Followed>>> {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.get(base).cloned()
    }

    fn all_followed(&self) -> Vec<Arc<Mutex<Followed>>> {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.values().cloned().collect()
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
                    let _: Result<(), _> = connection.unsubscribe(names).await;
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
                let name = std::str::from_utf8(name).unwrap_or_default();
                if self.is_wanted(name) {
                    self.lose("redis has ended a subscription");
                }
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
        let Some((base, rest)) = keys::split(name) else { return };
        let Some(followed) = self.followed(base) else { return };
        let mut channel = lock(&followed);
        let pushed = match rest.split_once(':') {
            Some(("p", room)) => {
                self.pushed.fetch_add(1, Ordering::Relaxed);
                channel.pushed(room, message, &*self.publish)
            }
            Some(("f", _)) => match kicked(message) {
                Some(client) => {
                    self.publish.taken_over(&channel.name, client);
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
            let mut gaps = self.gaps.lock().unwrap_or_else(PoisonError::into_inner);
            gaps.insert(base.to_owned());
            self.gap.notify_one();
        }
    }

    fn is_wanted(&self, name: &str) -> bool {
        let Some((base, rest)) = keys::split(name) else {
            return name == self.probe_name();
        };
        self.followed(base).is_some_and(|followed| match rest.split_once(':') {
            Some(("p", room)) => lock(&followed).is_hosted(room),
            _ => true,
        })
    }

    fn lose(&self, why: &'static str) {
        if Rule::Subscription.is_on() {
            tracing::warn!("{why}");
            self.lost.notify_one();
        }
    }

    fn probe_name(&self) -> String {
        format!("aldis:probe:{}", self.replica)
    }

    async fn keep(self: Arc<Self>) {
        let mut pause = RETRY.0;
        let mut told = None;
        loop {
            match self.connect().await {
                Ok(()) => {
                    pause = RETRY.0;
                    told = None;
                    self.link.send_replace(Link::Live);
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
        let reachable = self.server.unfit().await.is_ok();
        self.link.send_replace(if reachable { Link::Deaf } else { Link::Away });
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
        let mut names = vec![self.probe_name()];
        for followed in self.all_followed() {
            let followed = lock(&followed);
            names.push(self.fences(&followed.keys));
            names.extend(followed.room_names().map(|room| followed.keys.published(room)));
        }
        subscribe(&mut connection, &names).await?;
        *self.connection.lock().await = Some(connection);
        let behind = stream::iter(self.all_followed()).map(|followed| async move { self.catch_up(&followed).await });
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
                        tokio::spawn(async move {
                            if this.catch_up(&followed).await.is_err() {
                                this.lost.notify_one();
                            }
                        });
                    }
                }
                _ = probe.tick() => {
                    number += 1;
                    if !self.probe(number).await {
                        self.lose("a probe did not come back: this replica is deaf");
                    }
                    self.abandon().await;
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
        if self
            .server
            .publish(&self.probe_name(), &number.to_string())
            .await
            .is_err()
        {
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

    /// Hold → read → fence → hub → go on.
    async fn catch_up(&self, followed: &Arc<Mutex<Followed>>) -> Result<(), AdapterError> {
        let mut from = u64::MAX;
        loop {
            let token = self.tokens.fetch_add(1, Ordering::Relaxed);
            let (keys, behind) = {
                let mut followed = lock(followed);
                (followed.keys.clone(), followed.fall_behind(token))
            };
            let Some(mut behind) = behind else { return Ok(()) };
            behind
                .rooms
                .iter_mut()
                .for_each(|(_, after)| *after = (*after).min(from));
            let mut call = read_call(&keys, &behind.epoch, &self.fences(&keys), token, CATCH_UP);
            for (room, after) in &behind.rooms {
                call = call.arg(room).arg(after);
            }
            let mut read = Some(ReadBack::of(&run(&self.server, &keys, &call).await?));
            let is_read = matches!(read, Some(ReadBack::Read { .. }));
            let deadline = Instant::now() + DEAF;
            loop {
                // The fence comes on the other connection.
                if !is_read || lock(followed).has_passed(token) {
                    break;
                }
                if Instant::now() > deadline {
                    return Err(away("a fence did not come back"));
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let Some(read) = read.take() else { return Ok(()) };
            let mut channel = lock(followed);
            match channel.caught_up(&behind, read, &*self.publish) {
                CaughtUp::Yes => {
                    tracing::info!(channel = %channel.name, "caught up with redis");
                    return Ok(());
                }
                CaughtUp::From(good) => from = good,
                CaughtUp::Again => {}
            }
        }
    }
}

/// `kick <client>`: its session has a new connection at another replica.
fn kicked(message: &[u8]) -> Option<ClientId> {
    let client = message.strip_prefix(b"kick ")?;
    std::str::from_utf8(client).ok()?.parse().ok()
}

async fn subscribe(connection: &mut MultiplexedConnection, names: &[String]) -> Result<(), AdapterError> {
    for names in names.chunks(SUBSCRIBE) {
        connection.subscribe(names).await.map_err(|error| unavailable(&error))?;
    }
    Ok(())
}
