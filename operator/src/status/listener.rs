//! The status of each listener of a gateway.

use aldis_crds::NotificationGateway;
use aldis_crds::configuration::Configuration;
use aldis_crds::status::ListenerStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Concern, Observed, Verdict, concern, keep_times};
use crate::validate::Problem;

/// What the API server keeps, as the schema of the status has it.
const MAX_LISTENERS: usize = 16;

/// Each listener, in the order in which they are declared. `problems`: those of the gateway.
pub(super) fn listeners(
    gateway: &NotificationGateway,
    problems: &[&Problem],
    configuration: Option<&Configuration>,
    observed: &Observed,
    now: &Time,
) -> Vec<ListenerStatus> {
    let before = gateway.status.iter().flat_map(|status| &status.listeners);
    let before: Vec<_> = before.collect();
    let declared = gateway.spec.listeners.iter().take(MAX_LISTENERS).enumerate();
    let told = declared.map(|(index, listener)| {
        let field = format!("spec.listeners[{index}].");
        let of = |wanted: Concern| {
            let mine = problems.iter().filter(|problem| problem.field.starts_with(&field));
            mine.filter(move |problem| concern(problem.reason) == wanted).copied()
        };
        let accepted = Verdict::of(of(Concern::Accepted), "Accepted");
        let resolved = Verdict::of(of(Concern::ResolvedRefs), "ResolvedRefs");
        let programmed = match configuration {
            _ if !accepted.holds || !resolved.holds => {
                Verdict::no("NotAccepted", "it is not opened: see Accepted and ResolvedRefs")
            }
            None => Verdict::no(
                "GatewayNotAccepted",
                "the gateway is not served: see its condition Accepted",
            ),
            Some(configuration) => observed
                .of_listener(&listener.name)
                .programmed(&configuration.index.hash),
        };
        let generation = gateway.metadata.generation;
        let mut conditions = vec![
            accepted.condition("Accepted", generation, now),
            resolved.condition("ResolvedRefs", generation, now),
            programmed.condition("Programmed", generation, now),
        ];
        if let Some(old) = before.iter().find(|old| old.name == listener.name) {
            keep_times(&mut conditions, &old.conditions);
        }
        ListenerStatus {
            name: listener.name.clone(),
            attached_channels: configuration.map_or(0, |configuration| attached(configuration, &listener.name)),
            conditions,
        }
    });
    told.collect()
}

/// Channels that are served on a listener.
fn attached(configuration: &Configuration, listener: &str) -> u32 {
    let parts = configuration.parts.values();
    let here = parts.filter(|part| {
        part.attachments
            .iter()
            .any(|attachment| attachment.listener == listener)
    });
    super::gateway::count(here.count())
}

impl Observed {
    /// As far as it concerns one listener: what pods say of another is left out.
    fn of_listener(&self, name: &str) -> Self {
        let mut own = self.clone();
        for pod in &mut own.serving {
            pod.cannot.retain(|_, problem| !is_about_another(problem, name));
        }
        own
    }
}

/// Pods begin with the listener that it is about, where it is about one.
fn is_about_another(problem: &str, name: &str) -> bool {
    let about = problem.strip_prefix("listener ").and_then(|rest| rest.split_once(": "));
    about.is_some_and(|(other, _)| other != name)
}
