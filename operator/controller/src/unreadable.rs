//! Says of an object that cannot be read that it is so: its status is written as raw JSON, for there is no type that it has.
//!
//! Only `Accepted` is written. What else it says is of an earlier generation, as `observedGeneration` tells, and what was served of it then
//! still is.

use std::collections::HashMap;
use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, ObjectMeta};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::metrics::Metrics;
use crate::report::FIELD_MANAGER;

/// Of a message. An API server takes 32768 bytes.
const MAX_CHARS: usize = 2048;

/// What has been told already, by uid: of which generation. As many as there are objects that cannot be read.
#[derive(Default)]
pub(crate) struct Told(HashMap<String, i64>);

impl Told {
    /// Forgets what can be read again, or is gone.
    pub(crate) fn retain<'o>(&mut self, unreadable: impl Iterator<Item = &'o ObjectMeta> + Clone) {
        self.0
            .retain(|uid, _| unreadable.clone().any(|metadata| metadata.uid.as_ref() == Some(uid)));
    }

    /// Writes it into the object's status, once for each generation.
    pub(crate) async fn tell<K>(
        &mut self,
        client: &Client,
        metrics: &Metrics,
        metadata: &ObjectMeta,
        error: &str,
        now: &Time,
    ) where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Debug,
    {
        let (uid, generation) = (
            metadata.uid.clone().unwrap_or_default(),
            metadata.generation.unwrap_or_default(),
        );
        if self.0.get(&uid) == Some(&generation) {
            return;
        }
        let kind = K::kind(&());
        let namespace = metadata.namespace.clone().unwrap_or_default();
        let name = metadata.name.clone().unwrap_or_default();
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &ApiResource::erase::<K>(&()));
        let written = write::<K>(&api, &name, error, now).await;
        let result = match &written {
            Ok(()) => "ok",
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => "conflict",
            Err(_) => "failed",
        };
        metrics.statuses.with_label_values(&[&kind, result]).inc();
        match written {
            Ok(()) => {
                tracing::warn!(%kind, namespace, name, error, "cannot be read; what was served of it stays");
                self.0.insert(uid, generation);
            }
            // The next pass tries again.
            Err(error) => {
                tracing::warn!(%kind, namespace, name, %error, "cannot be read, and its status cannot say so")
            }
        }
    }
}

async fn write<K: DeserializeOwned>(
    api: &Api<DynamicObject>,
    name: &str,
    error: &str,
    now: &Time,
) -> Result<(), kube::Error> {
    let object = api.get(name).await?;
    let raw = serde_json::to_value(&object).unwrap_or_default();
    let before = &raw["status"]["conditions"];
    let after = conditions(
        before,
        message::<K>(raw.clone(), error),
        object.metadata.generation,
        now,
    );
    if *before == after {
        return Ok(());
    }
    // The resource version makes it a conflict where somebody was faster.
    let patch = json!({ "metadata": { "resourceVersion": object.metadata.resource_version }, "status": { "conditions": after } });
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    api.patch_status(name, &params, &Patch::Merge(patch)).await.map(drop)
}

/// What is wrong, with the field where that is known. `error`: as the watch found it.
fn message<K: DeserializeOwned>(raw: Value, error: &str) -> String {
    let what = match serde_path_to_error::deserialize::<_, K>(raw) {
        Err(found) => format!("{}: {}", found.path(), found.inner()),
        Ok(_) => error.to_owned(),
    };
    let message = format!(
        "this version of the operator cannot read it, and what was served of it stays: {what}. Correct it, or upgrade the operator to the version of the CRDs"
    );
    message.chars().take(MAX_CHARS).collect()
}

/// Those that were there, and `Accepted` as it is now.
fn conditions(before: &Value, message: String, generation: Option<i64>, now: &Time) -> Value {
    let before = before.as_array().cloned().unwrap_or_default();
    let old = before.iter().find(|condition| condition["type"] == "Accepted");
    let since = old
        .filter(|old| old["status"] == "False")
        .map(|old| old["lastTransitionTime"].clone());
    let accepted = Condition {
        type_: "Accepted".to_owned(),
        status: "False".to_owned(),
        reason: "Unreadable".to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: now.clone(),
    };
    let mut accepted = json!(accepted);
    if let Some(since) = since {
        accepted["lastTransitionTime"] = since;
    }
    let others = before
        .iter()
        .filter(|condition| condition["type"] != "Accepted")
        .cloned();
    std::iter::once(accepted).chain(others).collect()
}

#[cfg(test)]
mod tests {
    use aldis_crds::NotificationChannel;

    use super::*;

    fn time(second: i64) -> Time {
        Time(jiff::Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_field() {
        let raw = json!({
            "apiVersion": "aldis.dev/v1alpha1", "kind": "NotificationChannel", "metadata": { "name": "a" },
            "spec": { "parentRefs": [{ "name": "shared" }], "history": { "size": "many" } }
        });
        let told = message::<NotificationChannel>(raw, "?");
        assert!(
            told.contains("spec.history.size: invalid type: string \"many\""),
            "{told}"
        );
        let told = message::<NotificationChannel>(json!({ "spec": { "x".repeat(5000): 1 } }), "?");
        assert_eq!(told.chars().count(), MAX_CHARS);
    }

    #[test]
    fn what_else_it_said_stays_and_the_same_is_not_written_again() {
        let programmed = json!({ "type": "Programmed", "status": "True", "reason": "Programmed", "message": "", "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z" });
        let accepted = json!({ "type": "Accepted", "status": "True", "reason": "Accepted", "message": "", "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z" });
        let first = conditions(&json!([accepted, programmed]), "why".to_owned(), Some(2), &time(5));
        assert_eq!(first[1], programmed);
        assert_eq!(
            (&first[0]["status"], &first[0]["reason"]),
            (&json!("False"), &json!("Unreadable"))
        );
        assert_eq!(first[0]["observedGeneration"], 2);
        assert_eq!(conditions(&first, "why".to_owned(), Some(2), &time(9)), first);
        let other = conditions(&first, "another".to_owned(), Some(3), &time(9));
        assert_eq!(
            other[0]["lastTransitionTime"], first[0]["lastTransitionTime"],
            "it was false before"
        );
    }
}
