//! The pure steps alone: decode and route of the channel, in a loop on one thread.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aldis_cli::declared::{Declared, Elsewhere};
use aldis_core::channel::Outcome;
use aldis_core::record::Record;
use aldis_core::table::Table;
use aldis_core::time::Millis;
use aldis_operator::translate;
use anyhow::{Context as _, ensure};

use crate::gateway;
use crate::results::Results;
use crate::stamp::{Kind, Stamp, TOPIC, tenant};

/// How long each kind of record is processed. 2 s.
const LONG: Duration = Duration::from_secs(2);

/// Records between two looks at the clock.
const ROUND: u64 = 1_000;

/// Measures `Channel::process` for records of `bytes` bytes.
///
/// # Errors
/// Where the channel does not compile, or does not deliver.
pub fn measure(bytes: usize) -> anyhow::Result<Results> {
    let folder = tempfile::tempdir()?;
    let declared = Declared::read(&gateway::manifests(folder.path())?, Elsewhere::default())?;
    ensure!(
        declared.findings.is_empty(),
        "the manifests have problems: {:?}",
        declared.findings
    );
    let validated = declared.outcome.gateways.first().context("there is no gateway")?;
    let (table, bad) = Table::compile(&translate(validated), &validated.keys);
    ensure!(bad.is_empty(), "a channel does not compile: {bad:?}");

    let status = Stamp {
        kind: Kind::Counted,
        number: 1,
        partition: 0,
        born: 1_000_000_000,
    }
    .value(7, bytes);
    let created = status.replace("order.status_changed", "order.created");
    let mut results = Results::new(format!("pure: decode and route of one {bytes}-byte record, no gateway"));
    results.add(
        "one_delivery_us",
        "order.status_changed, one delivery, µs per record",
        micros(&table, &status, 1)?,
        2,
    );
    results.add(
        "two_deliveries_us",
        "order.created, two deliveries, µs per record",
        micros(&table, &created, 2)?,
        2,
    );
    Ok(results)
}

fn micros(table: &Table, value: &str, deliveries: usize) -> anyhow::Result<f64> {
    let mut record = Record {
        topic: Arc::from(TOPIC),
        partition: 0,
        offset: 0,
        key: Some(tenant(7).into()),
        headers: Vec::new(),
        timestamp_ms: 1_700_000_000_000,
        value: Some(value.to_owned().into()),
    };
    let (channel, source) = table.readers(&record).next().context("nobody reads the topic")?;
    let (mut count, began) = (0, Instant::now());
    while began.elapsed() < LONG {
        for _ in 0..ROUND {
            record.offset += 1;
            let outcome = channel.process(source, black_box(&record), Millis(record.timestamp_ms));
            match black_box(outcome) {
                Ok(Outcome::Deliver(made)) if made.len() == deliveries => {}
                other => anyhow::bail!("expected {deliveries} deliveries: {other:?}"),
            }
        }
        count += ROUND;
    }
    Ok(began.elapsed().as_secs_f64() * 1e6 / count as f64)
}
