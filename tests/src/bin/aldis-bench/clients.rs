//! The load clients: connected, in their rooms, and reading on one thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aldis_cli::client::{Client, Connect, Incoming};
use anyhow::{Context as _, bail, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::ledger::{Faults, Ledger};
use crate::stamp::{Kind, nanos_since, tenant};

/// Clients that connect at the same time. 50: fewer than the listener's backlog.
const CONNECTING: usize = 50;

/// How long one join may take. 20 s, as connecting.
const JOIN_TIMEOUT: Duration = Duration::from_secs(20);

/// What the clients tell while they run.
#[derive(Default)]
struct Progress {
    /// Counted records that came, over all clients.
    received: AtomicU64,
    /// The number of them that is waited for.
    expected: AtomicU64,
    /// Partitions of which the first room has seen a probe, as bits.
    probed: AtomicU32,
    /// Clients whose connection ended.
    disconnected: AtomicU64,
    changed: Notify,
}

/// All clients of a run.
pub struct Crowd {
    progress: Arc<Progress>,
    readers: Vec<JoinHandle<Ledger>>,
    give_up: watch::Sender<bool>,
}

/// What all clients saw together.
pub struct Seen {
    /// Everything that is wrong.
    pub faults: Faults,
    /// Counted records that came, over all clients.
    pub received: u64,
    /// Times from produce call to receipt of all deliveries after the warm-up, in µs, sorted.
    pub latencies: Vec<u32>,
    /// When the first counted record was handed to the producer, in ns since the start of the program.
    pub first_born: Option<u64>,
    /// When the last counted record came, in ns since the start of the program.
    pub last_at: u64,
}

impl Crowd {
    /// Connects `clients` clients, of which each joins one of `rooms` rooms. They note latencies from record `noted_from` on.
    ///
    /// # Errors
    /// Where one is not let in.
    pub async fn connect(url: &str, clients: u64, rooms: u64, noted_from: u64, start: Instant) -> anyhow::Result<Self> {
        let progress = Arc::new(Progress::default());
        let (give_up, given_up) = watch::channel(false);
        let readers = futures_util::stream::iter(0..clients)
            .map(|number| {
                let (progress, given_up) = (Arc::clone(&progress), given_up.clone());
                async move {
                    let client = enter(url, number, rooms)
                        .await
                        .with_context(|| format!("client {number}"))?;
                    let ledger = Ledger::new(number % rooms, rooms, noted_from);
                    anyhow::Ok(tokio::spawn(read(client, ledger, progress, given_up, start)))
                }
            })
            .buffer_unordered(CONNECTING)
            .try_collect()
            .await?;
        Ok(Self {
            progress,
            readers,
            give_up,
        })
    }

    /// Partitions of which the first room has seen a probe, as bits.
    pub fn probed(&self) -> u32 {
        self.progress.probed.load(Ordering::Relaxed)
    }

    /// Waits until so many counted records have come over all clients, or a connection has ended.
    ///
    /// # Errors
    /// Where that takes longer than `within`.
    pub async fn received(&self, expected: u64, within: Duration) -> anyhow::Result<()> {
        let progress = &self.progress;
        progress.expected.store(expected, Ordering::Relaxed);
        let all = async {
            loop {
                let changed = progress.changed.notified();
                if progress.received.load(Ordering::Relaxed) >= expected
                    || progress.disconnected.load(Ordering::Relaxed) > 0
                {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(within, all).await.is_err() {
            bail!(
                "after {within:?} only {} of {expected} deliveries have come",
                progress.received.load(Ordering::Relaxed)
            );
        }
        Ok(())
    }

    /// Waits until every client has seen the ends of all partitions, or for `within`, and closes all books.
    ///
    /// # Errors
    /// Where a reader panicked.
    pub async fn finish(self, records: u64, within: Duration) -> anyhow::Result<Seen> {
        let mut seen = Seen {
            faults: Faults::default(),
            received: 0,
            latencies: Vec::new(),
            first_born: None,
            last_at: 0,
        };
        let deadline = tokio::time::Instant::now() + within;
        for mut reader in self.readers {
            let ended = tokio::time::timeout_at(deadline, &mut reader).await;
            let ledger = match ended {
                Ok(ledger) => ledger,
                Err(_) => {
                    self.give_up.send_replace(true);
                    reader.await
                }
            };
            let ledger = ledger.context("a client's reader failed")?;
            seen.faults += ledger.faults(records);
            seen.first_born = seen.first_born.into_iter().chain(ledger.first_born).min();
            seen.last_at = seen.last_at.max(ledger.last_at);
            seen.received += ledger.received;
            seen.latencies.extend(ledger.latencies);
        }
        seen.latencies.sort_unstable();
        Ok(seen)
    }
}

/// Connects a client and puts it into its room.
async fn enter(url: &str, number: u64, rooms: u64) -> anyhow::Result<Client> {
    let tenant = tenant(number % rooms);
    let query = [
        ("user_id", format!("u-{number}")),
        ("tenant_id", tenant.clone()),
        ("type", "staff".to_owned()),
    ];
    let query = query.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let mut client = Client::connect(Connect {
        query,
        ..Connect::to(url)
    })
    .await?;
    let args = [serde_json::json!({ "tenant_id": tenant })];
    let answer = client.emit_with_ack("subscribe:orders", &args, JOIN_TIMEOUT).await?;
    ensure!(
        answer.first().is_some_and(|answer| answer["ok"] == true),
        "the join was refused: {answer:?}"
    );
    Ok(client)
}

/// Reads until all partitions have ended, the connection has, or the run is given up.
async fn read(
    mut client: Client,
    mut ledger: Ledger,
    progress: Arc<Progress>,
    mut given_up: watch::Receiver<bool>,
    start: Instant,
) -> Ledger {
    let given_up = async move { given_up.wait_for(|given_up| *given_up).await.map(drop) };
    tokio::pin!(given_up);
    while !ledger.has_ended() {
        let incoming = tokio::select! {
            biased;
            incoming = client.next() => incoming,
            _ = &mut given_up => break,
        };
        match incoming {
            // What the gateway says of itself: its greeting, and whether the session was recovered.
            Ok(Incoming::Event(event))
                if ["[\"connection:", "[\"aldis:"]
                    .iter()
                    .any(|own| event.text().starts_with(own)) => {}
            Ok(Incoming::Event(event)) => match ledger
                .take(event.text(), nanos_since(start))
                .map(|stamp| (stamp.kind, stamp.partition))
            {
                Some((Kind::Counted, _)) => {
                    let received = progress.received.fetch_add(1, Ordering::Relaxed) + 1;
                    if received == progress.expected.load(Ordering::Relaxed) {
                        progress.changed.notify_waiters();
                    }
                }
                Some((Kind::Probe, partition)) => {
                    progress.probed.fetch_or(1 << partition, Ordering::Relaxed);
                }
                Some((Kind::End, _)) | None => {}
            },
            Ok(Incoming::Binary { .. }) => {}
            Ok(Incoming::Disconnected { .. }) | Err(_) => {
                ledger.disconnected();
                progress.disconnected.fetch_add(1, Ordering::Relaxed);
                progress.changed.notify_waiters();
                break;
            }
        }
    }
    ledger
}
