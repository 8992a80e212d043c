//! The producer: records at a rate, or all at once, from a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};

use crate::stamp::{Kind, PARTITIONS, Stamp, TOPIC, nanos_since, tenant};

/// How often a paced producer looks what is due. 1 ms.
const TICK: Duration = Duration::from_millis(1);

/// How long the last records may take to be acknowledged. 60 s.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);

/// Records that may wait in librdkafka. 200,000: a whole burst.
const QUEUE_RECORDS: usize = 200_000;

/// What to produce.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// So many records.
    pub records: u64,
    /// Their rooms, in turn.
    pub rooms: u64,
    /// Records a second; `None`: all at once.
    pub rate: Option<f64>,
    /// The first so many records are for warming up: their latency does not count, everything else does.
    pub warm_up: u64,
    /// Length of a record's value.
    pub bytes: usize,
}

/// A producer to the topic of the channel. Cheap to clone.
#[derive(Clone)]
pub struct Producer {
    producer: Arc<BaseProducer<Failures>>,
    start: Instant,
}

/// Counts records that the broker did not take.
#[derive(Default)]
struct Failures(AtomicU64);

impl ClientContext for Failures {}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Producer {
    /// A producer that waits `linger` for more records before it sends, and never sends one twice.
    ///
    /// # Errors
    /// Where librdkafka refuses the settings.
    pub fn new(kafka: &str, linger: Duration, start: Instant) -> anyhow::Result<Self> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", kafka)
            .set("linger.ms", linger.as_millis().to_string())
            .set("enable.idempotence", "true")
            .set("queue.buffering.max.messages", QUEUE_RECORDS.to_string())
            .create_with_context(Failures::default())
            .context("the producer can not be made")?;
        Ok(Self {
            producer: Arc::new(producer),
            start,
        })
    }

    /// Produces what is planned and waits until the broker has all of it.
    ///
    /// # Errors
    /// Where the broker does not take a record.
    pub async fn run(&self, plan: Plan) -> anyhow::Result<()> {
        let own = self.clone();
        tokio::task::spawn_blocking(move || own.produce(plan)).await?
    }

    fn produce(&self, plan: Plan) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut sent = 0;
        while sent < plan.records {
            let due = plan.rate.map_or(plan.records, |rate| {
                ((began.elapsed().as_secs_f64() * rate) as u64).min(plan.records)
            });
            while sent < due {
                let room = Stamp::room_of(sent, plan.rooms);
                self.send(
                    Kind::Counted,
                    sent,
                    room,
                    Stamp::partition_of(sent, plan.rooms),
                    plan.bytes,
                )?;
                sent += 1;
            }
            self.producer.poll(Duration::ZERO);
            if sent < plan.records {
                // Pacing, not waiting for anything.
                std::thread::sleep(TICK);
            }
        }
        self.flush()
    }

    /// One probe to each of the partitions given as bits.
    ///
    /// # Errors
    /// Where the broker does not take it.
    pub async fn probe(&self, partitions: u32) -> anyhow::Result<()> {
        let own = self.clone();
        tokio::task::spawn_blocking(move || {
            for partition in (0..PARTITIONS).filter(|partition| partitions & (1 << partition) != 0) {
                own.send(Kind::Probe, 0, 0, partition, 0)?;
            }
            own.flush()
        })
        .await?
    }

    /// Ends every partition for every room.
    ///
    /// # Errors
    /// Where the broker does not take it.
    pub async fn end(&self, rooms: u64) -> anyhow::Result<()> {
        let own = self.clone();
        tokio::task::spawn_blocking(move || {
            for room in 0..rooms {
                for partition in 0..PARTITIONS {
                    own.send(Kind::End, 0, room, partition, 0)?;
                }
            }
            own.flush()
        })
        .await?
    }

    fn send(&self, kind: Kind, number: u64, room: u64, partition: i32, bytes: usize) -> anyhow::Result<()> {
        let born = nanos_since(self.start);
        let value = Stamp {
            kind,
            number,
            partition,
            born,
        }
        .value(room, bytes);
        let key = tenant(room);
        let mut record = BaseRecord::to(TOPIC).key(&key).payload(&value).partition(partition);
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                    if Instant::now() < deadline =>
                {
                    record = back;
                    self.producer.poll(TICK);
                }
                Err((error, _)) => return Err(error).context("a record can not be produced"),
            }
        }
    }

    fn flush(&self) -> anyhow::Result<()> {
        self.producer
            .flush(FLUSH_TIMEOUT)
            .context("the broker does not take the records")?;
        match self.producer.context().0.load(Ordering::Relaxed) {
            0 => Ok(()),
            failed => bail!("the broker refused {failed} records"),
        }
    }
}
