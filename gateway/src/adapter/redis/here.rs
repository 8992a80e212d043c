//! What all nodes of Redis have in common at this replica: whom it is, what it follows, and whether it hears all of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::channel::Followed;

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

/// This replica.
pub(super) struct Here<P> {
    pub(super) publish: Arc<P>,
    /// Names its fences and probes.
    pub(super) replica: String,
    /// By the base of their keys.
    channels: Mutex<HashMap<String, Arc<Mutex<Followed>>>>,
    pub(super) links: Links,
    pub(super) signals: Arc<Signals>,
    pub(super) pushed: AtomicU64,
    /// Where it is published, to all nodes, that there is an order for all replicas, and how often that was heard.
    pub(super) orders: String,
    pub(super) ordered: watch::Sender<u64>,
    tokens: AtomicU64,
}

/// What a connection notices that concerns others.
pub(super) struct Signals {
    /// How often another Redis than before was reached.
    pub(super) restarts: watch::Sender<u64>,
    /// Somebody else may have the channels of a node.
    pub(super) moved: Notify,
}

impl<P> Here<P> {
    pub(super) fn new(publish: Arc<P>, orders: String) -> Self {
        Self {
            publish,
            replica: format!("{:016x}", rand::random::<u64>()),
            channels: Mutex::default(),
            links: Links::new(),
            signals: Arc::new(Signals {
                restarts: watch::Sender::new(0),
                moved: Notify::new(),
            }),
            pushed: AtomicU64::new(0),
            orders,
            ordered: watch::Sender::new(0),
            tokens: AtomicU64::new(1),
        }
    }

    /// A number that nothing else here has: of a fence, of a node.
    pub(super) fn number(&self) -> u64 {
        self.tokens.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn followed(&self, base: &str) -> Option<Arc<Mutex<Followed>>> {
        self.lock_channels().get(base).cloned()
    }

    pub(super) fn followed_or(&self, base: &str, new: impl FnOnce() -> Followed) -> Arc<Mutex<Followed>> {
        let mut channels = self.lock_channels();
        let followed = channels
            .entry(base.to_owned())
            .or_insert_with(|| Arc::new(Mutex::new(new())));
        Arc::clone(followed)
    }

    pub(super) fn all_followed(&self) -> Vec<Arc<Mutex<Followed>>> {
        self.lock_channels().values().cloned().collect()
    }

    fn lock_channels(&self) -> MutexGuard<'_, HashMap<String, Arc<Mutex<Followed>>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it hears each of its nodes, and so all of them.
pub(super) struct Links {
    each: Mutex<HashMap<u64, Link>>,
    all: watch::Sender<Link>,
}

impl Links {
    fn new() -> Self {
        Self {
            each: Mutex::default(),
            all: watch::Sender::new(Link::Away),
        }
    }

    pub(super) fn all(&self) -> watch::Receiver<Link> {
        self.all.subscribe()
    }

    /// There is a node, which is not heard yet.
    pub(super) fn add(&self, node: u64) {
        self.change(|each| _ = each.insert(node, Link::Away));
    }

    pub(super) fn set(&self, node: u64, link: Link) {
        self.change(|each| {
            // One that is gone is not missed.
            each.entry(node).and_modify(|known| *known = link);
        });
    }

    pub(super) fn remove(&self, node: u64) {
        self.change(|each| _ = each.remove(&node));
    }

    /// Whether any node but this one is heard.
    pub(super) fn is_another_live(&self, node: Option<u64>) -> bool {
        let each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        each.iter()
            .any(|(other, link)| Some(*other) != node && *link == Link::Live)
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<u64, Link>)) {
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut each);
        let is = |link| each.values().any(|known| *known == link);
        // Peers can do better where one node answers and is not heard, and not where it answers nobody.
        let all = match (is(Link::Deaf), is(Link::Away), is(Link::Live)) {
            (true, ..) => Link::Deaf,
            (false, false, true) => Link::Live,
            _ => Link::Away,
        };
        self.all.send_if_modified(|known| std::mem::replace(known, all) != all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_hears_all_only_if_it_hears_each_node() {
        let links = Links::new();
        let all = links.all();
        assert_eq!(*all.borrow(), Link::Away);
        links.add(1);
        links.add(2);
        links.set(1, Link::Live);
        assert_eq!(*all.borrow(), Link::Away);
        links.set(2, Link::Live);
        assert_eq!(*all.borrow(), Link::Live);
        assert!(links.is_another_live(Some(1)));
        links.set(2, Link::Deaf);
        assert_eq!(*all.borrow(), Link::Deaf);
        assert!(!links.is_another_live(Some(1)));
        links.remove(2);
        links.set(2, Link::Deaf);
        assert_eq!(*all.borrow(), Link::Live);
    }
}
