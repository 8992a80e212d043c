//! Who may connect, and who they then are.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// The ways in. A token that is presented and fails never falls through to another way.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = ("size(self.jwt) > 0 || has(self.query) || has(self.anonymous)", "name at least one of jwt, query and anonymous; leave authentication out to let nobody in"))]
pub struct Authentication {
    /// A JSON Web Token in `auth.token` of the Socket.IO handshake. The first method whose issuer and algorithm fit decides.
    #[serde(default)]
    #[schemars(length(max = 8))]
    #[x_kube(validation = ("self.all(m, self.exists_one(o, o.name == m.name))", "each jwt method needs a name of its own"))]
    pub jwt: Vec<JwtMethod>,
    /// Identity from the query of the handshake, for gateways behind something that has checked it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<QueryMethod>,
    /// Anybody, without an identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::empty_object")]
    pub anonymous: Option<Anonymous>,
}

/// A switch: its presence lets anybody in.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Anonymous {}

/// A JSON Web Token signed with a shared secret.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtMethod {
    /// Shown in logs and metrics.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// `iss` must be this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub issuer: Option<String>,
    /// `aud` must hold one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::audiences")]
    pub audiences: Option<Vec<String>>,
    /// The shared secret, in a Secret of the channel's namespace that is labelled `aldis.dev/use: channel`.
    pub secret_ref: SecretKeyRef,
    /// Accepted algorithms. The token never chooses among others.
    #[schemars(length(min = 1, max = 3))]
    pub algorithms: Vec<Algorithm>,
    /// Who the client is, from `claims`.
    pub identity: IdentityMapping,
}

/// One key of a Secret in the channel's own namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Key in its data.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// Algorithms of RFC 7518 that use a shared secret.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
}

/// Identity from the query of the handshake.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueryMethod {
    /// Fields without which the connection is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::query_fields")]
    pub required: Option<Vec<String>>,
    /// Who the client is, from `query`.
    pub identity: IdentityMapping,
}

/// Expressions that make an identity. One that fails, for instance because a claim is absent, gives null.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IdentityMapping {
    /// Expression of the user's id: `identity.user`.
    #[schemars(length(min = 1, max = 1024))]
    pub user: String,
    /// Further expressions by attribute name: `identity.<attribute>`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::expressions_by_name")]
    pub attributes: BTreeMap<String, String>,
}
