//! Who may reach the pods of a gateway, and whom they may: nobody, but for what a gateway is for.
//!
//! A policy knows addresses and labels, no names. What is outside the cluster, or may be, is allowed by port alone.

use std::collections::BTreeSet;

use aldis_crds::NotificationGatewaySpec;
use serde_json::{Value, json};
use url::Url;

use super::Owner;
use super::pods::{ADMIN_PORT, PEER_PORT};
use crate::validate::Validated;

/// Where names are looked up.
const DNS: u16 = 53;
/// The API server: its Service, and where its pods or machines mostly listen, which is what a policy is judged by.
const API_SERVER: [u16; 2] = [443, 6443];
/// Redis and its Sentinels, where a URL names no port.
const REDIS: u16 = 6379;
const SENTINEL: u16 = 26379;

/// In: listeners and the admin port from anywhere, because proxies, kubelets and Prometheus may be; the peer port from the other
/// pods of this gateway. Out: names, the API server, Kafka, Redis, keys of issuers, and the other pods.
pub(super) fn policy(owner: &Owner<'_>, validated: &Validated) -> Value {
    let spec = &validated.gateway.spec;
    let entrances = spec.listeners.iter().map(|listener| listener.port).chain([ADMIN_PORT]);
    let peers = json!([{ "podSelector": { "matchLabels": owner.selector() } }]);
    let body = json!({ "spec": {
        "podSelector": { "matchLabels": owner.selector() },
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            { "ports": tcp(entrances) },
            { "from": peers, "ports": tcp([PEER_PORT]) },
        ],
        "egress": [
            { "ports": [{ "port": DNS, "protocol": "UDP" }, { "port": DNS, "protocol": "TCP" }] },
            { "ports": tcp(outside(spec, validated)) },
            { "to": peers, "ports": tcp([PEER_PORT]) },
        ],
    } });
    owner.object("networking.k8s.io/v1", "NetworkPolicy", &owner.object_name(), body)
}

fn tcp(ports: impl IntoIterator<Item = u16>) -> Vec<Value> {
    let ports = ports.into_iter();
    ports.map(|port| json!({ "port": port, "protocol": "TCP" })).collect()
}

/// Ports of what may be anywhere, each once and in order.
fn outside(spec: &NotificationGatewaySpec, validated: &Validated) -> BTreeSet<u16> {
    let kafka = spec.kafka.bootstrap_servers.iter().filter_map(|server| port_of(server));
    let redis = spec.redis.iter().flat_map(|redis| redis_ports(&redis.url));
    let issuers = validated
        .channels
        .iter()
        .flat_map(|channel| &channel.spec.authentication);
    let issuers = issuers.flat_map(|authentication| &authentication.jwt);
    let keys = issuers.filter_map(|jwt| Url::parse(jwt.jwks_uri.as_ref()?).ok()?.port_or_known_default());
    API_SERVER
        .into_iter()
        .chain(kafka)
        .chain(redis)
        .chain(keys)
        .chain(spec.egress_ports.iter().copied())
        .collect()
}

/// The port of `host:port`.
fn port_of(server: &str) -> Option<u16> {
    server.rsplit_once(':')?.1.parse().ok()
}

/// `redis://host:6379/0`, `redis+sentinel://host:26379,host:26379/master`: the master of Sentinels is at a port that they tell,
/// mostly Redis' own.
fn redis_ports(url: &str) -> Vec<u16> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Vec::new();
    };
    let is_sentinel = scheme.contains("sentinel");
    let default = if is_sentinel { SENTINEL } else { REDIS };
    let servers = rest.split(['/', '?']).next().unwrap_or_default().split(',');
    let ports = servers.map(|server| port_of(server).unwrap_or(default));
    ports.chain(is_sentinel.then_some(REDIS)).collect()
}

#[cfg(test)]
mod tests;
