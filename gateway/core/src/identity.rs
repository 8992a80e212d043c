//! authenticate: a handshake becomes an identity, by the methods of a channel.
//!
//! A token that is presented decides: where it fails, no other method is tried.

use aldis_crds::channel::{Algorithm, Authentication, IdentityMapping, JwtMethod, QueryMethod};
use aldis_crds::contract::{Keys, Secret};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{DecodingKey, Validation};
use serde_json::Value as JsonValue;
use serde_json::value::RawValue;

use crate::compiler::{Compiler, Expressions};
use crate::expression::{Expression, Names, Scope, Variable};
use crate::json::{Json, Kind, write_string};
use crate::time::Millis;

/// By how much clocks may differ when `exp` and `nbf` are checked, in ms.
pub const CLOCK_SKEW_MS: i64 = 30_000;
/// Longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 16 * 1024;

/// What a client shows when it connects. Does not print: there are tokens in it, and the transport's `sid`.
pub struct Handshake<'a> {
    /// Query of the first HTTP request, decoded, in its order.
    pub query: &'a [(String, String)],
    /// `auth` of the Socket.IO CONNECT packet.
    pub auth: Option<&'a Json>,
}

impl std::fmt::Debug for Handshake<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handshake(…)")
    }
}

/// Who a client is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `identity.user` as text, where there is one.
    pub user: Option<String>,
    /// The method that let it in: a jwt method's name, `query` or `anonymous`.
    pub method: String,
    /// `identity` as expressions see it: `{"user": …, "<attribute>": …}`.
    pub json: Json,
}

/// Why a client may not connect. All of these are permanent: the client must not try again with the same handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No token, and no method does without one.
    TokenRequired,
    /// A token that does not hold; the reason is for the log, not for the client.
    TokenInvalid(String),
    /// A required field of the query is missing.
    QueryFieldRequired(String),
    /// The channel lets nobody in.
    NobodyMayConnect,
}

impl Refusal {
    /// For programs: stable.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::TokenRequired => "token_required",
            Refusal::TokenInvalid(_) => "token_invalid",
            Refusal::QueryFieldRequired(_) => "query_field_required",
            Refusal::NobodyMayConnect => "nobody_may_connect",
        }
    }

    /// The `connect_error` message that the client sees: stable.
    pub fn message(&self) -> String {
        match self {
            Refusal::TokenRequired => "Authentication token required".to_owned(),
            Refusal::TokenInvalid(_) => "Invalid authentication token".to_owned(),
            Refusal::QueryFieldRequired(field) => format!("Query field {field} required"),
            Refusal::NobodyMayConnect => "Connections are not allowed".to_owned(),
        }
    }
}

/// The compiled methods of a channel.
#[derive(Debug, Default)]
pub struct Methods {
    jwt: Vec<Jwt>,
    query: Option<Query>,
    anonymous: bool,
}

struct Jwt {
    name: String,
    issuer: Option<String>,
    key: DecodingKey,
    validation: Validation,
    identity: Mapping,
}

impl std::fmt::Debug for Jwt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Jwt({})", self.name)
    }
}

#[derive(Debug)]
struct Query {
    required: Vec<String>,
    identity: Mapping,
}

#[derive(Debug)]
struct Mapping {
    user: Option<Expression>,
    attributes: Expressions,
}

impl Methods {
    pub(crate) fn compile(
        spec: Option<&Authentication>,
        namespace: &str,
        keys: &Keys,
        compiler: &mut Compiler,
    ) -> Self {
        let Some(spec) = spec else { return Self::default() };
        let mut methods = Self {
            anonymous: spec.anonymous.is_some(),
            ..Self::default()
        };
        for (index, method) in spec.jwt.iter().enumerate() {
            let field = format!("spec.authentication.jwt[{index}]");
            methods
                .jwt
                .extend(Jwt::compile(&field, method, namespace, keys, compiler));
        }
        methods.query = spec
            .query
            .as_ref()
            .map(|query| Query::compile("spec.authentication.query", query, compiler));
        methods
    }

    /// Who the client is.
    ///
    /// # Errors
    /// Why it may not connect.
    pub fn authenticate(&self, handshake: &Handshake<'_>, now: Millis) -> Result<Identity, Refusal> {
        if let (Some(token), false) = (token(handshake), self.jwt.is_empty()) {
            return self.by_token(&token, now);
        }
        if let Some(query) = &self.query {
            match query.missing(handshake) {
                None => return Ok(query.identity(handshake)),
                Some(field) if !self.anonymous && self.jwt.is_empty() => {
                    return Err(Refusal::QueryFieldRequired(field.to_owned()));
                }
                Some(_) => {}
            }
        }
        if self.anonymous {
            return Ok(Identity {
                user: None,
                method: "anonymous".to_owned(),
                json: empty_identity(),
            });
        }
        Err(if self.jwt.is_empty() {
            Refusal::NobodyMayConnect
        } else {
            Refusal::TokenRequired
        })
    }

    /// The first method whose algorithm and issuer fit decides.
    fn by_token(&self, token: &str, now: Millis) -> Result<Identity, Refusal> {
        let invalid = |reason: &str| Refusal::TokenInvalid(reason.to_owned());
        if token.len() > MAX_TOKEN {
            return Err(invalid("it is too long"));
        }
        let header = jsonwebtoken::decode_header(token).map_err(|error| invalid(&in_words(&error)))?;
        let claimed =
            jsonwebtoken::dangerous::insecure_decode::<JsonValue>(token).map_err(|error| invalid(&in_words(&error)))?;
        let issuer = claimed.claims.get("iss").and_then(JsonValue::as_str);
        let method = self
            .jwt
            .iter()
            .find(|method| {
                method.validation.algorithms.contains(&header.alg)
                    && (method.issuer.is_none() || method.issuer.as_deref() == issuer)
            })
            .ok_or_else(|| invalid("no method takes its algorithm and issuer"))?;
        let failed = |reason: String| invalid(&format!("{}: {reason}", method.name));
        // As text, so that a big number stays the user's id that it is.
        let token = jsonwebtoken::decode::<Box<RawValue>>(token, &method.key, &method.validation)
            .map_err(|error| failed(in_words(&error)))?;
        let claims = Json::parse(token.claims.get()).map_err(|error| failed(error.to_string()))?;
        check_times(&claims, now).map_err(|reason| failed(reason.to_owned()))?;
        Ok(method
            .identity
            .identity(&method.name, &Scope::new().with("claims", Variable::Json(&claims))))
    }
}

/// `auth.token`; the texts that JavaScript makes of an absent one count as absent.
fn token(handshake: &Handshake<'_>) -> Option<String> {
    let token = handshake.auth?.get("token")?;
    let text = token
        .as_str()
        .map_or_else(|| token.text().to_owned(), |text| text.into_owned());
    (!matches!(text.as_str(), "" | "undefined" | "null")).then_some(text)
}

/// The library's error, without what the token holds: its JSON errors quote it.
fn in_words(error: &jsonwebtoken::errors::Error) -> String {
    match error.kind() {
        ErrorKind::Json(error) => format!("its header or claims do not fit, at column {}", error.column()),
        _ => error.to_string(),
    }
}

/// `exp` and `nbf` (RFC 7519), where they are there, against `now`.
fn check_times(claims: &Json, now: Millis) -> Result<(), &'static str> {
    let millis = |name: &str| match claims.get(name).filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(value) => match (value.kind(), value.text().parse::<f64>()) {
            (Kind::Number, Ok(seconds)) => Ok(Some((seconds * 1000.0) as i64)),
            _ => Err("exp or nbf is no number"),
        },
    };
    match (millis("exp")?, millis("nbf")?) {
        (Some(exp), _) if exp.saturating_add(CLOCK_SKEW_MS) <= now.0 => Err("it has expired"),
        (_, Some(nbf)) if nbf.saturating_sub(CLOCK_SKEW_MS) > now.0 => Err("it is not valid yet"),
        _ => Ok(()),
    }
}

impl Jwt {
    fn compile(field: &str, spec: &JwtMethod, namespace: &str, keys: &Keys, compiler: &mut Compiler) -> Option<Self> {
        let identity = Mapping::compile(&format!("{field}.identity"), &spec.identity, "claims", compiler);
        let Some(secret) = keys.get(namespace, &spec.secret_ref) else {
            let message = format!(
                "there is no key {:?} in a Secret {:?} of namespace {namespace:?} that is labelled aldis.dev/use: channel",
                spec.secret_ref.key, spec.secret_ref.name
            );
            compiler.problem(format!("{field}.secretRef"), message);
            return None;
        };
        if secret.expose().is_empty() {
            compiler.problem(
                format!("{field}.secretRef"),
                "the secret is empty: anybody could sign a token with it",
            );
            return None;
        }
        Some(Self {
            name: spec.name.clone(),
            issuer: spec.issuer.clone(),
            key: decoding_key(secret),
            validation: validation(spec),
            identity,
        })
    }
}

fn decoding_key(secret: &Secret) -> DecodingKey {
    DecodingKey::from_secret(secret.expose())
}

/// Signature, issuer and audience are checked by the library; times by us, against the caller's clock.
fn validation(spec: &JwtMethod) -> Validation {
    let mut algorithms = spec.algorithms.iter().map(|algorithm| match algorithm {
        Algorithm::HS256 => jsonwebtoken::Algorithm::HS256,
        Algorithm::HS384 => jsonwebtoken::Algorithm::HS384,
        Algorithm::HS512 => jsonwebtoken::Algorithm::HS512,
    });
    let mut validation = Validation::new(algorithms.next().unwrap_or_default());
    validation.algorithms.extend(algorithms);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.required_spec_claims.clear();
    if let Some(issuer) = &spec.issuer {
        validation.set_issuer(&[issuer]);
        validation.required_spec_claims.insert("iss".to_owned());
    }
    match &spec.audiences {
        Some(audiences) => {
            validation.set_audience(audiences);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        None => validation.validate_aud = false,
    }
    validation
}

impl Query {
    fn compile(field: &str, spec: &QueryMethod, compiler: &mut Compiler) -> Self {
        let identity = Mapping::compile(&format!("{field}.identity"), &spec.identity, "query", compiler);
        Self {
            required: spec.required.clone().unwrap_or_default(),
            identity,
        }
    }

    fn missing(&self, handshake: &Handshake<'_>) -> Option<&str> {
        let given = |field: &str| {
            handshake
                .query
                .iter()
                .any(|(name, value)| name == field && is_given(value))
        };
        self.required.iter().map(String::as_str).find(|field| !given(field))
    }

    fn identity(&self, handshake: &Handshake<'_>) -> Identity {
        let fields = handshake
            .query
            .iter()
            .filter(|(name, value)| is_given(value) && !is_transport_field(name));
        let query = fields
            .map(|(name, value)| (name.clone(), JsonValue::String(value.clone())))
            .collect();
        let query = Json::from_value(&JsonValue::Object(query));
        self.identity
            .identity("query", &Scope::new().with("query", Variable::Json(&query)))
    }
}

/// engine.io-client writes an absent value as `undefined`.
fn is_given(value: &str) -> bool {
    !matches!(value, "" | "undefined" | "null")
}

/// Engine.IO's own fields; `sid` is a secret of the transport.
fn is_transport_field(name: &str) -> bool {
    matches!(name, "EIO" | "transport" | "sid" | "t" | "b64" | "j")
}

impl Mapping {
    fn compile(field: &str, spec: &IdentityMapping, variable: &str, compiler: &mut Compiler) -> Self {
        let names = [variable];
        let names = Names(&names);
        if spec.attributes.contains_key("user") {
            compiler.problem(
                format!("{field}.attributes.user"),
                "user has a field of its own: identity.user",
            );
        }
        Self {
            user: compiler.expression(&format!("{field}.user"), &spec.user, &names),
            attributes: compiler.by_name(&format!("{field}.attributes"), &spec.attributes, &names),
        }
    }

    /// An expression that fails gives null.
    fn identity(&self, method: &str, scope: &Scope<'_>) -> Identity {
        let value = |expression: &Expression| {
            let mut text = String::new();
            let written = expression
                .evaluate(scope)
                .ok()
                .and_then(|value| value.write_json(&mut text).ok());
            written.and_then(|()| Json::parse(text).ok()).unwrap_or_else(Json::null)
        };
        let user = self.user.as_ref().map_or_else(Json::null, value);
        let mut identity = format!("{{\"user\":{}", user.text());
        for (name, expression) in &self.attributes {
            identity.push(',');
            write_string(&mut identity, name);
            identity.push(':');
            identity.push_str(value(expression).text());
        }
        identity.push('}');
        let user_text = || {
            user.as_str()
                .map_or_else(|| user.text().to_owned(), |text| text.into_owned())
        };
        Identity {
            user: (!user.is_null()).then(user_text),
            method: method.to_owned(),
            json: Json::parse(identity).unwrap_or_else(|_| empty_identity()),
        }
    }
}

fn empty_identity() -> Json {
    Json::from_value(&serde_json::json!({ "user": null }))
}

#[cfg(test)]
mod tests;
