//! The keys of a channel, from Secrets of its own namespace that are labelled for it; only the named key is read.

use aldis_crds::channel::SecretKeyRef;
use aldis_crds::contract::Secret as Key;
use aldis_crds::{NotificationChannel, SECRET_USE_CHANNEL, SECRET_USE_LABEL};
use k8s_openapi::api::core::v1::Secret;

use super::index::{Entry, Index};
use super::{Object, ObjectName, Others, Problem, Reason, listed};

/// What a reference leads to.
pub(super) enum Found {
    /// The key.
    Key(SecretKeyRef, Key),
    /// A Secret that is known to exist, and cannot be read here.
    Unreadable(SecretKeyRef),
    /// Nothing.
    Missing(SecretKeyRef, Problem),
}

/// What each reference of a channel leads to.
pub(super) fn find(channel: &Entry<'_, NotificationChannel>, index: &Index<'_>, other_secrets: &Others) -> Vec<Found> {
    let methods = channel
        .value
        .spec
        .authentication
        .iter()
        .flat_map(|authentication| &authentication.jwt);
    methods
        .enumerate()
        .map(|(position, method)| {
            let reference = method.secret_ref.clone();
            let name = ObjectName::new(&channel.name.namespace, &reference.name);
            let found = match index.secrets.get(&name) {
                Some(secret) => read(secret, &reference),
                None if other_secrets.have(&name) => return Found::Unreadable(reference),
                None => Err(not_found(&name, index)),
            };
            match found {
                Ok(key) => Found::Key(reference, key),
                Err(Missing { reason, field, message }) => {
                    let field = format!("spec.authentication.jwt[{position}].secretRef.{field}");
                    let problem = Problem::new(Object::Channel(channel.index), reason, field, message);
                    Found::Missing(reference, problem)
                }
            }
        })
        .collect()
}

/// Why there is no key.
struct Missing {
    reason: Reason,
    /// Of the reference.
    field: &'static str,
    message: String,
}

fn is_labelled(secret: &Secret) -> bool {
    let labels = secret.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(SECRET_USE_LABEL))
        .is_some_and(|use_| use_ == SECRET_USE_CHANNEL)
}

fn read(secret: &Entry<'_, Secret>, reference: &SecretKeyRef) -> Result<Key, Missing> {
    let Secret { data, string_data, .. } = secret.value;
    if !is_labelled(secret.value) {
        let message = format!(
            "Secret {} is not for channels to read: label it {SECRET_USE_LABEL}: {SECRET_USE_CHANNEL}",
            secret.name
        );
        return Err(Missing {
            reason: Reason::RefNotPermitted,
            field: "name",
            message,
        });
    }
    // As an API server does, which never gives stringData back: it wins over data.
    let text = string_data.iter().flatten().find(|(key, _)| **key == reference.key);
    let bytes = data.iter().flatten().find(|(key, _)| **key == reference.key);
    match (text, bytes) {
        (Some((_, text)), _) => Ok(Key::new(text.as_bytes())),
        (None, Some((_, bytes))) => Ok(Key::new(bytes.0.as_slice())),
        (None, None) => {
            let keys: Vec<&String> = data
                .iter()
                .flat_map(|data| data.keys())
                .chain(string_data.iter().flat_map(|data| data.keys()))
                .collect();
            let keys = if keys.is_empty() {
                "it is empty".to_owned()
            } else {
                format!("it has: {}", listed(keys))
            };
            Err(Missing {
                reason: Reason::SecretNotFound,
                field: "key",
                message: format!("Secret {} has no key {:?}; {keys}", secret.name, reference.key),
            })
        }
    }
}

fn not_found(name: &ObjectName, index: &Index<'_>) -> Missing {
    let in_namespace = index
        .secrets
        .values()
        .filter(|secret| secret.name.namespace == name.namespace);
    let labelled: Vec<&str> = in_namespace
        .filter(|secret| is_labelled(secret.value))
        .map(|secret| secret.name.name.as_str())
        .collect();
    let message = if labelled.is_empty() {
        format!("there is no Secret {name}: create it, labelled {SECRET_USE_LABEL}: {SECRET_USE_CHANNEL}")
    } else {
        format!(
            "there is no Secret {name}; labelled for channels of this namespace are: {}",
            listed(labelled)
        )
    };
    Missing {
        reason: Reason::SecretNotFound,
        field: "name",
        message,
    }
}
