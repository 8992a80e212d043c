//! What the platform team and the tenant apply.

use serde_json::{Value, json};

/// What the platform team applies: both namespaces, how one gets into Redis, and the gateway.
pub(super) fn gateway(kafka: &str, redis: &str, redis_password: &str) -> String {
    format!(
        "apiVersion: v1
kind: Namespace
metadata: {{name: realtime, labels: {{pod-security.kubernetes.io/enforce: restricted}}}}
---
{}
---
{}
---
apiVersion: aldis.dev/v1alpha1
kind: NotificationGateway
metadata: {{name: shared, namespace: realtime}}
spec:
  kafka: {{bootstrapServers: [\"{kafka}\"]}}
  redis: {{url: \"{redis}\", secretRef: {{name: redis}}}}
  listeners: [{{name: web, port: 3000}}]
  replicas: 1
  tenants: {}
",
        namespace(),
        redis_secret(redis_password),
        tenants(&["web"]),
    )
}

/// The tenant's namespace.
pub(super) fn namespace() -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "bistro" } })
}

/// How the gateway gets into Redis.
pub(super) fn redis_secret(password: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": "redis", "namespace": "realtime", "labels": { "aldis.dev/use": "gateway" } },
        "stringData": { "username": "aldis", "password": password }
    })
}

/// Whom the gateway lets attach: namespace bistro, on these listeners.
pub(super) fn tenants(listeners: &[&str]) -> Value {
    json!([{
        "name": "bistro",
        "namespaces": { "matchLabels": { "kubernetes.io/metadata.name": "bistro" } },
        "listeners": listeners,
        "paths": ["/{namespace}/*"],
        "topics": ["orders"],
        "authentication": ["jwt"]
    }])
}

/// The key of the tenant's tokens.
pub(super) fn token_secret(value: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": "jwt", "namespace": "bistro", "labels": { "aldis.dev/use": "channel" } },
        "stringData": { "secret": value }
    })
}

/// What the tenant applies.
pub(super) const CHANNEL: &str = "apiVersion: aldis.dev/v1alpha1
kind: NotificationChannel
metadata: {name: orders, namespace: bistro}
spec:
  parentRefs: [{name: shared, namespace: realtime}]
  authentication:
    jwt: [{name: staff, secretRef: {name: jwt, key: secret}, algorithms: [HS256], identity: {user: claims.sub}}]
  sources: [{name: orders, kafka: {topics: [orders]}, type: placed, data: \"{body}\"}]
  rooms: [{name: all, key: all, join: {auto: {}}}]
  routes: [{types: [placed], emit: [{event: placed, to: [{room: all}]}]}]
  history: {size: 5000, ttl: 10m}
";
