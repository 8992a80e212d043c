//! Statuses and events.

use std::fmt::Debug;

use aldis_crds::{NotificationChannel, NotificationGateway};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::metrics::Metrics;

/// Who writes statuses, for the API server.
pub(crate) const FIELD_MANAGER: &str = "aldis-operator-status";
/// An event's note, in bytes, as the API server takes it.
const MAX_NOTE_BYTES: usize = 1024;

/// A kind with a status of ours.
pub(crate) trait Reported:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned
{
    fn conditions(&self) -> &[Condition];
}

impl Reported for NotificationGateway {
    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }
}

impl Reported for NotificationChannel {
    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }
}

/// Writes a status, unless the object has changed since it was read: the next pass then says what is so.
pub(crate) async fn write<K: Reported>(
    client: &Client,
    recorder: &Recorder,
    metrics: &Metrics,
    object: &K,
    status: &impl Serialize,
    conditions: &[Condition],
) {
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    let api: Api<K> = Api::namespaced(client.clone(), &namespace);
    // The resource version makes it a conflict where somebody was faster.
    let patch = json!({ "metadata": { "resourceVersion": object.resource_version() }, "status": status });
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let written = api.patch_status(&name, &params, &Patch::Merge(patch)).await;
    let kind = K::kind(&());
    match written {
        Ok(_) => {
            metrics.statuses.with_label_values(&[&kind, "ok"]).inc();
            for condition in changed(object.conditions(), conditions) {
                publish(recorder, object, condition).await;
            }
        }
        Err(kube::Error::Api(error)) if error.is_conflict() || error.is_not_found() => {
            metrics.statuses.with_label_values(&[&kind, "conflict"]).inc();
        }
        Err(error) => {
            metrics.statuses.with_label_values(&[&kind, "failed"]).inc();
            tracing::warn!(%kind, namespace, name, %error, "cannot write the status");
        }
    }
}

/// Conditions that are there only while something is wrong.
const NEGATIVE: [&str; 2] = ["Degraded", "ScalingLimited"];

fn is_good(condition: &Condition) -> bool {
    (condition.status == "True") != NEGATIVE.contains(&condition.type_.as_str())
}

/// Conditions that say something else than before; not those that say for the first time that all is well.
fn changed<'c>(before: &'c [Condition], now: &'c [Condition]) -> impl Iterator<Item = &'c Condition> {
    now.iter().filter(|condition| {
        // What the schema says before anybody has looked is not what was so.
        let mut before = before.iter().filter(|old| old.status != "Unknown");
        let old = before.find(|old| old.type_ == condition.type_);
        let is_news = ["Programmed", "Paused"].contains(&condition.type_.as_str());
        old.map_or(!is_good(condition) || is_news, |old| {
            (&old.status, &old.reason) != (&condition.status, &condition.reason)
        })
    })
}

async fn publish<K: Reported>(recorder: &Recorder, object: &K, condition: &Condition) {
    let mut note = condition.message.clone();
    if note.len() > MAX_NOTE_BYTES {
        let mut end = MAX_NOTE_BYTES;
        while !note.is_char_boundary(end) {
            end -= 1;
        }
        note.truncate(end);
    }
    let event = Event {
        type_: if is_good(condition) {
            EventType::Normal
        } else {
            EventType::Warning
        },
        reason: condition.reason.clone(),
        note: Some(note),
        action: condition.type_.clone(),
        secondary: None,
    };
    if let Err(error) = recorder.publish(&event, &object.object_ref(&())).await {
        tracing::debug!(%error, "cannot publish an event");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(type_: &str, status: &str, reason: &str) -> Condition {
        let value = json!({ "type": type_, "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn there_is_an_event_of_what_is_new_and_of_what_is_wrong_from_the_start() {
        let said = |before: &[Condition], now: &[Condition]| -> Vec<(String, bool)> {
            changed(before, now)
                .map(|condition| (condition.type_.clone(), is_good(condition)))
                .collect()
        };
        let now = [
            condition("Accepted", "True", "Accepted"),
            condition("ResolvedRefs", "False", "SecretNotFound"),
            condition("Programmed", "True", "Programmed"),
            condition("Degraded", "True", "GrantsOverlap"),
            condition("ScalingLimited", "True", "TooManyConnections"),
            condition("Paused", "True", "Paused"),
        ];
        let first = [
            ("ResolvedRefs", false),
            ("Programmed", true),
            ("Degraded", false),
            ("ScalingLimited", false),
            ("Paused", true),
        ];
        let unknown = [condition("Accepted", "Unknown", "Pending")];
        assert_eq!(said(&unknown, &now), said(&[], &now));
        assert_eq!(said(&[], &now), first.map(|(type_, good)| (type_.to_owned(), good)));
        assert_eq!(said(&now, &now), []);
        let mended = [
            condition("ResolvedRefs", "True", "ResolvedRefs"),
            condition("Degraded", "True", "InvalidGrant"),
        ];
        let later = [("ResolvedRefs", true), ("Degraded", false)];
        assert_eq!(said(&now, &mended), later.map(|(type_, good)| (type_.to_owned(), good)));
    }
}
