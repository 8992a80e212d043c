//! jwks: the keys that issuers publish, fetched when a token asks for them, and kept.
//!
//! ```text
//! token → keys at hand say yes or no                                        at once, almost always
//!       → none at hand, or none of its key id → fetch → say yes or no       the client is held meanwhile
//!                                                     → not to be had       its connection is closed: it comes back
//! ```
//! Kept by tenant and URL, so that no tenant's clients, issuers or servers are felt by another. A token that no key fits is
//! refused only by a set that was asked for after it was shown: an issuer may have rotated its keys a moment ago. Many such
//! tokens cause one fetch per [`COOLDOWN`], and wait for it together.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aldis_core::channel::Channel;
use aldis_core::egress::Egress;
use aldis_core::identity::{Identity, KeySet, KeySetError, Refusal, Token, Verdict};
use aldis_core::table::Table;
use aldis_core::time::Millis;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use url::Url;

use crate::clock::Clock;
use crate::egress::{Http, Place, RequestError};
use crate::metrics::Metrics;

/// Longest key set that is read, in bytes. 256 KiB: a hundred keys with their certificates.
pub const MAX_BYTES: usize = 256 * 1024;
/// Age from which on keys are fetched again while they still serve. 5 min: a key that is withdrawn serves for so long.
pub const FRESH: Duration = Duration::from_secs(5 * 60);
/// Age from which on keys serve no longer. 1 h: an issuer may be away for so long.
pub const MAX_STALE: Duration = Duration::from_secs(60 * 60);
/// Time between two fetches of a set, however many unknown keys are asked for. 10 s: well within [`HOLD`].
pub const COOLDOWN: Duration = Duration::from_secs(10);
/// The same after one that failed. 2 s.
pub const RETRY: Duration = Duration::from_secs(2);
/// How long a client is held while keys are fetched. 20 s: well within the time in which a client has to connect.
pub const HOLD: Duration = Duration::from_secs(20);
/// Clients of a tenant that are held at a time. 1,000; the next are closed at once, and come back.
pub const MAX_HELD: usize = 1_000;
/// Key sets that are kept for a tenant. 64; beyond, the one that was not needed for longest goes.
pub const MAX_SETS: usize = 64;
/// Requests of a tenant at a time. 4: a slow issuer delays no other tenant's.
pub const MAX_REQUESTS: usize = 4;

/// What is outside: servers, and the time that passes.
pub trait Outside: Send + Sync + 'static {
    /// The body of `url`.
    fn fetch(
        &self,
        url: &Url,
        egress: &Egress,
        place: Place,
    ) -> impl Future<Output = Result<Vec<u8>, RequestError>> + Send;

    /// Now.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// Waits.
    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send {
        tokio::time::sleep_until(at)
    }
}

impl Outside for Http {
    async fn fetch(&self, url: &Url, egress: &Egress, place: Place) -> Result<Vec<u8>, RequestError> {
        self.get(url, egress, MAX_BYTES, place).await
    }
}

/// Why a token lets nobody in.
#[derive(Debug)]
pub enum NotVerified {
    /// It does not hold.
    Refused(Refusal),
    /// Nobody can say now: its keys are not to be had. Passing.
    Unavailable,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("what it answers is no key set: {0}")]
    Invalid(#[from] KeySetError),
    #[error("the request broke off")]
    Broken,
}

impl FetchError {
    fn as_str(&self) -> &'static str {
        match self {
            FetchError::Request(error) => error.as_str(),
            FetchError::Invalid(_) => "invalid",
            FetchError::Broken => "broken",
        }
    }
}

/// The key sets of all tenants.
pub struct Jwks<O = Http> {
    tenants: Mutex<HashMap<String, Arc<Tenant>>>,
    outside: Arc<O>,
    metrics: Arc<Metrics>,
    clock: Clock,
}

struct Tenant {
    requests: Arc<Semaphore>,
    held: Semaphore,
    sets: Mutex<HashMap<Url, Kept>>,
}

struct Kept {
    set: Arc<Set>,
    needed: Instant,
}

/// A key set, and what is known of its server.
struct Set {
    namespace: String,
    url: Url,
    state: watch::Sender<State>,
}

#[derive(Clone, Default)]
struct State {
    keys: Option<Arc<KeySet>>,
    /// When the request began that brought the keys.
    asked: Option<Instant>,
    /// When the last request began, and whether it failed.
    last: Option<(Instant, bool)>,
    fetching: bool,
}

/// How a wait goes on.
enum Next {
    Fetching,
    At(Instant),
}

impl<O: Outside> Jwks<O> {
    /// Nothing kept yet.
    pub fn new(outside: impl Into<Arc<O>>, metrics: Arc<Metrics>, clock: Clock) -> Self {
        Self {
            tenants: Mutex::default(),
            outside: outside.into(),
            metrics,
            clock,
        }
    }

    /// Who shows this token of a channel. Waits for keys for at most [`HOLD`].
    ///
    /// # Errors
    /// Why nobody is let in.
    pub async fn verify(&self, channel: &Channel, token: &Token<'_>) -> Result<Identity, NotVerified> {
        let shown = self.outside.now();
        let tenant = self.tenant(&channel.name.namespace);
        let set = self.set(&tenant, &channel.name.namespace, token.jwks_uri());
        let mut states = set.state.subscribe();
        let state = states.borrow_and_update().clone();
        if let Some(verdict) = self.judge(&state, token, shown) {
            if state.asked.is_some_and(|asked| self.age(asked) >= FRESH) {
                self.want(&tenant, &set, &channel.egress);
            }
            return verdict;
        }
        let Ok(_held) = tenant.held.try_acquire() else {
            return Err(NotVerified::Unavailable);
        };
        let deadline = shown + HOLD;
        loop {
            let wake = match self.want(&tenant, &set, &channel.egress) {
                Next::Fetching => deadline,
                Next::At(at) => at.min(deadline),
            };
            tokio::select! {
                // The sender is ours.
                _ = states.changed() => {}
                () = self.outside.sleep_until(wake) => {}
            }
            let state = states.borrow_and_update().clone();
            if let Some(verdict) = self.judge(&state, token, shown) {
                return verdict;
            }
            if self.outside.now() >= deadline {
                return Err(NotVerified::Unavailable);
            }
        }
    }

    fn age(&self, asked: Instant) -> Duration {
        self.outside.now().saturating_duration_since(asked)
    }

    /// What the keys at hand say; `None` where others have to be fetched.
    fn judge(&self, state: &State, token: &Token<'_>, shown: Instant) -> Option<Result<Identity, NotVerified>> {
        let (keys, asked) = (state.keys.as_ref()?, state.asked?);
        if self.age(asked) >= MAX_STALE {
            return None;
        }
        match token.verify(keys, self.clock.now()) {
            Verdict::Admitted(identity) => Some(Ok(identity)),
            Verdict::Refused(refusal) => Some(Err(NotVerified::Refused(refusal))),
            Verdict::Unknown(refusal) => (asked >= shown).then_some(Err(NotVerified::Refused(refusal))),
        }
    }

    /// Has a set fetched, unless that is under way or was a moment ago.
    fn want(&self, tenant: &Arc<Tenant>, set: &Arc<Set>, egress: &Egress) -> Next {
        let now = self.outside.now();
        let mut next = Next::Fetching;
        let begins = set.state.send_if_modified(|state| {
            let pause = |failed| if failed { RETRY } else { COOLDOWN };
            let from = state.last.map_or(now, |(at, failed)| at + pause(failed));
            let begins = !state.fetching && from <= now;
            if !state.fetching && !begins {
                next = Next::At(from);
            }
            state.fetching |= begins;
            begins
        });
        if begins {
            let (tenant, set, egress) = (Arc::clone(tenant), Arc::clone(set), egress.clone());
            let (outside, metrics, clock) = (Arc::clone(&self.outside), Arc::clone(&self.metrics), self.clock);
            tokio::spawn(async move {
                let (url, there) = (set.url.clone(), Arc::clone(&outside));
                // In a task of its own, so that a request that breaks off is known to have.
                let asked = tokio::spawn(async move { tenant.ask(&*there, &url, &egress).await });
                let answer = asked.await.unwrap_or(Err(FetchError::Broken));
                set.answered(answer, &metrics, outside.now(), clock.now());
            });
        }
        next
    }

    fn tenant(&self, namespace: &str) -> Arc<Tenant> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tenant) = tenants.get(namespace) {
            return Arc::clone(tenant);
        }
        let tenant = Arc::new(Tenant {
            requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
            held: Semaphore::new(MAX_HELD),
            sets: Mutex::default(),
        });
        tenants.insert(namespace.to_owned(), Arc::clone(&tenant));
        tenant
    }

    fn set(&self, tenant: &Tenant, namespace: &str, url: &Url) -> Arc<Set> {
        let mut sets = tenant.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let needed = self.outside.now();
        if let Some(kept) = sets.get_mut(url) {
            kept.needed = needed;
            return Arc::clone(&kept.set);
        }
        if sets.len() >= MAX_SETS
            && let Some(url) = sets
                .iter()
                .min_by_key(|(_, kept)| kept.needed)
                .map(|(url, _)| url.clone())
        {
            sets.remove(&url);
            self.metrics.jwks_forgotten(namespace, &shown(&url));
        }
        let set = Arc::new(Set {
            namespace: namespace.to_owned(),
            url: url.clone(),
            state: watch::Sender::default(),
        });
        let kept = Kept {
            set: Arc::clone(&set),
            needed,
        };
        sets.insert(url.clone(), kept);
        set
    }

    /// Forgets the key sets that no channel in force needs.
    pub fn follow(&self, table: &Table) {
        let mut wanted: HashMap<&str, HashSet<&Url>> = HashMap::new();
        for channel in table.channels() {
            wanted
                .entry(&channel.name.namespace)
                .or_default()
                .extend(channel.methods.jwks_uris());
        }
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.retain(|namespace, tenant| {
            let wanted = wanted.get(namespace.as_str());
            let mut sets = tenant.sets.lock().unwrap_or_else(PoisonError::into_inner);
            sets.retain(|url, _| {
                let stays = wanted.is_some_and(|wanted| wanted.contains(url));
                if !stays {
                    self.metrics.jwks_forgotten(namespace, &shown(url));
                }
                stays
            });
            wanted.is_some_and(|wanted| !wanted.is_empty())
        });
    }
}

impl Tenant {
    /// Asks for a set once there is a place; gives it with the time at which it was asked for.
    async fn ask<O: Outside>(&self, outside: &O, url: &Url, egress: &Egress) -> Result<(KeySet, Instant), FetchError> {
        let place = Arc::clone(&self.requests).acquire_owned().await;
        let place = Arc::new(place.map_err(|_| FetchError::Broken)?);
        let asked = outside.now();
        let body = outside.fetch(url, egress, place).await?;
        Ok((KeySet::parse(&body)?, asked))
    }
}

impl Set {
    fn answered(&self, answer: Result<(KeySet, Instant), FetchError>, metrics: &Metrics, at: Instant, now: Millis) {
        let (namespace, url) = (&self.namespace, shown(&self.url));
        metrics.jwks_fetched(namespace, answer.as_ref().map_or_else(FetchError::as_str, |_| "ok"));
        let failed_before = self.state.borrow().last.is_some_and(|(_, failed)| failed);
        match &answer {
            Ok((keys, _)) => {
                metrics.jwks_are_of(namespace, &url, now);
                tracing::info!(namespace, url, keys = keys.len(), "the keys of an issuer were fetched");
            }
            // Once, however often it is tried.
            Err(error) if !failed_before => {
                tracing::warn!(namespace, url, %error, "the keys of an issuer can not be fetched; trying again when they are needed");
            }
            Err(error) => tracing::debug!(namespace, url, %error, "the keys of an issuer can not be fetched"),
        }
        self.state.send_modify(|state| {
            state.fetching = false;
            state.last = Some((at, answer.is_err()));
            if let Ok((keys, asked)) = answer {
                (state.keys, state.asked) = (Some(Arc::new(keys)), Some(asked));
            }
        });
    }
}

/// A URL for logs and metrics: without its query, which may hold what is not for them.
fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    shown.into()
}

#[cfg(test)]
mod tests;
