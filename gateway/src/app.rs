//! app: the gateway, put together: configuration in, listeners and consumer running, until it is stopped.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aldis_core::channel::Channel;
use aldis_core::table::Table;
use aldis_crds::configuration::Revision;
use aldis_crds::contract::files::key_files;
use aldis_crds::contract::{GatewayConfig, KafkaConfig, RedisConfig};
use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::adapter::census::Census as _;
use crate::adapter::chosen::ChosenAdapter;
use crate::adapter::redis::Link;
use crate::adapter::{Adapter as _, ChannelRef};
use crate::admin::{self, Admin};
use crate::clock::Clock;
use crate::consume::{self, ConsumerHandle, ConsumerSettings, ConsumerState, StartAt};
use crate::dead_letter::DeadLetters;
use crate::egress;
use crate::forward::{self, PeerSettings};
use crate::http::{Http, Publisher};
use crate::hub::Hub;
use crate::jwks::Jwks;
use crate::kafka::Access;
use crate::limits::{Permits, Rates};
use crate::listener::close::Pace;
use crate::listeners::{Listeners, Ports};
use crate::metrics::{Known, Metrics};
use crate::pipeline::Pipeline;
use crate::replicas;
use crate::sessions::Sessions;
use crate::sockets::{self, Shared as SharedOver};
use crate::status::{InForce, Phase, Rejected, Status};
use crate::traces;

mod brokers;
mod choose;
mod counts;
mod erase;
mod forwarding;
mod granted;
mod upkeep;

use brokers::{follow_brokers, reach};
use choose::choose_adapter;
pub use counts::{Counted, Counts};
use granted::{history_bytes, most_per_address};
use upkeep::{keep_sessions, sweep};

/// How long the consumer may take to commit and leave its group at a stop. 5 s: Kafka may be away.
pub const LEAVE_BUDGET: Duration = Duration::from_secs(5);

/// The adapter of this gateway.
type Chosen = ChosenAdapter<Hub<Arc<Metrics>>>;
type Shared = SharedOver<Chosen>;

/// How often it is looked what is too old, and which clients are to hear where their channel stands. 500 ms: half of the
/// shortest time for which a channel can keep anything.
const SWEEP: Duration = Duration::from_millis(500);
/// For how long the data of a channel is kept in Redis that is in force no more: it may be granted again. 30 min; all of it is gone
/// within the hour.
pub const ERASE_AFTER: Duration = Duration::from_secs(1_800);
/// How often a listener that could not be opened is tried again. 5 s.
const RETRY: Duration = Duration::from_secs(5);
/// How often it is said of sessions that replicas share that their clients are still there. 20 s: a third of the least that
/// Redis keeps them for.
const KEEP_SESSIONS: Duration = Duration::from_secs(20);

/// What a gateway needs to run.
pub struct Settings {
    /// Everything in force.
    pub revision: Revision,
    /// Where listeners listen.
    pub ports: Ports,
    /// Where health, metrics and the configuration in force are.
    pub admin: SocketAddr,
    /// Where other replicas pass requests on to, and how they reach it; `None`: they do not. Only replicas that share a Redis do.
    pub peers: Option<PeerSettings>,
    /// The file with the token for the last of these.
    pub admin_token: Option<PathBuf>,
    /// Where a new consumer group starts.
    pub start_at: StartAt,
    /// For how long the data of a channel that is gone is kept in Redis: [`ERASE_AFTER`].
    pub erase_after: Duration,
}

/// How a gateway stops.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// How long it is not ready and still takes clients: until those who send them have heard of it.
    pub grace: Duration,
    /// How clients are closed after that.
    pub pace: Pace,
}

impl Drain {
    /// At once: nobody else serves its clients.
    pub const AT_ONCE: Self = Self {
        grace: Duration::ZERO,
        pace: Pace::AT_ONCE,
    };

    /// How long it takes at most.
    pub fn longest(&self) -> Duration {
        self.grace + LEAVE_BUDGET + self.pace.spread + self.pace.budget
    }
}

/// A running gateway.
pub struct Gateway {
    /// As it was at start; it needs a restart to change.
    kafka: KafkaConfig,
    redis: Option<RedisConfig>,
    /// How every client of Kafka gets in.
    access: Access,
    shared: Arc<Shared>,
    listeners: Arc<Listeners<Chosen>>,
    status: Arc<Status>,
    /// What was last asked for. Whoever holds this changes what is in force.
    wanted: Arc<Mutex<Revision>>,
    topics: watch::Sender<BTreeSet<String>>,
    consumer: ConsumerHandle,
    admin: SocketAddr,
    stop_consuming: CancellationToken,
    stop_admin: CancellationToken,
}

impl Gateway {
    /// Starts everything. Kafka need not be there, and a listener that can not be served keeps no other from being so:
    /// [`Status`] tells.
    ///
    /// # Errors
    /// Where the admin port can not be had, or settings are refused.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        let Settings {
            revision,
            ports,
            admin,
            admin_token,
            peers,
            start_at,
            erase_after,
        } = settings;
        let config = &revision.config;
        // One for the whole process, so that no library has to guess; whoever was first is as good.
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let metrics = Arc::new(Metrics::new());
        traces::start(&metrics)?;
        let status = Arc::new(Status::default());
        let clock = Clock::default();
        let stop_consuming = CancellationToken::new();
        let (hub, adapter) = choose_adapter(config, &revision.keys, &metrics, clock, &stop_consuming)?;
        let shared = Arc::new(Shared {
            table: ArcSwap::from_pointee(Table::default()),
            adapter,
            hub,
            entrance: Arc::default(),
            permits: Permits::default(),
            rates: Rates::default(),
            replicas: Default::default(),
            expiries: Arc::default(),
            counts: Default::default(),
            sessions: Sessions::default(),
            jwks: Jwks::new(egress::Http::new()?, Arc::clone(&metrics), clock),
            metrics: Arc::clone(&metrics),
            clock,
        });
        let access = Access::new(reach(&config.kafka, &revision.keys).map_err(anyhow::Error::msg)?);
        let dead_letters = DeadLetters::new(&access).context("the dead letters' producer can not be made")?;
        let pipeline = Pipeline::new(
            Arc::clone(&shared),
            dead_letters,
            config.kafka.dead_letter_topic.clone(),
            access.clone(),
        );
        let publisher = Publisher::new(&access, &config.kafka.ingress_topic)
            .context("the producer of what comes over HTTP can not be made")?;
        let http = Http::new(Arc::clone(&shared), publisher, Arc::clone(&status));
        let (topics, topics_receiver) = watch::channel(BTreeSet::new());
        let consumer_settings = ConsumerSettings {
            access: access.clone(),
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
        let stop_admin = CancellationToken::new();
        let judged = Admin {
            metrics: Arc::clone(&metrics),
            status: Arc::clone(&status),
            consumer: consumer.state(),
            token_file: admin_token,
        };
        let admin = admin::serve(admin, judged, stop_admin.clone())
            .await
            .with_context(|| format!("the admin port {admin} can not be had"))?;
        let forward = forwarding::start(&shared, peers, &metrics).await?;
        let gateway = Self {
            kafka: config.kafka.clone(),
            redis: config.redis.clone(),
            access,
            listeners: Arc::new(Listeners::new(
                ports,
                http,
                forward.as_ref().map(|(forward, _)| Arc::clone(forward)),
            )),
            shared,
            status,
            wanted: Arc::new(Mutex::new(revision.clone())),
            topics,
            consumer,
            admin,
            stop_consuming,
            stop_admin,
        };
        gateway.reload(&revision).await;
        if let Some((forward, port)) = forward {
            let listeners = Arc::clone(&gateway.listeners);
            let find = Arc::new(move |listener: &str| listeners.local(listener));
            tokio::spawn(forward::serve(port, forward, find, gateway.stop_admin.clone()));
        }
        gateway.status.enter(Phase::Serving);
        tokio::spawn(gateway.upkeep());
        tokio::spawn(gateway.follow_link());
        tokio::spawn(follow_brokers(
            gateway.access.clone(),
            Arc::clone(&gateway.status),
            Arc::clone(&gateway.shared.metrics),
            gateway.stop_consuming.clone(),
        ));
        tokio::spawn(erase::gone(
            Arc::clone(&gateway.shared),
            Arc::clone(&gateway.status),
            erase_after,
            gateway.stop_consuming.clone(),
        ));
        tokio::spawn(gateway.keep_replicas());
        Ok(gateway)
    }

    /// Swaps the configuration whole. Clients of channels and listeners that are still there stay connected. A channel or a
    /// listener that can not be served as it is now stays as it was. What became of it is in [`Gateway::status`].
    pub async fn reload(&self, revision: &Revision) {
        let Revision {
            config,
            keys,
            hash,
            parts,
        } = revision;
        let mut wanted = self.wanted.lock().await;
        let (mut table, bad_channels) = Table::compile(config, keys);
        let (channels, bad) = (table.channels().len(), bad_channels.len());
        let before = self.shared.table.load_full();
        table.keep(&before, &bad_channels);
        let stays = |gone: &Channel| {
            let same = |channel: &Arc<Channel>| channel.name == gone.name && channel.uid == gone.uid;
            table.channels().iter().any(same)
        };
        let other_rules = table.with_other_room_rules(&before);
        let before = before.channels().iter();
        let gone: Vec<_> = before.filter(|channel| !stays(channel)).cloned().collect();
        let topics = table.topics();
        self.shared.jwks.follow(&table);
        self.renew_keys(keys);
        self.shared.entrance.set_per_address(most_per_address(&table));
        self.shared.adapter.set_history_bytes(history_bytes(&table));
        self.shared.metrics.follow(Known::of(&table, &config.listeners));
        self.shared.table.store(Arc::new(table));
        let bad_listeners = self.listeners.follow(&config.listeners, keys).await;
        self.topics.send_if_modified(|current| {
            let changed = *current != topics;
            *current = topics;
            changed
        });
        let shared = Arc::clone(&self.shared);
        // Every room of their clients is asked for again: seconds, where there are many.
        tokio::task::spawn_blocking(move || {
            let channels = other_rules.iter();
            channels.for_each(|channel| sockets::recheck::channel(&shared, channel));
        });
        for channel in gone {
            self.shared.sessions.forget(&channel.name);
            let shared = Arc::clone(&self.shared);
            tokio::spawn(async move { shared.adapter.forget(ChannelRef::of(&channel)).await });
        }
        let in_force = InForce {
            config: Some(config.clone()),
            keys: key_files(keys).into_iter().map(|(name, _)| name).collect(),
            hash: hash.clone(),
            parts: parts.clone(),
            since: self.shared.clock.now().0,
            bad_channels,
            bad_listeners,
            needs_restart: self.needs_restart(config),
        };
        log_problems(&in_force);
        self.status.put_in_force(in_force);
        // Last: who sees it counted sees all of it in force.
        self.shared.metrics.configured(channels, bad);
        wanted.clone_from(revision);
    }

    /// What has changed that is not in force before a restart.
    fn needs_restart(&self, config: &GatewayConfig) -> Vec<&'static str> {
        let fields = [
            ("spec.kafka", config.kafka != self.kafka),
            ("spec.redis", config.redis != self.redis),
        ];
        let changed = fields.into_iter().filter(|(_, changed)| *changed);
        changed.map(|(field, _)| field).collect()
    }

    /// A newer configuration can not be used: the one in force stays, and health says so.
    pub fn reject(&self, reason: String) {
        tracing::error!(
            reason,
            "the configuration can not be used; the last good one stays in force"
        );
        self.shared.metrics.rejected();
        let since = self.shared.clock.now().0;
        self.status.reject(Rejected { reason, since });
    }

    /// What is in force, and what is wrong.
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// Everything that is counted, for who adds to it.
    pub fn all_metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.shared.metrics)
    }

    /// What has to be done now and then: until the consumer stops.
    fn upkeep(&self) -> impl Future<Output = ()> + use<> {
        let (shared, listeners, status) = (
            Arc::clone(&self.shared),
            Arc::clone(&self.listeners),
            Arc::clone(&self.status),
        );
        let (wanted, stop) = (Arc::clone(&self.wanted), self.stop_consuming.clone());
        async move {
            let (mut every, mut retry) = (tokio::time::interval(SWEEP), tokio::time::interval(RETRY));
            let mut keep = tokio::time::interval(KEEP_SESSIONS);
            let mut restarts = shared.adapter.restarts();
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = every.tick() => sweep(&shared).await,
                    _ = keep.tick(), if shared.adapter.is_shared() => keep_sessions(&shared).await,
                    // It may have forgotten some of them.
                    Ok(()) = restarts.changed() => keep_sessions(&shared).await,
                    _ = retry.tick() => {
                        let wanted = wanted.lock().await;
                        if !status.in_force().bad_listeners.is_empty() {
                            let bad = listeners.follow(&wanted.config.listeners, &wanted.keys).await;
                            status.set_bad_listeners(bad);
                        }
                    }
                }
            }
        }
    }

    /// A replica that does not hear what its peers hear takes no new clients until it does.
    fn follow_link(&self) -> impl Future<Output = ()> + use<> {
        let (shared, status, stop) = (
            Arc::clone(&self.shared),
            Arc::clone(&self.status),
            self.stop_consuming.clone(),
        );
        async move {
            let ChosenAdapter::Redis(adapter) = &shared.adapter else {
                return shared.metrics.adapter_live(true);
            };
            let mut link = adapter.link();
            loop {
                let now = *link.borrow_and_update();
                shared.metrics.adapter_live(now == Link::Live);
                status.set_link(now);
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = link.changed() => if changed.is_err() { return },
                }
            }
        }
    }

    /// What replicas share is kept until all clients are gone.
    fn keep_replicas(&self) -> impl Future<Output = ()> + use<> {
        let (shared, stop) = (Arc::clone(&self.shared), self.stop_admin.clone());
        async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = replicas::keep(shared) => {}
            }
        }
    }

    /// Who is connected, for those who ask now and then.
    pub fn counts(&self) -> Counts {
        Counts {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Where a listener listens.
    pub fn address(&self, listener: &str) -> Option<SocketAddr> {
        self.listeners.address(listener)
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

    /// Stops in order: not ready, no more records (what was taken is committed), clients closed one by one. It takes
    /// [`Drain::longest`] at most.
    pub async fn stop(self, drain: Drain) {
        self.status.enter(Phase::Draining);
        tokio::time::sleep(drain.grace).await;
        self.stop_consuming.cancel();
        if tokio::time::timeout(LEAVE_BUDGET, self.consumer.join()).await.is_err() {
            tracing::warn!("the consumer has not left its group in time; Kafka will find out by itself");
        }
        // A reload that is under way ends first, and none begins any more.
        let _wanted = self.wanted.lock().await;
        self.listeners.close(drain.pace).await;
        traces::flush().await;
        self.stop_admin.cancel();
        self.shared.adapter.leave().await;
        tracing::info!("the gateway has stopped");
    }
}

/// Each problem once, when it comes up.
fn log_problems(in_force: &InForce) {
    for bad in &in_force.bad_channels {
        let problem = bad
            .problems
            .first()
            .map(|problem| format!("{}: {}", problem.field, problem.message));
        let problem = problem.unwrap_or_default();
        tracing::error!(channel = %bad.channel, problem, "a channel can not be served as it is configured");
    }
    for (listener, problem) in &in_force.bad_listeners {
        tracing::error!(listener, %problem, "a listener can not be served as it is configured");
    }
    for field in &in_force.needs_restart {
        tracing::warn!(field, "a change is not in force: it needs a restart");
    }
    let channels = in_force.config.as_ref().map_or(0, |config| config.channels.len());
    tracing::info!(hash = in_force.hash, channels, "configuration in force");
}
