//! What is wrong with a gateway by itself. An API server refuses most of it; what comes from elsewhere does not pass
//! one, and the next steps rely on it.

use aldis_crds::NotificationGateway;
use aldis_crds::addresses::AddressRange;
use aldis_crds::gateway::Listener;

use super::index::Entry;
use super::{Object, Problem, Reason};

/// Longest name of a gateway: its Service is called `aldis-<name>`, and 63 is the most that a Service may have.
const MAX_NAME: usize = 57;

/// Everything that is wrong.
pub(super) fn problems(gateway: &Entry<'_, NotificationGateway>) -> Vec<Problem> {
    let spec = &gateway.value.spec;
    let mut problems = Vec::new();
    let of = |reason: Reason, field: &str, message: String| {
        Problem::new(Object::Gateway(gateway.index), reason, field, message)
    };
    let mut problem = |field: &str, message: String| problems.push(of(Reason::Invalid, field, message));
    let mut conflicts = Vec::new();
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
                let field = format!("spec.listeners[{index}].name");
                conflicts.push(of(Reason::Conflicted, &field, message));
            }
            if other.port == listener.port {
                let message = format!(
                    "spec.listeners[{earlier}] has the port {} already: choose another",
                    other.port
                );
                let field = format!("spec.listeners[{index}].port");
                conflicts.push(of(Reason::Conflicted, &field, message));
            }
        }
    }
    problems.extend(conflicts);
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
