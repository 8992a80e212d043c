//! What the CRDs of a cluster lack of those that a program was built with: an API server drops fields that it does not know, and
//! says nothing to who writes a status.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion, JSONSchemaProps, JSONSchemaPropsOrArray,
    JSONSchemaPropsOrBool,
};

#[cfg(test)]
mod tests;

/// Everything of `own` that the CRD of a cluster has not, or has otherwise, by version and path: empty where it fits.
///
/// What `there` has beyond that is no misfit: newer CRDs of the same version serve older programs too. Neither are bounds and rules,
/// which refuse aloud.
pub fn misfits(own: &CustomResourceDefinition, there: &CustomResourceDefinition) -> Vec<String> {
    let mut found = Vec::new();
    for version in &own.spec.versions {
        let name = &version.name;
        match there.spec.versions.iter().find(|other| other.name == *name) {
            Some(other) if other.served => of_version(version, other, &mut found),
            _ => found.push(format!("{name} is not served")),
        }
    }
    found
}

fn of_version(own: &CustomResourceDefinitionVersion, there: &CustomResourceDefinitionVersion, found: &mut Vec<String>) {
    let has_status = |version: &CustomResourceDefinitionVersion| {
        version.subresources.as_ref().is_some_and(|all| all.status.is_some())
    };
    if has_status(own) && !has_status(there) {
        found.push(format!("{}: status is no subresource", own.name));
    }
    let schema = |version: &CustomResourceDefinitionVersion| version.schema.clone()?.open_api_v3_schema;
    match (schema(own), schema(there)) {
        (Some(own_schema), Some(there)) => of_schema(&own_schema, &there, &own.name, found),
        (Some(_), None) => found.push(format!("{}: there is no schema", own.name)),
        (None, _) => {}
    }
}

fn of_schema(own: &JSONSchemaProps, there: &JSONSchemaProps, path: &str, found: &mut Vec<String>) {
    if own.type_.is_some() && there.type_.is_some() && own.type_ != there.type_ {
        let name = |schema: &JSONSchemaProps| schema.type_.clone().unwrap_or_default();
        found.push(format!("{path} is of type {}, not {}", name(there), name(own)));
        return;
    }
    // It takes anything below.
    if there.x_kubernetes_preserve_unknown_fields == Some(true) {
        return;
    }
    if own.x_kubernetes_preserve_unknown_fields == Some(true) {
        found.push(format!("{path} does not keep unknown fields"));
        return;
    }
    for (name, property) in own.properties.iter().flatten() {
        let path = format!("{path}.{name}");
        match there.properties.as_ref().and_then(|there| there.get(name)) {
            Some(there) => of_schema(property, there, &path, found),
            None => found.push(format!("{path} is not there")),
        }
    }
    if let Some(JSONSchemaPropsOrArray::Schema(own)) = &own.items {
        match &there.items {
            Some(JSONSchemaPropsOrArray::Schema(there)) => of_schema(own, there, &format!("{path}[]"), found),
            _ => found.push(format!("{path}[] is not there")),
        }
    }
    if let Some(JSONSchemaPropsOrBool::Schema(own)) = &own.additional_properties {
        match &there.additional_properties {
            Some(JSONSchemaPropsOrBool::Schema(there)) => of_schema(own, there, &format!("{path}[*]"), found),
            _ => found.push(format!("{path}[*] is not there")),
        }
    }
}
