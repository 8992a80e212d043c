//! app: the gateway, put together: configuration in, listeners and consumer running, until it is stopped.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aldis_core::channel::Channel;
use aldis_core::table::{BadChannel, Table};
use aldis_crds::contract::{Attachment, GatewayConfig, Keys};
use aldis_crds::names::ChannelName;
use anyhow::Context as _;
use arc_swap::ArcSwap;
use futures_util::future::join_all;
use socketioxide::SocketIo;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::adapter::memory::{MemoryAdapter, new_epoch};
use crate::adapter::{Adapter as _, ChannelRef};
use crate::admin::{self, Admin};
use crate::clock::Clock;
use crate::consume::{self, ConsumerHandle, ConsumerSettings, ConsumerState, StartAt};
use crate::dead_letter::DeadLetters;
use crate::http::{self, Http, Publisher};
use crate::hub::Hub;
use crate::listener::transports::Transports;
use crate::listener::{Beside, Bound, Listener};
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::sessions::Sessions;
use crate::sockets::{self, Namespace, Shared as SharedOver};

/// How long clients may take for their last bytes at a stop. 5 s, well within a pod's grace period.
pub const CLOSE_BUDGET: Duration = Duration::from_secs(5);

/// The adapter of this gateway.
type Memory = MemoryAdapter<Hub<Arc<Metrics>>>;
type Shared = SharedOver<Memory>;

/// How often it is looked what is too old, and which clients are to hear where their channel stands. 500 ms: half of the
/// shortest time for which a channel can keep anything.
const SWEEP: Duration = Duration::from_millis(500);

/// What a gateway needs to run.
pub struct Settings {
    /// Everything in force.
    pub config: GatewayConfig,
    /// Its keys.
    pub keys: Keys,
    /// Address on which listeners listen.
    pub bind: IpAddr,
    /// Where health and metrics are.
    pub admin: SocketAddr,
    /// Where a new consumer group starts.
    pub start_at: StartAt,
}

/// What became of a configuration that was to be put in force.
#[derive(Debug)]
pub struct Reloaded {
    /// Channels that can not be served.
    pub bad: Vec<BadChannel>,
    /// Fields of the gateway that have changed and are not in force.
    pub needs_restart: Vec<&'static str>,
}

/// A running gateway.
pub struct Gateway {
    /// As it was at start.
    started: GatewayConfig,
    shared: Arc<Shared>,
    listeners: HashMap<String, OpenListener>,
    topics: watch::Sender<BTreeSet<String>>,
    ready: watch::Sender<bool>,
    consumer: ConsumerHandle,
    admin: SocketAddr,
    stop_listening: CancellationToken,
    stop_consuming: CancellationToken,
    stop_admin: CancellationToken,
}

/// A listener, and which channel each of its namespaces was opened for.
struct OpenListener {
    listener: Listener,
    namespaces: Mutex<HashMap<String, ChannelName>>,
}

impl Gateway {
    /// Starts everything. Kafka need not be there.
    ///
    /// # Errors
    /// Where a port can not be had, or settings are refused.
    pub async fn start(settings: Settings) -> anyhow::Result<(Self, Vec<BadChannel>)> {
        let Settings {
            config,
            keys,
            bind,
            admin,
            start_at,
        } = settings;
        let metrics = Arc::new(Metrics::new());
        let epoch = new_epoch();
        let hub = Arc::new(Hub::new(Arc::clone(&epoch), Arc::clone(&metrics)));
        let (table, bad) = Table::compile(&config, &keys);
        metrics.configured(table.channels().len(), bad.len());
        let (topics, topics_receiver) = watch::channel(table.topics());
        let clock = Clock::default();
        let shared = Arc::new(Shared {
            table: ArcSwap::from_pointee(table),
            adapter: MemoryAdapter::new(epoch, Arc::clone(&hub), clock),
            hub,
            sessions: Sessions::default(),
            metrics: Arc::clone(&metrics),
            clock,
        });

        let stop_listening = CancellationToken::new();
        let (ready, ready_receiver) = watch::channel(true);
        let publisher = Publisher::new(&config.kafka.bootstrap_servers, &config.kafka.ingress_topic)
            .context("the producer of what comes over HTTP can not be made")?;
        let http = Arc::new(Http {
            shared: Arc::clone(&shared),
            publisher,
            started: Instant::now(),
            ready: ready_receiver.clone(),
        });
        let listeners = open_listeners(&config, bind, &http, &stop_listening).await?;

        let dead_letters =
            DeadLetters::new(&config.kafka.bootstrap_servers).context("the dead letters' producer can not be made")?;
        let pipeline = Pipeline::new(
            Arc::clone(&shared),
            dead_letters,
            config.kafka.dead_letter_topic.clone(),
        );
        let stop_consuming = CancellationToken::new();
        let consumer_settings = ConsumerSettings {
            bootstrap_servers: config.kafka.bootstrap_servers.clone(),
            group_id: config.kafka.group_id.clone(),
            start_at,
        };
        let observe = Arc::clone(&metrics);
        let consumer = consume::spawn(
            consumer_settings,
            topics_receiver,
            Arc::new(pipeline),
            observe,
            stop_consuming.clone(),
        )?;

        tokio::spawn(sweep(Arc::clone(&shared), stop_consuming.clone()));

        let stop_admin = CancellationToken::new();
        let judged = Admin {
            metrics,
            ready: ready_receiver,
            consumer: consumer.state(),
        };
        let admin = admin::serve(admin, judged, stop_admin.clone())
            .await
            .with_context(|| format!("the admin port {admin} can not be had"))?;
        let gateway = Self {
            started: config,
            shared,
            listeners,
            topics,
            ready,
            consumer,
            admin,
            stop_listening,
            stop_consuming,
            stop_admin,
        };
        Ok((gateway, bad))
    }

    /// Swaps the configuration whole. Clients of channels that are still there stay connected. Listeners and Kafka stay as
    /// they are: gives what differs there and needs a restart, and the channels that can not be served.
    pub fn reload(&self, config: &GatewayConfig, keys: &Keys) -> Reloaded {
        let (table, bad) = Table::compile(config, keys);
        self.shared.metrics.configured(table.channels().len(), bad.len());
        let stays = |gone: &Channel| {
            let same = |channel: &Arc<Channel>| channel.name == gone.name && channel.uid == gone.uid;
            table.channels().iter().any(same)
        };
        let before = self.shared.table.load_full();
        let gone: Vec<_> = before
            .channels()
            .iter()
            .filter(|channel| !stays(channel))
            .cloned()
            .collect();
        let topics = table.topics();
        self.shared.table.store(Arc::new(table));
        for (name, open) in &self.listeners {
            open.follow(name, &self.shared);
        }
        self.topics.send_if_modified(|current| {
            let changed = *current != topics;
            *current = topics;
            changed
        });
        let shared = Arc::clone(&self.shared);
        // Every room of every client is asked for again: seconds, where there are many.
        tokio::task::spawn_blocking(move || {
            for channel in shared.table.load_full().channels() {
                sockets::recheck::channel(&shared, channel);
            }
        });
        for channel in gone {
            self.shared.sessions.forget(&channel.name);
            let shared = Arc::clone(&self.shared);
            tokio::spawn(async move { shared.adapter.forget(ChannelRef::of(&channel)).await });
        }
        let mut needs_restart = Vec::new();
        needs_restart.extend((config.listeners != self.started.listeners).then_some("spec.listeners"));
        needs_restart.extend((config.kafka != self.started.kafka).then_some("spec.kafka"));
        Reloaded { bad, needs_restart }
    }

    /// Where a listener listens.
    pub fn address(&self, listener: &str) -> Option<SocketAddr> {
        self.listeners.get(listener).map(|open| open.listener.address)
    }

    /// Where health and metrics are.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// All metrics in Prometheus' text format.
    pub fn metrics(&self) -> String {
        self.shared.metrics.text()
    }

    /// Follows the consumer.
    pub fn consumer(&self) -> watch::Receiver<ConsumerState> {
        self.consumer.state()
    }

    /// Stops in order: not ready, no new clients, no more records (what was taken is committed), clients closed.
    pub async fn stop(self) {
        self.ready.send_replace(false);
        self.stop_listening.cancel();
        self.stop_consuming.cancel();
        self.consumer.join().await;
        join_all(self.listeners.values().map(|open| open.listener.close(CLOSE_BUDGET))).await;
        self.stop_admin.cancel();
        tracing::info!("the gateway has stopped");
    }
}

/// Drops what channels no longer keep, also where nothing new comes, and tells silent clients where their channel stands.
async fn sweep(shared: Arc<Shared>, stop: CancellationToken) {
    let mut every = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = every.tick() => {}
        }
        let table = shared.table.load_full();
        for channel in table.channels() {
            shared.adapter.drop_old(ChannelRef::of(channel)).await;
            let now = shared.clock.now();
            shared.sessions.drop_old(&channel.name, channel.history_ttl_ms, now);
            if channel.history_size > 0 {
                shared.hub.beacons(&channel.name, channel.history_ttl_ms / 2, now);
            }
        }
    }
}

async fn open_listeners(
    config: &GatewayConfig,
    bind: IpAddr,
    http: &Arc<Http<Memory>>,
    stop: &CancellationToken,
) -> anyhow::Result<HashMap<String, OpenListener>> {
    let mut listeners = HashMap::new();
    for spec in &config.listeners {
        let address = SocketAddr::new(bind, spec.port);
        let cannot = || format!("listener {:?} can not listen on {address}", spec.name);
        let bound = Bound::bind(address).await.with_context(cannot)?;
        let mut namespaces = HashMap::new();
        let beside = Beside::new(http::router(&spec.name, Arc::clone(http)));
        let listener = bound.serve(stop.clone(), beside, |io, transports| {
            follow(io, transports, &mut namespaces, &spec.name, &http.shared);
        });
        let listener = listener.with_context(cannot)?;
        tracing::info!(listener = spec.name, address = %listener.address, "listening");
        listeners.insert(
            spec.name.clone(),
            OpenListener {
                listener,
                namespaces: Mutex::new(namespaces),
            },
        );
    }
    Ok(listeners)
}

impl OpenListener {
    fn follow(&self, name: &str, shared: &Arc<Shared>) {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        follow(
            &self.listener.io,
            &self.listener.transports,
            &mut namespaces,
            name,
            shared,
        );
    }
}

/// Opens and closes namespaces of a listener so that they are those of the table in force.
fn follow(
    io: &SocketIo,
    transports: &Arc<Transports>,
    open: &mut HashMap<String, ChannelName>,
    listener: &str,
    shared: &Arc<Shared>,
) {
    let table = shared.table.load();
    let attachment = |path: &str| Attachment {
        listener: listener.to_owned(),
        path: path.to_owned(),
    };
    open.retain(|path, channel| {
        let stays = table.at(&attachment(path)).is_some_and(|now| now.name == *channel);
        if !stays {
            tracing::info!(listener, path, channel = %channel, "namespace closed");
            sockets::close_namespace(io, path, transports);
        }
        stays
    });
    for attachment in table.attachments().filter(|attachment| attachment.listener == listener) {
        let Some(channel) = table.at(attachment) else { continue };
        if open.insert(attachment.path.clone(), channel.name.clone()).is_none() {
            tracing::info!(listener, path = attachment.path, channel = %channel.name, "namespace opened");
            let namespace = Namespace::new(
                attachment.clone(),
                channel.name.clone(),
                Arc::clone(shared),
                Arc::clone(transports),
            );
            io.ns(attachment.path.clone(), namespace);
        }
    }
}
