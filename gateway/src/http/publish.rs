//! What comes over HTTP goes to clients through Kafka: it is answered once Kafka has it, and is then as safe as any record.
//!
//! A record is a CloudEvent (binary mode) with the header `aldis-channel`, in the gateway's ingress topic.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aldis_core::http::{CHANNEL_HEADER, Published};
use aldis_core::time::Millis;
use aldis_crds::names::ChannelName;
use rdkafka::error::KafkaResult;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::FutureRecord;
use thiserror::Error;
use tokio::sync::watch;

use crate::kafka::{Access, Producer, millis};
use crate::sabotage::Rule;

/// How long a caller waits for Kafka. 10 s; then it is told to repeat with the same key.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the producer goes on trying after that. 2 min: a broker that restarts. A repeat with the same key joins the try
/// that is under way.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(120);
/// How long an Idempotency-Key is remembered once Kafka has its event. 10 min, longer than any client's own retries.
pub const KEPT: Duration = Duration::from_secs(600);
/// Keys that are remembered for a tenant. 10,000, some 2 MB; beyond it its oldest goes.
pub const KEYS: usize = 10_000;
/// Longest Idempotency-Key, in bytes. 255, as others have it.
pub const MAX_KEY: usize = 255;
/// KiB that may wait for Kafka. 16 MiB; beyond it callers are told to come again.
pub const QUEUE_KIB: usize = 16 * 1024;

/// Why an event was not published, or is not known to be. Both pass.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PublishError {
    /// Kafka has not answered in time; it may have it.
    #[error("Kafka has not answered in time: send the request again with the same Idempotency-Key")]
    Timeout,
    /// Kafka does not take it for now.
    #[error("Kafka does not take it for now: send the request again with the same Idempotency-Key")]
    Unavailable,
}

/// Whose key it is: a key of one caller says nothing about another's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey {
    /// The channel.
    pub channel: ChannelName,
    /// The caller's user; empty where it has none.
    pub user: String,
    /// The header's value.
    pub key: String,
}

/// What became of an attempt; `None` while it is under way.
type Outcome = Option<Result<(), PublishError>>;

struct Attempt {
    id: String,
    began: Instant,
    outcome: watch::Receiver<Outcome>,
}

/// Those of a tenant.
#[derive(Default)]
struct Attempts {
    by_key: HashMap<IdempotencyKey, Arc<Attempt>>,
    /// In the order in which they began.
    order: VecDeque<(Instant, IdempotencyKey)>,
}

/// Writes events to the ingress topic.
pub struct Publisher {
    producer: Producer,
    topic: String,
    /// By namespace.
    attempts: Mutex<HashMap<String, Attempts>>,
}

impl Publisher {
    /// Connects in the background. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the settings themselves are refused.
    pub fn new(access: &Access, topic: &str) -> KafkaResult<Self> {
        let producer = Producer::new(access, |reach| {
            let mut config = reach.client("aldis-gateway-http");
            config
                .set("acks", "all")
                .set("enable.idempotence", "true")
                .set("message.timeout.ms", millis(SEND_TIMEOUT))
                .set("queue.buffering.max.kbytes", QUEUE_KIB.to_string())
                .set("linger.ms", "1");
            config
        })?;
        Ok(Self {
            producer,
            topic: topic.to_owned(),
            attempts: Mutex::default(),
        })
    }

    /// Publishes an event and gives its id; with a key that is known, gives what became of the first event of that key.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn publish(
        &self,
        channel: &ChannelName,
        event: Published,
        key: Option<IdempotencyKey>,
        now: Millis,
    ) -> Result<String, PublishError> {
        let (attempt, sender) = self.attempt(key);
        if let Some(sender) = sender {
            self.send(channel, event, &attempt.id, now, sender);
        }
        if !Rule::PublishThroughKafka.is_on() {
            return Ok(attempt.id.clone());
        }
        let mut outcome = attempt.outcome.clone();
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, outcome.wait_for(Option::is_some));
        match answered.await {
            Ok(Ok(outcome)) => (*outcome).unwrap_or(Err(PublishError::Unavailable))?,
            Ok(Err(_)) => return Err(PublishError::Unavailable),
            Err(_) => return Err(PublishError::Timeout),
        }
        Ok(attempt.id.clone())
    }

    /// The attempt of a key; with the place for its outcome where it has just begun.
    fn attempt(&self, key: Option<IdempotencyKey>) -> (Arc<Attempt>, Option<watch::Sender<Outcome>>) {
        let now = Instant::now();
        let (sender, outcome) = watch::channel(None);
        let attempt = Arc::new(Attempt {
            id: format!("{:032x}", rand::random::<u128>()),
            began: now,
            outcome,
        });
        let Some(key) = key else { return (attempt, Some(sender)) };
        let mut tenants = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.retain(|_, attempts| attempts.drop_old(now));
        let attempts = tenants.entry(key.channel.namespace.clone()).or_default();
        match attempts.known(&key) {
            Some(known) => (known, None),
            None => {
                attempts.begin(key, Arc::clone(&attempt));
                (attempt, Some(sender))
            }
        }
    }

    /// Hands an event to the producer; its outcome comes when it is there, whether or not anybody still waits for it.
    fn send(&self, channel: &ChannelName, event: Published, id: &str, now: Millis, outcome: watch::Sender<Outcome>) {
        let source = format!("/aldis/v1/{channel}");
        let time = now.rfc3339();
        let headers = [
            (CHANNEL_HEADER, channel.to_string().as_str()),
            ("ce_specversion", "1.0"),
            ("ce_id", id),
            ("ce_source", &source),
            ("ce_type", &event.type_),
            ("ce_time", &time),
            ("content-type", "application/json"),
        ]
        .into_iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header {
                key,
                value: Some(value),
            })
        });
        let mut record = FutureRecord::<str, str>::to(&self.topic)
            .headers(headers)
            .payload(&event.data);
        record.key = event.key.as_deref();
        match self.producer.live().send_result(record) {
            Ok(delivered) => drop(tokio::spawn(async move {
                let result = match delivered.await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err((error, _))) => {
                        tracing::warn!(%error, "an event that came over HTTP could not be written to Kafka");
                        Err(PublishError::Unavailable)
                    }
                    Err(_) => Err(PublishError::Unavailable),
                };
                outcome.send_replace(Some(result));
            })),
            Err((error, _)) => {
                tracing::warn!(%error, "an event that came over HTTP could not be queued for Kafka");
                outcome.send_replace(Some(Err(PublishError::Unavailable)));
            }
        }
    }
}

impl Attempts {
    /// The attempt of a key. What has failed for good is tried anew.
    fn known(&self, key: &IdempotencyKey) -> Option<Arc<Attempt>> {
        let known = self.by_key.get(key)?;
        (!matches!(*known.outcome.borrow(), Some(Err(_)))).then(|| Arc::clone(known))
    }

    fn begin(&mut self, key: IdempotencyKey, attempt: Arc<Attempt>) {
        if self.order.len() >= KEYS {
            self.drop_first();
        }
        self.order.push_back((attempt.began, key.clone()));
        self.by_key.insert(key, attempt);
    }

    /// Drops what is older than [`KEPT`]; whether anything is left.
    fn drop_old(&mut self, now: Instant) -> bool {
        while self
            .order
            .front()
            .is_some_and(|(began, _)| now.duration_since(*began) >= KEPT)
        {
            self.drop_first();
        }
        !self.order.is_empty()
    }

    fn drop_first(&mut self) {
        let Some((began, key)) = self.order.pop_front() else {
            return;
        };
        // One that was tried anew has a later place, too.
        if self.by_key.get(&key).is_some_and(|attempt| attempt.began == began) {
            self.by_key.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> IdempotencyKey {
        IdempotencyKey {
            channel: ChannelName {
                namespace: "shop".to_owned(),
                name: "orders".to_owned(),
            },
            user: String::new(),
            key: text.to_owned(),
        }
    }

    fn begin(attempts: &mut Attempts, text: &str, began: Instant, outcome: Outcome) -> Arc<Attempt> {
        let attempt = Arc::new(Attempt {
            id: text.to_owned(),
            began,
            outcome: watch::channel(outcome).1,
        });
        attempts.begin(key(text), Arc::clone(&attempt));
        attempt
    }

    #[test]
    fn a_key_that_is_tried_anew_is_kept_as_long_as_any_other() {
        let (mut attempts, start) = (Attempts::default(), Instant::now());
        begin(&mut attempts, "again", start, Some(Err(PublishError::Unavailable)));
        assert!(attempts.known(&key("again")).is_none());
        let second = begin(&mut attempts, "again", start + KEPT / 2, Some(Ok(())));
        assert!(attempts.drop_old(start + KEPT));
        assert!(Arc::ptr_eq(&attempts.known(&key("again")).unwrap(), &second));
        assert!(!attempts.drop_old(start + KEPT + KEPT / 2));
        assert!(attempts.known(&key("again")).is_none());
    }

    #[test]
    fn beyond_the_bound_a_tenants_oldest_key_goes() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        for index in 0..=KEYS {
            begin(&mut attempts, &index.to_string(), now, None);
        }
        assert_eq!(attempts.by_key.len(), KEYS);
        assert!(attempts.known(&key("0")).is_none());
        assert!(attempts.known(&key("1")).is_some());
    }
}
