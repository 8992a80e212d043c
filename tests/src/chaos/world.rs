//! All that runs, and what is done to it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use aldis_gateway::sabotage::Rule;
use futures_util::future::join_all;
use tokio::time::sleep;

use super::history::Journal;
use super::log_of_redis::{ARGUMENTS, Lengths};
use super::run::Plan;
use super::schedule::{Fault, GATEWAYS, PROXIES, Schedule};
use super::server::{Kind, Server};
use super::topology::{Channel, manifests, write};
use crate::gateway::{Gateway, With};
use crate::kafka::{Kafka, make_topic};
use crate::manifests::Manifests;
use crate::proxy::{Cut, Proxy};
use crate::redis::Redis;

/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:9";
/// How often Redis' file is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// What is granted while there are few rooms: fewer than each channel has.
const FEW_ROOMS: &str = "{rooms: 1}";
/// How long gateways may take to notice a file that was changed. 1 s.
const NOTICED: Duration = Duration::from_secs(1);
/// For how long clients are elsewhere before the gateway goes on that they were cut off from: long enough to come back, and to
/// get something. 1.5 s.
const ELSEWHERE: Duration = Duration::from_millis(1_500);
/// Partitions of a topic.
pub(crate) const PARTITIONS: i32 = 3;

/// Gateways, what they need, and the addresses that clients have.
pub(crate) struct World {
    pub(crate) manifests: Manifests,
    pub(crate) journal: Journal,
    kind: Kind,
    without: Option<Rule>,
    history: usize,
    kafka: tokio::sync::Mutex<Kafka>,
    broker: String,
    redis: tokio::sync::Mutex<(Redis, Lengths)>,
    redis_url: String,
    gateways: [tokio::sync::Mutex<Option<Server>>; GATEWAYS],
    /// Where each gateway listens; none while clients are led elsewhere.
    listens: Mutex<[Option<String>; GATEWAYS]>,
    proxies: Vec<Proxy>,
    /// While no address leads anywhere.
    shut: AtomicBool,
    version: AtomicUsize,
    /// How often each fault was done.
    done: Mutex<BTreeMap<&'static str, usize>>,
    /// Where logs go.
    evidence: PathBuf,
}

impl World {
    pub(crate) async fn start(plan: &Plan, evidence: &Path) -> Self {
        let manifests = manifests(plan.history);
        let journal = Journal::new(super::topology::topics(&manifests));
        let mut kafka = Kafka::down();
        kafka.start().await;
        let broker = kafka.address();
        for topic in [Channel::News, Channel::Other].map(|channel| channel.topic(&manifests)) {
            make_topic(&broker, &topic, PARTITIONS, &[]).await;
        }
        let redis = Redis::start_with(ARGUMENTS).await;
        let mut proxies = Vec::new();
        for _ in 0..PROXIES {
            proxies.push(Proxy::before(NOWHERE).await);
        }
        let world = Self {
            manifests,
            journal,
            kind: plan.kind,
            without: plan.without,
            history: plan.history,
            kafka: kafka.into(),
            broker,
            redis_url: redis.url(),
            redis: (redis, Lengths::default()).into(),
            gateways: Default::default(),
            listens: Mutex::default(),
            proxies,
            shut: AtomicBool::default(),
            version: AtomicUsize::new(1),
            done: Mutex::default(),
            evidence: evidence.to_owned(),
        };
        for gateway in 0..GATEWAYS {
            world.begin(gateway).await;
        }
        world
    }

    pub(crate) fn broker(&self) -> &str {
        &self.broker
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.proxies.iter().map(|proxy| proxy.address).collect()
    }

    /// How often each fault was done.
    pub(crate) fn done(&self) -> BTreeMap<&'static str, usize> {
        self.done.lock().unwrap().clone()
    }

    /// Does all of a schedule, each lane for itself, and waits until all is as it was.
    pub(crate) async fn suffer(&self, schedule: Schedule) {
        let lanes = schedule.into_values().map(async |faults| {
            for (at, fault) in faults {
                self.journal.clock.until(at).await;
                println!("{:6.2?} {fault:?}", self.journal.clock.now());
                self.apply(fault).await;
                *self.done.lock().unwrap().entry(fault.name()).or_default() += 1;
            }
        });
        tokio::select! {
            _ = join_all(lanes) => {}
            () = self.follow_redis() => {}
        }
    }

    async fn apply(&self, fault: Fault) {
        match fault {
            Fault::Kill { gateway, down } => {
                self.end(gateway, false).await;
                sleep(down).await;
                self.begin(gateway).await;
            }
            Fault::Drain { gateway, down } => {
                self.end(gateway, true).await;
                sleep(down).await;
                self.begin(gateway).await;
            }
            Fault::Pause {
                gateway,
                down,
                leads_away,
            } => self.pause(gateway, down, leads_away).await,
            Fault::CutRedis { kind } => {
                let redis = self.redis.lock().await;
                let _: i64 = redis.0.ask(&["CLIENT", "KILL", "TYPE", kind]).await;
            }
            Fault::RestartRedis { down } => self.restart_redis(down, |_, _| {}).await,
            Fault::RollRedisBack { down, by } => {
                let to = self.journal.clock.now().saturating_sub(by);
                self.forgets();
                self.restart_redis(down, |lengths, folder| {
                    println!(
                        "        {} bytes of Redis' file are gone",
                        lengths.roll_back(to, folder)
                    );
                })
                .await;
            }
            Fault::ForgetUnseen { lasts } => {
                self.forgets();
                self.shut(true);
                self.cut_off(&self.proxies, Cut::Reset);
                sleep(NOTICED).await;
                let to = self.journal.clock.now();
                sleep(lasts).await;
                self.restart_redis(Duration::ZERO, |lengths, folder| {
                    lengths.roll_back(to, folder);
                })
                .await;
                self.shut(false);
            }
            Fault::EmptyRedis { down } => {
                self.forgets();
                self.restart_redis(down, Lengths::empty).await;
            }
            Fault::RestartKafka { down } => {
                let mut kafka = self.kafka.lock().await;
                let from = self.journal.clock.now();
                kafka.crash();
                sleep(down).await;
                kafka.start().await;
                self.outage(from);
            }
            Fault::CutOne { proxy, nth, how } => drop(self.proxies[proxy].cut(nth, how)),
            Fault::CutAll { proxy, how } => drop(self.proxies[proxy].cut_all(how)),
            Fault::Overtake { gateway } => self.overtake(gateway).await,
            Fault::FewRooms { lasts } => {
                self.manifests.limit(FEW_ROOMS);
                // Until gateways have noticed, and clients that were there are gone.
                sleep(NOTICED).await;
                self.cut_off(&self.proxies, Cut::Reset);
                sleep(lasts).await;
                self.manifests.limit("{}");
            }
            Fault::Configure => {
                let version = self.version.fetch_add(1, Ordering::Relaxed);
                write(
                    &self.manifests,
                    Channel::ALL[version % Channel::ALL.len()],
                    version,
                    self.history,
                );
            }
        }
    }

    async fn begin(&self, number: usize) {
        let with = With {
            kafka: Some(&self.broker),
            redis: Some(&self.redis_url),
            without: self.without,
            ..With::default()
        };
        let gateway = match self.kind {
            Kind::Gateway => Server::Gateway(Box::new(Gateway::start_with(&self.manifests.path(), with).await)),
            Kind::Node => Server::node(&self.manifests, &self.broker, &self.redis_url).await,
        };
        let address = gateway.address();
        *self.gateways[number].lock().await = Some(gateway);
        self.lead(number, Some(address));
    }

    async fn end(&self, number: usize, drains: bool) {
        self.lead(number, None);
        let gateway = self.gateways[number].lock().await.take();
        if let Some(mut gateway) = gateway {
            match drains {
                true => gateway.terminate().await,
                false => gateway.kill().await,
            }
            self.keep_log(number, &gateway);
        }
    }

    async fn pause(&self, number: usize, down: Duration, leads_away: bool) {
        let slot = self.gateways[number].lock().await;
        let gateway = slot
            .as_ref()
            .expect("it runs: faults of a gateway come one after the other");
        gateway.signal("STOP").await;
        if leads_away {
            self.lead(number, None);
        }
        sleep(down).await;
        gateway.signal("CONT").await;
        self.lead(number, Some(gateway.address()));
    }

    async fn overtake(&self, number: usize) {
        let slot = self.gateways[number].lock().await;
        let gateway = slot
            .as_ref()
            .expect("it runs: faults of a gateway come one after the other");
        gateway.signal("STOP").await;
        let theirs = self.led_to(&gateway.address());
        self.lead(number, None);
        self.cut_off(theirs.iter().copied(), Cut::Reset);
        sleep(ELSEWHERE).await;
        self.cut_off(theirs, Cut::Stall);
        gateway.signal("CONT").await;
        self.lead(number, Some(gateway.address()));
    }

    /// The addresses that lead to a gateway.
    fn led_to(&self, gateway: &str) -> Vec<&Proxy> {
        let listens = self.listens.lock().unwrap();
        let all = self.proxies.iter().enumerate();
        all.filter(|(proxy, _)| leads_to(*proxy, &listens) == gateway)
            .map(|(_, proxy)| proxy)
            .collect()
    }

    /// Cuts all connections of these addresses.
    fn cut_off<'p>(&self, proxies: impl IntoIterator<Item = &'p Proxy>, how: Cut) {
        let cut: usize = proxies.into_iter().map(|proxy| proxy.cut_all(how)).sum();
        println!("        {cut} connections are cut");
    }

    /// From now on no address leads anywhere, or each does again.
    fn shut(&self, shut: bool) {
        self.shut.store(shut, Ordering::SeqCst);
        self.lead_all(&self.listens.lock().unwrap());
    }

    async fn restart_redis(&self, down: Duration, meanwhile: impl FnOnce(&mut Lengths, &Path)) {
        let mut guard = self.redis.lock().await;
        let (redis, lengths) = &mut *guard;
        let from = self.journal.clock.now();
        redis.crash();
        meanwhile(lengths, redis.folder());
        sleep(down).await;
        redis.restart().await;
        self.outage(from);
    }

    fn forgets(&self) {
        self.journal.with(|history| history.forgot = true);
    }

    fn outage(&self, from: Duration) {
        let to = self.journal.clock.now();
        self.journal.with(|history| history.outages.push((from, to)));
    }

    /// Leads each address to its gateway, or to the next one that there is.
    fn lead(&self, number: usize, to: Option<String>) {
        let mut listens = self.listens.lock().unwrap();
        listens[number] = to;
        self.lead_all(&listens);
    }

    fn lead_all(&self, listens: &[Option<String>; GATEWAYS]) {
        let is_shut = self.shut.load(Ordering::SeqCst);
        for (proxy, of) in self.proxies.iter().enumerate() {
            of.lead_to(if is_shut { NOWHERE } else { leads_to(proxy, listens) });
        }
    }

    /// Keeps the logs of those that still run.
    pub(crate) async fn keep_logs(&self) {
        for (number, gateway) in self.gateways.iter().enumerate() {
            if let Some(gateway) = &*gateway.lock().await {
                self.keep_log(number, gateway);
            }
        }
    }

    fn keep_log(&self, number: usize, gateway: &Server) {
        let now = self.journal.clock.now().as_secs();
        let file = self.evidence.join(format!("gateway-{number}-until-{now}s.log"));
        std::fs::write(file, gateway.log()).unwrap();
    }

    /// Notes how Redis' file grows, without an end.
    async fn follow_redis(&self) {
        loop {
            sleep(LOOK).await;
            if let Ok(mut redis) = self.redis.try_lock() {
                let (redis, lengths) = &mut *redis;
                lengths.note(self.journal.clock.now(), redis.folder());
            }
        }
    }
}

/// Where an address leads while gateways listen there.
fn leads_to(proxy: usize, listens: &[Option<String>; GATEWAYS]) -> &str {
    let mut there = (0..GATEWAYS).filter_map(|next| listens[(proxy + next) % GATEWAYS].as_deref());
    there.next().unwrap_or(NOWHERE)
}
