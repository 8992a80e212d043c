//! A matrix of flows, judged as Kubernetes judges them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use aldis_crds::addresses::AddressRange;
use aldis_crds::contract::Keys;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use super::*;
use crate::objects::Installation;
use crate::validate::{Gateway, ObjectName};

type Labels = BTreeMap<String, String>;

/// One side of a flow: a pod, with its own labels and those of its namespace, or an address outside.
#[derive(Clone)]
enum Side {
    Pod {
        namespace: &'static str,
        labels: Labels,
        namespace_labels: Labels,
    },
    Outside(IpAddr),
}

/// Whether a selector of labels matches. matchExpressions are not judged: a policy that has some fails its test here.
fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    assert!(selector.match_expressions.is_none(), "not judged here");
    let wanted = selector.match_labels.iter().flatten();
    wanted.into_iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn is_peer(policy: &NetworkPolicy, peer: &NetworkPolicyPeer, side: &Side) -> bool {
    match side {
        Side::Outside(address) => peer.ip_block.as_ref().is_some_and(|block| {
            let holds = |range: &String| AddressRange::parse(range).unwrap().holds(*address);
            holds(&block.cidr) && !block.except.iter().flatten().any(holds)
        }),
        Side::Pod {
            namespace,
            labels,
            namespace_labels,
        } => {
            let in_namespace = match &peer.namespace_selector {
                Some(selector) => selects(selector, namespace_labels),
                None => policy.metadata.namespace.as_deref() == Some(*namespace),
            };
            let is_pod = peer
                .pod_selector
                .as_ref()
                .is_none_or(|selector| selects(selector, labels));
            peer.ip_block.is_none() && in_namespace && is_pod
        }
    }
}

/// A rule fits where one of its peers and one of its ports does; none of them listed is all of them.
fn fits(
    policy: &NetworkPolicy,
    peers: Option<&Vec<NetworkPolicyPeer>>,
    ports: Option<&Vec<NetworkPolicyPort>>,
    other: &Side,
    (protocol, port): (&str, u16),
) -> bool {
    let no_peers = peers.is_none_or(Vec::is_empty);
    let no_ports = ports.is_none_or(Vec::is_empty);
    let of_port = |rule: &NetworkPolicyPort| {
        let is_protocol = rule.protocol.as_deref().unwrap_or("TCP") == protocol;
        is_protocol
            && match (&rule.port, rule.end_port) {
                (None, _) => true,
                (Some(IntOrString::Int(first)), None) => *first == i32::from(port),
                (Some(IntOrString::Int(first)), Some(last)) => (*first..=last).contains(&i32::from(port)),
                (Some(IntOrString::String(name)), _) => panic!("{name}: names of ports are not judged here"),
            }
    };
    (no_peers || peers.into_iter().flatten().any(|peer| is_peer(policy, peer, other)))
        && (no_ports || ports.into_iter().flatten().any(of_port))
}

/// Whether the policy lets a flow pass between a pod of `namespace` with `labels` and `other`. A pod that no policy selects for a
/// direction is open in it.
fn allows(policy: &NetworkPolicy, pod: &Side, direction: &str, other: &Side, port: (&str, u16)) -> bool {
    let Side::Pod { namespace, labels, .. } = pod else {
        panic!("a policy is of a pod");
    };
    let spec = policy.spec.as_ref().unwrap();
    let selected = policy.metadata.namespace.as_deref() == Some(*namespace)
        && spec
            .pod_selector
            .as_ref()
            .is_none_or(|selector| selects(selector, labels));
    if !selected || !spec.policy_types.iter().flatten().any(|of| of == direction) {
        return true;
    }
    match direction {
        "Ingress" => spec
            .ingress
            .iter()
            .flatten()
            .any(|rule| fits(policy, rule.from.as_ref(), rule.ports.as_ref(), other, port)),
        _ => spec
            .egress
            .iter()
            .flatten()
            .any(|rule| fits(policy, rule.to.as_ref(), rule.ports.as_ref(), other, port)),
    }
}

fn gateway(spec: Value, channels: Value) -> NetworkPolicy {
    let name = ObjectName::new("realtime", "shared");
    let validated = Validated {
        gateway: Gateway {
            name: name.clone(),
            spec: serde_json::from_value(spec).unwrap(),
        },
        channels: serde_json::from_value(channels).unwrap(),
        tenants: Default::default(),
        keys: Keys::default(),
    };
    let installation = Installation {
        id: "aldis".to_owned(),
        gateway_image: String::new(),
    };
    let owner = Owner {
        name: &name,
        uid: "u",
        installation: &installation,
        replicas_are_external: false,
    };
    serde_json::from_value(policy(&owner, &validated)).unwrap()
}

fn pod(namespace: &'static str, name: &str, instance: &str) -> Side {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    Side::Pod {
        namespace,
        labels: [
            label("app.kubernetes.io/name", name),
            label("app.kubernetes.io/instance", instance),
        ]
        .into(),
        namespace_labels: [label("kubernetes.io/metadata.name", namespace)].into(),
    }
}

#[test]
fn what_a_gateway_is_for_passes_and_nothing_else_does() {
    let channel = json!({
        "channel": { "namespace": "bistro", "name": "orders" },
        "attachments": [],
        "spec": {
            "parentRefs": [{ "name": "shared" }],
            "authentication": { "jwt": [
                { "name": "staff", "issuer": "i", "audiences": ["a"], "jwksUri": "https://id.bistro.example:8443/jwks", "identity": { "user": "claims.sub" } }
            ] }
        }
    });
    let policy = gateway(
        json!({
            "kafka": { "bootstrapServers": ["kafka-0.kafka:9092", "kafka-1.kafka:9093"] },
            "redis": { "url": "redis://redis" },
            "listeners": [{ "name": "web", "port": 3000 }, { "name": "tls", "port": 3443 }],
            "egressPorts": [32100],
        }),
        json!([channel]),
    );
    let own = pod("realtime", "aldis-gateway", "shared");
    let (ingress, prometheus) = (pod("ingress", "nginx", "x"), pod("monitoring", "prometheus", "x"));
    let other_gateway = pod("realtime", "aldis-gateway", "other");
    let namesake = pod("elsewhere", "aldis-gateway", "shared");
    let node = Side::Outside("10.0.0.7".parse().unwrap());
    let internet = Side::Outside("203.0.113.7".parse().unwrap());
    let tcp = |port| ("TCP", port);
    let flows: [(&str, &Side, (&str, u16), bool); 29] = [
        // In: listeners from anybody, health for the kubelet on its node, metrics for Prometheus.
        ("Ingress", &ingress, tcp(3000), true),
        ("Ingress", &internet, tcp(3443), true),
        ("Ingress", &node, tcp(9901), true),
        ("Ingress", &prometheus, tcp(9901), true),
        // What replicas pass on: from this gateway's own pods alone.
        ("Ingress", &own, tcp(9903), true),
        ("Ingress", &other_gateway, tcp(9903), false),
        ("Ingress", &namesake, tcp(9903), false),
        ("Ingress", &ingress, tcp(9903), false),
        ("Ingress", &internet, tcp(9903), false),
        // Nothing else.
        ("Ingress", &ingress, tcp(3001), false),
        ("Ingress", &ingress, ("UDP", 3000), false),
        ("Ingress", &own, tcp(22), false),
        // Out: names, the API server, Kafka, Redis, an issuer's keys, what was asked for.
        ("Egress", &pod("kube-system", "coredns", "x"), ("UDP", 53), true),
        ("Egress", &internet, tcp(53), true),
        ("Egress", &node, tcp(6443), true),
        ("Egress", &node, tcp(443), true),
        ("Egress", &pod("kafka", "kafka", "x"), tcp(9092), true),
        ("Egress", &internet, tcp(9093), true),
        ("Egress", &pod("redis", "redis", "x"), tcp(6379), true),
        ("Egress", &internet, tcp(8443), true),
        ("Egress", &internet, tcp(32100), true),
        ("Egress", &own, tcp(9903), true),
        // Nothing else: neither a tenant's pods, nor the cloud's metadata, nor mail.
        ("Egress", &other_gateway, tcp(9903), false),
        ("Egress", &internet, tcp(9903), false),
        ("Egress", &internet, ("UDP", 9092), false),
        ("Egress", &pod("bistro", "shop", "x"), tcp(8080), false),
        (
            "Egress",
            &Side::Outside("169.254.169.254".parse().unwrap()),
            tcp(80),
            false,
        ),
        ("Egress", &internet, tcp(25), false),
        ("Egress", &pod("redis", "redis", "x"), tcp(26379), false),
    ];
    for (direction, other, port, passes) in flows {
        assert_eq!(
            allows(&policy, &own, direction, other, port),
            passes,
            "{direction} {port:?}"
        );
    }
    // It is about this gateway's pods, and nobody else's.
    for stranger in [&other_gateway, &namesake] {
        assert!(allows(&policy, stranger, "Ingress", &internet, tcp(22)));
        assert!(allows(&policy, stranger, "Egress", &internet, tcp(25)));
    }
}

#[test]
fn every_form_of_a_redis_url_opens_its_ports() {
    for (url, ports) in [
        ("redis://redis:6379", vec![6379]),
        ("rediss://redis", vec![6379]),
        ("rediss://redis:6380/2", vec![6380]),
        ("redis://[fd00::1]:7000", vec![7000]),
        ("redis+sentinel://a:26379,b/main", vec![26379, 26379, 6379]),
        ("rediss+sentinel://a:5000/main?x=1", vec![5000, 6379]),
    ] {
        assert_eq!(redis_ports(url), ports, "{url}");
    }
}
