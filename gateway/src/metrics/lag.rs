//! How far behind partitions are, for health.

use prometheus::IntGaugeVec;
use prometheus::core::Collector as _;
use prometheus::proto::Metric;

use super::Metrics;

/// A partition of which records wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Behind {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    /// Records that have not been taken yet.
    pub(crate) records: i64,
    /// When the last one that was taken had been published, in seconds since 1970. `None`: this replica has taken none.
    pub(crate) taken_until: Option<i64>,
}

impl Metrics {
    /// Partitions of which records wait, those with most of them first: at most so many.
    pub(crate) fn behind_most(&self, at_most: usize) -> Vec<Behind> {
        let mut behind: Vec<_> = values(&self.lag)
            .filter(|(_, _, records)| *records > 0)
            .map(|(topic, partition, records)| Behind {
                topic,
                partition,
                records,
                taken_until: None,
            })
            .collect();
        behind.sort_by_key(|behind| std::cmp::Reverse(behind.records));
        behind.truncate(at_most);
        if behind.is_empty() {
            return behind;
        }
        for (topic, partition, until) in values(&self.taken_until) {
            let mut its = behind.iter_mut();
            if let Some(behind) = its.find(|behind| behind.topic == topic && behind.partition == partition) {
                behind.taken_until = Some(until);
            }
        }
        behind
    }
}

/// Topic, partition and value of each.
fn values(gauges: &IntGaugeVec) -> impl Iterator<Item = (String, i32, i64)> {
    let families = gauges.collect();
    let metrics = families.into_iter().flat_map(|mut family| family.take_metric());
    metrics.map(|metric| {
        let partition = label(&metric, "partition").parse().unwrap_or_default();
        (
            label(&metric, "topic"),
            partition,
            metric.get_gauge().get_value() as i64,
        )
    })
}

fn label(metric: &Metric, name: &str) -> String {
    let mut labels = metric.get_label().iter().filter(|label| label.name() == name);
    labels.next().map(|label| label.value().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consume::Observe as _;

    #[test]
    fn those_that_are_behind_most_are_told_first_and_those_that_are_not_are_not() {
        let metrics = Metrics::new();
        for (partition, records) in [(0, 5), (1, 0), (2, 9), (3, 1)] {
            metrics.lag("orders", partition, Some(records));
        }
        metrics.taken("orders", 2, 1, 1, 1_700_000_000_500);
        let told = |at_most: usize| -> Vec<_> {
            let behind = metrics.behind_most(at_most).into_iter();
            behind
                .map(|behind| (behind.partition, behind.records, behind.taken_until))
                .collect()
        };
        assert_eq!(told(2), [(2, 9, Some(1_700_000_000)), (0, 5, None)]);
        metrics.lag("orders", 0, None);
        metrics.assigned("orders", 2, false);
        assert_eq!(told(9), [(3, 1, None)]);
        assert!(!metrics.text().contains("aldis_consumer_taken_timestamp_seconds{"));
    }
}
