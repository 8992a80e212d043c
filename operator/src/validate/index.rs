//! Each object once: by name, or by age where age decides.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;

use aldis_crds::{NotificationChannel, NotificationGateway};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;

use super::{Object, ObjectName, Objects, Problem, Reason};

/// The objects of a place, without repetitions.
pub(super) struct Index<'a> {
    pub(super) gateways: BTreeMap<ObjectName, Entry<'a, NotificationGateway>>,
    /// Oldest first.
    pub(super) channels: Vec<Entry<'a, NotificationChannel>>,
    pub(super) secrets: BTreeMap<ObjectName, Entry<'a, Secret>>,
    /// The labels of each namespace.
    pub(super) namespaces: BTreeMap<String, BTreeMap<String, String>>,
}

/// The one label that an API server sets on each namespace, and lets nobody change.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// An object, and its index among those of its kind in [`Objects`].
pub(super) struct Entry<'a, T> {
    pub(super) index: usize,
    pub(super) name: ObjectName,
    pub(super) value: &'a T,
}

impl<'a> Index<'a> {
    pub(super) fn new(objects: &Objects<'a>, problems: &mut Vec<Problem>) -> Self {
        let channels = once_each("NotificationChannel", &objects.channels, Object::Channel, problems);
        let mut channels: Vec<_> = channels.into_values().collect();
        channels.sort_by(|a, b| age(a).cmp(&age(b)));
        Self {
            gateways: once_each("NotificationGateway", &objects.gateways, Object::Gateway, problems),
            channels,
            secrets: once_each("Secret", &objects.secrets, Object::Secret, problems),
            namespaces: objects.namespaces.iter().map(|namespace| labels(namespace)).collect(),
        }
    }
}

fn labels(namespace: &Namespace) -> (String, BTreeMap<String, String>) {
    let name = namespace.metadata.name.clone().unwrap_or_default();
    let mut labels = namespace.metadata.labels.clone().unwrap_or_default();
    labels.insert(NAMESPACE_NAME.to_owned(), name.clone());
    (name, labels)
}

/// What decides between two channels: the older one first. One that has no timestamp is not created yet, and so is
/// younger than all that have one; what is left to tell apart, the name does.
fn age<'e>(channel: &'e Entry<'_, NotificationChannel>) -> (bool, Option<&'e Time>, &'e ObjectName) {
    let created = channel.value.metadata.creation_timestamp.as_ref();
    (created.is_none(), created, &channel.name)
}

/// The objects of one kind by name; the first of each name, and a problem for every further one.
fn once_each<'a, K: Resource>(
    kind: &str,
    objects: &[&'a K],
    object: fn(usize) -> Object,
    problems: &mut Vec<Problem>,
) -> BTreeMap<ObjectName, Entry<'a, K>> {
    let mut entries = BTreeMap::new();
    for (index, value) in objects.iter().copied().enumerate() {
        let name = ObjectName::of(value.meta());
        match entries.entry(name.clone()) {
            MapEntry::Vacant(vacant) => {
                vacant.insert(Entry { index, name, value });
            }
            MapEntry::Occupied(first) => {
                let first: &Entry<'_, K> = first.get();
                let message =
                    format!("there is another {kind} {name}, and only one can be: remove or rename one of them");
                problems.push(
                    Problem::new(object(index), Reason::Conflicted, "metadata.name", message).with(object(first.index)),
                );
            }
        }
    }
    entries
}
