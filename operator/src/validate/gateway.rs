//! What is wrong with a gateway by itself. An API server refuses most of it; what comes from elsewhere does not pass
//! one, and the next steps rely on it.

use aldis_crds::NotificationGateway;

use super::index::Entry;
use super::{Object, Problem, Reason};

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
    if spec.kafka.bootstrap_servers.is_empty() {
        problem(
            "spec.kafka.bootstrapServers",
            "name at least one broker, as host:port".to_owned(),
        );
    }
    if spec.listeners.is_empty() {
        problem(
            "spec.listeners",
            "name at least one listener: clients could not connect".to_owned(),
        );
    }
    for (index, listener) in spec.listeners.iter().enumerate() {
        if listener.port == 0 {
            problem(
                &format!("spec.listeners[{index}].port"),
                "choose a port from 1 to 65535".to_owned(),
            );
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
