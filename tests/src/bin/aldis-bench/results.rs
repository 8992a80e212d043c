//! What a run gives: numbers by name, and what was not as it must be.

use serde_json::{Map, Value, json};

/// One number.
#[derive(Clone, Debug)]
pub struct Fact {
    /// Name in JSON.
    pub key: &'static str,
    /// What it is, with its unit, for people.
    pub label: &'static str,
    /// The number.
    pub value: f64,
    /// Decimals that mean something.
    pub decimals: usize,
}

/// The results of one run, or of several in one.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// What was run, with its parameters.
    pub title: String,
    /// Numbers, in the order in which they are shown.
    pub facts: Vec<Fact>,
    /// What must not be.
    pub violations: Vec<String>,
}

impl Results {
    /// Nothing yet.
    pub fn new(title: String) -> Self {
        Self {
            title,
            ..Self::default()
        }
    }

    /// Adds a number.
    pub fn add(&mut self, key: &'static str, label: &'static str, value: f64, decimals: usize) {
        self.facts.push(Fact {
            key,
            label,
            value,
            decimals,
        });
    }

    /// For people. With several runs each number is the median, and its range follows.
    pub fn print(runs: &[Self]) {
        let Some(first) = runs.first() else { return };
        println!(
            "\n{}{}",
            first.title,
            if runs.len() > 1 {
                format!(" (median of {} runs)", runs.len())
            } else {
                String::new()
            }
        );
        for fact in &first.facts {
            let values = values(runs, fact.key);
            let decimals = fact.decimals;
            let median = median(&values);
            let range = match (values.first(), values.last()) {
                (Some(low), Some(high)) if runs.len() > 1 => format!("   [{low:.decimals$} to {high:.decimals$}]"),
                _ => String::new(),
            };
            println!("  {:<52}{median:>14.decimals$}{range}", fact.label);
        }
        let violations: Vec<_> = runs.iter().flat_map(|run| &run.violations).collect();
        match violations.as_slice() {
            [] => println!("  every check holds"),
            violations => violations
                .iter()
                .for_each(|violation| println!("  VIOLATION: {violation}")),
        }
    }

    /// For programs: medians, and the numbers of each run.
    pub fn json(runs: &[Self]) -> Value {
        let Some(first) = runs.first() else { return Value::Null };
        let medians: Map<_, _> = first
            .facts
            .iter()
            .map(|fact| (fact.key.to_owned(), json!(median(&values(runs, fact.key)))))
            .collect();
        let each = runs.iter().map(|run| {
            let facts: Map<_, _> = run
                .facts
                .iter()
                .map(|fact| (fact.key.to_owned(), json!(fact.value)))
                .collect();
            json!({ "facts": facts, "violations": run.violations })
        });
        json!({ "title": first.title, "median": medians, "runs": each.collect::<Vec<_>>() })
    }
}

fn values(runs: &[Results], key: &str) -> Vec<f64> {
    let mut values: Vec<_> = runs
        .iter()
        .flat_map(|run| &run.facts)
        .filter(|fact| fact.key == key)
        .map(|fact| fact.value)
        .collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Of sorted values; of an even number the lower one in the middle.
fn median(values: &[f64]) -> f64 {
    values
        .get(values.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or(f64::NAN)
}

/// The value below which a share of sorted values lies.
pub fn percentile(sorted: &[u32], share: f64) -> f64 {
    let index = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(index.max(1) - 1).copied().map_or(f64::NAN, f64::from)
}
