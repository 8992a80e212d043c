//! Pieces of JSON Schema that a derive cannot say.

use schemars::{Schema, SchemaGenerator, json_schema};

/// Any JSON: a payload or a template (`x-kubernetes-preserve-unknown-fields`, no type).
pub(crate) fn free_form(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "x-kubernetes-preserve-unknown-fields": true })
}

/// Tables of any JSON, by table name and then by key: at most 32 tables.
pub(crate) fn tables(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {
            "type": "object",
            "maxProperties": 256,
            "additionalProperties": { "x-kubernetes-preserve-unknown-fields": true }
        }
    })
}

/// Expressions by name: at most 16, each at most 1 KiB.
pub(crate) fn expressions_by_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": { "type": "string", "minLength": 1, "maxLength": 1024 }
    })
}

/// Labels of Kubernetes: at most 16.
pub(crate) fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": { "type": "string", "maxLength": 63 }
    })
}

/// Annotations of Kubernetes: at most 32.
pub(crate) fn annotations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": { "type": "string", "maxLength": 4096 }
    })
}

/// Values of labels; the empty one is one.
pub(crate) fn label_values(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "items": { "type": "string", "maxLength": 63 }
    })
}

/// Conditions, as `metav1.Condition` has them: one of each type.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 8,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": { "type": "string", "maxLength": 316 },
                "status": { "type": "string", "enum": ["True", "False", "Unknown"] },
                "reason": { "type": "string", "minLength": 1, "maxLength": 1024 },
                "message": { "type": "string", "maxLength": 32768 },
                "lastTransitionTime": { "type": "string", "format": "date-time", "maxLength": 64 },
                "observedGeneration": { "type": "integer", "minimum": 0, "maximum": 9_007_199_254_740_991_i64 }
            }
        }
    })
}

/// The one way to say "all arguments as they came".
pub(crate) fn all_arguments(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["{args}"] })
}

/// An empty object: its presence is the switch.
pub(crate) fn empty_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object" })
}

/// TCP ports.
pub(crate) fn ports(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 32,
        "items": { "type": "integer", "format": "int32", "minimum": 1, "maximum": 65535 }
    })
}

/// A time span of a listener: a number and `ms`, `s` or `m`.
pub(crate) fn time_span(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "minLength": 2, "maxLength": 8, "pattern": r"^[1-9][0-9]{0,5}(ms|s|m)$" })
}

macro_rules! string_lists {
    ($($(#[$doc:meta])* $name:ident: $max_items:literal, $max_length:literal, $pattern:literal;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(_: &mut SchemaGenerator) -> Schema {
            json_schema!({
                "type": "array",
                "minItems": 1,
                "maxItems": $max_items,
                "items": { "type": "string", "minLength": 1, "maxLength": $max_length, "pattern": $pattern }
            })
        }
    )*};
}

string_lists! {
    /// `host:port`, as Kafka's `bootstrap.servers`.
    bootstrap_servers: 16, 256, r"^[A-Za-z0-9._\[\]:-]+:[0-9]{1,5}$";
    /// Origins as browsers send them, or `*`.
    origins: 64, 256, r"^(\*|https?://([a-z0-9._-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?)$";
    /// Socket.IO namespaces.
    paths: 16, 128, r"^/[A-Za-z0-9._~/-]*$";
    /// Kafka topics, by Kafka's own rule.
    topics: 64, 249, r"^[A-Za-z0-9._-]+$";
    /// Event types: exact, or a prefix and `*`.
    event_types: 64, 256, r"^([^*]+\*?|\*)$";
    /// Audiences of a JWT.
    audiences: 16, 256, r"^[^ \t\r\n]+$";
    /// Fields of the handshake's query.
    query_fields: 16, 64, r"^[A-Za-z_][A-Za-z0-9_]*$";
    /// Paths of fields in a request: `body.user_id`.
    request_fields: 32, 256, r"^(body|query)(\.[A-Za-z_][A-Za-z0-9_]*)+$";
    /// Paths of fields in an event: `data.order_id`.
    field_paths: 32, 256, r"^data(\.[A-Za-z_][A-Za-z0-9_]*)+$";
    /// Names of listeners.
    listener_names: 16, 63, r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
    /// Socket.IO namespaces and HTTP paths that may be claimed.
    granted_paths: 64, 128, r"^/((\{namespace\}|[A-Za-z0-9._~-])+/)*(\*|(\{namespace\}|[A-Za-z0-9._~-])*)$";
    /// Topics that may be claimed.
    granted_topics: 64, 249, r"^(\{namespace\}|[A-Za-z0-9._-])+([._-]\*)?$";
    /// Hosts and address ranges.
    egress: 64, 253, r"^[A-Za-z0-9*._:\[\]/-]+$";
    /// Addresses, or ranges of them (CIDR).
    address_ranges: 64, 43, r"^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$";
}
