//! `aldis-bench`: measures the gateway on the real path, and checks that nothing is lost, doubled or out of order.
//!
//! ```text
//! this program (cpu 1): producer → Kafka (cpu 1) → aldis dev (cpu 0) → thousands of clients in this program
//! ```
//! docs/benchmarks.md says what the scenarios are and what came out.

mod bounds;
mod broker;
mod clients;
mod gateway;
mod ledger;
mod load;
mod producer;
mod pure;
mod results;
mod stamp;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Parser, ValueEnum};

use broker::BrokerKind;
use load::Bench;
use producer::Plan;
use results::Results;

/// CPU of the gateway.
const GATEWAY_CPU: usize = 0;

/// Latencies of the first seconds of a steady run do not count (in a run of less than twice as long, those of its first
/// half). 5 s: a Kafka that has just started is still compiling itself, and everything waits for it.
const WARM_UP_SECONDS: u64 = 5;

/// CPU of everything else.
const LOAD_CPU: usize = 1;

/// Measure the gateway on the real path
///
/// Starts a broker and a gateway (`aldis dev`, which must have been built next to this program), sends records through them
/// to clients of its own, and checks what each of them saw. Exit codes: 0 all is as it must be, 1 it is not, 2 wrong usage.
#[derive(Debug, Parser)]
struct Args {
    #[arg(value_enum, default_value_t = Scenario::All)]
    scenario: Scenario,

    /// Records a second (steady) [default: 2000]
    #[arg(long, default_value_t = 2000.0, hide_default_value = true)]
    rate: f64,

    /// Seconds (steady)
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,

    /// Clients [default: 1000; idle: 5000]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    clients: Option<u64>,

    /// Rooms, among which clients and records are divided [default: steady 100, burst-rooms 1000, burst-broadcast 1]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rooms: Option<u64>,

    /// Records of a burst [default: burst-rooms 50000, burst-broadcast 1000]
    #[arg(long)]
    records: Option<u64>,

    /// Length of a record's value
    #[arg(long, default_value_t = 200)]
    payload_bytes: usize,

    /// The broker
    #[arg(long, value_enum, default_value_t = BrokerKind::Kafka)]
    broker: BrokerKind,

    /// How long the producer waits for more records before it sends, in ms: it is within every latency
    #[arg(long, default_value_t = 5)]
    linger_ms: u64,

    /// Most that the gateway's memory may grow after the first 15 s of a steady run, in KiB/s
    #[arg(long, default_value_t = 32.0)]
    max_growth: f64,

    /// How often each scenario is run; medians are shown
    #[arg(long, default_value_t = 1)]
    runs: usize,

    /// Write the results to a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Everything below
    All,
    /// Records at a rate
    Steady,
    /// Both bursts
    Burst,
    /// Many records at once to many rooms
    BurstRooms,
    /// Many records at once to one room with all clients
    BurstBroadcast,
    /// Clients that only wait
    Idle,
    /// Decode and route alone
    Pure,
    /// What expressions cost, the worst of them too
    Bounds,
}

impl Scenario {
    fn parts(self) -> Vec<Self> {
        match self {
            Self::All => vec![
                Self::Steady,
                Self::BurstRooms,
                Self::BurstBroadcast,
                Self::Idle,
                Self::Pure,
                Self::Bounds,
            ],
            Self::Burst => vec![Self::BurstRooms, Self::BurstBroadcast],
            one => vec![one],
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("aldis-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what was asked for. Says whether all was as it must be.
fn run(args: &Args) -> anyhow::Result<bool> {
    // Before the first thread, so that all of them inherit it.
    let pinned = usage::pin_self(LOAD_CPU);
    match pinned {
        true => println!("gateway on cpu {GATEWAY_CPU}, load generator and broker on cpu {LOAD_CPU}"),
        false => println!("nothing is pinned to a cpu: that needs taskset and two of them"),
    }
    let bench = Bench {
        broker: args.broker,
        linger: Duration::from_millis(args.linger_ms),
        gateway_cpu: pinned.then_some(GATEWAY_CPU),
        max_growth: args.max_growth,
        start: Instant::now(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut good, mut all) = (true, Vec::new());
    for scenario in args.scenario.parts() {
        let mut runs = Vec::new();
        for _ in 0..args.runs {
            runs.push(runtime.block_on(one(scenario, args, &bench))?);
        }
        Results::print(&runs);
        good &= runs.iter().all(|run| run.violations.is_empty());
        all.push(Results::json(&runs));
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&all)?;
        std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(good)
}

async fn one(scenario: Scenario, args: &Args, bench: &Bench) -> anyhow::Result<Results> {
    let bytes = args.payload_bytes;
    let default_clients = if scenario == Scenario::Idle { 5000 } else { 1000 };
    let clients = args.clients.unwrap_or(default_clients);
    let (what, plan) = match scenario {
        Scenario::Idle => {
            let title = format!("idle: {clients} clients in as many rooms");
            return bench.idle(title, clients).await;
        }
        Scenario::Pure => return pure::measure(bytes),
        Scenario::Bounds => return bounds::measure(),
        Scenario::BurstRooms => args.burst(1000, 50_000),
        Scenario::BurstBroadcast => args.burst(1, 1000),
        Scenario::Steady | Scenario::All | Scenario::Burst => args.steady(100),
    };
    let broker = match args.broker {
        BrokerKind::Kafka => "Apache Kafka",
        BrokerKind::Embedded => "embedded broker",
    };
    let (rooms, linger) = (plan.rooms, args.linger_ms);
    let title =
        format!("{what}, {clients} clients in {rooms} rooms, {bytes}-byte records, linger {linger} ms, {broker}");
    bench.load(title, clients, plan).await
}

impl Args {
    fn burst(&self, rooms: u64, records: u64) -> (String, Plan) {
        let plan = Plan {
            records: self.records.unwrap_or(records),
            rooms: self.rooms.unwrap_or(rooms),
            rate: None,
            warm_up: 0,
            bytes: self.payload_bytes,
        };
        (format!("burst: {} records at once", plan.records), plan)
    }

    fn steady(&self, rooms: u64) -> (String, Plan) {
        let records = |seconds: u64| (self.rate * seconds as f64) as u64;
        let plan = Plan {
            records: records(self.seconds),
            rooms: self.rooms.unwrap_or(rooms),
            rate: Some(self.rate),
            warm_up: records(WARM_UP_SECONDS.min(self.seconds / 2)),
            bytes: self.payload_bytes,
        };
        (format!("steady: {} records/s for {} s", self.rate, self.seconds), plan)
    }
}
