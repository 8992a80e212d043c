//! traces: the path of a record as OpenTelemetry spans, for records whose header `traceparent` says that they are traced.
//!
//! ```text
//! traceparent → process ┬ decode    bytes → events       ┐
//!                       ├ route     events → deliveries  ┘ for each channel that reads the record
//!                       ├ adapter   until deliveries are numbered
//!                       └ deliver   until a delivery is written to, or queued for, the socket of each client here
//! ```
//! Off unless `OTEL_EXPORTER_OTLP_ENDPOINT` (or `…_TRACES_ENDPOINT`) names a receiver of OTLP over HTTP; then a record without
//! a traced parent costs a look at its headers. There is one of these in a process, as with logs.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use aldis_core::channel::{Channel, Outcome, Step};
use aldis_core::record::Record;
use aldis_core::reject::Rejected;
use aldis_core::time::Millis;
use aldis_crds::names::ChannelName;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

use crate::adapter::{Numbered, Unit};
use crate::metrics::Metrics;

mod export;

use export::Exporter;
pub use export::{BATCH, ExporterError, QUEUE};

/// Records whose spans others may join. 1,000: those that were taken last, until their deliveries have come back from the
/// adapter. Of older ones the last steps are missing.
pub const RECORDS: usize = 1_000;

static TRACES: OnceLock<Traces> = OnceLock::new();

struct Traces {
    tracer: SdkTracer,
    propagator: TraceContextPropagator,
    under_way: Mutex<UnderWay>,
    exporter: Exporter,
}

/// Topic, partition, offset.
type Key = (Arc<str>, i32, i64);

/// The spans of records, by where the records stand.
#[derive(Default)]
struct UnderWay {
    processes: HashMap<Key, Context>,
    order: VecDeque<Key>,
}

/// Traces from now on, where the environment names a receiver. The first call of a process counts.
///
/// # Errors
/// Where what the environment says can not be used.
pub fn start(metrics: &Arc<Metrics>) -> Result<(), ExporterError> {
    if TRACES.get().is_some() || !export::is_wanted() {
        return Ok(());
    }
    let (exporter, processor, resource) = Exporter::start(Arc::clone(metrics))?;
    let provider = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_span_processor(processor)
        .build();
    let traces = Traces {
        tracer: provider.tracer("aldis-gateway"),
        propagator: TraceContextPropagator::new(),
        under_way: Mutex::default(),
        exporter,
    };
    TRACES.set(traces).ok();
    Ok(())
}

/// Waits until what was traced so far is sent, or can not be.
pub async fn flush() {
    if let Some(traces) = TRACES.get() {
        traces.exporter.flush().await;
    }
}

/// The records of a batch that are traced. Their spans end with this value.
#[must_use]
pub(crate) struct Batch(Vec<Context>);

/// Begins the spans of those of `records` that are traced.
pub(crate) fn begin(records: &[Record]) -> Batch {
    let Some(traces) = TRACES.get() else {
        return Batch(Vec::new());
    };
    Batch(records.iter().filter_map(|record| traces.begin(record)).collect())
}

impl Batch {
    /// Says that not all of it was taken: it comes again.
    pub(crate) fn failed(&self, why: &impl std::fmt::Display) {
        for process in &self.0 {
            process.span().set_status(Status::error(why.to_string()));
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.0.iter().for_each(|process| process.span().end());
    }
}

/// decode → route: [`Channel::process`], with a span for each step of a record that is traced.
pub(crate) fn process(channel: &Channel, sources: &[usize], record: &Record, now: Millis) -> Result<Outcome, Rejected> {
    let traced = TRACES.get().and_then(|traces| Some((traces, traces.of(&key(record))?)));
    let Some((traces, parent)) = traced else {
        return channel.process(sources, record, now);
    };
    let mut since = SystemTime::now();
    let mut step = |step: Step| {
        let name = match step {
            Step::Decoded => "decode",
            Step::Routed => "route",
        };
        let span = traces.child(
            SpanBuilder::from_name(name).with_start_time(since),
            &parent,
            &channel.name,
        );
        since = SystemTime::now();
        span.span().end_with_timestamp(since);
    };
    let outcome = channel.process_telling(sources, record, now, &mut step);
    if let Err(rejected) = &outcome {
        parent
            .span()
            .set_status(Status::error(format!("{}: {}", channel.name, rejected.reason.as_str())));
    }
    outcome
}

/// The adapter's step for those of a channel's units that are traced; it ends with the value.
pub(crate) fn adapter(channel: &ChannelName, units: &[Unit]) -> Batch {
    let Some(traces) = TRACES.get() else {
        return Batch(Vec::new());
    };
    let spans = units.iter().filter_map(|unit| {
        let parent = traces.of(&(Arc::clone(&unit.topic), unit.partition, unit.offset))?;
        Some(traces.child(SpanBuilder::from_name("adapter"), &parent, channel))
    });
    Batch(spans.collect())
}

/// A delivery on its way to the clients here.
pub(crate) struct Delivering(Context);

/// Begins the last step of a delivery, if its record is traced and was taken here.
pub(crate) fn deliver(channel: &ChannelName, numbered: &Numbered) -> Option<Delivering> {
    let traces = TRACES.get()?;
    let source = numbered.source.as_ref()?;
    let parent = traces.of(&(Arc::clone(&source.topic), source.partition, source.offset))?;
    let builder = SpanBuilder::from_name("deliver")
        .with_kind(SpanKind::Producer)
        .with_attributes([
            KeyValue::new("aldis.event", numbered.delivery.event.to_string()),
            KeyValue::new("aldis.position", numbered.position.to_string()),
        ]);
    Some(Delivering(traces.child(builder, &parent, channel)))
}

impl Delivering {
    /// It was written to, or queued for, the sockets of so many clients.
    pub(crate) fn end(self, clients: usize) {
        let span = self.0.span();
        span.set_attribute(KeyValue::new("aldis.clients", clients as i64));
        span.end();
    }
}

fn key(record: &Record) -> Key {
    (Arc::clone(&record.topic), record.partition, record.offset)
}

impl Traces {
    fn begin(&self, record: &Record) -> Option<Context> {
        let parent = self.propagator.extract_with_context(&Context::new(), &Headers(record));
        if !parent.span().span_context().is_sampled() {
            return None;
        }
        let builder = SpanBuilder::from_name(format!("process {}", record.topic))
            .with_kind(SpanKind::Consumer)
            .with_attributes([
                KeyValue::new("messaging.system", "kafka"),
                KeyValue::new("messaging.operation.type", "process"),
                KeyValue::new("messaging.destination.name", record.topic.to_string()),
                KeyValue::new("messaging.destination.partition.id", record.partition.to_string()),
                KeyValue::new("messaging.kafka.offset", record.offset),
            ]);
        let process = Context::new().with_span(self.tracer.build_with_context(builder, &parent));
        self.lock().add(key(record), process.clone());
        Some(process)
    }

    fn of(&self, key: &Key) -> Option<Context> {
        self.lock().processes.get(key).cloned()
    }

    fn child(&self, builder: SpanBuilder, parent: &Context, channel: &ChannelName) -> Context {
        let span = Context::new().with_span(self.tracer.build_with_context(builder, parent));
        span.span()
            .set_attribute(KeyValue::new("aldis.channel", channel.to_string()));
        span
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UnderWay {
    fn add(&mut self, key: Key, process: Context) {
        if self.processes.insert(key.clone(), process).is_some() {
            // It came again: its place in the order is the one that it had.
            return;
        }
        self.order.push_back(key);
        if self.order.len() > RECORDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.processes.remove(&oldest);
        }
    }
}

/// The headers of a record, as W3C's trace context reads them.
struct Headers<'r>(&'r Record);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.header(key)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.headers.iter().map(|(name, _)| name.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_records_the_last_ones_are_known() {
        let mut under_way = UnderWay::default();
        let key = |offset| (Arc::from("t"), 0, offset);
        for offset in 0..RECORDS as i64 + 5 {
            under_way.add(key(offset), Context::new());
            under_way.add(key(offset), Context::new());
        }
        assert_eq!((under_way.processes.len(), under_way.order.len()), (RECORDS, RECORDS));
        assert!(!under_way.processes.contains_key(&key(4)));
        assert!(under_way.processes.contains_key(&key(5)));
    }
}
