//! What pods of a gateway may do in the cluster: read their configuration and keys, and say which they serve.

use aldis_crds::config_object::keys_name;
use serde_json::{Value, json};

use super::Owner;

/// The account of the pods and its rights.
pub(super) fn objects(owner: &Owner<'_>) -> Vec<Value> {
    let name = owner.object_name();
    let rules = json!([
        // A list cannot be narrowed to a gateway: those that share a namespace see each other's configuration, without keys.
        { "apiGroups": ["aldis.dev"], "resources": ["gatewayconfigs"], "verbs": ["get", "list", "watch"] },
        { "apiGroups": [""], "resources": ["secrets"], "resourceNames": [keys_name(&owner.name.name)], "verbs": ["get", "list", "watch"] },
        // Each pod acknowledges by a Lease of its own name, which server-side apply makes.
        { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create", "patch"] },
    ]);
    vec![
        owner.object(
            "v1",
            "ServiceAccount",
            &name,
            json!({ "automountServiceAccountToken": false }),
        ),
        owner.object("rbac.authorization.k8s.io/v1", "Role", &name, json!({ "rules": rules })),
        owner.object(
            "rbac.authorization.k8s.io/v1",
            "RoleBinding",
            &name,
            json!({
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name },
                "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": owner.name.namespace }]
            }),
        ),
    ]
}
