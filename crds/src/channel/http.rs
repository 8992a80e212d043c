//! A channel's own HTTP endpoints, and who may use the built-in ones.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::schema;

/// An HTTP endpoint on the channel's listeners: it publishes an event, answers, or both; or describes all of them.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("anyOf" = [{ "required": ["publish"] }, { "required": ["respond"] }, { "required": ["docs"] }]))]
pub struct Endpoint {
    /// The request's method.
    pub method: Method,
    /// The request's path, exactly. A segment `{name}` stands for any one segment, which is then `params.name`.
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^/[A-Za-z0-9._~{}/-]*$"))]
    pub path: String,
    /// Expression over `identity`, `params`, `query` and `body`: may this caller? An error means no. Who sends no token has a
    /// null identity.
    #[schemars(length(min = 1, max = 1024))]
    pub allow: String,
    /// Fields without which a request is refused: `body.user_id`, `query.tenant_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::request_fields")]
    pub require: Option<Vec<String>>,
    /// Rules that a request must keep. The first that it does not is told to the caller.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub validations: Vec<Validation>,
    /// An event that the request publishes. It goes through Kafka, and is answered once Kafka has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<Publish>,
    /// Whether the answer is the OpenAPI document of all that the channel answers over HTTP, which a browser shows as a page.
    /// Such an endpoint is a GET, and has neither `publish` nor `respond`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub docs: bool,
    /// The answer. Default: 202 and `{id}` of what was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub respond: Option<Respond>,
}

/// Methods of an endpoint.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// Reads.
    GET,
    /// Makes something happen.
    POST,
    /// Replaces.
    PUT,
    /// Changes.
    PATCH,
    /// Removes.
    DELETE,
}

impl Method {
    /// As it stands in a request.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::GET => "GET",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
        }
    }
}

/// What must hold of a request, in the words of Kubernetes' own validation rules.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Validation {
    /// Expression over `params`, `query`, `body`, `identity` and `now`. An error means no.
    #[schemars(length(min = 1, max = 1024))]
    pub rule: String,
    /// What the caller is told, with status 422, where it does not hold.
    #[schemars(length(min = 1, max = 256))]
    pub message: String,
}

/// An event, from a request.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Publish {
    /// Template of the event's type, over `params`, `query`, `body`, `identity` and `now`.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 1024))]
    pub type_: String,
    /// Template of the event's data, over the same. Default: the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::free_form")]
    pub data: Option<Value>,
    /// Template of the record's key: events of one key keep their order. Default: no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub key: Option<String>,
}

/// What a request gets back.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Respond {
    /// Status. Default: 202 with `publish`, else 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 200, max = 299))]
    pub code: Option<u16>,
    /// Template of the JSON body, over `params`, `query`, `body`, `identity`, `now`, `stats`, `uptime` (of the gateway, in
    /// seconds) and `published.id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::free_form")]
    pub body: Option<Value>,
}

/// Who may use the built-in endpoints `/aldis/v1/<namespace>/<channel>/…`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Api {
    /// Expression over `identity` and `operation` (`publish`, `read` or `disconnect`). An error means no.
    #[schemars(length(min = 1, max = 1024))]
    pub allow: String,
}
