//! One seed from beginning to end: everything is started, everything goes wrong, everything heals, and the checker judges.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use aldis_gateway::sabotage::Rule;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::checker::{Verdict, check};
use super::history::{History, Saw};
use super::random::Random;
use super::server::Kind;
use super::topology::{Channel, Client};
use super::world::{PARTITIONS, World};
use super::{light, load, schedule, stock, twins};
use crate::repeating::RepeatingProxy;

/// How long clients may take to have everything once all is healed. 200 s: connections that froze, sessions of Kafka's group that
/// have to end, and a busy machine.
const HEALING: Duration = Duration::from_secs(200);
/// The same where a rule is switched off: some never have everything then. 25 s; with all rules the same faults take a few.
const HEALING_WITHOUT: Duration = Duration::from_secs(25);
/// How long may still come what must not, once all have everything.
const QUIET: Duration = Duration::from_secs(2);

/// Deliveries that each room keeps: more than are made while a client is away.
const HISTORY: usize = 2_000;

/// What a run is made of.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// For how long things go wrong.
    pub(crate) length: Duration,
    /// Stock clients and light ones, at each of the channels.
    pub(crate) stock: usize,
    pub(crate) light: usize,
    /// Clients at each channel that come back twice at once. Where connections are held up for long, one that has to end is not
    /// told from one that stays: none, but in drills.
    pub(crate) twins: usize,
    /// Whether stock clients that poll are behind a proxy that loses the first answer to each poll, and asks again.
    pub(crate) repeats: bool,
    /// What clients connect to.
    pub(crate) kind: Kind,
    /// Deliveries that each room keeps.
    pub(crate) history: usize,
    /// The only faults, by name ([`schedule::NAMES`]), close together; what the seed draws where there are none.
    pub(crate) only: Vec<String>,
    /// A rule of delivery that is switched off.
    pub(crate) without: Option<Rule>,
}

impl Plan {
    /// All that can go wrong, to gateways with all rules.
    pub(crate) fn new(seed: u64, length: Duration) -> Self {
        Self {
            seed,
            length,
            stock: 6,
            light: 12,
            twins: 0,
            repeats: false,
            kind: Kind::Gateway,
            history: HISTORY,
            only: Vec::new(),
            without: None,
        }
    }
}

/// What became of it.
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    /// How often each fault was done.
    pub(crate) faults: String,
    /// Logs and the history.
    pub(crate) evidence: PathBuf,
}

/// Runs a plan.
pub(crate) async fn run(plan: &Plan) -> Outcome {
    let evidence = evidence(plan.seed);
    println!(
        "seed {}: {:?}; evidence in {}",
        plan.seed,
        plan.length,
        evidence.display()
    );
    let world = World::start(plan, &evidence).await;
    let journal = world.journal.clone();
    journal.with(|history| history.forgot = plan.history < HISTORY);
    let mut random = Random::of(plan.seed, "clients");
    let addresses = world.addresses();
    let stock_clients = Client::draw(&mut random, plan.stock, &addresses);
    let repeating = match plan.repeats {
        true => repeating(&addresses).await,
        false => Vec::new(),
    };
    let behind: BTreeMap<_, _> = std::iter::zip(addresses.iter().copied(), &repeating)
        .map(|(address, proxy)| (address, proxy.address))
        .collect();
    let _stock = stock::start(&stock_clients, plan.kind, &behind, &journal);
    let mut lights = JoinSet::new();
    for (number, client) in Client::draw(&mut random, plan.light, &addresses)
        .into_iter()
        .enumerate()
    {
        let random = Random::of(plan.seed, &format!("light {number}"));
        lights.spawn(light::run(number, client, random, journal.clone()));
    }
    for (number, client) in Client::draw(&mut random, plan.twins, &addresses)
        .into_iter()
        .enumerate()
    {
        let other = addresses[(number + 1) % addresses.len()];
        lights.spawn(twins::run(number, client, other, journal.clone()));
    }
    let all_are_in = crate::deadline::until("every client is in its rooms", async || {
        journal.with(|history| are_in(history)).then_some(())
    });
    match plan.without {
        None => all_are_in.await,
        // Where a rule is switched off some may never be.
        Some(_) => drop(tokio::time::timeout(HEALING_WITHOUT, all_are_in).await),
    }

    repeating.iter().for_each(RepeatingProxy::repeat);
    let topics = [Channel::News, Channel::Other].map(|channel| channel.topic(&world.manifests));
    let partitions = topics
        .iter()
        .flat_map(|topic| (0..PARTITIONS).map(|partition| (topic.clone(), partition)));
    let stop = CancellationToken::new();
    let producers = load::start(plan.seed, world.broker(), partitions.collect(), &journal, &stop);
    let now = journal.clock.now();
    let mut schedule = match &plan.only[..] {
        [] => schedule::draw(plan.seed, plan.length),
        only => schedule::drill(plan.seed, plan.length, only),
    };
    for faults in schedule.values_mut() {
        faults.iter_mut().for_each(|(at, _)| *at += now);
    }
    world.suffer(schedule).await;
    journal.clock.until(now + plan.length).await;
    stop.cancel();
    producers.join_all().await;
    println!("{:6.2?} all is healed", journal.clock.now());
    let healed = journal.clock.now();
    let healing = plan.without.map_or(HEALING, |_| HEALING_WITHOUT);
    let complete = || journal.with(|history| check(history).lost == 0);
    while !complete() && journal.clock.now() < healed + healing {
        sleep(Duration::from_secs(1)).await;
    }
    sleep(QUIET).await;
    println!("{:6.2?} it ends", journal.clock.now());
    lights.shutdown().await;
    world.keep_logs().await;
    let history = journal.with(|history| history.clone());
    std::fs::write(evidence.join("history"), format!("{history:#?}")).unwrap();
    let faults = world
        .done()
        .into_iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect::<Vec<_>>();
    Outcome {
        verdict: check(&history),
        faults: faults.join(", "),
        evidence,
    }
}

/// Proxies that can lose answers, each before one of these addresses.
async fn repeating(addresses: &[SocketAddr]) -> Vec<RepeatingProxy> {
    let mut proxies = Vec::new();
    for address in addresses {
        proxies.push(RepeatingProxy::before(&address.to_string()).await);
    }
    proxies
}

fn are_in(history: &History) -> bool {
    history.clients.iter().all(|client| {
        let mut rooms = client.wants.clone();
        for (_, saw) in &client.log {
            match saw {
                Saw::Joined { room, .. } => drop(rooms.remove(room)),
                Saw::Ready { rooms: are, .. } => rooms.retain(|room| !are.contains(room)),
                _ => {}
            }
        }
        rooms.is_empty()
    })
}

/// Where a seed's logs go.
fn evidence(seed: u64) -> PathBuf {
    let folder =
        std::env::var_os("CHAOS_EVIDENCE").map_or_else(|| std::env::temp_dir().join("aldis-chaos"), PathBuf::from);
    let folder = folder.join(format!("seed-{seed}"));
    std::fs::remove_dir_all(&folder).ok();
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
