//! A row of docs/reliability.md for each seed.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::Command;

use super::run::{Outcome, Plan};
use super::server::Kind;
use crate::kafka::repository;

/// Where rows are: at the end of it.
const PAGE: &str = "docs/reliability.md";

/// The row of a run.
pub(crate) fn row(commit: &str, plan: &Plan, outcome: &Outcome) -> String {
    let verdict = &outcome.verdict;
    let cells = [
        match plan.kind {
            Kind::Gateway => plan.seed.to_string(),
            Kind::Node => format!("{} (node)", plan.seed),
        },
        commit.to_owned(),
        format!("{} s", plan.length.as_secs()),
        outcome.faults.clone(),
        verdict.records.to_string(),
        verdict.deliveries.to_string(),
        verdict.lost.to_string(),
        verdict.duplicated.to_string(),
        verdict.reordered.to_string(),
        verdict.crossed.to_string(),
        verdict.falsely_recovered.to_string(),
        verdict.silent.to_string(),
        (verdict.needlessly_not + verdict.refused).to_string(),
        verdict.not_recovered.to_string(),
        verdict.reconnects.to_string(),
        format!("{:.1} s", verdict.standstill.as_secs_f64()),
        if verdict.holds() { "pass" } else { "FAIL" }.to_owned(),
    ];
    format!("| {} |", cells.join(" | "))
}

/// Appends the row of a run.
pub(crate) fn report(plan: &Plan, outcome: &Outcome) {
    let row = row(&commit(), plan, outcome);
    let mut page = OpenOptions::new().append(true).open(repository().join(PAGE)).unwrap();
    writeln!(page, "{row}").unwrap();
}

/// The commit that is checked out, with a plus where something was changed since, other than rows.
fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).current_dir(repository()).output();
        output
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
            .unwrap_or_default()
    };
    let changed = git(&["status", "--porcelain", "--", ".", &format!(":!{PAGE}")]);
    format!(
        "{}{}",
        git(&["rev-parse", "--short", "HEAD"]),
        if changed.is_empty() { "" } else { "+" }
    )
}
