//! Places over all replicas: a client is let in where the sum of what all of them have leaves a place for it.
//!
//! ```text
//! take     asked → a queue per tenant → one call at a time, which takes all who wait → in, or full
//! drop     counted down → told with the next call
//! ```
//! What a replica has is its own to say: numbers, not changes, so what was lost on the way is right again with the next one.
//! Where nobody can say what the others have, its own counts alone decide.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use crate::adapter::AdapterError;
use crate::adapter::census::{Asked, Census, Count, Counted};
use crate::limits::LOOK_EVERY;

/// Who is let in by one call at most. 256: some ms for which Redis does nothing else.
const ASKED_AT_ONCE: usize = 256;
/// What is said of in one call at most. 2,000.
const COUNTS_AT_ONCE: usize = 2_000;
/// For how long nobody is asked after a call that failed: 1 s, so that no client waits for each.
const ALONE: Duration = Duration::from_secs(1);
/// Names that are known to be full. 1,024; beyond it all are asked for again.
const FULL: usize = 1_024;

/// What all tenants have, here and elsewhere.
#[derive(Debug, Default)]
pub struct Places {
    tenants: Mutex<HashMap<String, Arc<Tenant>>>,
    todo: Arc<Todo>,
}

/// Tenants of which there is something to say.
#[derive(Debug, Default)]
struct Todo {
    tenants: Mutex<Vec<Arc<Tenant>>>,
    there_is: Notify,
}

/// One tenant.
#[derive(Debug)]
struct Tenant {
    namespace: String,
    todo: Arc<Todo>,
    state: Mutex<State>,
}

/// Pure accounting: what there is to say, and what became of it.
#[derive(Debug, Default)]
struct State {
    /// What this replica has.
    counts: HashMap<Arc<str>, u32>,
    /// Of these the others do not know it.
    changed: HashSet<Arc<str>>,
    /// Whether the others know all the rest.
    is_known: bool,
    /// Whether it is to be said that all of it still holds.
    is_due: bool,
    waiting: VecDeque<Waiting>,
    /// Whether a task says it.
    runs: bool,
    /// Nobody is asked before.
    alone_until: Option<Instant>,
    /// What is full, and until when it is not asked again.
    full: HashMap<Arc<str>, Instant>,
}

/// Who has asked, and where it hears what became of it: its places, or the index of the first that is not there.
type Waiting = (Asked, oneshot::Sender<Result<Held, usize>>);

/// What became of who asked: it is in, or the index of the first place that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    In { alone: bool },
    Full(usize),
}

/// The places of one client over all replicas, until it is dropped.
#[derive(Debug)]
pub struct Held {
    tenant: Arc<Tenant>,
    names: Vec<Arc<str>>,
    /// Whether this replica's own counts alone let it in.
    pub alone: bool,
}

impl Places {
    /// Places for a client of a tenant. Waits for one call at most, and where nobody answers not even for that.
    ///
    /// # Errors
    /// The index of the first place that is not there; nothing was taken.
    pub async fn take(&self, namespace: &str, asked: Asked) -> Result<Held, usize> {
        let tenant = self.tenant(namespace);
        if let Some(verdict) = tenant.lock().decide(&asked, Instant::now()) {
            return tenant.tell(&asked, verdict);
        }
        let (sender, verdict) = oneshot::channel();
        tenant.lock().waiting.push_back((asked.clone(), sender));
        tenant.wake();
        verdict.await.unwrap_or_else(|_| {
            // The gateway is being stopped.
            tenant.lock().add(&asked);
            tenant.tell(&asked, Verdict::In { alone: true })
        })
    }

    /// Waits until there is something to say; gives those who have it.
    pub async fn todo(&self) -> Vec<Claimed> {
        loop {
            self.todo.there_is.notified().await;
            let tenants = std::mem::take(&mut *lock(&self.todo.tenants));
            let begin = |tenant: Arc<Tenant>| {
                let begins = !std::mem::replace(&mut tenant.lock().runs, true);
                begins.then_some(Claimed(tenant))
            };
            let claimed: Vec<_> = tenants.into_iter().filter_map(begin).collect();
            if !claimed.is_empty() {
                return claimed;
            }
        }
    }

    /// All of it is to be said again, so that it does not expire. Tenants that have nothing are forgotten.
    pub fn due(&self) {
        let mut tenants = lock(&self.tenants);
        tenants.retain(|_, tenant| Arc::strong_count(tenant) > 1 || !tenant.lock().is_idle());
        for tenant in tenants.values() {
            tenant.lock().is_due = true;
            tenant.wake();
        }
    }

    fn tenant(&self, namespace: &str) -> Arc<Tenant> {
        let mut tenants = lock(&self.tenants);
        if let Some(tenant) = tenants.get(namespace) {
            return Arc::clone(tenant);
        }
        let tenant = Arc::new(Tenant {
            namespace: namespace.to_owned(),
            todo: Arc::clone(&self.todo),
            state: Mutex::default(),
        });
        tenants.insert(namespace.to_owned(), Arc::clone(&tenant));
        tenant
    }
}

/// A tenant of which one task says what there is to say.
#[derive(Debug)]
pub struct Claimed(Arc<Tenant>);

impl Claimed {
    /// Says it, until there is nothing more to say.
    pub async fn say(self, census: &impl Census) {
        loop {
            let next = self.0.lock().next();
            let Some((count, waiting)) = next else { return };
            let said = census.count(&self.0.namespace, &count).await;
            if let Err(error) = &said {
                tracing::debug!(namespace = self.0.namespace, %error, "what other replicas have is not known");
            }
            let (verdicts, goes_on) = self.0.lock().said(waiting, said, Instant::now());
            for ((asked, sender), verdict) in verdicts {
                // Where nobody hears it any more, what it has is given back.
                drop(sender.send(self.0.tell(&asked, verdict)));
            }
            if !goes_on {
                return;
            }
        }
    }
}

impl Tenant {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// What who asked is told.
    fn tell(self: &Arc<Self>, asked: &Asked, verdict: Verdict) -> Result<Held, usize> {
        match verdict {
            Verdict::Full(place) => Err(place),
            Verdict::In { alone } => Ok(Held {
                tenant: Arc::clone(self),
                names: asked.places.iter().map(|(name, _)| Arc::clone(name)).collect(),
                alone,
            }),
        }
    }

    fn wake(self: &Arc<Self>) {
        lock(&self.todo.tenants).push(Arc::clone(self));
        self.todo.there_is.notify_one();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.tenant.lock().remove(&self.names);
        self.tenant.wake();
    }
}

impl State {
    /// What is known of who asks without asking others. Who is in is counted.
    fn decide(&mut self, asked: &Asked, now: Instant) -> Option<Verdict> {
        if self.alone_until.is_some_and(|until| now < until) {
            self.add(asked);
            return Some(Verdict::In { alone: true });
        }
        let is_full = |name: &Arc<str>| self.full.get(name).is_some_and(|until| now < *until);
        let full = asked.places.iter().position(|(name, _)| is_full(name));
        full.filter(|_| asked.from.is_none()).map(Verdict::Full)
    }

    /// What is to be said next, and who waits for the answer; `None` where there is nothing, and nobody says anything any more.
    fn next(&mut self) -> Option<(Count, Vec<Waiting>)> {
        let is_fresh = !self.is_known;
        if is_fresh {
            self.changed = self.counts.keys().cloned().collect();
        }
        let nothing = self.changed.is_empty() && self.waiting.is_empty() && !self.is_due;
        if nothing || (is_fresh && self.is_idle()) {
            self.is_due = false;
            self.runs = false;
            return None;
        }
        let told: Vec<_> = self.changed.iter().take(COUNTS_AT_ONCE).cloned().collect();
        let counts = told.into_iter().map(|name| {
            self.changed.remove(&name);
            let count = self.counts.get(&name).copied().unwrap_or(0);
            (name, count)
        });
        let counts = counts.collect();
        // Nobody is let in before all is said that is to be said.
        let room = if self.changed.is_empty() { ASKED_AT_ONCE } else { 0 };
        let waiting: Vec<_> = self.waiting.drain(..room.min(self.waiting.len())).collect();
        self.is_known = true;
        self.is_due = false;
        let count = Count {
            is_fresh,
            counts,
            asked: waiting.iter().map(|(asked, _)| asked.clone()).collect(),
        };
        Some((count, waiting))
    }

    /// What became of what was said: who is told what, and whether it goes on. Who is in is counted.
    fn said(
        &mut self,
        waiting: Vec<Waiting>,
        said: Result<Counted, AdapterError>,
        now: Instant,
    ) -> (Vec<(Waiting, Verdict)>, bool) {
        match said {
            Ok(Counted::Yes { verdicts, touched }) => {
                self.changed.extend(touched);
                self.alone_until = None;
                let told = waiting.into_iter().zip(verdicts).map(|(waiting, full)| {
                    let asked = &waiting.0;
                    let Some(place) = full else {
                        self.add(asked);
                        return (waiting, Verdict::In { alone: false });
                    };
                    if let Some((name, _)) = asked.places.get(place) {
                        self.is_full(name, now);
                    }
                    (waiting, Verdict::Full(place))
                });
                (told.collect(), true)
            }
            Ok(Counted::Forgotten) => {
                self.is_known = false;
                waiting
                    .into_iter()
                    .rev()
                    .for_each(|waiting| self.waiting.push_front(waiting));
                (Vec::new(), true)
            }
            Err(_) => {
                self.is_known = false;
                self.runs = false;
                self.alone_until = Some(now + ALONE);
                let all: Vec<_> = waiting.into_iter().chain(self.waiting.drain(..)).collect();
                let told = all.into_iter().map(|waiting| {
                    self.add(&waiting.0);
                    (waiting, Verdict::In { alone: true })
                });
                (told.collect(), false)
            }
        }
    }

    fn is_full(&mut self, name: &Arc<str>, now: Instant) {
        if self.full.len() >= FULL {
            self.full.clear();
        }
        self.full.insert(Arc::clone(name), now + LOOK_EVERY);
    }

    fn add(&mut self, asked: &Asked) {
        for (name, _) in &asked.places {
            *self.counts.entry(Arc::clone(name)).or_default() += 1;
        }
    }

    fn remove(&mut self, names: &[Arc<str>]) {
        for name in names {
            if let Some(count) = self.counts.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(name);
                }
            }
            self.full.remove(name);
            self.changed.insert(Arc::clone(name));
        }
    }

    fn is_idle(&self) -> bool {
        self.counts.is_empty() && self.waiting.is_empty()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
