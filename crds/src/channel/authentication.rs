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
    /// A JSON Web Token in `auth.token` of the Socket.IO handshake. The first method whose algorithm, issuer and audience fit decides.
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

/// A JSON Web Token: signed with a shared secret, or by an issuer that publishes its keys.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = ("has(self.secretRef) != has(self.jwksUri)", "name either secretRef or jwksUri: the keys that tokens are checked with"),
    validation = ("!has(self.jwksUri) || has(self.issuer) && has(self.audiences)", "jwksUri needs issuer and audiences: an issuer signs tokens for other services with the same keys"),
    validation = ("!has(self.algorithms) || !has(self.secretRef) || self.algorithms.all(a, a in ['HS256', 'HS384', 'HS512'])", "a shared secret signs with HS256, HS384 or HS512; the other algorithms need jwksUri"),
    validation = ("!has(self.algorithms) || !has(self.jwksUri) || !self.algorithms.exists(a, a in ['HS256', 'HS384', 'HS512'])", "keys of a jwksUri are public: HS256, HS384 and HS512 need secretRef")
)]
pub struct JwtMethod {
    /// Shown in logs and metrics.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// `iss` must be this. Required with `jwksUri`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub issuer: Option<String>,
    /// `aud` must hold one of these. Required with `jwksUri`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::audiences")]
    pub audiences: Option<Vec<String>>,
    /// The shared secret, in a Secret of the channel's namespace that is labelled `aldis.dev/use: channel`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeyRef>,
    /// Where the issuer publishes its keys, a JSON Web Key Set (RFC 7517). https; http and private addresses only where
    /// the platform team grants them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^https?://[^ @#\\]+$"))]
    pub jwks_uri: Option<String>,
    /// Accepted algorithms. The token never chooses among others. Default: HS256 with `secretRef`; with `jwksUri` every
    /// one that fits the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 12))]
    pub algorithms: Option<Vec<Algorithm>>,
    /// Who the client is, from `claims`.
    pub identity: IdentityMapping,
}

impl JwtMethod {
    /// The accepted algorithms: those that are named, or the default.
    pub fn algorithms(&self) -> &[Algorithm] {
        match &self.algorithms {
            Some(algorithms) => algorithms,
            None if self.jwks_uri.is_some() => &Algorithm::ASYMMETRIC,
            None => &[Algorithm::HS256],
        }
    }
}

/// One key of a Secret in the object's own namespace.
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

/// Signature algorithms of RFC 7518 and RFC 8037.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// Ed25519.
    EdDSA,
}

impl Algorithm {
    /// Those whose keys an issuer can publish.
    pub const ASYMMETRIC: [Self; 9] = [
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::EdDSA,
    ];
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
