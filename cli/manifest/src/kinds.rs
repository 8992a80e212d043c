//! The kinds that are read: their schemas, with the metadata of every object, and their rules.

use std::sync::LazyLock;

use aldis_crds::crd;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::cel::Validator;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::field;
use crate::schema::{self, Finding, closest};

/// A namespaced kind.
pub(crate) struct Kind {
    /// As in `kind:`.
    pub(crate) name: String,
    /// The CRD's schema with `apiVersion`, `kind` and `metadata`.
    schema: Value,
    /// Whether the schema has rules in CEL.
    has_rules: bool,
    /// Whether its objects are in a namespace.
    pub(crate) namespaced: bool,
}

/// The kinds of group `aldis.dev`.
static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    let kind = |definition: CustomResourceDefinition| {
        let version = definition
            .spec
            .versions
            .into_iter()
            .find(|version| version.name == aldis_crds::VERSION);
        let schema = version.and_then(|version| version.schema?.open_api_v3_schema);
        let schema = schema
            .and_then(|schema| serde_json::to_value(schema).ok())
            .unwrap_or(Value::Null);
        Kind {
            name: definition.spec.names.kind,
            schema: with_object_fields(schema),
            has_rules: true,
            namespaced: true,
        }
    };
    let written_by_people = |crd: &CustomResourceDefinition| crd.spec.names.kind != "GatewayConfig";
    crd::all().into_iter().filter(written_by_people).map(kind).collect()
});

/// Secrets: their types only.
static SECRET: LazyLock<Kind> = LazyLock::new(|| {
    let strings = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    let schema = json!({
        "type": "object",
        "properties": {
            "data": strings, "stringData": strings, "type": { "type": "string" }, "immutable": { "type": "boolean" }
        }
    });
    Kind {
        name: "Secret".to_owned(),
        schema: with_object_fields(schema),
        has_rules: false,
        namespaced: true,
    }
});

/// Namespaces: for their labels.
static NAMESPACE: LazyLock<Kind> = LazyLock::new(|| {
    let any = json!({ "x-kubernetes-preserve-unknown-fields": true });
    let schema = json!({ "type": "object", "properties": { "spec": any } });
    Kind {
        name: "Namespace".to_owned(),
        schema: with_object_fields(schema),
        has_rules: false,
        namespaced: false,
    }
});

/// What a document is, by its `apiVersion` and `kind`.
pub(crate) enum Class {
    /// A kind of `aldis.dev`, a Secret or a Namespace.
    Read(&'static Kind),
    /// `v1` `List`: a list of objects, as `kubectl get -o yaml` prints them.
    List,
    /// Somebody else's.
    Foreign,
    /// A version or kind that `aldis.dev` does not have; the field and why.
    Unknown(&'static str, String),
}

/// Classifies a document.
pub(crate) fn classify(api_version: &str, kind: &str) -> Class {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    match (group, version, kind) {
        ("", "v1", "Secret") => Class::Read(&SECRET),
        ("", "v1", "Namespace") => Class::Read(&NAMESPACE),
        ("", "v1", "List") => Class::List,
        (aldis_crds::GROUP, aldis_crds::VERSION, kind) => match KINDS.iter().find(|known| known.name == kind) {
            Some(known) => Class::Read(known),
            None => Class::Unknown("kind", unknown_kind(kind)),
        },
        (aldis_crds::GROUP, ..) => {
            let (group, version) = (aldis_crds::GROUP, aldis_crds::VERSION);
            Class::Unknown("apiVersion", format!("unknown version; there is {group}/{version}"))
        }
        _ => Class::Foreign,
    }
}

fn unknown_kind(kind: &str) -> String {
    let names = KINDS.iter().map(|known| known.name.as_str());
    match closest(kind, names.clone()) {
        Some(close) => format!("unknown kind; did you mean {close:?}?"),
        None => format!("unknown kind; there are {}", names.collect::<Vec<_>>().join(" and ")),
    }
}

impl Kind {
    /// Checks an object against schema and rules; returns it as the API server would store it.
    pub(crate) fn check(&self, object: &Value) -> (Value, Vec<Finding>) {
        let (stored, mut findings) = schema::check(&self.schema, object);
        if findings.is_empty()
            && self.has_rules
            && let Err(errors) = Validator::new().validate(&self.schema, &stored, None)
        {
            findings.extend(errors.into_iter().map(|error| Finding {
                field: error.field_path,
                message: error.message,
            }));
        }
        (stored, findings)
    }
}

/// A checked object as its type.
pub(crate) fn typed<T: DeserializeOwned>(object: Value) -> Result<T, Vec<Finding>> {
    serde_path_to_error::deserialize(object).map_err(|error| {
        let field = match error.path().to_string() {
            root if root == "." => String::new(),
            path => path,
        };
        vec![Finding {
            field,
            message: error.inner().to_string(),
        }]
    })
}

/// A checked Secret: `data` decoded, `stringData` in it, as the API server stores it. What is found never shows a value.
pub(crate) fn secret(mut object: Value) -> Result<Secret, Vec<Finding>> {
    let mut take = |name: &str| match object.as_object_mut().and_then(|object| object.remove(name)) {
        Some(Value::Object(map)) => map,
        _ => serde_json::Map::new(),
    };
    let (data, string_data) = (take("data"), take("stringData"));
    let mut secret: Secret = typed(object)?;
    let mut findings = Vec::new();
    let values = secret.data.get_or_insert_default();
    for (key, value) in data {
        // Line breaks may stand anywhere in base64, as Go reads it.
        let text: String = value
            .as_str()
            .unwrap_or_default()
            .chars()
            .filter(|c| !matches!(c, '\r' | '\n'))
            .collect();
        match STANDARD.decode(text) {
            Ok(bytes) => {
                values.insert(key, ByteString(bytes));
            }
            Err(_) => findings.push(Finding {
                field: field::of("data", &key),
                message: "this is no base64; plain text belongs into stringData".to_owned(),
            }),
        }
    }
    for (key, value) in string_data {
        values.insert(key, ByteString(value.as_str().unwrap_or_default().as_bytes().to_vec()));
    }
    if findings.is_empty() { Ok(secret) } else { Err(findings) }
}

/// Adds what every object has to a schema: `apiVersion`, `kind` and `metadata`, with the rules for names.
fn with_object_fields(mut schema: Value) -> Value {
    let any = json!({ "x-kubernetes-preserve-unknown-fields": true });
    let string = json!({ "type": "string" });
    let label = r"^([A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?)?$";
    let metadata = json!({
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {
                "type": "string", "minLength": 1, "maxLength": 253,
                "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
            },
            "namespace": {
                "type": "string", "minLength": 1, "maxLength": 63, "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
            },
            "labels": {
                "type": "object",
                "additionalProperties": { "type": "string", "maxLength": 63, "pattern": label }
            },
            "annotations": { "type": "object", "additionalProperties": string },
            "finalizers": { "type": "array", "items": string },
            "generation": { "type": "integer" },
            "deletionGracePeriodSeconds": { "type": "integer" },
            "generateName": string, "uid": string, "resourceVersion": string, "selfLink": string,
            "creationTimestamp": string, "deletionTimestamp": string,
            "ownerReferences": any, "managedFields": any
        }
    });
    schema["properties"]["apiVersion"] = string.clone();
    schema["properties"]["kind"] = string;
    schema["properties"]["metadata"] = metadata;
    // An API server leaves out what a manifest says there.
    schema["properties"]["status"] = any;
    match schema["required"].as_array_mut() {
        Some(required) => required.push(json!("metadata")),
        None => schema["required"] = json!(["metadata"]),
    }
    schema
}

#[cfg(test)]
mod tests;
