//! What a gateway counts, as Prometheus would read it.

use std::collections::BTreeMap;

/// One reading of all metrics: `name{labels}` and its value.
#[derive(Debug)]
pub(crate) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    pub(crate) fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        };
        Self(samples.map(sample).collect())
    }

    /// Value of one series as it is written, `name{label="value"}`; 0 where there is none.
    pub(crate) fn value(&self, series: &str) -> f64 {
        self.0.get(series).copied().unwrap_or(0.0)
    }

    /// All series of a metric.
    pub(crate) fn all(&self, metric: &str) -> BTreeMap<&str, f64> {
        let of =
            |series: &str| series == metric || series.strip_prefix(metric).is_some_and(|rest| rest.starts_with('{'));
        self.0
            .iter()
            .filter(|(series, _)| of(series))
            .map(|(series, value)| (series.as_str(), *value))
            .collect()
    }

    /// Sum of all series of a metric.
    pub(crate) fn sum(&self, metric: &str) -> f64 {
        self.all(metric).values().sum()
    }
}
