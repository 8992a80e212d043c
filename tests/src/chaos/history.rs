//! What was produced and what clients saw: all that the checker is told. Times count from the beginning of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

/// The time since a run began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Duration {
        self.0.elapsed()
    }

    pub(crate) async fn until(self, time: Duration) {
        tokio::time::sleep_until(self.0 + time).await;
    }
}

/// `epoch:seq`
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) epoch: String,
    pub(crate) seq: u64,
}

impl Position {
    pub(crate) fn parse(value: &Value) -> Option<Self> {
        let (epoch, seq) = value.as_str()?.split_once(':')?;
        Some(Self {
            epoch: epoch.to_owned(),
            seq: seq.parse().ok()?,
        })
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.seq)
    }
}

/// A record. Its place in [`History::records`] is its id.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    /// The rooms that it is for.
    pub(crate) rooms: BTreeSet<String>,
    /// When its producer was given it, which does so in the order of ids.
    pub(crate) sent: Duration,
    /// When Kafka had it. Without, it may have it or not.
    pub(crate) acked: Option<Duration>,
}

/// What a client saw.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Saw {
    /// The namespace's CONNECT; recovered: as the library decides it by the `pid`, if it does.
    Connected { recovered: Option<bool> },
    /// `aldis:ready`.
    Ready {
        recovered: bool,
        reason: Option<String>,
        rooms: BTreeSet<String>,
        position: Option<Position>,
    },
    /// The acknowledgement of a join.
    Joined { room: String, position: Option<Position> },
    /// `aldis:left`.
    Left { room: String },
    /// A delivery: the record that it is of, and the channel that says so.
    Event {
        record: usize,
        channel: String,
        position: Option<Position>,
    },
    /// The connection is gone; the client will try again.
    Disconnected,
    /// It was sent away for good, which nothing here justifies.
    Refused(String),
}

/// A client, and what it saw, in its order.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) channel: String,
    /// The rooms that it asks for.
    pub(crate) wants: BTreeSet<String>,
    pub(crate) log: Vec<(Duration, Saw)>,
}

/// All of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// The topic of each channel.
    pub(crate) topics: BTreeMap<String, String>,
    pub(crate) records: Vec<Record>,
    pub(crate) clients: Vec<Client>,
    /// When Kafka or Redis could not answer, each from and to.
    pub(crate) outages: Vec<(Duration, Duration)>,
    /// Whether Redis forgot something, or rooms keep less than clients miss: only then may clients be told that they are not
    /// recovered.
    pub(crate) forgot: bool,
}

/// A history that is being written.
#[derive(Clone)]
pub(crate) struct Journal {
    pub(crate) clock: Clock,
    history: Arc<Mutex<History>>,
}

impl Journal {
    pub(crate) fn new(topics: BTreeMap<String, String>) -> Self {
        let history = History {
            topics,
            ..History::default()
        };
        Self {
            clock: Clock::start(),
            history: Arc::new(Mutex::new(history)),
        }
    }

    /// Looks at what there is so far, or adds to it.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut History) -> T) -> T {
        look(&mut self.history.lock().unwrap())
    }

    /// Somebody who will see something.
    pub(crate) fn client(&self, name: String, channel: &str, wants: BTreeSet<String>) -> Observer {
        let number = self.with(|history| {
            history.clients.push(Client {
                name,
                channel: channel.to_owned(),
                wants,
                log: Vec::new(),
            });
            history.clients.len() - 1
        });
        Observer {
            journal: self.clone(),
            number,
            held: None,
        }
    }
}

/// Who writes down what one client saw.
#[derive(Clone)]
pub(crate) struct Observer {
    journal: Journal,
    number: usize,
    /// Kept aside, where it is not certain yet that it counts.
    held: Option<Arc<Mutex<Seen>>>,
}

/// What was seen, and when.
pub(crate) type Seen = Vec<(Duration, Saw)>;

impl Observer {
    pub(crate) fn saw(&self, what: Saw) {
        let now = self.journal.clock.now();
        match &self.held {
            Some(held) => held.lock().unwrap().push((now, what)),
            None => self.write([(now, what)]),
        }
    }

    /// One of the same client whose log is kept aside.
    pub(crate) fn aside(&self) -> Self {
        Self {
            held: Some(Arc::default()),
            ..self.clone()
        }
    }

    /// What was kept aside.
    pub(crate) fn kept(&self) -> Seen {
        let held = self.held.as_ref().map(|held| held.lock().unwrap().clone());
        held.unwrap_or_default()
    }

    /// Writes down what counts after all.
    pub(crate) fn write(&self, seen: impl IntoIterator<Item = (Duration, Saw)>) {
        self.journal
            .with(|history| history.clients[self.number].log.extend(seen));
    }

    /// An event as it came: its name and arguments.
    pub(crate) fn event(&self, name: &str, args: &[Value]) {
        let (first, position) = (&args[0], args.get(1).and_then(Position::parse));
        let text = |value: &Value| value.as_str().map(str::to_owned);
        match name {
            "aldis:ready" => self.saw(Saw::Ready {
                recovered: first["recovered"] == true,
                reason: text(&first["reason"]),
                rooms: first["rooms"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(text)
                    .collect(),
                position,
            }),
            "aldis:left" => self.saw(Saw::Left {
                room: text(&first["room"]).unwrap_or_default(),
            }),
            "news" => self.saw(Saw::Event {
                record: first["id"].as_u64().unwrap_or(u64::MAX) as usize,
                channel: text(&first["channel"]).unwrap_or_default(),
                position,
            }),
            _ => {}
        }
    }

    /// The acknowledgement of a join.
    pub(crate) fn acknowledged(&self, answer: &Value) {
        if answer["ok"] == true {
            self.saw(Saw::Joined {
                room: answer["room"].as_str().unwrap_or_default().to_owned(),
                position: Position::parse(&answer["position"]),
            });
        }
    }
}
