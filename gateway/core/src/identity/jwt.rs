//! JSON Web Tokens (RFC 7519): which method one belongs to, and whether it holds.

use std::fmt;

use aldis_crds::channel::{Algorithm as Named, JwtMethod};
use aldis_crds::contract::{Keys, Secret};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::value::RawValue;
use url::Url;

use super::keys::KeySet;
use super::mapping::Mapping;
use super::{Examined, Fault, FaultReason, Identity, Refusal};
use crate::compiler::Compiler;
use crate::expression::{Scope, Variable};
use crate::json::{Json, Kind};
use crate::time::Millis;

/// By how much clocks may differ when `exp` and `nbf` are checked, in ms.
pub const CLOCK_SKEW_MS: i64 = 30_000;
/// Longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 16 * 1024;

/// A compiled jwt method.
pub(super) struct Jwt {
    name: String,
    algorithms: Vec<Algorithm>,
    issuer: Option<String>,
    audiences: Option<Vec<String>>,
    keys: KeySource,
    identity: Mapping,
}

/// What its tokens are checked with.
enum KeySource {
    Secret(DecodingKey),
    Published(Url),
}

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Jwt({})", self.name)
    }
}

/// A token that holds as far as can be said without keys. Does not print.
pub struct Token<'m> {
    method: &'m Jwt,
    uri: &'m Url,
    text: String,
    algorithm: Algorithm,
    kid: Option<String>,
    claims: Json,
}

impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}, …)", self.method.name)
    }
}

/// What a key set says of a token.
#[derive(Debug)]
pub enum Verdict {
    /// Who the client is.
    Admitted(Identity),
    /// It does not hold.
    Refused(Refusal),
    /// It does not hold by these keys; its issuer may have others by now.
    Unknown(Refusal),
}

/// The first method whose algorithm, issuer and audience fit decides.
pub(super) fn examine(methods: &[Jwt], text: String, now: Millis) -> Result<Examined<'_>, Fault> {
    let nameless = |reason, detail: &str| Fault {
        reason,
        method: None,
        detail: detail.to_owned(),
    };
    if text.len() > MAX_TOKEN {
        return Err(nameless(FaultReason::TooLong, "it is too long"));
    }
    let malformed = |error: jsonwebtoken::errors::Error| nameless(FaultReason::Malformed, &in_words(&error));
    let header = jsonwebtoken::decode_header(&text).map_err(malformed)?;
    // As text, so that a big number stays the user's id that it is.
    let claims = jsonwebtoken::dangerous::insecure_decode::<Box<RawValue>>(&text).map_err(malformed)?;
    let claims = Json::parse(claims.claims.get())
        .ok()
        .filter(|claims| claims.kind() == Kind::Map)
        .ok_or_else(|| nameless(FaultReason::Malformed, "its claims are no object"))?;
    if header.crit.is_some() {
        let detail = "it has critical headers, and we know none (RFC 7515, 4.1.11)";
        return Err(nameless(FaultReason::Malformed, detail));
    }
    if has_twins(&claims) {
        return Err(nameless(FaultReason::Malformed, "a claim is in it twice"));
    }
    let fitting = || methods.iter().filter(|method| method.takes(header.alg, &claims));
    let Some(first) = fitting().next() else {
        return Err(nameless(
            FaultReason::NoMethod,
            "no method takes its algorithm and issuer",
        ));
    };
    let method = fitting()
        .find(|method| method.is_addressed(&claims))
        .ok_or_else(|| first.fault(FaultReason::Audience, "it is for another audience"))?;
    method.check_times(&claims, now)?;
    match &method.keys {
        KeySource::Secret(key) => {
            method.check_signature(&text, header.alg, key)?;
            Ok(Examined::Admitted(method.identity(&claims)))
        }
        KeySource::Published(uri) => Ok(Examined::Token(Token {
            method,
            uri,
            text,
            algorithm: header.alg,
            kid: header.kid,
            claims,
        })),
    }
}

/// Parsers differ in which of two claims of one name counts: none does.
fn has_twins(claims: &Json) -> bool {
    let mut names: Vec<_> = claims.fields().iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    names.windows(2).any(|pair| pair[0] == pair[1])
}

/// The library's error, without what the token holds: its JSON errors quote it.
fn in_words(error: &jsonwebtoken::errors::Error) -> String {
    match error.kind() {
        ErrorKind::Json(error) => format!("its header or claims do not fit, at column {}", error.column()),
        _ => error.to_string(),
    }
}

impl Token<'_> {
    /// Where its keys are published.
    pub fn jwks_uri(&self) -> &Url {
        self.uri
    }

    /// Whether it holds by these keys, which are of [`Token::jwks_uri`].
    pub fn verify(&self, keys: &KeySet, now: Millis) -> Verdict {
        // Time has passed while keys were fetched.
        if let Err(fault) = self.method.check_times(&self.claims, now) {
            return Verdict::Refused(Refusal::Token(fault));
        }
        let kid = self.kid.as_deref();
        let unknown = || {
            self.method
                .fault(FaultReason::UnknownKey, "its issuer publishes no such key")
        };
        let mut failed = None;
        for key in keys.candidates(kid, self.algorithm) {
            match self.method.check_signature(&self.text, self.algorithm, key) {
                Ok(()) => return Verdict::Admitted(self.method.identity(&self.claims)),
                Err(fault) => failed = Some(fault),
            }
        }
        match failed {
            Some(fault) if kid.is_some() => Verdict::Refused(Refusal::Token(fault)),
            failed => Verdict::Unknown(Refusal::Token(failed.unwrap_or_else(unknown))),
        }
    }
}

impl Jwt {
    pub(super) fn compile(
        field: &str,
        spec: &JwtMethod,
        namespace: &str,
        keys: &Keys,
        compiler: &mut Compiler,
    ) -> Option<Self> {
        let identity = Mapping::compile(&format!("{field}.identity"), &spec.identity, "claims", compiler);
        let keys = match (&spec.secret_ref, &spec.jwks_uri) {
            (Some(reference), None) => match keys.get(namespace, reference) {
                Some(secret) => secret_key(field, secret, compiler),
                None => {
                    let message = format!(
                        "there is no key {:?} in a Secret {:?} of namespace {namespace:?} that is labelled aldis.dev/use: channel",
                        reference.key, reference.name
                    );
                    compiler.problem(format!("{field}.secretRef"), message);
                    None
                }
            },
            (None, Some(uri)) => published_keys(field, spec, uri, compiler),
            _ => {
                compiler.problem(
                    field,
                    "name either secretRef or jwksUri: the keys that tokens are checked with",
                );
                None
            }
        };
        Some(Self {
            name: spec.name.clone(),
            algorithms: spec.algorithms().iter().map(|algorithm| library(*algorithm)).collect(),
            issuer: spec.issuer.clone(),
            audiences: spec.audiences.clone(),
            keys: keys?,
            identity,
        })
    }

    pub(super) fn jwks_uri(&self) -> Option<&Url> {
        match &self.keys {
            KeySource::Published(uri) => Some(uri),
            KeySource::Secret(_) => None,
        }
    }

    fn fault(&self, reason: FaultReason, detail: &str) -> Fault {
        Fault {
            reason,
            method: Some(self.name.clone()),
            detail: detail.to_owned(),
        }
    }

    /// Whether a token of this algorithm, with these claims, is for this method to judge.
    fn takes(&self, algorithm: Algorithm, claims: &Json) -> bool {
        let issuer = claims.get("iss").and_then(Json::as_str);
        self.algorithms.contains(&algorithm) && (self.issuer.is_none() || self.issuer.as_deref() == issuer.as_deref())
    }

    /// Whether `aud`, a text or a list of texts, holds one of the audiences that this method names.
    fn is_addressed(&self, claims: &Json) -> bool {
        let Some(audiences) = &self.audiences else { return true };
        let is_ours = |claimed: &Json| {
            let claimed = claimed.as_str();
            claimed.is_some_and(|claimed| audiences.iter().any(|audience| *audience == claimed))
        };
        claims
            .get("aud")
            .is_some_and(|aud| is_ours(aud) || aud.elements().iter().any(is_ours))
    }

    /// `exp` and `nbf`, where they are there, against `now`.
    fn check_times(&self, claims: &Json, now: Millis) -> Result<(), Fault> {
        match (self.millis(claims, "exp")?, self.millis(claims, "nbf")?) {
            (Some(exp), _) if exp.0.saturating_add(CLOCK_SKEW_MS) <= now.0 => {
                Err(self.fault(FaultReason::Expired, "it has expired"))
            }
            (_, Some(nbf)) if nbf.0.saturating_sub(CLOCK_SKEW_MS) > now.0 => {
                Err(self.fault(FaultReason::NotYetValid, "it is not valid yet"))
            }
            _ => Ok(()),
        }
    }

    /// A claim that is a time: seconds since 1970, a fraction allowed.
    fn millis(&self, claims: &Json, name: &str) -> Result<Option<Millis>, Fault> {
        match claims.get(name).filter(|value| !value.is_null()) {
            None => Ok(None),
            Some(value) => match (value.kind(), value.text().parse::<f64>()) {
                (Kind::Number, Ok(seconds)) => Ok(Some(Millis((seconds * 1000.0) as i64))),
                _ => Err(self.fault(FaultReason::Malformed, "exp or nbf is no number")),
            },
        }
    }

    /// The library checks issuer and audience once more.
    fn check_signature(&self, token: &str, algorithm: Algorithm, key: &DecodingKey) -> Result<(), Fault> {
        let mut validation = Validation::new(algorithm);
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.required_spec_claims.clear();
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        match &self.audiences {
            Some(audiences) => {
                validation.set_audience(audiences);
                validation.required_spec_claims.insert("aud".to_owned());
            }
            None => validation.validate_aud = false,
        }
        match jsonwebtoken::decode::<Box<RawValue>>(token, key, &validation) {
            Ok(_) => Ok(()),
            Err(error) => Err(self.fault(FaultReason::Signature, &in_words(&error))),
        }
    }

    fn identity(&self, claims: &Json) -> Identity {
        let scope = Scope::new().with("claims", Variable::Json(claims));
        Identity {
            expires: self.millis(claims, "exp").unwrap_or_default(),
            ..self.identity.identity(&self.name, &scope)
        }
    }
}

fn secret_key(field: &str, secret: &Secret, compiler: &mut Compiler) -> Option<KeySource> {
    if secret.expose().is_empty() {
        compiler.problem(
            format!("{field}.secretRef"),
            "the secret is empty: anybody could sign a token with it",
        );
        return None;
    }
    Some(KeySource::Secret(DecodingKey::from_secret(secret.expose())))
}

fn published_keys(field: &str, spec: &JwtMethod, uri: &str, compiler: &mut Compiler) -> Option<KeySource> {
    if spec.issuer.is_none() || spec.audiences.is_none() {
        compiler.problem(
            field,
            "jwksUri needs issuer and audiences: an issuer signs tokens for other services with the same keys",
        );
    }
    match Url::parse(uri) {
        Ok(url) if url.host().is_some() && matches!(url.scheme(), "https" | "http") => Some(KeySource::Published(url)),
        Ok(_) => {
            compiler.problem(format!("{field}.jwksUri"), "write an https URL with a host");
            None
        }
        Err(error) => {
            compiler.problem(format!("{field}.jwksUri"), format!("it is no URL: {error}"));
            None
        }
    }
}

fn library(algorithm: Named) -> Algorithm {
    match algorithm {
        Named::HS256 => Algorithm::HS256,
        Named::HS384 => Algorithm::HS384,
        Named::HS512 => Algorithm::HS512,
        Named::RS256 => Algorithm::RS256,
        Named::RS384 => Algorithm::RS384,
        Named::RS512 => Algorithm::RS512,
        Named::PS256 => Algorithm::PS256,
        Named::PS384 => Algorithm::PS384,
        Named::PS512 => Algorithm::PS512,
        Named::ES256 => Algorithm::ES256,
        Named::ES384 => Algorithm::ES384,
        Named::EdDSA => Algorithm::EdDSA,
    }
}
