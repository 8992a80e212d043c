//! The one place where every Kafka client of the gateway learns how to reach brokers, also when that changes while it runs.
//!
//! ```text
//! new keys → tried by a client of its own → taken: clients are made anew, each by who has it
//!               ↑          │
//!               └── again ─┴ refused: what runs goes on as it came in, and it is told why
//! ```
//! Brokers ask for credentials when a connection is made: with those that no longer hold, what is connected goes on until a broker
//! ends it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::log;
use super::reach::Reach;

/// How long brokers may take to let a client in that tries new keys. 10 s; then it is tried again.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two tries. 3 s: the new password may reach brokers later than the gateway.
const RETRY: Duration = Duration::from_secs(3);
/// For one question of a try. 1 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// A topic that every cluster has, or would not make: only that brokers answer counts.
const ANY_TOPIC: &str = "__consumer_offsets";

/// How Kafka is reached. All clones are one.
#[derive(Clone)]
pub struct Access(Arc<Shared>);

struct Shared {
    /// What clients are made with.
    in_force: watch::Sender<Arc<Reach>>,
    /// What they should be made with.
    wanted: watch::Sender<Arc<Reach>>,
    /// Why brokers let nobody in, by the way that is wanted or the one in force.
    refused: watch::Sender<Option<String>>,
}

impl Access {
    /// Clients begin with this way.
    pub fn new(reach: Reach) -> Self {
        let reach = Arc::new(reach);
        Self(Arc::new(Shared {
            in_force: watch::Sender::new(Arc::clone(&reach)),
            wanted: watch::Sender::new(reach),
            refused: watch::Sender::new(None),
        }))
    }

    /// Without TLS and as nobody. `bootstrap_servers` are `host:port`.
    pub fn plain(bootstrap_servers: &[String]) -> Self {
        Self::new(Reach::plain(bootstrap_servers))
    }

    /// What clients are made with now.
    pub fn reach(&self) -> Arc<Reach> {
        Arc::clone(&self.0.in_force.borrow())
    }

    /// Changes when clients are to be made anew.
    pub fn changes(&self) -> watch::Receiver<Arc<Reach>> {
        self.0.in_force.subscribe()
    }

    /// Why brokers let nobody in; `None` while they do, or nothing is known of it.
    pub fn refused(&self) -> watch::Receiver<Option<String>> {
        self.0.refused.subscribe()
    }

    /// From now on this way is tried, and taken as soon as brokers let a client in.
    pub fn renew(&self, reach: Reach) {
        self.0.wanted.send_if_modified(|wanted| {
            let changed = **wanted != reach;
            if changed {
                *wanted = Arc::new(reach);
            }
            changed
        });
    }

    /// The context of a client that is made with `reach`.
    pub(crate) fn context(&self, reach: &Arc<Reach>) -> Context {
        Context {
            access: self.clone(),
            reach: Arc::clone(reach),
        }
    }

    /// Until `stop`: tries what is wanted and not in force, and whatever brokers have refused.
    pub async fn keep(self, stop: CancellationToken) {
        let (mut wanted, mut refused) = (self.0.wanted.subscribe(), self.0.refused.subscribe());
        loop {
            let reach = Arc::clone(&wanted.borrow_and_update());
            let is_new = *reach != *self.reach();
            if !is_new && refused.borrow_and_update().is_none() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = wanted.changed() => {}
                    _ = refused.changed() => {}
                }
                continue;
            }
            let trying = Arc::clone(&reach);
            let tried = tokio::select! {
                () = stop.cancelled() => return,
                tried = tokio::task::spawn_blocking(move || try_out(&trying)) => tried.unwrap_or(Tried::Unknown),
            };
            match tried {
                Tried::LetIn => {
                    self.tell(None);
                    if is_new {
                        tracing::info!(kafka = %reach, "kafka takes the new credentials, clients are made anew with them");
                        self.0.in_force.send_replace(reach);
                    }
                }
                Tried::Refused(reason) => self.tell(Some(reason)),
                Tried::Unknown => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
                _ = wanted.changed() => {}
            }
        }
    }

    /// Notes why brokers let nobody in, and logs it when that changes.
    fn tell(&self, reason: Option<String>) {
        self.0.refused.send_if_modified(|refused| {
            let changed = *refused != reason;
            if changed {
                match &reason {
                    Some(reason) => tracing::error!(reason, "kafka lets the gateway not in; what is connected goes on"),
                    None => tracing::info!("kafka lets the gateway in again"),
                }
                *refused = reason;
            }
            changed
        });
    }
}

/// What became of a try.
#[derive(Debug)]
enum Tried {
    LetIn,
    Refused(String),
    /// No broker has answered.
    Unknown,
}

/// Connects by this way alone. Blocks.
fn try_out(reach: &Reach) -> Tried {
    let heard = Heard::default();
    let config = reach.client("aldis-gateway-try");
    let client: BaseConsumer<Heard> = match config.create_with_context(heard.clone()) {
        Ok(client) => client,
        Err(error) => return Tried::Refused(reach.refused(true, &error.to_string())),
    };
    let until = Instant::now() + TRY_TIMEOUT;
    while Instant::now() < until {
        if client.fetch_metadata(Some(ANY_TOPIC), ANSWER_TIMEOUT).is_ok() {
            return Tried::LetIn;
        }
        // Serves what the client has to say.
        while client.poll(Duration::ZERO).is_some() {}
        if let Some((is_tls, reason)) = heard.take() {
            return Tried::Refused(reach.refused(is_tls, &reason));
        }
    }
    Tried::Unknown
}

/// Whether an error says that brokers do not let one in; and whether TLS is why.
fn refusal(error: &KafkaError) -> Option<bool> {
    match error.rdkafka_error_code()? {
        RDKafkaErrorCode::SSL => Some(true),
        RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed => Some(false),
        _ => None,
    }
}

/// The context of a client that tries: keeps why it was not let in.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Option<(bool, String)>>>);

impl Heard {
    fn take(&self) -> Option<(bool, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for Heard {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(is_tls) = refusal(&error) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((is_tls, reason.to_owned()));
        }
    }
}

impl ConsumerContext for Heard {}

/// The context of a client that says by its answers what became of each thing: it logs what ends the client, and tells when
/// brokers do not let it in.
pub(crate) struct Context {
    access: Access,
    reach: Arc<Reach>,
}

impl Context {
    /// What a client says that could not do something.
    pub(crate) fn heard(&self, error: &KafkaError, reason: &str) {
        let Some(is_tls) = refusal(error) else { return };
        // One that came another way is on its way out.
        let is_current = Arc::ptr_eq(&self.reach, &self.access.reach());
        // Until it is tried anew, the first reason is the one that is told.
        let is_told = self.access.0.refused.borrow().is_some();
        if is_current && !is_told {
            self.access.tell(Some(self.reach.refused(is_tls, reason)));
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.heard(&error, reason);
        // The end of a partition is an answer that was asked for (`enable.partition.eof`).
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            tracing::debug!(%error, reason, "kafka client error");
        }
    }
}

impl ConsumerContext for Context {}
