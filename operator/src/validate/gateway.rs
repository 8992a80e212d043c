//! What is wrong with a gateway by itself. An API server refuses most of it; what comes from elsewhere does not pass
//! one, and the next steps rely on it.

use aldis_crds::NotificationGateway;
use aldis_crds::addresses::AddressRange;

use aldis_crds::contract::{Keys, RedisKeys};
use aldis_crds::gateway::{Listener, Redis};

use super::index::{Entry, Index};
use super::{Object, ObjectName, Others, Problem, Reason, secrets};

/// Longest name of a gateway: its Service is called `aldis-<name>`, and 63 is the most that a Service may have.
const MAX_NAME: usize = 57;

/// Everything that is wrong.
pub(super) fn problems(gateway: &Entry<'_, NotificationGateway>) -> Vec<Problem> {
    let spec = &gateway.value.spec;
    let mut problems = Vec::new();
    let mut problem = |field: &str, message: String| {
        problems.push(Problem::new(
            Object::Gateway(gateway.index),
            Reason::Invalid,
            field,
            message,
        ));
    };
    let name = &gateway.name.name;
    if name.len() > MAX_NAME || name.contains('.') {
        let message = format!(
            "{name:?} does not do for the names of its Service and pods: at most {MAX_NAME} characters, and no ."
        );
        problem("metadata.name", message);
    }
    if spec.kafka.bootstrap_servers.is_empty() {
        problem(
            "spec.kafka.bootstrapServers",
            "name at least one broker, as host:port".to_owned(),
        );
    }
    if spec.kafka.ingress_topic == spec.kafka.dead_letter_topic {
        problem(
            "spec.kafka.ingressTopic",
            "what comes over HTTP needs a topic of its own, not that of the dead letters: name another".to_owned(),
        );
    }
    if spec.listeners.is_empty() {
        problem(
            "spec.listeners",
            "name at least one listener: clients could not connect".to_owned(),
        );
    }
    for (index, listener) in spec.listeners.iter().enumerate() {
        for bad in listener.engine_settings().err().into_iter().flatten() {
            problem(&format!("spec.listeners[{index}].{}", bad.field), bad.message);
        }
        if let Some(message) = cors_problem(listener) {
            problem(&format!("spec.listeners[{index}].cors"), message);
        }
        if listener.port == 0 {
            problem(
                &format!("spec.listeners[{index}].port"),
                "choose a port from 1 to 65535".to_owned(),
            );
        }
        for (position, range) in listener.trusted_proxies.iter().enumerate() {
            if AddressRange::parse(range).is_none() {
                let message = format!("{range:?} is no address and no range of addresses: write it as 10.0.0.0/8");
                problem(&format!("spec.listeners[{index}].trustedProxies[{position}]"), message);
            }
        }
        for (earlier, other) in spec.listeners[..index].iter().enumerate() {
            if other.name == listener.name {
                let message = format!(
                    "spec.listeners[{earlier}] has the name {:?} already: choose another",
                    other.name
                );
                problem(&format!("spec.listeners[{index}].name"), message);
            }
            if other.port == listener.port {
                let message = format!(
                    "spec.listeners[{earlier}] has the port {} already: choose another",
                    other.port
                );
                problem(&format!("spec.listeners[{index}].port"), message);
            }
        }
    }
    problems
}

/// A browser, or the gateway, could make nothing of it.
fn cors_problem(listener: &Listener) -> Option<String> {
    let cors = listener.cors.as_ref()?;
    let any = || cors.allowed_origins.iter().flatten().any(|origin| origin == "*");
    match &cors.allowed_origins {
        Some(_) if cors.reflect => Some("name allowedOrigins, or reflect: true, and not both".to_owned()),
        None if !cors.reflect => Some("name allowedOrigins, or reflect: true for any origin".to_owned()),
        Some(origins) if any() && (origins.len() > 1 || cors.allow_credentials) => Some(
            "\"*\" stands alone and without allowCredentials: reflect: true is what allows any origin with credentials"
                .to_owned(),
        ),
        _ => None,
    }
}

/// What its listeners end TLS with, and how it gets into Redis. One whose certificate is missing keeps no other from being
/// served; it is not opened.
pub(super) fn keys(
    gateway: &Entry<'_, NotificationGateway>,
    index: &Index<'_>,
    other_secrets: &Others,
    problems: &mut Vec<Problem>,
) -> Keys {
    let mut keys = Keys::default();
    for (position, listener) in gateway.value.spec.listeners.iter().enumerate() {
        let Some(tls) = &listener.tls else { continue };
        let name = ObjectName::new(&gateway.name.namespace, &tls.secret_ref.name);
        let found = match index.secrets.get(&name) {
            Some(secret) => secrets::certificate(secret),
            None if other_secrets.have(&name) => continue,
            None => Err((
                Reason::SecretNotFound,
                format!("there is no Secret {name}: create it with `kubectl create secret tls`"),
            )),
        };
        match found {
            Ok(certificate) => keys.insert_certificate(&listener.name, certificate),
            Err((reason, message)) => problems.push(Problem::new(
                Object::Gateway(gateway.index),
                reason,
                format!("spec.listeners[{position}].tls.secretRef.name"),
                message,
            )),
        }
    }
    if let Some(redis) = &gateway.value.spec.redis {
        keys.redis = redis_keys(redis, gateway, index, other_secrets, problems);
    }
    keys
}

/// How the gateway gets into Redis. Without what is missing it tries all the same: its clients are held, and no other's harm.
fn redis_keys(
    redis: &Redis,
    gateway: &Entry<'_, NotificationGateway>,
    index: &Index<'_>,
    other_secrets: &Others,
    problems: &mut Vec<Problem>,
) -> RedisKeys {
    let mut keys = RedisKeys::default();
    let mut problem = |field: &str, (reason, message): (Reason, String)| {
        let field = format!("spec.redis.{field}");
        problems.push(Problem::new(Object::Gateway(gateway.index), reason, field, message));
    };
    let find = |name: &str| {
        let name = ObjectName::new(&gateway.name.namespace, name);
        secrets::of_gateway(&name, index, other_secrets)
    };
    if let Some(reference) = &redis.secret_ref {
        match find(&reference.name) {
            Ok(Some(secret)) => {
                keys.username = secrets::optional(secret, "username");
                match secrets::required(secret, "password") {
                    Ok(password) => keys.password = Some(password),
                    Err(missing) => problem("secretRef.name", missing),
                }
            }
            Ok(None) => {}
            Err(wrong) => problem("secretRef.name", wrong),
        }
    }
    if let Some(reference) = redis.tls.as_ref().map(|tls| &tls.ca_secret_ref) {
        match find(&reference.name) {
            Ok(Some(secret)) => match secrets::pem(secret, &reference.key, secrets::CERTIFICATE) {
                Ok(ca) => keys.ca = Some(ca),
                Err(missing) => problem("tls.caSecretRef.key", missing),
            },
            Ok(None) => {}
            Err(wrong) => problem("tls.caSecretRef.name", wrong),
        }
    }
    keys
}
