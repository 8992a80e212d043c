//! What expressions cost: usual ones, and the worst that a channel which compiles can ask of one record.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aldis_core::channel::Channel;
use aldis_core::record::Record;
use aldis_core::table::Table;
use aldis_core::time::Millis;
use aldis_crds::contract::Keys;
use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::results::Results;

/// How long each is repeated, at least once. 0.5 s.
const LONG: Duration = Duration::from_millis(500);

/// Fields of the payload that are the same expression: as many as a template may have.
const FIELDS: usize = 250;

/// Measures a channel with one delivery of [`FIELDS`] fields, for each expression.
///
/// # Errors
/// Where a channel does not compile.
pub fn measure() -> anyhow::Result<Results> {
    let mut results = Results::new("bounds: expressions, decode and route alone".to_owned());
    let item = json!({"a": 1, "b": "two", "c": [3]});
    let small = json!({"items": vec![item.clone(); 20], "status": "open", "mail": "ann@example.org", "n": 7});
    for (name, what, expression) in [
        ("path_us", "a field, µs", "event.data.status"),
        (
            "compare_us",
            "a comparison, µs",
            "event.data.status == 'open' && event.data.n > 5",
        ),
        (
            "concat_us",
            "a text of three, µs",
            "event.data.status + ' ' + text(event.data.n)",
        ),
        (
            "macro_us",
            "filter and map of 20 elements, µs",
            "event.data.items.filter(x, x.a > 0).map(x, x.b + '!')",
        ),
        (
            "matches_us",
            "matches() of an address, µs",
            r"event.data.mail.matches('^\\w+@\\w+\\.\\w+$')",
        ),
    ] {
        let channel = heavy(expression)?;
        let seconds = seconds(&channel, &small)?;
        results.add(name, what, seconds * 1e6 / FIELDS as f64, 2);
    }
    let long = json!({"items": vec![item; 1_000]});
    let texts = json!({"items": vec!["ab".repeat(16); 600], "text": "ab".repeat(2_000)});
    for (name, what, expression, body) in [
        (
            "macros_ms",
            "macros over 1,000 elements until the bound, ms",
            "event.data.items.map(x, x.a + x.a * 2 + x.a)",
            &long,
        ),
        (
            "reading_ms",
            "reading 1,000 elements until the bound, ms",
            "size(event.data.items)",
            &long,
        ),
        (
            "comparing_ms",
            "comparing 1,000 elements until the bound, ms",
            "event.data.items.filter(x, x == x && x == x)",
            &long,
        ),
        (
            "pattern_ms",
            "the worst pattern found until the bound, ms",
            "event.data.text.matches('[ab]*a[ab]{600}c')",
            &texts,
        ),
        (
            "patterns_ms",
            "the same in a macro, ms",
            "event.data.items.all(x, x.matches('[ab]*a[ab]{600}') || true)",
            &texts,
        ),
    ] {
        let channel = heavy(expression)?;
        results.add(name, what, seconds(&channel, body)? * 1e3, 1);
    }
    let target = json!({"room": "r", "optional": true, "with": {"p": "event.data.none"}});
    let emit = json!({"event": "e", "to": vec![target; 8]});
    let routes = vec![json!({"types": ["*"], "emit": vec![emit; 8]}); 128];
    let rooms = channel(json!({
        "sources": [{"name": "s", "kafka": {"topics": ["t"]}, "each": "body.items"}],
        "rooms": [{"name": "r", "key": "r:{p}"}],
        "routes": routes}))?;
    results.add(
        "rooms_ms",
        "empty rooms for 1,000 events until the bound, ms",
        seconds(&rooms, &long)? * 1e3,
        1,
    );
    Ok(results)
}

fn heavy(expression: &str) -> anyhow::Result<Arc<Channel>> {
    let payload = vec![json!(format!("{{{expression}}}")); FIELDS];
    channel(json!({
        "sources": [{"name": "s", "kafka": {"topics": ["t"]}}],
        "routes": [{"types": ["*"], "emit": [{"event": "e", "everyone": true, "payload": payload}]}]}))
}

fn channel(mut spec: Value) -> anyhow::Result<Arc<Channel>> {
    spec["parentRefs"] = json!([{"name": "shared"}]);
    let config = serde_json::from_value(json!({
        "version": 1, "listeners": [],
        "kafka": {"bootstrapServers": [], "groupId": "", "deadLetterTopic": ""},
        "channels": [{"channel": {"namespace": "bench", "name": "bounds"}, "attachments": [], "spec": spec}]}))?;
    let (table, bad) = Table::compile(&config, &Keys::default());
    ensure!(bad.is_empty(), "a channel does not compile: {bad:?}");
    table.channels().first().cloned().context("there is no channel")
}

/// Seconds for one record, whatever becomes of it.
fn seconds(channel: &Channel, body: &Value) -> anyhow::Result<f64> {
    let record = Record {
        topic: Arc::from("t"),
        partition: 0,
        offset: 0,
        key: None,
        headers: Vec::new(),
        timestamp_ms: 1_700_000_000_000,
        value: Some(body.to_string().into()),
    };
    let (mut count, began) = (0_u32, Instant::now());
    while count == 0 || began.elapsed() < LONG {
        black_box(channel.process(&[0], black_box(&record), Millis(record.timestamp_ms))).ok();
        count += 1;
    }
    Ok(began.elapsed().as_secs_f64() / f64::from(count))
}
