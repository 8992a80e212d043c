//! The keys of a channel or a gateway, from Secrets of its own namespace that are labelled for it; only the named key is read.

use aldis_crds::channel::SecretKeyRef;
use aldis_crds::contract::files::{MAX_KEY_FILE_NAME, key_file_name};
use aldis_crds::contract::{Certificate, Secret as Key};
use aldis_crds::{NotificationChannel, SECRET_USE_CHANNEL, SECRET_USE_GATEWAY, SECRET_USE_LABEL};
use k8s_openapi::api::core::v1::Secret;

use super::index::{Entry, Index};
use super::{Object, ObjectName, Others, Problem, Reason, listed};

/// The type of Secrets with a certificate.
const TLS: &str = "kubernetes.io/tls";
/// What a certificate in PEM has.
pub(super) const CERTIFICATE: &str = "BEGIN CERTIFICATE-----";

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
        .filter_map(|(position, method)| Some((position, method.secret_ref.clone()?)))
        .map(|(position, reference)| {
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

fn is_labelled(secret: &Secret, use_: &str) -> bool {
    let labels = secret.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(SECRET_USE_LABEL))
        .map(String::as_str)
        == Some(use_)
}

fn read(secret: &Entry<'_, Secret>, reference: &SecretKeyRef) -> Result<Key, Missing> {
    if !is_labelled(secret.value, SECRET_USE_CHANNEL) {
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
    if key_file_name(&secret.name.namespace, reference).len() > MAX_KEY_FILE_NAME {
        let message = format!(
            "the names of Secret {} and its key {:?} are too long together: shorten one of them",
            secret.name, reference.key
        );
        return Err(Missing {
            reason: Reason::Invalid,
            field: "key",
            message,
        });
    }
    value(secret.value, &reference.key).ok_or_else(|| Missing {
        reason: Reason::SecretNotFound,
        field: "key",
        message: no_key(secret, &reference.key),
    })
}

/// One key of a Secret. As an API server does, which never gives stringData back: it wins over data.
fn value(secret: &Secret, key: &str) -> Option<Key> {
    let text = secret.string_data.as_ref().and_then(|data| data.get(key));
    let bytes = secret.data.as_ref().and_then(|data| data.get(key));
    text.map(|text| Key::new(text.as_bytes()))
        .or_else(|| bytes.map(|bytes| Key::new(bytes.0.as_slice())))
}

fn no_key(secret: &Entry<'_, Secret>, key: &str) -> String {
    let data = secret.value.data.iter().flat_map(|data| data.keys());
    let text = secret.value.string_data.iter().flat_map(|data| data.keys());
    let keys: Vec<&String> = data.chain(text).collect();
    let keys = match keys.is_empty() {
        true => "it is empty".to_owned(),
        false => format!("it has: {}", listed(keys)),
    };
    format!("Secret {} has no key {key:?}; {keys}", secret.name)
}

/// What a Secret of type `kubernetes.io/tls` holds.
pub(super) fn certificate(secret: &Entry<'_, Secret>) -> Result<Certificate, (Reason, String)> {
    if secret.value.type_.as_deref() != Some(TLS) {
        let message = format!(
            "Secret {} is not of type {TLS}: make it with `kubectl create secret tls`, or name another",
            secret.name
        );
        return Err((Reason::RefNotPermitted, message));
    }
    Ok(Certificate {
        chain: pem(secret, "tls.crt", CERTIFICATE)?,
        key: pem(secret, "tls.key", "PRIVATE KEY-----")?,
    })
}

/// One key of a Secret, in PEM with this mark.
pub(super) fn pem(secret: &Entry<'_, Secret>, key: &str, mark: &str) -> Result<Key, (Reason, String)> {
    let value = required(secret, key)?;
    let is_pem = value.expose().windows(mark.len()).any(|text| text == mark.as_bytes());
    let not_pem = || format!("Secret {}: {key} is not PEM: it has no line \"{mark}\"", secret.name);
    is_pem.then_some(value).ok_or_else(|| (Reason::Invalid, not_pem()))
}

/// The Secret of this name, which a gateway may read; `None` where it is known to exist, and cannot be read here.
pub(super) fn of_gateway<'i>(
    name: &ObjectName,
    index: &'i Index<'_>,
    other_secrets: &Others,
) -> Result<Option<&'i Entry<'i, Secret>>, (Reason, String)> {
    let label = format!("{SECRET_USE_LABEL}: {SECRET_USE_GATEWAY}");
    match index.secrets.get(name) {
        Some(secret) if is_labelled(secret.value, SECRET_USE_GATEWAY) => Ok(Some(secret)),
        Some(_) => Err((
            Reason::RefNotPermitted,
            format!("Secret {name} is not for gateways to read: label it {label}"),
        )),
        None if other_secrets.have(name) => Ok(None),
        None => Err((
            Reason::SecretNotFound,
            format!("there is no Secret {name}: create it, labelled {label}"),
        )),
    }
}

/// One key of a Secret, which is there.
pub(super) fn required(secret: &Entry<'_, Secret>, key: &str) -> Result<Key, (Reason, String)> {
    value(secret.value, key).ok_or_else(|| (Reason::SecretNotFound, no_key(secret, key)))
}

/// One key of a Secret, where it has it.
pub(super) fn optional(secret: &Entry<'_, Secret>, key: &str) -> Option<Key> {
    value(secret.value, key)
}

fn not_found(name: &ObjectName, index: &Index<'_>) -> Missing {
    let in_namespace = index
        .secrets
        .values()
        .filter(|secret| secret.name.namespace == name.namespace);
    let labelled: Vec<&str> = in_namespace
        .filter(|secret| is_labelled(secret.value, SECRET_USE_CHANNEL))
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
