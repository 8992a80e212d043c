//! export: spans that have ended, to a receiver of OTLP over HTTP (protobuf), as the standard `OTEL_…` environment says. A queue
//! before it is bounded: what finds no room, or no receiver, is counted and gone. No record waits for any of this.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter as _, SpanProcessor};
use tokio::sync::{mpsc, oneshot};

use crate::metrics::Metrics;

/// Spans that wait to be sent. 4,096, some 4 MB: a second or two of a thousand traced records.
pub const QUEUE: usize = 4_096;
/// Spans of one request. 512, as OpenTelemetry's own processor.
pub const BATCH: usize = 512;
/// How long a span waits for others to go along. 1 s.
const LINGER: Duration = Duration::from_secs(1);
/// How long a receiver may take for a request. 5 s; what it has not taken then is given up.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The service that spans are of, unless the environment names it.
const SERVICE: &str = "aldis-gateway";

/// What the environment says can not be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "OTEL_EXPORTER_OTLP_ENDPOINT and the like can not be used: an endpoint is the URL of an OTLP receiver, http://host:4318"
)]
pub struct ExporterError(#[from] ExporterBuildError);

/// Whether the environment names a receiver.
pub(super) fn is_wanted() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    is_set("OTEL_EXPORTER_OTLP_ENDPOINT") || is_set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
}

enum Message {
    Ended(Box<SpanData>),
    /// Everything before this is to be sent now.
    Flush(oneshot::Sender<()>),
}

/// The way out.
pub(super) struct Exporter(mpsc::Sender<Message>);

/// The SDK's end of it.
pub(super) struct Processor {
    queue: mpsc::Sender<Message>,
    metrics: Arc<Metrics>,
}

impl Exporter {
    /// Sends in the background.
    ///
    /// # Errors
    /// [`ExporterError`].
    pub(super) fn start(metrics: Arc<Metrics>) -> Result<(Self, Processor, Resource), ExporterError> {
        let named = std::env::var_os("OTEL_SERVICE_NAME").is_some_and(|name| !name.is_empty());
        let resource = Resource::builder();
        let resource = if named {
            resource
        } else {
            resource.with_service_name(SERVICE)
        };
        let resource = resource.build();
        let mut exporter = SpanExporter::builder().with_http().with_timeout(TIMEOUT).build()?;
        exporter.set_resource(&resource);
        let (queue, ended) = mpsc::channel(QUEUE);
        tokio::spawn(send(exporter, ended, Arc::clone(&metrics)));
        let processor = Processor {
            queue: queue.clone(),
            metrics,
        };
        Ok((Self(queue), processor, resource))
    }

    pub(super) async fn flush(&self) {
        let (done, sent) = oneshot::channel();
        if self.0.send(Message::Flush(done)).await.is_ok() {
            // Who stops has waited long enough then.
            tokio::time::timeout(TIMEOUT, sent).await.ok();
        }
    }
}

async fn send(exporter: SpanExporter, mut ended: mpsc::Receiver<Message>, metrics: Arc<Metrics>) {
    let mut messages = Vec::with_capacity(BATCH);
    while ended.recv_many(&mut messages, BATCH).await > 0 {
        let linger = tokio::time::sleep(LINGER);
        tokio::pin!(linger);
        while messages.len() < BATCH && !messages.iter().any(|message| matches!(message, Message::Flush(_))) {
            let room = BATCH - messages.len();
            tokio::select! {
                more = ended.recv_many(&mut messages, room) => if more == 0 { break },
                () = &mut linger => break,
            }
        }
        let (mut spans, mut flushed) = (Vec::with_capacity(messages.len()), Vec::new());
        for message in messages.drain(..) {
            match message {
                Message::Ended(span) => spans.push(*span),
                Message::Flush(done) => flushed.push(done),
            }
        }
        let count = spans.len();
        if count > 0 {
            match tokio::time::timeout(TIMEOUT, exporter.export(spans)).await {
                Ok(Ok(())) => metrics.spans("exported", count),
                Ok(Err(error)) => {
                    metrics.spans("failed", count);
                    tracing::warn!(%error, spans = count, "spans could not be sent to the receiver of OTLP");
                }
                Err(_) => {
                    metrics.spans("failed", count);
                    tracing::warn!(spans = count, "the receiver of OTLP has not taken spans in time");
                }
            }
        }
        for done in flushed {
            done.send(()).ok();
        }
    }
}

impl std::fmt::Debug for Processor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Processor")
    }
}

impl SpanProcessor for Processor {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.queue.try_send(Message::Ended(Box::new(span))).is_err() {
            self.metrics.spans("dropped", 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::trace::SdkTracerProvider;

    use super::*;

    #[test]
    fn spans_beyond_the_queue_are_counted_and_nobody_waits() {
        let metrics = Arc::new(Metrics::new());
        let (queue, mut ended) = mpsc::channel(QUEUE);
        let processor = Processor {
            queue,
            metrics: Arc::clone(&metrics),
        };
        let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
        let tracer = provider.tracer("test");
        for _ in 0..QUEUE + 7 {
            drop(tracer.start("span"));
        }
        assert!(
            metrics
                .text()
                .contains("aldis_trace_spans_total{outcome=\"dropped\"} 7\n")
        );
        let mut waiting = 0;
        while ended.try_recv().is_ok() {
            waiting += 1;
        }
        assert_eq!(waiting, QUEUE);
    }
}
