//! The nodes of Redis, and which of them has a channel.
//!
//! One Redis, or the master that Sentinels name, has all. Of a Cluster each master is a node with a connection for scripts and one
//! for subscriptions of its own, as if it were alone; who has which slots is asked every second, and at once when a node says
//! that it no longer has something. A channel that another node has from now on is held, subscribed to there, and catches up
//! there: that node is not the one that wrote last, so it goes on in a new epoch.
//!
//! A slot that is on its way is not followed to where it goes: half of a channel's keys would be here and half there. Who has it
//! refuses what touches keys that are gone already, so the channel waits until all of it has been moved.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::cluster::{self, SLOTS, View};
use super::endpoint::Endpoint;
use super::here::{Here, Link};
use super::keys::Keys;
use super::server::{self, Server};
use super::subscriber::Subscriber;
use crate::adapter::{AdapterError, Publish};

/// How often a Cluster is asked who has which slots. 1 s: a failover takes longer.
const ASK: Duration = Duration::from_secs(1);
/// The least pause before it is asked again because something has moved. 100 ms.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// How long a node may take to say it. 1 s.
const ANSWER: Duration = Duration::from_secs(1);

/// All of them.
pub(super) struct Nodes<P> {
    pub(super) here: Arc<Here<P>>,
    endpoint: ArcSwap<Endpoint>,
    map: ArcSwap<Map<P>>,
    /// Whether it is known who has what.
    is_known: watch::Sender<bool>,
    stop: CancellationToken,
}

/// One of them.
pub(super) struct Node<P> {
    number: u64,
    /// Where a Cluster says that it is; the one that stands alone is where the endpoint says.
    place: Option<(String, u16)>,
    pub(super) server: Arc<Server>,
    pub(super) subscriber: Arc<Subscriber<P>>,
    stop: CancellationToken,
}

/// Who has what.
struct Map<P> {
    nodes: Vec<Arc<Node<P>>>,
    /// By slot: index of its node. Empty where one node has all.
    slots: Vec<Option<usize>>,
}

impl<P> Map<P> {
    fn owner(&self, slot: u16) -> Option<&Arc<Node<P>>> {
        match &self.slots[..] {
            [] => self.nodes.first(),
            slots => slots[usize::from(slot)].map(|index| &self.nodes[index]),
        }
    }
}

impl<P: Publish> Nodes<P> {
    pub(super) fn start(endpoint: Endpoint, publish: Arc<P>, orders: String, stop: CancellationToken) -> Arc<Self> {
        let is_cluster = endpoint.is_cluster();
        let none = Map {
            nodes: Vec::new(),
            slots: Vec::new(),
        };
        let nodes = Arc::new(Self {
            here: Arc::new(Here::new(publish, orders)),
            endpoint: ArcSwap::from_pointee(endpoint),
            map: ArcSwap::from_pointee(none),
            is_known: watch::Sender::new(!is_cluster),
            stop: stop.clone(),
        });
        if is_cluster {
            let following = Arc::clone(&nodes);
            tokio::spawn(async move {
                tokio::select! {
                    () = following.follow() => {}
                    () = stop.cancelled() => {}
                }
            });
        } else {
            let alone = Map {
                nodes: vec![nodes.begin(None)],
                slots: Vec::new(),
            };
            nodes.map.store(Arc::new(alone));
        }
        nodes
    }

    /// Which has a channel now. A Cluster that has just been named is given a moment to say so.
    pub(super) async fn of(&self, keys: &Keys) -> Result<Arc<Node<P>>, AdapterError> {
        let mut is_known = self.is_known.subscribe();
        tokio::time::timeout(ANSWER, is_known.wait_for(|known| *known))
            .await
            .ok();
        let owner = self.map.load().owner(cluster::slot(keys.base())).map(Arc::clone);
        owner.ok_or_else(|| {
            AdapterError::Unavailable(
                "redis: no node of the Cluster is known to have the channel's hash slot".to_owned(),
            )
        })
    }

    /// Whether other channels can be served though this one can not.
    pub(super) fn is_another_live(&self, keys: &Keys) -> bool {
        let own = self
            .map
            .load()
            .owner(cluster::slot(keys.base()))
            .map(|node| node.number);
        self.here.links.is_another_live(own)
    }

    /// From the next connection on they are reached so.
    pub(super) fn reach(&self, endpoint: Endpoint) {
        for node in &self.map.load().nodes {
            node.server.reach(at(&endpoint, node.place.as_ref()));
        }
        self.endpoint.store(Arc::new(endpoint));
    }

    pub(super) fn link(&self) -> watch::Receiver<Link> {
        self.here.links.all()
    }

    fn begin(&self, place: Option<(String, u16)>) -> Arc<Node<P>> {
        let number = self.here.number();
        let stop = self.stop.child_token();
        let endpoint = at(&self.endpoint.load(), place.as_ref());
        let server = Arc::new(Server::new(endpoint, Arc::clone(&self.here.signals)));
        self.here.links.add(number);
        let subscriber = Subscriber::start(number, Arc::clone(&server), Arc::clone(&self.here), stop.clone());
        Arc::new(Node {
            number,
            place,
            server,
            subscriber,
            stop,
        })
    }

    /// Asks who has which slots, for good.
    async fn follow(&self) {
        let mut every = tokio::time::interval(ASK);
        let mut told = None;
        loop {
            tokio::select! {
                _ = every.tick() => {}
                () = self.here.signals.moved.notified() => tokio::time::sleep(ASK_AGAIN).await,
            }
            match self.view().await {
                Ok(view) => {
                    told = None;
                    self.apply(&view);
                }
                Err(error) if told.as_ref() != Some(&error) => {
                    tracing::warn!(%error, "no node of the Redis Cluster says who has which slots, they are asked until one does");
                    told = Some(error);
                }
                Err(_) => {}
            }
        }
    }

    /// What the best informed of the masters says, or else one of the nodes that the URL names.
    async fn view(&self) -> Result<View, AdapterError> {
        let map = self.map.load_full();
        let asked = map.nodes.iter().map(|node| async {
            let host = node.place.as_ref().map_or("", |(host, _)| host);
            tokio::time::timeout(ANSWER, node.server.view(host)).await.ok()?.ok()
        });
        let views = join_all(asked).await.into_iter().flatten();
        if let Some(best) = views.max_by_key(|view| (view.is_ok, view.epoch)) {
            return Ok(best);
        }
        let endpoint = self.endpoint.load_full();
        let mut failed = AdapterError::Unavailable("redis: the URL of the Cluster names no node".to_owned());
        for (host, port) in endpoint.seeds() {
            let seed = endpoint.at(host, *port);
            match tokio::time::timeout(ANSWER, server::view_of(&seed, host)).await {
                Ok(Ok(view)) if !view.shards.is_empty() => return Ok(view),
                Ok(Ok(_)) => {
                    failed = AdapterError::Unavailable(format!("redis: {seed} is in no Cluster that has slots"))
                }
                Ok(Err(error)) => failed = error,
                Err(_) => failed = AdapterError::Unavailable(format!("redis: {seed} does not answer")),
            }
        }
        Err(failed)
    }

    /// Channels go to the node that has them now.
    fn apply(&self, view: &View) {
        let before = self.map.load_full();
        let mut nodes: Vec<Arc<Node<P>>> = Vec::new();
        let mut slots = vec![None; usize::from(SLOTS)];
        for shard in &view.shards {
            let place = (shard.host.clone(), shard.port);
            let is_there = |node: &&Arc<Node<P>>| node.place.as_ref() == Some(&place);
            let index = nodes.iter().position(|node| is_there(&node)).unwrap_or_else(|| {
                let known = before.nodes.iter().find(is_there).map(Arc::clone);
                nodes.push(known.unwrap_or_else(|| self.begin(Some(place.clone()))));
                nodes.len() - 1
            });
            slots[usize::from(*shard.slots.start())..=usize::from(*shard.slots.end())].fill(Some(index));
        }
        let map = Arc::new(Map { nodes, slots });
        self.map.store(Arc::clone(&map));
        self.is_known.send_replace(true);
        self.bring_home(&map);
        for node in &before.nodes {
            if !map.nodes.iter().any(|kept| kept.number == node.number) {
                tracing::info!(redis = %node.server.shown(), "a node of the Redis Cluster has no slots any more");
                node.stop.cancel();
                self.here.links.remove(node.number);
            }
        }
        let has_changed = |slot| {
            let was = before.owner(slot).map(|node| node.number);
            was.is_some() && was != map.owner(slot).map(|node| node.number)
        };
        if !before.nodes.is_empty() && (0..SLOTS).any(has_changed) {
            // What another node did not get yet it has forgotten.
            tracing::info!("slots of the Redis Cluster are at other nodes than before");
            self.here.signals.restarts.send_modify(|restarts| *restarts += 1);
        }
    }

    fn bring_home(&self, map: &Map<P>) {
        for followed in self.here.all_followed() {
            let mut channel = followed.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(owner) = map.owner(cluster::slot(channel.keys.base())) else {
                continue;
            };
            if channel.home != owner.number {
                tracing::info!(channel = %channel.name, redis = %owner.server.shown(), "the channel is at another node of the Redis Cluster");
                channel.fall_behind(0);
                channel.home = owner.number;
                channel.is_subscribed = false;
            }
            if !channel.is_subscribed {
                owner.subscriber.mend(channel.keys.base());
            }
        }
    }
}

/// How a node is reached.
fn at(endpoint: &Endpoint, place: Option<&(String, u16)>) -> Endpoint {
    match place {
        Some((host, port)) => endpoint.at(host, *port),
        None => endpoint.clone(),
    }
}
