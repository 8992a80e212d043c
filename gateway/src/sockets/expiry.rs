//! expiry: tokens that expire while their clients are connected.
//!
//! ```text
//! exp + clock skew   aldis:closing {code: "token_expired"}
//! NOTICE later       the connection is closed, as one that breaks off is
//! ```
//! A stock client then comes back by itself, with what its `auth` function gives it, and recovers. One entry for each client whose
//! token expires, gone with the client; one look at the first of them each sweep, no timer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aldis_core::identity::CLOCK_SKEW_MS;
use aldis_core::time::Millis;
use aldis_crds::names::ChannelName;

use super::Shared;
use crate::hub::{ClientId, CloseReason};

/// How long a client is still connected once it has heard that its token has expired, in ms. 1 s: its application may have to
/// fetch a fresh one.
pub const NOTICE_MS: i64 = 1_000;

/// Clients that are told or closed before other tasks get their turn. 256: tokens that were issued together expire together.
const TURN: usize = 256;

/// `aldis:closing (info {code}, position)`: the connection is about to be closed.
const CLOSING_EVENT: &str = "aldis:closing";

/// When a token ends, and whose it is.
type Clients = BTreeMap<(Millis, ClientId), ChannelName>;

/// Clients whose tokens expire.
#[derive(Debug, Default)]
pub struct Expiries(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    valid: Clients,
    told: Clients,
}

/// That a client's token is watched, until this is dropped.
#[derive(Debug)]
pub(super) struct Watched {
    expiries: Arc<Expiries>,
    key: (Millis, ClientId),
}

impl Expiries {
    /// Watches the token of a client: `expires` is its `exp`.
    pub(super) fn watch(self: &Arc<Self>, channel: &ChannelName, id: ClientId, expires: Millis) -> Watched {
        let key = (Millis(expires.0.saturating_add(CLOCK_SKEW_MS)), id);
        self.lock().valid.insert(key, channel.clone());
        Watched {
            expiries: Arc::clone(self),
            key,
        }
    }

    /// Whose token has just expired.
    fn expired(&self, now: Millis) -> Clients {
        let mut state = self.lock();
        let expired = up_to(&mut state.valid, now);
        state.told.extend(expired.clone());
        expired
    }

    /// Who has been told for long enough.
    fn noticed(&self, now: Millis) -> Clients {
        up_to(&mut self.lock().told, Millis(now.0.saturating_sub(NOTICE_MS)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes what has ended by `now`.
fn up_to(clients: &mut Clients, now: Millis) -> Clients {
    let later = clients.split_off(&(Millis(now.0.saturating_add(1)), ClientId::MIN));
    std::mem::replace(clients, later)
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut state = self.expiries.lock();
        if state.valid.remove(&self.key).is_none() {
            state.told.remove(&self.key);
        }
    }
}

/// Tells clients whose token has expired, and closes those that were told [`NOTICE_MS`] ago.
pub(crate) async fn sweep<A>(shared: &Shared<A>) {
    let now = shared.clock.now();
    for (done, ((_, id), channel)) in shared.expiries.noticed(now).into_iter().enumerate() {
        shared.hub.kick(&channel, id, CloseReason::TokenExpired);
        take_turns(done).await;
    }
    let info: Arc<str> = serde_json::json!({ "code": "token_expired" }).to_string().into();
    for (done, ((_, id), channel)) in shared.expiries.expired(now).into_iter().enumerate() {
        shared.hub.tell(&channel, id, CLOSING_EVENT, Arc::clone(&info));
        take_turns(done).await;
    }
}

async fn take_turns(done: usize) {
    if done % TURN == TURN - 1 {
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(clients: Clients) -> Vec<ClientId> {
        clients.into_keys().map(|(_, id)| id).collect()
    }

    #[test]
    fn each_is_told_once_when_its_token_is_no_longer_let_in_and_closed_later() {
        let expiries = Arc::new(Expiries::default());
        let channel = ChannelName {
            namespace: "press".to_owned(),
            name: "news".to_owned(),
        };
        let watch = |id, expires| expiries.watch(&channel, id, Millis(expires));
        let _watched = [watch(1, 2_000), watch(2, 1_000), watch(3, 1_000), watch(4, i64::MAX)];
        let (first, second) = (1_000 + CLOCK_SKEW_MS, 2_000 + CLOCK_SKEW_MS);
        assert_eq!(ids(expiries.expired(Millis(first - 1))), [0; 0]);
        assert_eq!(ids(expiries.expired(Millis(first))), [2, 3]);
        assert_eq!(ids(expiries.expired(Millis(first))), [0; 0]);
        assert_eq!(ids(expiries.noticed(Millis(first + NOTICE_MS - 1))), [0; 0]);
        assert_eq!(ids(expiries.noticed(Millis(first + NOTICE_MS))), [2, 3]);
        assert_eq!(ids(expiries.expired(Millis(second))), [1]);
    }

    #[test]
    fn who_goes_is_not_watched_any_more() {
        let expiries = Arc::new(Expiries::default());
        let channel = ChannelName {
            namespace: "press".to_owned(),
            name: "news".to_owned(),
        };
        let (valid, told) = (
            expiries.watch(&channel, 1, Millis(9_000)),
            expiries.watch(&channel, 2, Millis(0)),
        );
        assert_eq!(ids(expiries.expired(Millis(CLOCK_SKEW_MS))), [2]);
        drop((valid, told));
        let state = expiries.lock();
        assert!(state.valid.is_empty() && state.told.is_empty());
    }
}
