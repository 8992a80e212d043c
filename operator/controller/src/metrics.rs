//! What the operator counts.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// All of it.
pub struct Metrics {
    registry: Registry,
    /// By kind and result: `ok`, or the reason of the condition.
    pub(crate) applied: IntCounterVec,
    /// By kind and result: `ok`, `conflict`, `failed`.
    pub(crate) statuses: IntCounterVec,
    pub(crate) pass_seconds: Histogram,
    pub(crate) leader: IntGauge,
    pub(crate) unreadable: IntGauge,
    pub(crate) backing_off: IntGauge,
    pub(crate) deleted: IntCounter,
    pub(crate) crds_misfit: IntGauge,
    /// By kind.
    pub(crate) overridden: IntCounterVec,
    /// By what was done: `up`, `down`, `failed`.
    pub(crate) scaled: IntCounterVec,
    pub(crate) scaling_limited: IntGauge,
}

impl Metrics {
    /// All at zero.
    ///
    /// # Errors
    /// Where a name is taken or wrong.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let buckets = vec![0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0];
        let metrics = Self {
            applied: IntCounterVec::new(
                Opts::new("aldis_operator_applied_total", "Objects written, by kind and result"),
                &["kind", "result"],
            )?,
            statuses: IntCounterVec::new(
                Opts::new("aldis_operator_statuses_total", "Statuses written, by kind and result"),
                &["kind", "result"],
            )?,
            pass_seconds: Histogram::with_opts(
                HistogramOpts::new("aldis_operator_pass_seconds", "Seconds that a pass took").buckets(buckets),
            )?,
            leader: IntGauge::new("aldis_operator_leader", "1 in the replica that writes")?,
            unreadable: IntGauge::new(
                "aldis_operator_unreadable_objects",
                "Gateways and channels that this version cannot read",
            )?,
            backing_off: IntGauge::new(
                "aldis_operator_gateways_backing_off",
                "Gateways that could not be written and wait",
            )?,
            deleted: IntCounter::new("aldis_operator_deleted_total", "Objects deleted whose gateway is gone")?,
            crds_misfit: IntGauge::new(
                "aldis_operator_crds_misfit",
                "1 while the cluster's CRDs lack what this operator writes, and nothing is written",
            )?,
            overridden: IntCounterVec::new(
                Opts::new(
                    "aldis_operator_overridden_total",
                    "Objects of which somebody else had written a field that is the operator's, by kind: the log says who",
                ),
                &["kind"],
            )?,
            scaled: IntCounterVec::new(
                Opts::new(
                    "aldis_operator_scaled_total",
                    "Times that the pods of a gateway were made more (up) or fewer (down) by its connections, or could not be (failed)",
                ),
                &["result"],
            )?,
            scaling_limited: IntGauge::new(
                "aldis_operator_gateways_scaling_limited",
                "Gateways that have not as many pods as their clients ask for: see their condition ScalingLimited",
            )?,
            registry,
        };
        let registry = &metrics.registry;
        registry.register(Box::new(metrics.applied.clone()))?;
        registry.register(Box::new(metrics.statuses.clone()))?;
        registry.register(Box::new(metrics.pass_seconds.clone()))?;
        registry.register(Box::new(metrics.leader.clone()))?;
        registry.register(Box::new(metrics.unreadable.clone()))?;
        registry.register(Box::new(metrics.backing_off.clone()))?;
        registry.register(Box::new(metrics.deleted.clone()))?;
        registry.register(Box::new(metrics.crds_misfit.clone()))?;
        registry.register(Box::new(metrics.overridden.clone()))?;
        registry.register(Box::new(metrics.scaled.clone()))?;
        registry.register(Box::new(metrics.scaling_limited.clone()))?;
        Ok(metrics)
    }

    /// In Prometheus' text format.
    pub fn text(&self) -> String {
        prometheus::TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_default()
    }
}
