//! acknowledge: each pod says by a Lease of its own what it serves, what of that it can not, and how many clients it has.
//!
//! The operator counts only Leases that are fresh: one that is not renewed is of a pod that has gone, or hangs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aldis_crds::config_object::{CANNOT_SERVE_ANNOTATION, CONNECTIONS_ANNOTATION, GATEWAY_LABEL, SERVES_ANNOTATION};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::cluster::GatewayName;
use crate::metrics::Metrics;
use crate::status::{InForce, Phase, Status};

/// Between renewals. 15 s: three may fail before the Lease is stale.
const RENEW: Duration = Duration::from_secs(15);
/// Seconds for which a Lease counts.
const LEASE_SECONDS: u64 = 45;
/// After a write that failed. 2 s.
const RETRY: Duration = Duration::from_secs(2);
/// For one write. 5 s.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Who writes Leases, for the API server.
const FIELD_MANAGER: &str = "aldis-gateway";
/// Channels that can not be served, as they are told. 2,000: with the bounds below 180 KiB of the 256 that annotations may have.
/// A pod with more of them says that it serves nothing.
const MAX_TOLD: usize = 2000;
/// Of those, with the reason.
const MAX_REASONS: usize = 100;
/// Characters of a reason.
const MAX_REASON_CHARS: usize = 200;

/// Who says it.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its name, which is that of its Lease.
    pub name: String,
    /// Its uid: the Lease goes with the pod.
    pub uid: String,
}

/// Writes the Lease of a pod.
pub struct Acknowledger {
    leases: Api<Lease>,
    gateway: GatewayName,
    pod: Pod,
}

impl Acknowledger {
    /// Of this pod of a gateway.
    pub fn new(client: Client, gateway: GatewayName, pod: Pod) -> Self {
        let leases = Api::namespaced(client, &gateway.namespace);
        Self { leases, gateway, pod }
    }

    /// Says what is in force, at each change and at intervals, until it is dropped.
    pub async fn run(self, status: Arc<Status>, metrics: Arc<Metrics>) {
        loop {
            let connections = metrics.connections();
            let lease = lease(&self.gateway, &self.pod, &status, connections, Timestamp::now());
            let params = PatchParams::apply(FIELD_MANAGER).force();
            let patch = Patch::Apply(&lease);
            let written = tokio::time::timeout(WRITE_TIMEOUT, self.leases.patch(&self.pod.name, &params, &patch)).await;
            let failed = match written {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("no answer within {} s", WRITE_TIMEOUT.as_secs())),
            };
            metrics.acknowledged(failed.is_none());
            let wait = match failed {
                None => RENEW,
                Some(error) => {
                    tracing::warn!(
                        error,
                        lease = self.pod.name,
                        "the operator can not be told what is in force, trying again"
                    );
                    RETRY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = status.changed() => {}
            }
        }
    }
}

/// What a pod says now. The number of its clients is as old as the Lease: it alone is no reason to write one.
fn lease(gateway: &GatewayName, pod: &Pod, status: &Status, connections: u64, now: Timestamp) -> Value {
    let in_force = status.in_force();
    let cannot = cannot_serve(&in_force, status.kafka_refused().as_deref());
    let serves = match status.phase() {
        Phase::Serving if cannot.len() <= MAX_TOLD => in_force.hash.as_str(),
        _ => "",
    };
    let cannot = if serves.is_empty() { BTreeMap::new() } else { cannot };
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": pod.name,
            "namespace": gateway.namespace,
            "labels": { GATEWAY_LABEL: gateway.name },
            "annotations": {
                SERVES_ANNOTATION: serves,
                CANNOT_SERVE_ANNOTATION: json!(cannot).to_string(),
                CONNECTIONS_ANNOTATION: connections.to_string(),
            },
            "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid }]
        },
        "spec": {
            "holderIdentity": pod.name,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": now.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
        }
    })
}

/// By hash, of a channel or of all: what is wrong.
fn cannot_serve(in_force: &InForce, kafka_refused: Option<&String>) -> BTreeMap<String, String> {
    let mut cannot = BTreeMap::new();
    let channels = in_force.config.iter().flat_map(|config| &config.channels);
    let parts: BTreeMap<_, _> = channels.map(|channel| &channel.channel).zip(&in_force.parts).collect();
    for (count, bad) in in_force.bad_channels.iter().enumerate() {
        let Some(part) = parts.get(&bad.channel) else { continue };
        let problem = bad.problems.first().filter(|_| count < MAX_REASONS);
        let problem = problem.map(|problem| cut(&format!("{}: {}", problem.field, problem.message)));
        cannot.insert((*part).clone(), problem.unwrap_or_default());
    }
    let listener = in_force.bad_listeners.first();
    let listener = listener.map(|(name, problem)| format!("listener {name}: {problem}"));
    let restart = in_force.needs_restart.first();
    let restart = restart.map(|field| format!("a change of {field} needs other pods"));
    if let Some(problem) = listener.or(restart).or_else(|| kafka_refused.cloned()) {
        cannot.insert(in_force.hash.clone(), cut(&problem));
    }
    cannot
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_REASON_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use aldis_core::compiler::Problem;
    use aldis_core::table::BadChannel;
    use aldis_crds::configuration::Revision;
    use aldis_crds::contract::Keys;

    use super::*;
    use crate::listener::policy::BadListener;

    fn revision(channels: usize) -> Revision {
        let channel = |number: usize| {
            json!({
                "channel": { "namespace": "bistro", "name": format!("c{number}") },
                "attachments": [],
                "spec": { "parentRefs": [{ "name": "shared" }] }
            })
        };
        let value = json!({
            "version": 1,
            "kafka": { "bootstrapServers": [], "groupId": "", "deadLetterTopic": "" },
            "listeners": [],
            "channels": (0..channels).map(channel).collect::<Vec<_>>()
        });
        Revision::new(serde_json::from_value(value).unwrap(), Keys::default())
    }

    /// With this many bad channels.
    fn in_force(bad: usize) -> InForce {
        let revision = revision(bad + 1);
        let problem = Problem {
            field: "spec.routes[0].when".to_owned(),
            message: "é".repeat(5000),
        };
        let bad_channels = revision.config.channels[..bad].iter();
        let bad_channels = bad_channels.map(|channel| BadChannel {
            channel: channel.channel.clone(),
            problems: vec![problem.clone()],
        });
        InForce {
            bad_channels: bad_channels.collect(),
            hash: revision.hash,
            parts: revision.parts,
            config: Some(revision.config),
            ..InForce::default()
        }
    }

    fn said(status: &Status) -> (String, BTreeMap<String, String>) {
        let gateway = "realtime/shared".parse().unwrap();
        let (name, uid) = ("aldis-shared-a".to_owned(), "u".to_owned());
        let lease = lease(&gateway, &Pod { name, uid }, status, 7, Timestamp::UNIX_EPOCH);
        let typed: Lease = serde_json::from_value(lease).unwrap();
        let annotations = typed.metadata.annotations.unwrap();
        let bytes: usize = annotations.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(bytes < 256 * 1024, "an API server takes no more: {bytes}");
        assert_eq!(annotations[CONNECTIONS_ANNOTATION], "7");
        let cannot = serde_json::from_str(&annotations[CANNOT_SERVE_ANNOTATION]).unwrap();
        (annotations[SERVES_ANNOTATION].clone(), cannot)
    }

    #[test]
    fn a_pod_says_what_it_serves_and_what_of_it_not_and_nothing_before_and_after() {
        let status = Status::default();
        status.put_in_force(in_force(1));
        assert_eq!(
            said(&status),
            (String::new(), BTreeMap::new()),
            "it does not take clients yet"
        );
        status.enter(Phase::Serving);
        let (serves, cannot) = said(&status);
        let now = status.in_force();
        assert_eq!(serves, now.hash);
        assert_eq!(cannot.keys().collect::<Vec<_>>(), [&now.parts[0]]);
        assert!(cannot[&now.parts[0]].starts_with("spec.routes[0].when: é"));
        status.set_kafka_refused(Some("Kafka refuses the user".to_owned()));
        assert_eq!(said(&status).1[&now.hash], "Kafka refuses the user");
        status.set_bad_listeners(vec![("web".to_owned(), BadListener::NoCertificate)]);
        assert!(said(&status).1[&now.hash].starts_with("listener web: there is no certificate"));
        status.enter(Phase::Draining);
        assert_eq!(said(&status), (String::new(), BTreeMap::new()));
    }

    #[test]
    fn however_much_is_bad_an_api_server_takes_it_and_what_is_not_told_is_not_acknowledged() {
        let status = Status::default();
        status.enter(Phase::Serving);
        status.put_in_force(in_force(MAX_TOLD));
        assert_eq!(said(&status).1.len(), MAX_TOLD);
        status.put_in_force(in_force(MAX_TOLD + 1));
        assert_eq!(said(&status), (String::new(), BTreeMap::new()));
    }
}
