//! One run under load: broker, gateway, clients, producer, and the checks on what came.

use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};

use crate::broker::{Broker, BrokerKind};
use crate::clients::Crowd;
use crate::gateway::Gateway;
use crate::ledger::{ALL_PARTITIONS, Faults};
use crate::producer::{Plan, Producer};
use crate::results::{Results, percentile};
use crate::usage::{self, WARM_UP_SAMPLES};

/// How long deliveries may take after what the plan itself takes. 60 s.
const GRACE: Duration = Duration::from_secs(60);

/// How often a partition that shows no sign of being read is probed. 250 ms.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);

/// How often memory is sampled. 1 s.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Samples alike, one a second, after which memory counts as settled; and the most that are taken.
const SETTLED_SAMPLES: usize = 3;
/// See [`SETTLED_SAMPLES`].
const MOST_SAMPLES: usize = 30;
/// How much samples alike may differ. 256 KiB.
const SETTLED_KIB: u64 = 256;

/// What all runs have in common.
#[derive(Clone, Copy, Debug)]
pub struct Bench {
    /// Which broker.
    pub broker: BrokerKind,
    /// How long the producer waits for more records.
    pub linger: Duration,
    /// CPU of the gateway.
    pub gateway_cpu: Option<usize>,
    /// Most that the gateway's memory may grow after the warm-up, in KiB/s.
    pub max_growth: f64,
    /// Start of the program.
    pub start: Instant,
}

/// Broker and gateway of a run.
struct Stage {
    broker: Broker,
    gateway: Gateway,
    _folder: tempfile::TempDir,
}

/// CPU time that was used.
#[derive(Clone, Copy, Debug)]
struct Used {
    gateway: Duration,
    load: Duration,
    broker: Duration,
}

impl Bench {
    /// Produces what is planned for `clients` clients.
    ///
    /// # Errors
    /// Where something does not run at all. What runs wrong is a violation in the results.
    pub async fn load(&self, title: String, clients: u64, plan: Plan) -> anyhow::Result<Results> {
        let stage = Stage::set(self).await?;
        let outcome = self.load_on(&stage, title, clients, plan).await;
        stage.clear(outcome).await
    }

    async fn load_on(&self, stage: &Stage, title: String, clients: u64, plan: Plan) -> anyhow::Result<Results> {
        let crowd = Crowd::connect(&stage.gateway.url, clients, plan.rooms, plan.warm_up, self.start).await?;
        let producer = Producer::new(&stage.broker.address(), self.linger, self.start)?;
        wait_until_read(&crowd, &producer).await?;

        let before = stage.used()?;
        let idle_rss = usage::memory_kib(stage.gateway.pid, "VmRSS")?;
        let (mut results, mut samples) = (Results::new(title), Vec::new());
        let expected = deliveries(plan.records, plan.rooms, clients);
        let done = {
            let work = produce_and_receive(&crowd, &producer, plan, expected);
            tokio::pin!(work);
            let mut sample = tokio::time::interval(SAMPLE_INTERVAL);
            loop {
                tokio::select! {
                    done = &mut work => break done,
                    _ = sample.tick() => samples.push(usage::memory_kib(stage.gateway.pid, "VmRSS")?),
                }
            }
        };
        match done {
            Ok(()) => {}
            Err(Stop::Failed(error)) => return Err(error),
            Err(Stop::Late(error)) => results.violations.push(format!("{error:#}")),
        }
        let used = stage.used()?.since(before);
        producer.end(plan.rooms).await?;
        let seen = crowd.finish(plan.records, GRACE).await?;

        let seconds = seen.last_at.saturating_sub(seen.first_born.unwrap_or_default()) as f64 / 1e9;
        let micros = |used: Duration, by: u64| used.as_secs_f64() * 1e6 / by as f64;
        let mebibytes = |kib: u64| kib as f64 / 1024.0;
        results.add("records", "records produced", plan.records as f64, 0);
        results.add("deliveries", "deliveries received", seen.received as f64, 0);
        results.add("seconds", "first produce call to last receipt, s", seconds, 2);
        results.add("records_per_second", "records/s", plan.records as f64 / seconds, 0);
        results.add("deliveries_per_second", "deliveries/s", expected as f64 / seconds, 0);
        for (key, label, share) in [
            ("p50_ms", "produce call to receipt, p50, ms", 0.5),
            ("p90_ms", "produce call to receipt, p90, ms", 0.9),
            ("p99_ms", "produce call to receipt, p99, ms", 0.99),
            ("max_ms", "produce call to receipt, max, ms", 1.0),
        ] {
            results.add(key, label, percentile(&seen.latencies, share) / 1000.0, 2);
        }
        results.add(
            "cpu_us_per_record",
            "gateway's CPU, µs per record",
            micros(used.gateway, plan.records),
            2,
        );
        results.add(
            "cpu_us_per_delivery",
            "gateway's CPU, µs per delivery",
            micros(used.gateway, expected),
            2,
        );
        results.add(
            "gateway_cpu_percent",
            "gateway's CPU, % of one",
            used.gateway.as_secs_f64() / seconds * 100.0,
            0,
        );
        results.add(
            "load_cpu_percent",
            "load generator's CPU, % of one",
            used.load.as_secs_f64() / seconds * 100.0,
            0,
        );
        results.add(
            "broker_cpu_percent",
            "broker's CPU, % of one",
            used.broker.as_secs_f64() / seconds * 100.0,
            0,
        );
        results.add(
            "rss_before_mib",
            "gateway's RSS with all clients, before, MiB",
            mebibytes(idle_rss),
            1,
        );
        let peak = usage::memory_kib(stage.gateway.pid, "VmHWM")?;
        results.add("rss_peak_mib", "gateway's RSS, peak, MiB", mebibytes(peak), 1);
        self.judge_memory(&samples, &mut results);
        if seen.faults != Faults::default() {
            results.violations.push(seen.faults.to_string());
            let metrics = stage.gateway.telling_metrics().await;
            results.violations.extend(metrics.lines().map(str::to_owned));
        }
        Ok(results)
    }

    fn judge_memory(&self, samples: &[u64], results: &mut Results) {
        let Some(growth) = usage::growth(samples) else { return };
        let mut sorted = samples[WARM_UP_SAMPLES..].to_vec();
        sorted.sort_unstable();
        let mebibytes = |index: usize| sorted[index] as f64 / 1024.0;
        results.add(
            "rss_min_mib",
            "gateway's RSS after the first 15 s, least, MiB",
            mebibytes(0),
            1,
        );
        results.add(
            "rss_median_mib",
            "gateway's RSS after the first 15 s, median, MiB",
            mebibytes(sorted.len() / 2),
            1,
        );
        results.add(
            "rss_max_mib",
            "gateway's RSS after the first 15 s, most, MiB",
            mebibytes(sorted.len() - 1),
            1,
        );
        results.add(
            "rss_growth_kib_s",
            "gateway's RSS after the first 15 s, slope, KiB/s",
            growth,
            1,
        );
        if growth > self.max_growth {
            let bound = self.max_growth;
            results.violations.push(format!(
                "the gateway's memory grows by {growth:.1} KiB/s, more than {bound} KiB/s"
            ));
        }
    }

    /// Connects clients, each in a room of its own, and measures what memory they take.
    ///
    /// # Errors
    /// Where something does not run.
    pub async fn idle(&self, title: String, clients: u64) -> anyhow::Result<Results> {
        let stage = Stage::set(self).await?;
        let outcome = self.idle_on(&stage, title, clients).await;
        stage.clear(outcome).await
    }

    async fn idle_on(&self, stage: &Stage, title: String, clients: u64) -> anyhow::Result<Results> {
        let empty = settled(stage.gateway.pid).await?;
        let before = stage.used()?;
        let connecting = Instant::now();
        let crowd = Crowd::connect(&stage.gateway.url, clients, clients, 0, self.start).await?;
        let seconds = connecting.elapsed().as_secs_f64();
        let used = stage.used()?.since(before);
        let full = settled(stage.gateway.pid).await?;
        let mut results = Results::new(title);
        results.add(
            "rss_empty_mib",
            "gateway's RSS without clients, MiB",
            empty as f64 / 1024.0,
            1,
        );
        results.add(
            "rss_full_mib",
            "gateway's RSS with all clients, MiB",
            full as f64 / 1024.0,
            1,
        );
        results.add(
            "kib_per_client",
            "gateway's RSS, KiB per client",
            full.saturating_sub(empty) as f64 / clients as f64,
            2,
        );
        results.add(
            "connects_per_second",
            "connects and joins/s",
            clients as f64 / seconds,
            0,
        );
        let micros = used.gateway.as_secs_f64() * 1e6 / clients as f64;
        results.add(
            "cpu_us_per_connect",
            "gateway's CPU, µs per connect and join",
            micros,
            0,
        );
        // The clients are still there, all of them, and in their rooms.
        let producer = Producer::new(&stage.broker.address(), self.linger, self.start)?;
        wait_until_read(&crowd, &producer).await?;
        producer.end(clients).await?;
        let seen = crowd.finish(0, GRACE).await?;
        if seen.faults != Faults::default() {
            results.violations.push(seen.faults.to_string());
        }
        Ok(results)
    }
}

/// Why a run under load stopped early.
enum Stop {
    /// It can not go on.
    Failed(anyhow::Error),
    /// Not everything came.
    Late(anyhow::Error),
}

/// Produces what is planned and waits until all of it has come.
async fn produce_and_receive(crowd: &Crowd, producer: &Producer, plan: Plan, expected: u64) -> Result<(), Stop> {
    let planned = plan.rate.map_or(Duration::ZERO, |rate| {
        Duration::from_secs_f64(plan.records as f64 / rate)
    });
    let producing = async { producer.run(plan).await.map_err(Stop::Failed) };
    let receiving = async { crowd.received(expected, planned + GRACE).await.map_err(Stop::Late) };
    tokio::try_join!(producing, receiving).map(|((), ())| ())
}

impl Stage {
    async fn set(bench: &Bench) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let broker = Broker::start(bench.broker, folder.path()).await?;
        let gateway = Gateway::start(&broker.address(), folder.path(), bench.gateway_cpu).await?;
        Ok(Self {
            broker,
            gateway,
            _folder: folder,
        })
    }

    fn used(&self) -> anyhow::Result<Used> {
        Ok(Used {
            gateway: usage::cpu(self.gateway.pid)?,
            load: usage::cpu(std::process::id())?,
            broker: self.broker.pid().map_or(Ok(Duration::ZERO), usage::cpu)?,
        })
    }

    /// Stops everything. An error is told with what the gateway said last.
    async fn clear<T>(self, outcome: anyhow::Result<T>) -> anyhow::Result<T> {
        let log = self.gateway.log();
        self.gateway.stop().await;
        self.broker.stop().await;
        outcome.map_err(|error| anyhow!("{error:#}\nthe gateway's log ended with:\n{log}"))
    }
}

impl Used {
    fn since(self, before: Self) -> Self {
        Self {
            gateway: self.gateway.saturating_sub(before.gateway),
            load: self.load.saturating_sub(before.load),
            broker: self.broker.saturating_sub(before.broker),
        }
    }
}

/// Client c is in room c % rooms, record n goes to room n % rooms: how many deliveries that makes.
fn deliveries(records: u64, rooms: u64, clients: u64) -> u64 {
    let share = |all: u64, room: u64| all / rooms + u64::from(room < all % rooms);
    (0..rooms).map(|room| share(records, room) * share(clients, room)).sum()
}

/// Waits until records of every partition arrive in the first room, and so in all.
async fn wait_until_read(crowd: &Crowd, producer: &Producer) -> anyhow::Result<()> {
    let deadline = Instant::now() + GRACE;
    let mut probe = tokio::time::interval(PROBE_INTERVAL);
    while crowd.probed() != ALL_PARTITIONS {
        if Instant::now() > deadline {
            bail!("records do not arrive within {GRACE:?}");
        }
        probe.tick().await;
        producer.probe(ALL_PARTITIONS & !crowd.probed()).await?;
    }
    Ok(())
}

/// Waits until the memory of a process stays as it is, and says how much that is, in KiB.
async fn settled(pid: u32) -> anyhow::Result<u64> {
    let mut samples = Vec::new();
    let mut sample = tokio::time::interval(SAMPLE_INTERVAL);
    loop {
        sample.tick().await;
        samples.push(usage::memory_kib(pid, "VmRSS")?);
        let last = &samples[samples.len().saturating_sub(SETTLED_SAMPLES)..];
        let (low, high) = (
            last.iter().min().copied().unwrap_or(0),
            last.iter().max().copied().unwrap_or(0),
        );
        if (last.len() == SETTLED_SAMPLES && high - low <= SETTLED_KIB) || samples.len() == MOST_SAMPLES {
            return Ok(high);
        }
    }
}
