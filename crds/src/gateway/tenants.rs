//! `spec.tenants`: who may attach to a gateway, and what each may claim there.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::limits::Limits;
use crate::schema;

/// One tenant. What it is not granted, it is denied.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tenant {
    /// Shown in conditions.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// The namespaces that are this tenant, by their labels. Each has the limits for itself.
    pub namespaces: LabelSelector,
    /// Listeners that its channels may attach to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::listener_names")]
    pub listeners: Vec<String>,
    /// Socket.IO namespaces that it may claim: `{namespace}` is the channel's, a `*` at the end stands for anything. `/` only
    /// as itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::granted_paths")]
    pub paths: Vec<String>,
    /// HTTP paths that it may claim, likewise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::granted_paths")]
    pub http_paths: Vec<String>,
    /// Topics that it may read; a `*` only at the end, behind one of `.`, `_` and `-`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::granted_topics")]
    pub topics: Vec<String>,
    /// Topics that it may write: dead letters, and events that come over HTTP. Never one that a channel reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::granted_topics")]
    pub produce_topics: Vec<String>,
    /// Ways in that its channels may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub authentication: Vec<Method>,
    /// Hosts and private address ranges that its key servers and webhooks may be at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::egress")]
    pub egress: Vec<String>,
    /// What it may use at most.
    #[serde(default, skip_serializing_if = "Limits::say_nothing")]
    pub limits: Limits,
}

/// A way in.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// JSON Web Tokens.
    Jwt,
    /// The query of the handshake.
    Query,
    /// Anybody, over Socket.IO.
    Anonymous,
    /// HTTP endpoints without an identity.
    Open,
}

/// Which namespaces, by their labels: all that is listed must hold. An empty one selects every namespace, as in Kubernetes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelSelector {
    /// Labels with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    pub match_labels: BTreeMap<String, String>,
    /// Labels about which this holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub match_expressions: Vec<LabelRequirement>,
}

/// Something that holds about a label.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = ("(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)", "In and NotIn need values; Exists and DoesNotExist take none"))]
pub struct LabelRequirement {
    /// The label.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// What holds about it.
    pub operator: LabelOperator,
    /// Values, for `In` and `NotIn`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::label_values")]
    pub values: Vec<String>,
}

/// What holds about a label.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelOperator {
    /// It has one of the values.
    In,
    /// It has none of the values, or is not there.
    NotIn,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

impl LabelSelector {
    /// Whether it selects what has these labels.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        let listed = self
            .match_labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value));
        listed
            && self
                .match_expressions
                .iter()
                .all(|requirement| requirement.holds(labels))
    }
}

impl LabelRequirement {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        let is_listed = value.is_some_and(|value| self.values.contains(value));
        match self.operator {
            LabelOperator::In => is_listed,
            LabelOperator::NotIn => !is_listed,
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn selectors_mean_what_they_mean_in_kubernetes() {
        let labels = BTreeMap::from([("team".to_owned(), "food".to_owned())]);
        let selects = |selector: Value| {
            serde_json::from_value::<LabelSelector>(selector)
                .unwrap()
                .selects(&labels)
        };
        let expression = |key: &str, operator: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        for (selector, expected) in [
            (json!({}), true),
            (json!({"matchLabels": {"team": "food"}}), true),
            (json!({"matchLabels": {"team": "press"}}), false),
            (json!({"matchLabels": {"team": "food", "stage": "live"}}), false),
            (expression("team", "In", json!(["press", "food"])), true),
            (expression("stage", "In", json!(["live"])), false),
            (expression("team", "NotIn", json!(["food"])), false),
            (expression("stage", "NotIn", json!(["live"])), true),
            (expression("team", "Exists", json!([])), true),
            (expression("stage", "Exists", json!([])), false),
            (expression("team", "DoesNotExist", json!([])), false),
            (expression("stage", "DoesNotExist", json!([])), true),
        ] {
            assert_eq!(selects(selector.clone()), expected, "{selector}");
        }
        let both =
            json!({"matchLabels": {"team": "food"}, "matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]});
        assert!(!selects(both));
    }
}
