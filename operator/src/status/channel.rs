//! The status of a channel: at each parent, and at all of them together.

use std::collections::BTreeMap;

use aldis_crds::NotificationChannel;
use aldis_crds::configuration::Configuration;
use aldis_crds::names::ChannelName;
use aldis_crds::status::{CONTROLLER_NAME, ChannelStatus, ParentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{Concern, Observed, Verdict, concern, is_newer, keep_times};
use crate::validate::{Object, ObjectName, Objects, Outcome, Problem};

/// The conditions of a channel, in the order in which one leads to the next.
const TYPES: [&str; 3] = ["Accepted", "ResolvedRefs", "Programmed"];

/// The status of the channel at `position` in [`Objects::channels`]; `None` where it stays as it is.
///
/// `gateways` has what each gateway serves and what was seen of it.
pub fn channel_status(
    position: usize,
    objects: &Objects<'_>,
    outcome: &Outcome,
    gateways: &BTreeMap<ObjectName, (&Configuration, &Observed)>,
    now: &Time,
) -> Option<ChannelStatus> {
    let channel = objects.channels[position];
    let before = channel.status.clone().unwrap_or_default();
    let generation = channel.metadata.generation;
    if is_newer(&before.conditions, generation) {
        return None;
    }
    let mine = |parent: &&ParentStatus| parent.controller_name == CONTROLLER_NAME;
    // What others say is theirs.
    let mut parents: Vec<_> = before.parents.iter().filter(|parent| !mine(parent)).cloned().collect();
    let mut told = Vec::new();
    for (index, parent) in channel.spec.parent_refs.iter().enumerate() {
        let old = before.parents.iter().filter(mine).find(|old| old.parent_ref == *parent);
        let verdicts = match verdicts(channel, position, index, objects, outcome, gateways) {
            Some(verdicts) => verdicts,
            // A gateway that cannot be read changes nothing.
            None => match old {
                Some(old) => {
                    told.push(old.clone());
                    continue;
                }
                None => unreadable(),
            },
        };
        let conditions = TYPES.iter().zip(verdicts);
        let mut conditions: Vec<_> = conditions
            .map(|(type_, verdict)| verdict.condition(type_, generation, now))
            .collect();
        keep_times(&mut conditions, old.map_or(&[], |old| &old.conditions));
        told.push(ParentStatus {
            parent_ref: parent.clone(),
            controller_name: CONTROLLER_NAME.to_owned(),
            conditions,
        });
    }
    let mut conditions = together(&told);
    keep_times(&mut conditions, &before.conditions);
    parents.extend(told);
    let status = ChannelStatus { conditions, parents };
    (channel.status.as_ref() != Some(&status)).then_some(status)
}

fn verdicts(
    channel: &NotificationChannel,
    position: usize,
    parent: usize,
    objects: &Objects<'_>,
    outcome: &Outcome,
    gateways: &BTreeMap<ObjectName, (&Configuration, &Observed)>,
) -> Option<[Verdict; 3]> {
    let name = ChannelName {
        namespace: channel.metadata.namespace.clone().unwrap_or_default(),
        name: channel.metadata.name.clone().unwrap_or_default(),
    };
    let gateway_ref = &channel.spec.parent_refs[parent];
    let gateway = ObjectName::new(
        gateway_ref.namespace.as_deref().unwrap_or(&name.namespace),
        &gateway_ref.name,
    );
    if objects.other_gateways.have(&gateway) {
        return None;
    }
    let is_here = |problem: &&Problem| {
        let at_gateway = problem
            .gateway
            .is_none_or(|index| ObjectName::of(&objects.gateways[index].metadata) == gateway);
        problem.object == Object::Channel(position) && at_gateway && problem.parent.is_none_or(|index| index == parent)
    };
    let problems = || outcome.problems.iter().filter(is_here);
    let of = |wanted: Concern| problems().filter(move |problem| concern(problem.reason) == wanted);
    let accepted = Verdict::of(of(Concern::Accepted), "Accepted");
    let resolved = Verdict::of(of(Concern::ResolvedRefs), "ResolvedRefs");
    let programmed = if !accepted.holds || !resolved.holds {
        Verdict::no("NotAccepted", "it is not served: see Accepted and ResolvedRefs")
    } else if let Some((configuration, observed)) = gateways.get(&gateway) {
        match configuration.part_of(&name) {
            Some(part) => observed.programmed(part),
            None => Verdict::no(
                "NotAccepted",
                "it is not served: another parent of the same gateway is refused",
            ),
        }
    } else {
        let message = format!("NotificationGateway {gateway} cannot be served itself: see its conditions");
        Verdict::no("GatewayNotAccepted", message)
    };
    Some([accepted, resolved, programmed])
}

fn unreadable() -> [Verdict; 3] {
    TYPES.map(|_| Verdict::no("Pending", "the gateway cannot be read by this version of the operator"))
}

/// Each condition at all parents: as at the first where it does not hold.
fn together(parents: &[ParentStatus]) -> Vec<Condition> {
    let at_all = |type_: &&str| {
        let each = || parents.iter().filter_map(|parent| find(&parent.conditions, type_));
        each()
            .find(|condition| condition.status != "True")
            .or_else(|| each().next())
            .cloned()
    };
    TYPES.iter().filter_map(at_all).collect()
}

fn find<'c>(conditions: &'c [Condition], type_: &str) -> Option<&'c Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}
