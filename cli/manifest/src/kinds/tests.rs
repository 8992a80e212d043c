use serde_json::json;

use super::*;

#[test]
fn the_printed_crds_are_read_back_as_they_are() {
    for definition in crd::all() {
        let yaml = crd::yaml(&definition.spec.names.plural).unwrap();
        let document = crate::documents(&yaml).pop().unwrap();
        assert_eq!(document.mistakes, []);
        let mut printed = document.value.unwrap();
        let annotations = printed["metadata"].as_object_mut().unwrap().remove("annotations");
        let expected = json!({ "helm.sh/resource-policy": "keep", crd::VERSION_ANNOTATION: crd::VERSION });
        assert_eq!(annotations, Some(expected));
        let numbers_as_yaml_has_them = serde_json::to_string(&definition)
            .unwrap()
            .replace(".0,", ",")
            .replace(".0}", "}");
        assert_eq!(
            printed,
            serde_json::from_str::<Value>(&numbers_as_yaml_has_them).unwrap()
        );
    }
}

#[test]
fn a_secret_holds_its_decoded_data_and_its_plain_text() {
    let object = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "jwt", "namespace": "bistro" },
        "data": { "a": "Z29v\nZA==", "b": "b2xk" }, "stringData": { "b": "new" }, "type": "Opaque"
    });
    assert_eq!(SECRET.check(&object).1, []);
    let data = secret(object).unwrap().data.unwrap();
    let text = |key: &str| String::from_utf8(data[key].0.clone()).unwrap();
    assert_eq!(
        (text("a"), text("b")),
        ("good".to_owned(), "new".to_owned()),
        "stringData wins, as in the API server"
    );
}

#[test]
fn what_is_wrong_with_a_secret_never_shows_it() {
    let object = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "jwt" },
        "data": { "a": "hunter2!", "b": 31337 }, "stringData": { "c": 31337, "d": ["hunter2!"] }, "type": 31337
    });
    let (stored, mut findings) = SECRET.check(&object);
    assert_eq!(findings.len(), 4);
    findings.extend(secret(stored).unwrap_err());
    assert!(findings.len() > 4);
    let shown = format!("{findings:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("31337"), "{shown}");
}

#[test]
fn the_last_word_is_the_types_own() {
    let finding =
        typed::<aldis_crds::NotificationGateway>(json!({ "metadata": {}, "spec": { "listeners": 1 } })).unwrap_err();
    assert_eq!(finding[0].field, "spec.listeners");
}
