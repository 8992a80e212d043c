//! The Grafana dashboard against what a gateway with traffic really tells.

use std::collections::{BTreeMap, BTreeSet};

use promql_parser::label::Matchers;
use promql_parser::parser::{self, Expr};
use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::kafka::repository;
use crate::manifests::Manifests;
use crate::node::Node;
use crate::records::Producer;

/// Labels that Prometheus adds to every series.
const ADDED: [&str; 2] = ["job", "instance"];

fn dashboard() -> Value {
    let file = repository().join("charts/aldis/dashboards/gateways.json");
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// Every query of every panel, as Grafana sends it.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let panels = panels.filter(|panel| panel["type"] != "row");
    let queries = panels.flat_map(|panel| {
        let title = panel["title"].as_str().unwrap();
        let targets = panel["targets"]
            .as_array()
            .unwrap_or_else(|| panic!("{title} asks nothing"));
        targets.iter().map(move |target| {
            let query = target["expr"].as_str().unwrap();
            let query = query
                .replace("$__rate_interval", "1m")
                .replace("$channel", ".*")
                .replace("$job", ".*");
            assert!(!query.contains('$'), "{title}: a variable is not known: {query}");
            (title.to_owned(), query)
        })
    });
    queries.collect()
}

/// Metrics that a query names, each with the labels that it matches or groups by.
fn named(expr: &Expr, grouped: &[String], found: &mut BTreeMap<String, BTreeSet<String>>) {
    let mut select = |name: &Option<String>, matchers: &Matchers| {
        let labels = matchers.matchers.iter().map(|matcher| matcher.name.clone());
        let labels = labels.chain(grouped.iter().cloned());
        found
            .entry(name.clone().expect("a query names its metric"))
            .or_default()
            .extend(labels);
    };
    match expr {
        Expr::VectorSelector(selector) => select(&selector.name, &selector.matchers),
        Expr::MatrixSelector(selector) => select(&selector.vs.name, &selector.vs.matchers),
        Expr::Aggregate(aggregate) => {
            let labels = aggregate
                .modifier
                .iter()
                .flat_map(|modifier| modifier.labels().labels.clone());
            let grouped: Vec<_> = labels.chain(grouped.iter().cloned()).collect();
            named(&aggregate.expr, &grouped, found);
        }
        Expr::Call(call) => call
            .args
            .args
            .iter()
            .for_each(|argument| named(argument, grouped, found)),
        Expr::Binary(binary) => {
            named(&binary.lhs, grouped, found);
            named(&binary.rhs, grouped, found);
        }
        Expr::Paren(paren) => named(&paren.expr, grouped, found),
        Expr::NumberLiteral(_) => {}
        other => panic!("this test does not know {other:?}"),
    }
}

/// Names of the metrics of a reading, each with the labels that its series have.
fn told(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut told: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let series = line.rsplit_once(' ').unwrap().0;
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        // No value here has a comma or an equals sign.
        let labels = labels
            .trim_end_matches('}')
            .split(',')
            .filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
        told.entry(name.to_owned()).or_default().extend(labels);
    }
    told
}

/// A gateway after something of everything: its metrics.
async fn after_traffic() -> String {
    let manifests = Manifests::news();
    let news = std::fs::read_to_string(manifests.path().join("news.yaml")).unwrap();
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: jwt, namespace: press, labels: {aldis.dev/use: channel}}\nstringData: {secret: a-secret-for-a-test}\n---\n";
    let jwt = "authentication: {anonymous: {}, jwt: [{name: staff, secretRef: {name: jwt, key: secret}, algorithms: [HS256], identity: {user: claims.sub}}]}";
    let http = "  http: [{method: GET, path: /press/health, allow: \"true\", respond: {body: {status: ok}}}]\n  api: {allow: \"true\"}\n";
    manifests.write(
        "news.yaml",
        &format!("{secret}{}{http}", news.replace("authentication: {anonymous: {}}", jwt)),
    );
    // Nobody takes the spans of the one traced record.
    let gateway = Gateway::start_in(
        &manifests.path(),
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")],
    )
    .await;
    let node = Node::start();
    let client = node.connect(&gateway.url("/news"), json!({})).await;
    client.join("join", json!({"room": "a"})).await;
    let producer = Producer::to(gateway.broker());
    let traced = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let record = json!({"type": "news", "room": "a"});
    producer.with_header(&manifests.topic, 0, traced, &record).await;
    producer.bytes(&manifests.topic, 0, Some(b"not JSON")).await;
    client.events(1).await;
    client.come_back().await;
    let refused = node
        .connect_as(
            "4.8",
            &gateway.url("/news"),
            &json!({"auth": {"token": "none"}, "transports": ["websocket"]}),
        )
        .await;
    assert!(refused.is_err());
    let http = reqwest::Client::new();
    assert_eq!(
        http.get(gateway.url("/press/health")).send().await.unwrap().status(),
        200
    );
    let foreign = http
        .get(gateway.url("/press/health"))
        .header("Origin", "https://elsewhere.example");
    assert_eq!(foreign.send().await.unwrap().status(), 403);
    let token = gateway.channel("press/news").token.clone().unwrap();
    let everybody = gateway.url("/aldis/v1/press/news/rooms/room:a/connections");
    let dismissed = http
        .delete(everybody)
        .header("Authorization", format!("Bearer {token}"));
    assert_eq!(dismissed.send().await.unwrap().status(), 200);
    gateway
        .wait_for_metric("aldis_trace_spans_total{outcome=\"failed\"}", 5.0)
        .await;
    gateway
        .wait_for_metric(
            "aldis_dead_letters_total{channel=\"press/news\",reason=\"not_json\"}",
            1.0,
        )
        .await;
    gateway
        .wait_for_metric(
            "aldis_clients_closed_total{channel=\"press/news\",reason=\"dismissed\"}",
            1.0,
        )
        .await;
    gateway.admin("/metrics").await.1
}

#[tokio::test]
async fn every_query_of_the_dashboard_asks_for_what_a_gateway_tells() {
    let queries = queries(&dashboard());
    assert!(queries.len() > 25, "{}", queries.len());
    let text = after_traffic().await;
    let told = told(&text);
    for (title, query) in queries {
        let expr = parser::parse(&query).unwrap_or_else(|error| panic!("{title}: {query}: {error}"));
        let mut found = BTreeMap::new();
        named(&expr, &[], &mut found);
        assert!(!found.is_empty(), "{title}: {query} asks for nothing");
        for (metric, labels) in found {
            let has = told
                .get(&metric)
                .unwrap_or_else(|| panic!("{title}: no gateway tells {metric}:\n{text}"));
            for label in labels.iter().filter(|label| !ADDED.contains(&label.as_str())) {
                assert!(
                    has.contains(label),
                    "{title}: {metric} has no label {label}, but {has:?}"
                );
            }
        }
    }
}

#[test]
fn the_dashboard_is_one_that_grafana_loads() {
    let dashboard = dashboard();
    for field in ["title", "uid", "schemaVersion", "templating", "time"] {
        assert!(!dashboard[field].is_null(), "{field}");
    }
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    // No two panels stand on one place of the 24 columns.
    let mut taken = BTreeSet::new();
    for panel in panels {
        let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(x < 24 && taken.insert((x, y)), "{} overlaps at {x},{y}", panel["title"]);
            }
        }
        assert!(
            panel["type"] == "row" || panel["description"].is_string(),
            "{} says nothing of itself",
            panel["title"]
        );
    }
}
