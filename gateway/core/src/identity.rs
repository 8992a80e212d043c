//! authenticate: a handshake becomes an identity, by the methods of a channel.
//!
//! ```text
//! Handshake → examine → Admitted                 query, anonymous, or a token that a shared secret signed
//!                     → Token → verify(KeySet)   a token whose issuer publishes its keys: whoever has them goes on
//! ```
//! A token that is presented decides: where it fails, no other method is tried. It is checked as far as that goes without
//! keys first, so that no forged, expired or foreign token makes anybody fetch keys.

use aldis_crds::channel::Authentication;
use aldis_crds::contract::Keys;

use crate::compiler::Compiler;
use crate::json::Json;
use crate::time::Millis;

mod jwt;
mod keys;
mod mapping;
mod query;

use jwt::Jwt;
pub use jwt::{CLOCK_SKEW_MS, MAX_TOKEN, Token, Verdict};
pub use keys::{KeySet, KeySetError, MAX_KEYS};
use query::Query;

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
    /// `exp` of its token, where there is one. It is let in until [`CLOCK_SKEW_MS`] later.
    pub expires: Option<Millis>,
}

/// What a handshake comes to.
#[derive(Debug)]
pub enum Examined<'m> {
    /// Who the client is.
    Admitted(Identity),
    /// Its issuer's keys decide.
    Token(Token<'m>),
}

/// Why a client may not connect. All of these are permanent: the client must not try again with the same handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No token, and no method does without one.
    TokenRequired,
    /// A token that does not hold.
    Token(Fault),
    /// A required field of the query is missing.
    QueryFieldRequired(String),
    /// The channel lets nobody in.
    NobodyMayConnect,
}

/// Why a token does not hold: for logs and metrics, not for the client. Quotes nothing of the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{detail}", method.as_ref().map_or(String::new(), |method| format!("{method}: ")))]
pub struct Fault {
    /// For programs.
    pub reason: FaultReason,
    /// The method that it belongs to, where one was found.
    pub method: Option<String>,
    /// For people.
    pub detail: String,
}

/// Why a token does not hold, as metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultReason {
    /// Longer than [`MAX_TOKEN`].
    TooLong,
    /// No JSON Web Token, or one with a header that we would have to understand and do not.
    Malformed,
    /// No method has its algorithm and issuer.
    NoMethod,
    /// Made for somebody else.
    Audience,
    /// `exp` has passed.
    Expired,
    /// `nbf` has not.
    NotYetValid,
    /// Its issuer publishes no such key.
    UnknownKey,
    /// The signature is not its key's.
    Signature,
}

impl FaultReason {
    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            FaultReason::TooLong => "too_long",
            FaultReason::Malformed => "malformed",
            FaultReason::NoMethod => "no_method",
            FaultReason::Audience => "audience",
            FaultReason::Expired => "expired",
            FaultReason::NotYetValid => "not_yet_valid",
            FaultReason::UnknownKey => "unknown_key",
            FaultReason::Signature => "signature",
        }
    }
}

impl Refusal {
    /// For programs: stable, listed in docs/clients.md.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::TokenRequired => "token_required",
            // The one that an application mends by itself: with a fresh token.
            Refusal::Token(Fault {
                reason: FaultReason::Expired,
                ..
            }) => "token_expired",
            Refusal::Token(_) => "token_invalid",
            Refusal::QueryFieldRequired(_) => "query_field_required",
            Refusal::NobodyMayConnect => "nobody_may_connect",
        }
    }

    /// The `connect_error` message that the client sees: stable.
    pub fn message(&self) -> String {
        match self {
            Refusal::TokenRequired => "Authentication token required".to_owned(),
            Refusal::Token(_) => "Invalid authentication token".to_owned(),
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

    /// Where issuers publish the keys that this channel needs.
    pub fn jwks_uris(&self) -> impl Iterator<Item = &url::Url> {
        self.jwt.iter().filter_map(Jwt::jwks_uri)
    }

    /// Who shows a token where nothing but a token counts, as in HTTP's `Authorization`; or whose keys say so.
    ///
    /// # Errors
    /// Why it says nothing; [`Refusal::NobodyMayConnect`] where the channel takes no tokens.
    pub fn examine_token(&self, token: String, now: Millis) -> Result<Examined<'_>, Refusal> {
        if self.jwt.is_empty() {
            return Err(Refusal::NobodyMayConnect);
        }
        jwt::examine(&self.jwt, token, now).map_err(Refusal::Token)
    }

    /// Who the client is, or whose keys say so.
    ///
    /// # Errors
    /// Why it may not connect.
    pub fn examine(&self, handshake: &Handshake<'_>, now: Millis) -> Result<Examined<'_>, Refusal> {
        if let (Some(token), false) = (presented(handshake), self.jwt.is_empty()) {
            return self.examine_token(token, now);
        }
        if let Some(query) = &self.query {
            match query.missing(handshake) {
                None => return Ok(Examined::Admitted(query.identity(handshake))),
                Some(field) if !self.anonymous && self.jwt.is_empty() => {
                    return Err(Refusal::QueryFieldRequired(field.to_owned()));
                }
                Some(_) => {}
            }
        }
        if self.anonymous {
            return Ok(Examined::Admitted(mapping::anonymous()));
        }
        Err(if self.jwt.is_empty() {
            Refusal::NobodyMayConnect
        } else {
            Refusal::TokenRequired
        })
    }
}

/// `auth.token`; the texts that JavaScript makes of an absent one count as absent.
fn presented(handshake: &Handshake<'_>) -> Option<String> {
    let token = handshake.auth?.get("token")?;
    let text = token
        .as_str()
        .map_or_else(|| token.text().to_owned(), |text| text.into_owned());
    (!matches!(text.as_str(), "" | "undefined" | "null")).then_some(text)
}

#[cfg(test)]
mod tests;
