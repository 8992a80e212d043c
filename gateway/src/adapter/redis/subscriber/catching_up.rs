//! A channel that may have missed something: what was published meanwhile is read, given to the hub in order, and it goes on.

use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use super::{DEAF, LOOK, RETRY, Subscriber, away, lock, run};
use crate::adapter::redis::answer::ReadBack;
use crate::adapter::redis::channel::{CaughtUp, Followed};
use crate::adapter::redis::{CATCH_UP, read_call};
use crate::adapter::{AdapterError, Publish};

/// How catching up ended.
pub(super) enum Caught {
    Up,
    /// Somebody else began to read, or the channel has gone to another node.
    Superseded,
}

/// Why a channel did not catch up.
pub(super) enum Behind {
    /// Nothing comes through the connection.
    Deaf(AdapterError),
    /// It can not be read for now.
    Unread(AdapterError),
}

impl<P: Publish> Subscriber<P> {
    /// Somebody else reads what the channel has missed.
    pub(super) async fn wait_until_live(&self, followed: &Mutex<Followed>) -> Result<(), AdapterError> {
        let deadline = Instant::now() + DEAF;
        loop {
            let is_live = {
                let followed = lock(followed);
                followed.is_live() || followed.home != self.number
            };
            match is_live {
                true => return Ok(()),
                false if Instant::now() > deadline => return Err(away("a channel does not catch up")),
                false => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// A channel that can not be read holds up no other: it is tried again by itself.
    pub(super) fn tell_unread(self: &Arc<Self>, followed: &Mutex<Followed>, error: &AdapterError) {
        let (name, base) = {
            let followed = lock(followed);
            (followed.name.clone(), followed.keys.base().to_owned())
        };
        tracing::warn!(channel = %name, %error, "what a channel has missed can not be read, its clients wait until it can");
        let this = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(RETRY.1).await;
            if let Some(this) = this.upgrade() {
                this.mend(&base);
            }
        });
    }

    pub(super) async fn mend_now(self: &Arc<Self>, followed: &Arc<Mutex<Followed>>) {
        let missing = {
            let followed = lock(followed);
            (!followed.is_subscribed).then(|| self.names(&followed))
        };
        let mended = async {
            if let Some(names) = missing {
                self.subscribe(names).await.map_err(Behind::Unread)?;
                lock(followed).is_subscribed = true;
            }
            // Nothing of it was to be missed, or somebody else was quicker.
            let is_live = lock(followed).is_live();
            match is_live {
                true => Ok(Caught::Up),
                false => self.catch_up(followed).await,
            }
        };
        match mended.await {
            Ok(_) => {}
            Err(Behind::Unread(error)) if self.server.is_connected() => self.tell_unread(followed, &error),
            Err(Behind::Unread(_) | Behind::Deaf(_)) => self.lost.notify_one(),
        }
    }

    /// Hold → read → fence → hub → go on.
    pub(super) async fn catch_up(&self, followed: &Arc<Mutex<Followed>>) -> Result<Caught, Behind> {
        let mut from = u64::MAX;
        loop {
            let token = self.here.number();
            let (keys, behind) = {
                let mut followed = lock(followed);
                if followed.home != self.number {
                    return Ok(Caught::Superseded);
                }
                (followed.keys.clone(), followed.fall_behind(token))
            };
            let Some(mut behind) = behind else {
                return Ok(Caught::Up);
            };
            behind
                .rooms
                .iter_mut()
                .for_each(|(_, after)| *after = (*after).min(from));
            let mut call = read_call(&keys, &behind.epoch, &self.fences(&keys), token, CATCH_UP);
            for (room, after) in &behind.rooms {
                call = call.arg(room).arg(after);
            }
            let answer = run(&self.server, &keys, &call).await.map_err(Behind::Unread)?;
            let read = ReadBack::of(&answer);
            let is_read = matches!(read, ReadBack::Read { .. });
            let deadline = Instant::now() + DEAF;
            loop {
                // The fence comes on the other connection.
                match lock(followed).has_passed(token) {
                    None => return Ok(Caught::Superseded),
                    Some(true) => break,
                    Some(false) if !is_read => break,
                    Some(false) => {}
                }
                if Instant::now() > deadline {
                    return Err(Behind::Deaf(away("a fence did not come back")));
                }
                tokio::time::sleep(LOOK).await;
            }
            let mut channel = lock(followed);
            if channel.has_passed(token).is_none() {
                return Ok(Caught::Superseded);
            }
            match channel.caught_up(&behind, read, &*self.here.publish) {
                CaughtUp::Yes => {
                    tracing::info!(channel = %channel.name, "caught up with redis");
                    if channel.is_forked() {
                        tracing::warn!(
                            channel = %channel.name,
                            "redis has forgotten what clients here have had: until it has come again, who comes back to this replica waits"
                        );
                    }
                    return Ok(Caught::Up);
                }
                CaughtUp::From(good) => from = good,
                CaughtUp::Again => {}
            }
        }
    }
}
