//! What channels have left in Redis that are in force nowhere any more: deleted ones, and those whose grant was revoked.
//!
//! Replicas say again and again which channels are in force. One of which nobody has said so for long is erased, whoever notices
//! first: what makes it known at once, then all other keys of it, found by SCAN in small steps. A replica that does not know the newest
//! configuration asks nobody, so that it erases nothing which is merely new to it.

use std::time::Duration;

use super::answer::Answer;
use super::keys::Keys;
use super::scripts::{self, Call, outcome};
use super::{AdapterError, RedisAdapter};
use crate::adapter::Publish;

/// Channels of which one script is told that they are in force. 1,000: a millisecond.
const SAID_AT_ONCE: usize = 1_000;
/// Channels that are erased before it is asked again. 16: each is a walk over all keys of Redis.
const ERASED_AT_ONCE: usize = 16;
/// Keys that one script looks at. 1,000: a millisecond.
const KEYS_AT_ONCE: usize = 1_000;
/// Between two such scripts. 10 ms, so that they take a tenth of Redis' time at most: 10 million keys take two minutes.
const PAUSE: Duration = Duration::from_millis(10);

impl<P: Publish> RedisAdapter<P> {
    /// Says which channels are in force, by their uids, and erases those of which no replica has said so for `after`. Gives how many
    /// were erased.
    ///
    /// # Errors
    /// Where Redis does not answer: the next call goes on.
    pub async fn erase_gone(&self, in_force: &[String], after: Duration) -> Result<usize, AdapterError> {
        let registry = Keys::of(&self.gateway, "");
        let now = self.clock.now().0 / 1_000;
        let ask = |what: &str| Call::new(scripts::in_force(), &registry).arg(what).arg(now);
        // Whoever asks below has said all of it before.
        for uids in in_force.chunks(SAID_AT_ONCE) {
            self.run_as_it_is(&registry, &ask("say").args(uids)).await?;
        }
        let due = ask("due").arg(after.as_secs()).arg(ERASED_AT_ONCE);
        let due = self.run_as_it_is(&registry, &due).await?;
        let due = Answer(&due);
        let (mut erased, uids) = (0, (1..due.len()).map(|at| due.text(at)));
        for uid in uids.filter(|uid| !uid.is_empty()) {
            let Some(keys) = self.erase(&Keys::of(&self.gateway, uid)).await? else {
                continue;
            };
            let said = ask("erased").arg(after.as_secs()).arg(uid);
            self.run_as_it_is(&registry, &said).await?;
            tracing::info!(uid, keys, "what a channel that is gone has left in redis is erased");
            erased += 1;
        }
        Ok(erased)
    }

    /// Erases all keys of a channel; gives how many, or nothing where somebody uses it.
    async fn erase(&self, keys: &Keys) -> Result<Option<u64>, AdapterError> {
        let (mut cursor, mut erased) = ("begin".to_owned(), 0);
        loop {
            let step = Call::new(scripts::erase(), keys).arg(&cursor).arg(KEYS_AT_ONCE);
            let answer = self.run_as_it_is(keys, &step).await?;
            if outcome(&answer) != "ok" {
                return Ok(None);
            }
            let answer = Answer(&answer);
            erased += answer.number(2);
            answer.text(1).clone_into(&mut cursor);
            if cursor == "0" {
                return Ok(Some(erased));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
