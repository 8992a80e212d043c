//! What leads clients from outside the cluster to a listener. Replicas pass requests on to each other, so nothing here asks that a
//! client stays with one of them.

use aldis_crds::NotificationGatewaySpec;
use aldis_crds::gateway::{HttpRoute, Ingress, Listener, RouteParent};
use serde_json::{Value, json};

use super::Owner;

/// Kinds of these objects, with their groups and versions: those that no listener asks for any more are deleted.
pub const KINDS: [(&str, &str, &str); 2] = [
    ("networking.k8s.io", "v1", "Ingress"),
    ("gateway.networking.k8s.io", "v1", "HTTPRoute"),
];

/// An Ingress and an HTTPRoute for each listener that asks for them.
pub(super) fn objects(owner: &Owner<'_>, spec: &NotificationGatewaySpec) -> Vec<Value> {
    let asked = spec
        .listeners
        .iter()
        .filter_map(|listener| Some((listener, listener.expose.as_ref()?)));
    let mut objects: Vec<_> = asked
        .clone()
        .filter_map(|(listener, expose)| Some(ingress(owner, listener, expose.ingress.as_ref()?)))
        .collect();
    objects
        .extend(asked.filter_map(|(listener, expose)| Some(http_route(owner, listener, expose.http_route.as_ref()?))));
    objects
}

/// The name of a listener holds no `.`: no two gateways share one.
fn name(owner: &Owner<'_>, listener: &Listener) -> String {
    format!("{}.{}", owner.object_name(), listener.name)
}

fn ingress(owner: &Owner<'_>, listener: &Listener, ingress: &Ingress) -> Value {
    let mut rule = json!({ "http": { "paths": [{
        "path": "/", "pathType": "Prefix",
        "backend": { "service": { "name": owner.object_name(), "port": { "number": listener.port } } }
    }] } });
    if let Some(hostname) = &listener.hostname {
        rule["host"] = json!(hostname);
    }
    let mut spec = json!({ "rules": [rule] });
    if let Some(class) = &ingress.class_name {
        spec["ingressClassName"] = json!(class);
    }
    if let Some(tls) = &ingress.tls {
        let hosts: Vec<_> = listener.hostname.iter().collect();
        spec["tls"] = json!([{ "hosts": hosts, "secretName": tls.secret_ref.name }]);
    }
    let mut object = owner.object(
        "networking.k8s.io/v1",
        "Ingress",
        &name(owner, listener),
        json!({ "spec": spec }),
    );
    if !ingress.annotations.is_empty() {
        object["metadata"]["annotations"] = json!(ingress.annotations);
    }
    object
}

fn http_route(owner: &Owner<'_>, listener: &Listener, route: &HttpRoute) -> Value {
    let mut spec = json!({
        "parentRefs": route.parent_refs.iter().map(parent).collect::<Vec<_>>(),
        "rules": [{
            "matches": [{ "path": { "type": "PathPrefix", "value": "/" } }],
            "backendRefs": [{ "name": owner.object_name(), "port": listener.port }]
        }]
    });
    if let Some(hostname) = &listener.hostname {
        spec["hostnames"] = json!([hostname]);
    }
    let (version, kind) = ("gateway.networking.k8s.io/v1", "HTTPRoute");
    let mut object = owner.object(version, kind, &name(owner, listener), json!({ "spec": spec }));
    if !route.annotations.is_empty() {
        object["metadata"]["annotations"] = json!(route.annotations);
    }
    object
}

fn parent(parent: &RouteParent) -> Value {
    let mut object = json!({ "name": parent.name });
    for (field, value) in [("namespace", &parent.namespace), ("sectionName", &parent.section_name)] {
        if let Some(value) = value {
            object[field] = json!(value);
        }
    }
    object
}
