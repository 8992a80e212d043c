use serde_json::{Value, json};

use super::*;

/// `field: message` of what `schema` refuses in `value`.
fn findings(schema: &Value, value: Value) -> Vec<String> {
    check(schema, &value)
        .1
        .into_iter()
        .map(|finding| format!("{}: {}", finding.field, finding.message))
        .collect()
}

/// Every `pattern` in a schema.
fn patterns(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(map) => {
            found.extend(map.get("pattern").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| patterns(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| patterns(value, found)),
        _ => {}
    }
}

#[test]
fn every_pattern_of_the_kinds_is_said_in_words() {
    let mut all = Vec::new();
    patterns(&serde_json::to_value(aldis_crds::crd::all()).unwrap(), &mut all);
    assert!(all.len() > 10);
    for pattern in all {
        assert!(
            !hint::pattern(&pattern).contains(&pattern),
            "no words for the pattern {pattern}; add them to hint.rs"
        );
    }
    assert_eq!(hint::pattern("^x$"), "must match the pattern ^x$");
}

#[test]
fn nulls_are_dropped_as_the_api_server_drops_them() {
    let schema = json!({
        "type": "object", "required": ["a"],
        "properties": {
            "a": { "type": "string", "default": "x" },
            "b": { "type": "array", "items": { "type": "integer" } },
            "c": { "type": "object", "additionalProperties": { "x-kubernetes-preserve-unknown-fields": true } },
            "d": { "type": "string", "nullable": true }
        }
    });
    let value = json!({ "a": null, "b": null, "c": { "x": null, "y": { "z": null } } });
    let (stored, findings) = check(&schema, &value);
    assert_eq!(findings, []);
    assert_eq!(stored, json!({ "c": { "y": { "z": null } } }));
    assert_eq!(
        super::tests::findings(&schema, json!({ "b": [null], "d": null })),
        [
            "b[0]: must be an integer, and is null",
            "d: must be a string, and is null"
        ]
    );
}

#[test]
fn a_wrong_type_is_said_without_the_value() {
    let schema = |type_: &str| json!({ "type": type_ });
    for (type_, value) in [
        ("string", json!(4711)),
        ("integer", json!("4711")),
        ("boolean", json!("4711")),
        ("object", json!(["4711"])),
    ] {
        let found = findings(&schema(type_), value);
        assert!(found.len() == 1 && !found[0].contains("4711"), "{found:?}");
    }
}

#[test]
fn a_field_that_was_meant_is_suggested() {
    let names = ["name", "namespace", "sectionName", "secretRef", "to"];
    for (written, meant) in [
        ("sectionname", Some("sectionName")),
        ("section", Some("sectionName")),
        ("secrtRef", Some("secretRef")),
        ("nmae", Some("name")),
        ("names", Some("name")),
        ("se", None),
        ("colour", None),
        ("x", None),
        ("", None),
    ] {
        assert_eq!(closest(written, names.into_iter()), meant, "{written}");
    }
}

#[test]
fn findings_and_shown_values_are_bounded() {
    let schema = json!({ "type": "array", "items": { "type": "string", "pattern": "^x$" } });
    let found = findings(&schema, json!(vec!["é".repeat(10_000); 1000]));
    assert_eq!(found.len(), MAX_FINDINGS + 1);
    assert!(found.iter().all(|finding| finding.len() < 300));
}

#[test]
fn bounds_of_every_kind_are_checked() {
    let schema = json!({
        "type": "object", "maxProperties": 1,
        "additionalProperties": { "type": "array", "minItems": 2, "maxItems": 3, "items": {
            "type": "object",
            "properties": {
                "text": { "type": "string", "minLength": 2, "maxLength": 3 },
                "low": { "type": "integer", "minimum": 2 }, "high": { "type": "number", "maximum": 3 }
            }
        } }
    });
    let good = json!({ "a": [{ "text": "éé", "low": 2, "high": 3.0 }, { "text": "ééé", "low": 20, "high": -1.5 }] });
    assert_eq!(findings(&schema, good), Vec::<String>::new());
    let bad = json!({ "a": [{ "text": "é", "low": 1, "high": 3.5 }], "b": [{}, {}, {}, { "text": "" }] });
    assert_eq!(
        findings(&schema, bad),
        [
            "a: must have at least 2 items, and has 1",
            "a[0].high: must be at most 3, and is 3.5",
            "a[0].low: must be at least 2, and is 1",
            "a[0].text: must have at least 2 characters, and has 1",
            "b: must have at most 3 items, and has 4",
            "b[3].text: must not be empty",
            ": must have at most 1 entry, and has 2",
        ]
    );
}
