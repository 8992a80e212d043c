//! The operator from start to end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aldis_crds::{NotificationChannel, NotificationGateway};
use aldis_operator::objects::Installation;
use aldis_operator::validate::ObjectName;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Client;
use kube::api::ListParams;
use kube::runtime::events::{Recorder, Reporter};
use tokio::sync::watch::Receiver;
use tokio::time::sleep;

use crate::apply::Applier;
use crate::backoff::Backoff;
use crate::crds::{self, Crds};
use crate::leader::Lease;
use crate::metrics::Metrics;
use crate::plan::{Plan, Remembered};
use crate::scale::Scaler;
use crate::unreadable::Told;
use crate::watch::{self, Stores};
use crate::world::World;
use crate::{report, serve, sweep};

/// After a change, before a pass: one `kubectl apply` of many objects is one pass.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// Between passes without a change, at most; pods that stop to acknowledge are noticed within this.
const QUIET: Duration = Duration::from_secs(10);
/// Everything is written anew and swept, whatever was seen: events can be missed. Jittered by half.
const RESYNC: Duration = Duration::from_secs(600);

/// What the operator is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is said about all gateways.
    pub installation: Installation,
    /// The only namespace to look at; `None`: all.
    pub watch_namespace: Option<String>,
    /// Where the operator itself is: its lease.
    pub namespace: String,
    /// The lease's name.
    pub lease: String,
    /// This replica among all.
    pub identity: String,
    /// Of health and metrics.
    pub address: SocketAddr,
}

/// Why it ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("the port of health and metrics can not be had")]
    Port(#[from] std::io::Error),
    #[error("a watch has ended")]
    Watch,
    #[error("the lease can not be claimed")]
    Lease(#[from] kube_lease_manager::LeaseManagerError),
    #[error("the lease is lost: another replica writes now")]
    LeaseLost,
    #[error("metrics")]
    Metrics(#[from] prometheus::Error),
}

/// Runs until something ends it that only a new process mends.
///
/// # Errors
/// What ended it.
pub async fn run(client: Client, settings: Settings) -> Result<(), RunError> {
    let metrics = Arc::new(Metrics::new()?);
    let (ready, is_ready) = tokio::sync::watch::channel(Some("the CRDs are not looked at yet".to_owned()));
    let address = serve::start(settings.address, Arc::clone(&metrics), is_ready).await?;
    tracing::info!(%address, "health and metrics");
    let mut crds = Crds::new(&client);
    while let Err(misfit) = crds.look().await {
        tracing::error!("{misfit}");
        metrics.crds_misfit.set(1);
        ready.send_replace(Some(misfit.to_string()));
        sleep(crds::LOOK).await;
    }
    metrics.crds_misfit.set(0);
    ready.send_replace(Some("the stores are not in sync yet".to_owned()));
    let installation = &settings.installation;
    let (stores, mut watches) = watch::start(&client, settings.watch_namespace.as_deref(), &installation.id);
    let changes = watches.changes();
    let work = async {
        stores.synced().await.map_err(|_| RunError::Watch)?;
        ready.send_replace(None);
        tracing::info!("every store is in sync");
        let mut lease = Lease::claim(client.clone(), &settings.namespace, &settings.lease, &settings.identity).await?;
        if !lease.held().await {
            return Err(RunError::LeaseLost);
        }
        tracing::info!(identity = settings.identity, "this replica writes");
        metrics.leader.set(1);
        let mut writer = Writer::new(&client, &settings, Arc::clone(&metrics), stores, crds);
        tokio::select! {
            () = lease.lost() => Err(RunError::LeaseLost),
            () = writer.run(changes) => Err(RunError::Watch),
        }
    };
    tokio::select! {
        ended = work => ended,
        () = watches.ended() => Err(RunError::Watch),
    }
}

/// The replica that holds the lease.
struct Writer {
    client: Client,
    settings: Settings,
    metrics: Arc<Metrics>,
    stores: Stores,
    applier: Applier,
    recorder: Recorder,
    remembered: Remembered,
    backoff: Backoff<ObjectName>,
    /// Why a gateway could not be written.
    failed: BTreeMap<ObjectName, (&'static str, String)>,
    scaler: Scaler,
    told: Told,
    resync: Resync,
    had_channels: bool,
    crds: Crds,
    /// When they are looked at again.
    look: Instant,
    /// Whether they fitted then.
    fitted: bool,
}

impl Writer {
    fn new(client: &Client, settings: &Settings, metrics: Arc<Metrics>, stores: Stores, crds: Crds) -> Self {
        let reporter = Reporter {
            controller: aldis_crds::status::CONTROLLER_NAME.to_owned(),
            instance: Some(settings.identity.clone()),
        };
        Self {
            client: client.clone(),
            settings: settings.clone(),
            metrics,
            stores,
            applier: Applier::new(client.clone(), &settings.installation),
            recorder: Recorder::new(client.clone(), reporter),
            remembered: Remembered::default(),
            backoff: Backoff::default(),
            failed: BTreeMap::new(),
            scaler: Scaler::default(),
            told: Told::default(),
            resync: Resync::default(),
            had_channels: false,
            crds,
            look: Instant::now(),
            fitted: true,
        }
    }

    /// A pass after each change, until there are no watches any more.
    async fn run(&mut self, mut changes: Receiver<u64>) {
        loop {
            changes.mark_unchanged();
            let started = Instant::now();
            self.pass().await;
            self.metrics.pass_seconds.observe(started.elapsed().as_secs_f64());
            let retry = self
                .backoff
                .next()
                .map_or(QUIET, |next| next.saturating_duration_since(Instant::now()));
            if !until_next(&mut changes, retry).await {
                return;
            }
        }
    }

    async fn pass(&mut self) {
        if !self.crds_fit().await {
            return;
        }
        let world = World::now(&self.stores);
        if self.lost_everything(&world).await {
            tracing::warn!("the store of channels is empty and the cluster's is not: nothing is written");
            return;
        }
        self.metrics
            .unreadable
            .set(i64::try_from(world.unreadable_gateways.len() + world.unreadable_channels.len()).unwrap_or(i64::MAX));
        let now = Time(jiff::Timestamp::now());
        if self.resync.is_due(Instant::now(), rand::random()) {
            self.applier.forget();
            self.sweep(&world).await;
        }
        let plan = Plan::new(&world, &self.settings.installation, &mut self.remembered, &now);
        self.apply(&plan).await;
        self.scale(&world, &plan, &now).await;
        if let Err(error) = sweep::leftovers(&self.client, &world, &plan, &mut self.applier).await {
            tracing::warn!(%error, "cannot delete what nobody needs any more");
        }
        self.report(&world, &plan, &now).await;
        self.tell_unreadable(&world, &now).await;
    }

    async fn tell_unreadable(&mut self, world: &World, now: &Time) {
        let all = || world.unreadable_gateways.iter().chain(&world.unreadable_channels);
        self.told.retain(all().map(|(metadata, _)| metadata));
        let (client, metrics) = (&self.client, &*self.metrics);
        for (metadata, error) in &world.unreadable_gateways {
            self.told
                .tell::<NotificationGateway>(client, metrics, metadata, error, now)
                .await;
        }
        for (metadata, error) in &world.unreadable_channels {
            self.told
                .tell::<NotificationChannel>(client, metrics, metadata, error, now)
                .await;
        }
    }

    /// Whether the CRDs are still those that this operator can write to. While the API server is away it is as it was.
    async fn crds_fit(&mut self) -> bool {
        if self.look > Instant::now() {
            return self.fitted;
        }
        self.look = Instant::now() + crds::LOOK;
        match self.crds.look().await {
            Ok(()) if self.fitted => {}
            Ok(()) => {
                tracing::info!("the CRDs fit again");
                self.fitted = true;
                // Fields may have been dropped meanwhile.
                self.resync = Resync::default();
            }
            Err(misfit) if misfit.is_certain() => {
                tracing::error!("{misfit}");
                self.fitted = false;
            }
            Err(misfit) => tracing::warn!("{misfit}"),
        }
        self.metrics.crds_misfit.set(i64::from(!self.fitted));
        self.fitted
    }

    /// A list that was not empty before and is now may be an answer that was cut short: it is asked for again.
    async fn lost_everything(&mut self, world: &World) -> bool {
        let is_empty = world.channels.is_empty() && world.unreadable_channels.is_empty();
        let suspicious = is_empty && self.had_channels;
        self.had_channels = !is_empty;
        if !suspicious {
            return false;
        }
        let api: kube::Api<NotificationChannel> = match &self.settings.watch_namespace {
            Some(namespace) => kube::Api::namespaced(self.client.clone(), namespace),
            None => kube::Api::all(self.client.clone()),
        };
        let listed = api.list_metadata(&ListParams::default().limit(1)).await;
        let is_there = listed.map_or(true, |list| !list.items.is_empty());
        self.had_channels = is_there;
        is_there
    }

    async fn sweep(&mut self, world: &World) {
        let (namespace, installation) = (self.settings.watch_namespace.as_deref(), &self.settings.installation.id);
        match sweep::orphans(&self.client, namespace, installation, world).await {
            Ok(deleted) => self.metrics.deleted.inc_by(deleted),
            Err(error) => tracing::warn!(%error, "cannot look for what gateways left that are gone"),
        }
    }

    async fn apply(&mut self, plan: &Plan) {
        let written: Vec<_> = plan.gateways.iter().filter(|gateway| !gateway.paused).collect();
        // Nobody waits for one that is paused: it would be waited for in vain, again and again.
        let names: BTreeSet<_> = written.iter().map(|gateway| &gateway.name).collect();
        self.backoff.retain(|name| names.contains(name));
        self.failed.retain(|name, _| names.contains(name));
        for gateway in written {
            let name = &gateway.name;
            if !self.backoff.may(name, || gateway.hash(), Instant::now()) {
                continue;
            }
            match self.applier.gateway(gateway, &self.metrics).await {
                Ok(()) => {
                    self.backoff.succeeded(name);
                    self.failed.remove(name);
                }
                Err(error) => {
                    let wait = self
                        .backoff
                        .failed(name, gateway.hash(), Instant::now(), rand::random());
                    tracing::warn!(gateway = %name, %error, ?wait, "not written, trying again");
                    self.failed.insert(name.clone(), (error.reason(), error.to_string()));
                }
            }
        }
        self.metrics
            .backing_off
            .set(i64::try_from(self.failed.len()).unwrap_or(i64::MAX));
    }

    /// What is not as it should be is not scaled either: it may not be the gateway's.
    async fn scale(&mut self, world: &World, plan: &Plan, now: &Time) {
        self.scaler
            .retain(|name| plan.gateways.iter().any(|gateway| gateway.name == *name));
        for gateway in &plan.gateways {
            if gateway.paused || self.failed.contains_key(&gateway.name) {
                self.scaler.forget(&gateway.name);
                continue;
            }
            let told = (&self.recorder, &*self.metrics);
            self.scaler.gateway(&self.client, told, gateway, world, now).await;
        }
        let limited = i64::try_from(self.scaler.limited.len()).unwrap_or(i64::MAX);
        self.metrics.scaling_limited.set(limited);
    }

    async fn report(&self, world: &World, plan: &Plan, now: &Time) {
        let (gateways, channels) = plan.statuses(world, &self.remembered, &self.failed, &self.scaler.limited, now);
        let (client, recorder, metrics) = (&self.client, &self.recorder, &*self.metrics);
        for (position, status) in gateways {
            let object = &world.gateways[position];
            report::write(client, recorder, metrics, object, &status, &status.conditions).await;
        }
        for (position, status) in channels {
            let object = &world.channels[position];
            report::write(client, recorder, metrics, object, &status, &status.conditions).await;
        }
    }
}

/// Waits for the next pass: soon after a change, together with those that follow it; at the latest after `retry`, or [`QUIET`]. False:
/// there will be no more changes.
async fn until_next(changes: &mut Receiver<u64>, retry: Duration) -> bool {
    tokio::select! {
        changed = changes.changed() => {
            if changed.is_ok() {
                sleep(DEBOUNCE).await;
            }
            changed.is_ok()
        }
        () = sleep(retry.min(QUIET)) => true,
    }
}

/// When everything is written anew.
#[derive(Default)]
struct Resync(Option<Instant>);

impl Resync {
    /// At the start, and then each time after [`RESYNC`], or up to half of it sooner: `jitter` from 0 to 1 says how much.
    fn is_due(&mut self, now: Instant, jitter: f64) -> bool {
        let is_due = self.0.is_none_or(|next| next <= now);
        if is_due {
            self.0 = Some(now + RESYNC.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0));
        }
        is_due
    }
}

#[cfg(test)]
mod tests;
