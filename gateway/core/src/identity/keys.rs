//! The keys that an issuer publishes: a JSON Web Key Set (RFC 7517).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value as JsonValue;

/// Most keys that a set may list. 100: the largest identity providers publish some ten.
pub const MAX_KEYS: usize = 100;

/// Most keys that one token is tried with. 4: a key id names one, and two while keys are rotated without ids.
const MAX_CANDIDATES: usize = 4;

/// Sizes of RSA keys that count, in bytes: 2,048 to 8,192 bits. Smaller ones are broken, larger ones cost too much.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// The keys of an issuer that can check a signature.
pub struct KeySet {
    keys: Vec<Key>,
}

struct Key {
    kid: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// Why a text is no key set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Not even JSON.
    #[error("it is no JSON")]
    NotJson,
    /// JSON of another kind.
    #[error("it has no list `keys`")]
    NoKeys,
    /// More than [`MAX_KEYS`].
    #[error("it has {0} keys, more than {MAX_KEYS}")]
    TooMany(usize),
    /// Nothing that can check a signature: an issuer that means it withdraws its keys one by one.
    #[error("none of its keys can check a signature")]
    NoneUsable,
}

impl KeySet {
    /// Reads a set. Keys of other kinds and for other uses are left out, as RFC 7517 demands.
    ///
    /// # Errors
    /// Where it is no set, or nothing is left.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeySetError> {
        let mut set: JsonValue = serde_json::from_slice(bytes).map_err(|_| KeySetError::NotJson)?;
        let Some(JsonValue::Array(listed)) = set.get_mut("keys").map(JsonValue::take) else {
            return Err(KeySetError::NoKeys);
        };
        if listed.len() > MAX_KEYS {
            return Err(KeySetError::TooMany(listed.len()));
        }
        let keys: Vec<_> = listed.into_iter().filter_map(Key::read).collect();
        if keys.is_empty() {
            return Err(KeySetError::NoneUsable);
        }
        Ok(Self { keys })
    }

    /// How many keys it has.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Never: such a set is refused.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys that may have signed a token: of its key id, or all that have none to tell them apart, and of its algorithm.
    pub(super) fn candidates(&self, kid: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &DecodingKey> {
        self.keys
            .iter()
            .filter(move |key| kid.is_none_or(|kid| key.kid.as_deref() == Some(kid)))
            .filter(move |key| key.algorithms.contains(&algorithm))
            .map(|key| &key.key)
            .take(MAX_CANDIDATES)
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySet({} keys)", self.keys.len())
    }
}

impl Key {
    /// `None`: not for checking signatures, or none that we know.
    fn read(value: JsonValue) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let common = &jwk.common;
        let is_for_signatures = common
            .public_key_use
            .as_ref()
            .is_none_or(|is_for| *is_for == PublicKeyUse::Signature)
            && common
                .key_operations
                .as_ref()
                .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        if !is_for_signatures {
            return None;
        }
        let mut algorithms = fitting(&jwk.algorithm);
        if let Some(only) = common.key_algorithm {
            algorithms.retain(|algorithm| only == (*algorithm).into());
        }
        if algorithms.is_empty() {
            return None;
        }
        Some(Self {
            key: DecodingKey::from_jwk(&jwk).ok()?,
            kid: jwk.common.key_id,
            algorithms,
        })
    }
}

/// The algorithms that a key of this kind and size can be used with. None for symmetric keys: what is published is no secret.
fn fitting(key: &AlgorithmParameters) -> Vec<Algorithm> {
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
    match key {
        AlgorithmParameters::RSA(rsa) => {
            let modulus = bytes(&rsa.n);
            let size = modulus.len() - modulus.iter().take_while(|byte| **byte == 0).count();
            if !RSA_BYTES.contains(&size) {
                return Vec::new();
            }
            use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
            vec![RS256, RS384, RS512, PS256, PS384, PS512]
        }
        AlgorithmParameters::EllipticCurve(ec) => {
            let (algorithm, size) = match ec.curve {
                EllipticCurve::P256 => (Algorithm::ES256, 32),
                EllipticCurve::P384 => (Algorithm::ES384, 48),
                _ => return Vec::new(),
            };
            let fits = bytes(&ec.x).len() == size && bytes(&ec.y).len() == size;
            fits.then_some(algorithm).into_iter().collect()
        }
        AlgorithmParameters::OctetKeyPair(pair) => {
            let fits = pair.curve == EllipticCurve::Ed25519 && bytes(&pair.x).len() == 32;
            fits.then_some(Algorithm::EdDSA).into_iter().collect()
        }
        _ => Vec::new(),
    }
}
