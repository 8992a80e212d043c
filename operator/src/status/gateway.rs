//! The status of a gateway.

use aldis_crds::configuration::Configuration;
use aldis_crds::status::{Address, GatewayStatus, Replicas};
use aldis_crds::{NotificationGateway, PAUSE_ANNOTATION};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::listener::listeners;
use super::{Concern, Observed, Verdict, concern, is_newer, keep_times};
use crate::validate::{Object, Objects, Outcome, Problem};

/// The status of the gateway at `position` in [`Objects::gateways`]; `None` where it stays as it is.
///
/// `configuration` is what it serves, where it can be served.
pub fn gateway_status(
    position: usize,
    objects: &Objects<'_>,
    outcome: &Outcome,
    configuration: Option<&Configuration>,
    observed: &Observed,
    now: &Time,
) -> Option<GatewayStatus> {
    let gateway = objects.gateways[position];
    let before = gateway.status.clone().unwrap_or_default();
    let generation = gateway.metadata.generation;
    if is_newer(&before.conditions, generation) {
        return None;
    }
    let is_here = |problem: &&Problem| problem.object == Object::Gateway(position);
    let problems = || outcome.problems.iter().filter(is_here);
    let of = |wanted: Concern| problems().filter(move |problem| concern(problem.reason) == wanted);
    let accepted = Verdict::of(of(Concern::Accepted), "Accepted");
    let programmed = match configuration {
        Some(configuration) => observed.programmed(&configuration.index.hash),
        None => Verdict::no("NotAccepted", "it is not served: see Accepted"),
    };
    let mut conditions = vec![
        accepted.condition("Accepted", generation, now),
        Verdict::of(of(Concern::ResolvedRefs), "ResolvedRefs").condition("ResolvedRefs", generation, now),
        programmed.condition("Programmed", generation, now),
    ];
    // What is wrong is there only while it is.
    let degraded = Verdict::of(of(Concern::Degraded), "");
    if !degraded.holds {
        conditions.push(
            Verdict {
                holds: true,
                ..degraded
            }
            .condition("Degraded", generation, now),
        );
    }
    if let Some((reason, message)) = &observed.limited {
        conditions.push(Verdict::yes(reason, message.clone()).condition("ScalingLimited", generation, now));
    }
    if is_paused(gateway) {
        let message = format!("{PAUSE_ANNOTATION} is true: the operator changes nothing about this gateway");
        conditions.push(Verdict::yes("Paused", message).condition("Paused", generation, now));
    }
    keep_times(&mut conditions, &before.conditions);
    let status = GatewayStatus {
        conditions,
        attached_channels: configuration.map_or(0, |configuration| count(configuration.parts.len())),
        replicas: Replicas {
            desired: observed.desired,
            ready: observed.ready,
            serving: configuration.map_or(0, |configuration| observed.serves(&configuration.index.hash)),
        },
        addresses: addresses(gateway),
        consumer_group: configuration.map_or_else(String::new, |c| c.index.kafka.group_id.clone()),
        listeners: listeners(gateway, &problems().collect::<Vec<_>>(), configuration, observed, now),
    };
    (gateway.status.as_ref() != Some(&status)).then_some(status)
}

/// Whether the operator is to leave a gateway as it is.
pub fn is_paused(gateway: &NotificationGateway) -> bool {
    let annotations = gateway.metadata.annotations.as_ref();
    annotations
        .and_then(|annotations| annotations.get(PAUSE_ANNOTATION))
        .is_some_and(|value| value == "true")
}

pub(super) fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn addresses(gateway: &NotificationGateway) -> Vec<Address> {
    let name = gateway.metadata.name.as_deref().unwrap_or_default();
    let namespace = gateway.metadata.namespace.as_deref().unwrap_or_default();
    let value = format!("aldis-{name}.{namespace}.svc");
    vec![Address { value }]
}
