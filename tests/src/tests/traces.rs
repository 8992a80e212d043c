//! The path of a traced record, as a receiver of OTLP gets it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::json;

use crate::deadline::until;
use crate::gateway::Gateway;
use crate::manifests::Manifests;
use crate::node::Node;
use crate::records::Producer;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A receiver of OTLP over HTTP, with what it got.
#[derive(Clone, Default)]
struct Receiver {
    spans: Arc<Mutex<Vec<Span>>>,
    services: Arc<Mutex<Vec<String>>>,
}

impl Receiver {
    /// Listens; gives its endpoint.
    async fn start() -> (Self, String) {
        let receiver = Self::default();
        let router = Router::new()
            .route("/v1/traces", post(receive))
            .with_state(receiver.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (receiver, endpoint)
    }

    fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap().clone()
    }
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    for resource in request.resource_spans {
        let attributes = resource.resource.unwrap().attributes;
        let service = attributes.into_iter().find(|attribute| attribute.key == "service.name");
        if let Some(Any::StringValue(name)) = service.and_then(|service| service.value?.value) {
            receiver.services.lock().unwrap().push(name);
        }
        let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        receiver.spans.lock().unwrap().extend(spans);
    }
    StatusCode::OK
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|found| found.value.as_ref()?.value.as_ref()) {
        Some(Any::StringValue(text)) => text.clone(),
        Some(Any::IntValue(number)) => number.to_string(),
        other => panic!("{key} of {}: {other:?}", span.name),
    }
}

#[tokio::test]
async fn a_traced_record_is_followed_from_its_header_to_the_sockets() {
    let (receiver, endpoint) = Receiver::start().await;
    let manifests = Manifests::news();
    let gateway = Gateway::start_in(&manifests.path(), &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]).await;
    let node = Node::start();
    let mut clients = Vec::new();
    for _ in 0..2 {
        let client = node.connect(&gateway.url("/news"), json!({})).await;
        client.join("join", json!({"room": "a"})).await;
        clients.push(client);
    }
    let producer = Producer::to(gateway.broker());
    let record = json!({"type": "news", "room": "a"});
    // Not traced: no header, one that is not sampled, and one that is no trace context.
    producer.json(&manifests.topic, 0, &record).await;
    for header in [format!("00-{TRACE}-{PARENT}-00"), "00-nonsense".to_owned()] {
        producer
            .with_header(&manifests.topic, 0, ("traceparent", &header), &record)
            .await;
    }
    let traced = format!("00-{TRACE}-{PARENT}-01");
    let offset = producer
        .with_header(&manifests.topic, 0, ("traceparent", &traced), &record)
        .await;
    for client in &clients {
        client.events(4).await;
    }
    let spans = until("all spans are received", async || {
        Some(receiver.spans()).filter(|spans| spans.len() >= 5)
    })
    .await;
    let by_name: BTreeMap<_, _> = spans.iter().map(|span| (span.name.clone(), span)).collect();
    let process = format!("process {}", manifests.topic);
    let names: Vec<_> = by_name.keys().map(String::as_str).collect();
    assert_eq!(names, ["adapter", "decode", "deliver", &process, "route"]);
    assert_eq!(spans.len(), 5, "one record alone is traced: {spans:#?}");

    let root = by_name[&process];
    assert_eq!(hex(&root.parent_span_id), PARENT);
    assert_eq!(attribute(root, "messaging.kafka.offset"), offset.to_string());
    for span in &spans {
        assert_eq!(hex(&span.trace_id), TRACE, "{}", span.name);
        if span.name != process {
            assert_eq!(span.parent_span_id, root.span_id, "{}", span.name);
            assert_eq!(attribute(span, "aldis.channel"), "press/news");
        }
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
    }
    let start = |name: &str| by_name[name].start_time_unix_nano;
    assert!(
        start(&process) <= start("decode") && start("decode") <= start("route") && start("route") <= start("deliver")
    );
    assert_eq!(attribute(by_name["deliver"], "aldis.clients"), "2");
    assert_eq!(attribute(by_name["deliver"], "aldis.event"), "news:published");
    assert!(
        receiver
            .services
            .lock()
            .unwrap()
            .iter()
            .all(|service| service == "aldis-gateway")
    );
    gateway
        .wait_for_metric("aldis_trace_spans_total{outcome=\"exported\"}", 5.0)
        .await;
}

#[tokio::test]
async fn a_receiver_that_is_not_there_costs_spans_and_nothing_else() {
    let manifests = Manifests::news();
    // Nobody listens on port 9, the discard service's.
    let gateway = Gateway::start_in(
        &manifests.path(),
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")],
    )
    .await;
    let node = Node::start();
    let client = node.connect(&gateway.url("/news"), json!({})).await;
    client.join("join", json!({"room": "a"})).await;
    let header = format!("00-{TRACE}-{PARENT}-01");
    let record = json!({"type": "news", "room": "a"});
    let producer = Producer::to(gateway.broker());
    producer
        .with_header(&manifests.topic, 0, ("traceparent", &header), &record)
        .await;
    client.events(1).await;
    gateway
        .wait_for_metric("aldis_trace_spans_total{outcome=\"failed\"}", 5.0)
        .await;
    gateway.wait_for_log("spans could not be sent").await;
}
