//! `testdata/channels/NAME/`: a channel, records, and what becomes of each. Regenerate with `BLESS=1`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use aldis_crds::contract::{ChannelConfig, GatewayConfig, KafkaConfig};
use serde::Deserialize;
use serde_json::{Value as JsonValue, json};

use crate::channel::Outcome;
use crate::compiler::Compiler;
use crate::fixtures::{NOW, config, keys};
use crate::record::Record;
use crate::room::RoomPattern;
use crate::route::{Audience, Delivery};
use crate::table::Table;

/// A record as the folders write it: `value` is JSON, `text` is for what is none, neither is a tombstone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRecord {
    topic: String,
    partition: i32,
    offset: i64,
    key: Option<String>,
    headers: Vec<(String, String)>,
    timestamp: i64,
    #[serde(default)]
    value: Option<JsonValue>,
    #[serde(default)]
    text: Option<String>,
}

impl From<WrittenRecord> for Record {
    fn from(written: WrittenRecord) -> Self {
        let value = written.text.or_else(|| written.value.map(|value| value.to_string()));
        Record {
            topic: written.topic.into(),
            partition: written.partition,
            offset: written.offset,
            key: written.key.map(|key| key.into_bytes().into()),
            headers: written
                .headers
                .into_iter()
                .map(|(name, value)| (name, Some(value.into_bytes().into())))
                .collect(),
            timestamp_ms: written.timestamp,
            value: value.map(|value| value.into_bytes().into()),
        }
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/channels")
        .join(name)
}

fn read(path: &Path) -> JsonValue {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The table with the channel of a folder.
fn table(name: &str) -> (ChannelConfig, Table) {
    let config = config(read(&folder(name).join("channel.json")));
    let gateway = GatewayConfig {
        version: aldis_crds::contract::CONTRACT_VERSION,
        kafka: KafkaConfig {
            bootstrap_servers: Vec::new(),
            group_id: String::new(),
            dead_letter_topic: String::new(),
            ingress_topic: String::new(),
            tls: false,
            sasl: None,
        },
        redis: None,
        listeners: Vec::new(),
        channels: vec![config.clone()],
        tenants: Default::default(),
    };
    let (table, bad) = Table::compile(&gateway, &keys());
    assert_eq!(bad, [], "{name}");
    (config, table)
}

fn records(name: &str) -> Vec<Record> {
    let written: Vec<WrittenRecord> = serde_json::from_value(read(&folder(name).join("records.json"))).unwrap();
    written.into_iter().map(Record::from).collect()
}

fn shown(delivery: &Delivery, patterns: &HashMap<String, RoomPattern>) -> JsonValue {
    let payloads: Vec<JsonValue> = delivery
        .payloads
        .iter()
        .map(|payload| serde_json::from_str(payload).expect("a payload is JSON"))
        .collect();
    let rooms = match &delivery.audience {
        Audience::Everyone => json!("everyone"),
        Audience::Rooms(rooms) => rooms
            .iter()
            .map(|(room, payload)| {
                let key = patterns[&*room.name].shown(room);
                match payloads.len() {
                    1 => json!(key),
                    _ => json!({"room": key, "payload": payload}),
                }
            })
            .collect(),
    };
    json!([*delivery.event, rooms, payloads])
}

fn outcomes(name: &str) -> Vec<JsonValue> {
    let (config, table) = table(name);
    let mut compiler = Compiler::new(&Default::default());
    let patterns = config
        .spec
        .rooms
        .iter()
        .filter_map(|room| {
            let pattern = RoomPattern::compile("key", &room.name, &room.key, &mut compiler)?;
            Some((room.name.clone(), pattern))
        })
        .collect();
    records(name)
        .iter()
        .map(|record| {
            let mut readers = table.readers(record);
            let (channel, source) = readers.next().expect("a source reads every topic of the records");
            assert!(readers.next().is_none(), "one source reads a topic");
            match channel.process(source, record, NOW) {
                Ok(Outcome::Deliver(deliveries)) => deliveries.iter().map(|d| shown(d, &patterns)).collect(),
                Ok(Outcome::NotForUs) => json!("not for us"),
                Err(rejected) => json!({"rejected": rejected.to_string()}),
            }
        })
        .collect()
}

#[test]
fn golden_folders() {
    let mut names: Vec<_> = fs::read_dir(folder(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() >= 5, "{names:?}");
    for name in names {
        let outcomes = outcomes(&name);
        let path = folder(&name).join("expected.json");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, format!("{}\n", serde_json::to_string_pretty(&outcomes).unwrap())).unwrap();
        }
        let expected = read(&path);
        let expected = expected.as_array().unwrap();
        for (index, (found, expected)) in outcomes.iter().zip(expected).enumerate() {
            assert_eq!(
                found, expected,
                "record {index} of {name}; if it is meant, run with BLESS=1"
            );
        }
        assert_eq!(
            outcomes.len(),
            expected.len(),
            "{name}; if it is meant, run with BLESS=1"
        );
    }
}

#[test]
fn cost_of_one_record() {
    let (_, table) = table("restaurant");
    let record = &records("restaurant")[1];
    let (channel, source) = table.readers(record).next().unwrap();
    let rounds = 5_000;
    let start = Instant::now();
    for _ in 0..rounds {
        let outcome = channel.process(source, record, NOW).unwrap();
        assert!(matches!(std::hint::black_box(outcome), Outcome::Deliver(made) if made.len() == 2));
    }
    let micros = start.elapsed().as_secs_f64() * 1e6 / f64::from(rounds);
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    println!("decode and route: {micros:.1} µs for one record with two deliveries ({profile} build)");
}
