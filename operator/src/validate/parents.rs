//! `spec.parentRefs`: which gateways a channel names, and whether they are there.

use aldis_crds::channel::ParentRef;
use aldis_crds::{NotificationChannel, NotificationGateway};

use super::index::{Entry, Index};
use super::{Object, ObjectName, Others, Problem, Reason, listed};

/// The gateway that a parent names; its namespace is the channel's own where it names none.
pub(super) fn gateway_name(parent: &ParentRef, channel_namespace: &str) -> ObjectName {
    let namespace = parent.namespace.as_deref().unwrap_or(channel_namespace);
    ObjectName::new(namespace, &parent.name)
}

/// What is wrong with the parents of a channel.
pub(super) fn problems(
    channel: &Entry<'_, NotificationChannel>,
    index: &Index<'_>,
    other_gateways: &Others,
) -> Vec<Problem> {
    let parents = channel.value.spec.parent_refs.iter().enumerate();
    parents
        .filter_map(|(position, parent)| {
            let name = gateway_name(parent, &channel.name.namespace);
            match index.gateways.get(&name) {
                Some(gateway) => listener_problem(channel, position, parent, gateway),
                None if other_gateways.have(&name) => None,
                None => Some(gateway_problem(channel, position, parent, &name, index)),
            }
        })
        .collect()
}

fn gateway_problem(
    channel: &Entry<'_, NotificationChannel>,
    position: usize,
    parent: &ParentRef,
    name: &ObjectName,
    index: &Index<'_>,
) -> Problem {
    let mut message = format!("there is no NotificationGateway {name}");
    if parent.namespace.is_none() {
        message.push_str(" (without namespace, it is the channel's own)");
    }
    if index.gateways.is_empty() {
        message.push_str(", nor any other");
    } else {
        message.push_str(&format!("; there are: {}", listed(index.gateways.keys())));
    }
    Problem::new(
        Object::Channel(channel.index),
        Reason::GatewayNotFound,
        format!("spec.parentRefs[{position}].name"),
        message,
    )
    .of_parent(position)
}

fn listener_problem(
    channel: &Entry<'_, NotificationChannel>,
    position: usize,
    parent: &ParentRef,
    gateway: &Entry<'_, NotificationGateway>,
) -> Option<Problem> {
    let wanted = parent.section_name.as_ref()?;
    let listeners = &gateway.value.spec.listeners;
    if listeners.iter().any(|listener| listener.name == *wanted) {
        return None;
    }
    let message = format!(
        "NotificationGateway {} has no listener {wanted:?}; it has: {}",
        gateway.name,
        listed(listeners.iter().map(|listener| &listener.name))
    );
    let problem = Problem::new(
        Object::Channel(channel.index),
        Reason::GatewayNotFound,
        format!("spec.parentRefs[{position}].sectionName"),
        message,
    );
    Some(
        problem
            .at(gateway.index)
            .of_parent(position)
            .with(Object::Gateway(gateway.index)),
    )
}
