use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

use crate::gateway::NotificationGateway;

/// The schema of each kind, with the kind's plural name.
fn schemas() -> Vec<(String, Value)> {
    let of = |crd: CustomResourceDefinition| {
        let schema = crd.spec.versions[0]
            .schema
            .as_ref()
            .unwrap()
            .open_api_v3_schema
            .as_ref()
            .unwrap()
            .clone();
        (crd.spec.names.plural.clone(), serde_json::to_value(schema).unwrap())
    };
    crate::crd::all().map(of).into()
}

/// Calls `visit` with every node that may hold a value, and its path.
fn walk(schema: &Value, path: &str, visit: &mut dyn FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(property, &format!("{path}.{name}"), visit);
    }
    for (keyword, suffix) in [("items", "[]"), ("additionalProperties", "[*]")] {
        if schema[keyword].is_object() {
            walk(&schema[keyword], &format!("{path}{suffix}"), visit);
        }
    }
}

/// Everything wrong that `check` finds in any node of any kind.
fn complaints(check: impl Fn(&Value) -> Option<String>) -> Vec<String> {
    let mut found = Vec::new();
    for (plural, schema) in schemas() {
        walk(&schema, &plural, &mut |path, node| {
            found.extend(check(node).map(|complaint| format!("{path}: {complaint}")))
        });
    }
    found
}

#[test]
fn the_checked_in_crds_are_the_generated_ones() {
    for plural in crate::crd::plurals() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../charts/aldis-crds/templates/{plural}.yaml"));
        let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
        let generated = crate::crd::yaml(&plural).unwrap();
        assert!(
            checked_in == generated,
            "{} is not what crds/src says; run make crds",
            path.display()
        );
        assert!(
            !generated.contains("{{"),
            "{plural}: Helm would take {{{{ for a template"
        );
    }
}

#[test]
fn the_checked_in_reference_is_the_generated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference.md");
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        checked_in == crate::crd::reference::markdown(),
        "{} is not what crds/src says; run make crds",
        path.display()
    );
}

#[test]
fn every_list_string_and_map_is_bounded() {
    let bounds = complaints(|node| {
        let has = |keyword: &str| !node[keyword].is_null();
        match node["type"].as_str() {
            Some("array") if !has("maxItems") => Some("a list without maxItems".to_owned()),
            Some("string") if !has("maxLength") && !has("enum") => Some("a string without maxLength".to_owned()),
            Some("integer") if !has("minimum") || !has("maximum") => Some("an integer without bounds".to_owned()),
            Some("object") if has("additionalProperties") && !has("maxProperties") => {
                Some("a map without maxProperties".to_owned())
            }
            _ => None,
        }
    });
    assert_eq!(bounds, Vec::<String>::new());
}

#[test]
fn the_schemas_are_structural() {
    const KEYWORDS: [&str; 23] = [
        "type",
        "description",
        "properties",
        "required",
        "items",
        "additionalProperties",
        "default",
        "enum",
        "pattern",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "maxProperties",
        "minimum",
        "maximum",
        "anyOf",
        "not",
        "x-kubernetes-validations",
        "x-kubernetes-preserve-unknown-fields",
        // Of status alone, which nobody writes into a manifest.
        "format",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
    ];
    let found = complaints(|node| {
        let node = node.as_object()?;
        let free_form = node.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true));
        if let Some(keyword) = node.keys().find(|keyword| !KEYWORDS.contains(&keyword.as_str())) {
            return Some(format!(
                "{keyword} is not among the keywords that aldis-manifest checks"
            ));
        }
        if node.contains_key("properties") && node.contains_key("additionalProperties") {
            return Some("properties and additionalProperties exclude each other".to_owned());
        }
        let only_required = |branch: &Value| {
            branch
                .as_object()
                .is_some_and(|b| b.len() == 1 && b.contains_key("required"))
        };
        if !node
            .get("anyOf")
            .into_iter()
            .flat_map(|any| any.as_array().unwrap())
            .chain(node.get("not"))
            .all(only_required)
        {
            return Some("anyOf and not may only say what is required".to_owned());
        }
        match (free_form, node.contains_key("type")) {
            (true, true) => Some("free-form, and yet with a type".to_owned()),
            (false, false) => Some("no type".to_owned()),
            _ => None,
        }
    });
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn no_field_has_a_name_that_yaml_1_1_takes_for_a_boolean() {
    let found = complaints(|node| {
        let mut names = node["properties"].as_object()?.keys();
        names
            .find(|name| ["on", "off", "yes", "no", "y", "n"].contains(&name.to_lowercase().as_str()))
            .cloned()
    });
    assert_eq!(found, Vec::<String>::new());
}

/// CEL does not see fields without a type: the API server refuses a CRD whose rule names one.
#[test]
fn no_rule_names_a_free_form_field() {
    let found = complaints(|node| {
        let rules = node["x-kubernetes-validations"].to_string();
        let free_form = |schema: &Value| !schema["x-kubernetes-preserve-unknown-fields"].is_null();
        let mut names = node["properties"]
            .as_object()?
            .iter()
            .filter(|(_, schema)| free_form(schema))
            .map(|(name, _)| name);
        names.find(|name| rules.contains(&format!("self.{name}"))).cloned()
    });
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn the_consumer_group_can_be_neither_changed_added_nor_removed() {
    let gateway = |group_id: Option<&str>| {
        let mut kafka = json!({ "bootstrapServers": ["kafka:9092"], "deadLetterTopic": "dead" });
        if let Some(group_id) = group_id {
            kafka["groupId"] = group_id.into();
        }
        let spec = json!({ "kafka": kafka, "listeners": [{ "name": "web", "port": 3000 }] });
        let spec = serde_json::from_value(spec).unwrap();
        NotificationGateway::new("shared", spec)
    };
    for (old, new, allowed) in [
        (Some("a"), Some("a"), true),
        (None, None, true),
        (Some("a"), Some("b"), false),
        (Some("a"), None, false),
        (None, Some("a"), false),
    ] {
        assert_eq!(
            gateway(new).validate_cel_update(&gateway(old)).is_ok(),
            allowed,
            "{old:?} to {new:?}"
        );
    }
    assert!(
        gateway(Some("a")).validate_cel().is_ok(),
        "rules about changes do not apply to a new object"
    );
}
