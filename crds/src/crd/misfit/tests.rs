use serde_json::{Value, json};

use super::{CustomResourceDefinition, misfits};

fn crd(schema: Value) -> CustomResourceDefinition {
    let version = json!({ "name": "v1", "served": true, "storage": true, "subresources": { "status": {} }, "schema": { "openAPIV3Schema": schema } });
    let names = json!({ "kind": "A", "plural": "as" });
    let spec = json!({ "group": "x.dev", "names": names, "scope": "Namespaced", "versions": [version] });
    serde_json::from_value(json!({ "metadata": { "name": "as.x.dev" }, "spec": spec })).unwrap()
}

fn object(properties: Value) -> Value {
    json!({ "type": "object", "properties": properties })
}

#[test]
fn what_a_cluster_has_beyond_is_no_misfit_and_what_it_lacks_is_named_by_its_path() {
    let deep = json!({ "type": "array", "items": { "type": "object", "additionalProperties": object(json!({ "c": { "type": "string" } })) } });
    let own = object(json!({ "a": { "type": "string", "maxLength": 5 }, "b": deep }));
    let of = |there: Value| misfits(&crd(own.clone()), &crd(there));
    assert_eq!(of(own.clone()), Vec::<String>::new());
    let mut more = own.clone();
    more["properties"]["d"] = json!({ "type": "integer" });
    more["properties"]["a"]["maxLength"] = json!(4);
    assert_eq!(of(more), Vec::<String>::new());
    let anything = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    assert_eq!(of(anything.clone()), Vec::<String>::new());

    let mut less = own.clone();
    less["properties"]["b"]["items"]["additionalProperties"]["properties"] = json!({});
    assert_eq!(of(less), ["v1.b[][*].c is not there"]);
    let mut less = own.clone();
    less["properties"]["b"]["items"] = json!({ "type": "object" });
    assert_eq!(of(less), ["v1.b[][*] is not there"]);
    let mut other = own.clone();
    other["properties"]["a"]["type"] = json!("integer");
    assert_eq!(of(other), ["v1.a is of type integer, not string"]);
    let kept = misfits(&crd(anything), &crd(own.clone()));
    assert_eq!(kept, ["v1 does not keep unknown fields"]);
}

#[test]
fn a_version_has_to_be_served_and_to_have_its_status() {
    let own = crd(object(json!({})));
    let mut there = own.clone();
    there.spec.versions[0].subresources = None;
    assert_eq!(misfits(&own, &there), ["v1: status is no subresource"]);
    there.spec.versions[0].served = false;
    assert_eq!(misfits(&own, &there), ["v1 is not served"]);
    there.spec.versions[0].name = "v2".to_owned();
    assert_eq!(misfits(&own, &there), ["v1 is not served"]);
}

#[test]
fn the_crds_of_this_version_fit_themselves() {
    for crd in crate::crd::all() {
        assert_eq!(misfits(&crd, &crd), Vec::<String>::new());
    }
}
