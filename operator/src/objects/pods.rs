//! The pods of a gateway and what stands around them.

use aldis_crds::NotificationGatewaySpec;
use aldis_crds::configuration::hash;
use aldis_crds::gateway::Autoscaling;
use serde_json::{Value, json};

use super::Owner;

/// Health and metrics, for the kubelet and Prometheus.
pub(super) const ADMIN_PORT: u16 = 9901;
/// What clients ask of a replica that has not their session is passed on to the peer port of the one that has.
pub(super) const PEER_PORT: u16 = 9903;
/// Pods of a gateway that names no number: one may go, and the other takes over.
const REPLICAS: u32 = 2;
/// Seconds from the deletion of a pod to SIGKILL. 60: 5 of endpoint lag, 5 to leave the consumer group, 25 of closing, 5 for the
/// last bytes, and a margin.
const GRACE_SECONDS: u32 = 60;
/// Seconds before SIGTERM in which a pod still takes clients: those to whom it is not gone yet.
const ENDPOINT_LAG_SECONDS: u32 = 5;
/// Seconds over which clients are closed one by one after SIGTERM.
const DRAIN_SECONDS: u32 = 25;
/// The annotation of pods with what they can not take over while they run: where it changes they are replaced.
const STARTED_WITH_ANNOTATION: &str = "aldis.dev/started-with";
/// Percent of the CPU that pods request.
const TARGET_CPU: u32 = 70;

/// Deployment, Service, disruption budget, autoscaler.
pub(super) fn objects(owner: &Owner<'_>, spec: &NotificationGatewaySpec) -> Vec<Value> {
    let mut objects = vec![deployment(owner, spec), service(owner, spec), disruption_budget(owner)];
    // On connections the operator scales by itself: another autoscaler would work against it.
    if let Some(autoscaling) = &spec.autoscaling
        && autoscaling.target_connections_per_replica.is_none()
    {
        objects.push(autoscaler(owner, autoscaling));
    }
    objects
}

fn deployment(owner: &Owner<'_>, spec: &NotificationGatewaySpec) -> Value {
    let mut deployment = json!({
        "selector": { "matchLabels": owner.selector() },
        "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } },
        "template": pod_template(owner, spec),
    });
    // Whoever scales owns the number; a field that is applied here would be reset on each pass.
    if spec.autoscaling.is_none() && !owner.replicas_are_external {
        deployment["replicas"] = spec.replicas.unwrap_or(REPLICAS).into();
    }
    let name = owner.object_name();
    owner.object("apps/v1", "Deployment", &name, json!({ "spec": deployment }))
}

fn pod_template(owner: &Owner<'_>, spec: &NotificationGatewaySpec) -> Value {
    let mut pod = json!({
        "serviceAccountName": owner.object_name(),
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
            "seccompProfile": { "type": "RuntimeDefault" }
        },
        "topologySpreadConstraints": [
            { "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": { "matchLabels": owner.selector() } },
            { "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": { "matchLabels": owner.selector() } }
        ],
        "containers": [container(owner, spec)],
        // The token that reads the configuration: short-lived, and with the API server's certificate beside it.
        "volumes": [{ "name": "api", "projected": { "sources": [
            { "serviceAccountToken": { "path": "token", "expirationSeconds": 3600 } },
            { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
            { "downwardAPI": { "items": [{ "path": "namespace", "fieldRef": { "fieldPath": "metadata.namespace" } }] } }
        ] } }],
    });
    let template = &spec.template;
    if !template.node_selector.is_empty() {
        pod["nodeSelector"] = json!(template.node_selector);
    }
    if let Some(tolerations) = &template.tolerations {
        pod["tolerations"] = tolerations.clone();
    }
    let mut annotations = template.pod_annotations.clone();
    annotations.insert(STARTED_WITH_ANNOTATION.to_owned(), hash(&(&spec.kafka, &spec.redis)));
    json!({ "metadata": { "labels": owner.labels(), "annotations": annotations }, "spec": pod })
}

fn container(owner: &Owner<'_>, spec: &NotificationGatewaySpec) -> Value {
    let template = &spec.template;
    let probe = |path: &str| json!({ "path": path, "port": "admin", "scheme": "HTTP" });
    let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let default_resources = || json!({ "requests": { "cpu": "100m", "memory": "128Mi" } });
    json!({
        "name": "gateway",
        "image": template.image.as_ref().unwrap_or(&owner.installation.gateway_image),
        "args": [
            "--gateway", owner.name.to_string(), "--admin", format!("0.0.0.0:{ADMIN_PORT}"),
            "--drain-grace", "0", "--drain-spread", DRAIN_SECONDS.to_string(),
        ],
        // Not an argument: an image of before it knows nothing of it, and starts all the same.
        "env": [
            field("POD_NAME", "metadata.name"), field("POD_UID", "metadata.uid"), field("POD_IP", "status.podIP"),
            { "name": "ALDIS_PEERS", "value": format!("0.0.0.0:{PEER_PORT}") },
        ],
        // Not those of listeners: they come and go while pods run.
        "ports": [{ "name": "admin", "containerPort": ADMIN_PORT, "protocol": "TCP" }],
        "resources": template.resources.clone().unwrap_or_else(default_resources),
        "startupProbe": { "httpGet": probe("/health/ready"), "periodSeconds": 1, "failureThreshold": 120 },
        "readinessProbe": { "httpGet": probe("/health/ready"), "periodSeconds": 5, "failureThreshold": 2 },
        "livenessProbe": { "httpGet": probe("/health/live"), "periodSeconds": 10, "failureThreshold": 6 },
        "lifecycle": { "preStop": { "sleep": { "seconds": ENDPOINT_LAG_SECONDS } } },
        "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true,
            "capabilities": { "drop": ["ALL"] }
        },
        "volumeMounts": [{ "name": "api", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true }],
    })
}

fn service(owner: &Owner<'_>, spec: &NotificationGatewaySpec) -> Value {
    let ports = spec.listeners.iter().enumerate();
    let ports = ports.map(|(index, listener)| {
        // Names of listeners may be longer than those of ports.
        json!({ "name": format!("listener-{index}"), "port": listener.port, "targetPort": listener.port, "protocol": "TCP" })
    });
    let body = json!({ "spec": {
        "type": "ClusterIP",
        "selector": owner.selector(),
        "ports": ports.collect::<Vec<_>>(),
        // A polling session belongs to one pod, which others know where they share a Redis.
        "sessionAffinity": "ClientIP",
    } });
    owner.object("v1", "Service", &owner.object_name(), body)
}

/// One pod at a time may be drained, also the last one: a budget that blocks a drain is worked around.
fn disruption_budget(owner: &Owner<'_>) -> Value {
    let body = json!({ "spec": {
        "maxUnavailable": 1,
        "selector": { "matchLabels": owner.selector() },
        // A pod that is not ready has no clients to protect.
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    } });
    owner.object("policy/v1", "PodDisruptionBudget", &owner.object_name(), body)
}

fn autoscaler(owner: &Owner<'_>, autoscaling: &Autoscaling) -> Value {
    let name = owner.object_name();
    let target = autoscaling.target_cpu_utilization.unwrap_or(TARGET_CPU);
    let body = json!({ "spec": {
        "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name },
        "minReplicas": autoscaling.min_replicas,
        "maxReplicas": autoscaling.max_replicas,
        "metrics": [{ "type": "Resource", "resource": {
            "name": "cpu", "target": { "type": "Utilization", "averageUtilization": target }
        } }],
    } });
    owner.object("autoscaling/v2", "HorizontalPodAutoscaler", &name, body)
}
