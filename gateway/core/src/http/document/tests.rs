use super::*;
use crate::fixtures::config;

fn of(spec: JsonValue) -> JsonValue {
    serde_json::from_str(&document(&config(spec))).unwrap()
}

fn orders() -> JsonValue {
    json!({"http": [{"method": "POST", "path": "/bistro/{tenant}/orders", "allow": "identity.role == 'service'",
        "require": ["body.order_id", "query.source"],
        "validations": [{"rule": "body.order_id > 0 && query.dry != 'yes'", "message": "order_id must be positive"}],
        "publish": {"type": "order.created", "data": {"id": "{body.order_id}", "note": "{body.note.text}"}},
        "respond": {"code": 201, "body": {"id": "{published.id}", "status": "taken"}}}]})
}

#[test]
fn an_endpoint_tells_its_parameters_body_rules_answers_and_refusals() {
    let document = of(orders());
    assert_eq!(document["openapi"], "3.1.0");
    let operation = &document["paths"]["/bistro/{tenant}/orders"]["post"];
    let parameters: Vec<_> = operation["parameters"].as_array().unwrap().iter().collect();
    let parameters: Vec<_> = parameters
        .iter()
        .map(|it| {
            (
                it["name"].as_str().unwrap(),
                it["in"].as_str().unwrap(),
                it["required"] == true,
            )
        })
        .collect();
    assert_eq!(
        parameters,
        [
            ("tenant", "path", true),
            ("dry", "query", false),
            ("source", "query", true),
            ("Idempotency-Key", "header", false)
        ]
    );
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(body["required"], json!(["order_id"]));
    let fields: Vec<_> = body["properties"].as_object().unwrap().keys().collect();
    assert_eq!(fields, ["note", "order_id"]);
    assert_eq!(
        operation["x-aldis-validations"],
        json!([{"rule": "body.order_id > 0 && query.dry != 'yes'", "message": "order_id must be positive"}])
    );
    assert!(
        operation["description"]
            .as_str()
            .unwrap()
            .contains("order_id must be positive")
    );
    let codes: Vec<_> = operation["responses"].as_object().unwrap().keys().collect();
    assert_eq!(codes, ["201", "400", "401", "403", "413", "415", "422", "503"]);
    let answer = &operation["responses"]["201"]["content"]["application/json"]["schema"]["properties"];
    assert_eq!(
        (&answer["status"]["type"], &answer["id"]),
        (&json!("string"), &json!({}))
    );
}

#[test]
fn built_in_endpoints_are_there_where_the_channel_lets_somebody_and_health_where_it_has_no_own() {
    let paths = |spec| -> Vec<String> { of(spec)["paths"].as_object().unwrap().keys().cloned().collect() };
    assert_eq!(paths(json!({})), ["/health", "/health/live", "/health/ready"]);
    let with_api = paths(json!({"api": {"allow": "true"}}));
    for built_in in BuiltIn::ALL {
        assert!(
            with_api.contains(&format!("/aldis/v1/bistro/orders{}", built_in.path())),
            "{built_in:?}"
        );
    }
    let own = of(json!({"http": [{"method": "GET", "path": "/health", "allow": "true"}]}));
    assert_eq!(own["paths"]["/health"]["get"]["tags"], json!(["bistro/orders"]));
}

#[test]
fn every_reference_leads_somewhere() {
    let mut spec = orders();
    spec["api"] = json!({"allow": "true"});
    let document = of(spec);
    let text = document.to_string();
    let references: Vec<_> = text
        .split("\"$ref\":\"#")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert!(references.len() > 10);
    for reference in references {
        assert!(document.pointer(reference).is_some(), "{reference}");
    }
}
