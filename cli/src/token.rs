//! `aldis token`: issues a JSON Web Token, to try out a channel with.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use jsonwebtoken::errors::Error as JwtError;
use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey, Header};
use serde_json::{Map, Value};

use crate::args::{Secret, duration, key_value};
use crate::report::Explain;

/// Environment variable read where neither `--secret` nor `--secret-file` is given.
const SECRET_ENV: &str = "ALDIS_SECRET";

/// Lifetime of a token where none is asked for: long enough to try things out, short enough to lose.
const DEFAULT_EXPIRES: &str = "1h";

/// Issue a JSON Web Token
///
/// Prints the token to standard output. `iat` and `exp` are set unless they are given as claims.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct TokenArgs {
    /// Shared secret of an HS algorithm. Other users can see it in the process list: prefer the environment
    /// variable ALDIS_SECRET or --secret-file
    #[arg(long, value_name = "S", conflicts_with = "secret_file")]
    secret: Option<Secret>,

    /// File that holds the secret, or the private key in PEM for RS, PS, ES and EdDSA algorithms. One line
    /// break at the end does not count
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,

    /// Signature algorithm: HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA
    #[arg(long, value_name = "NAME", default_value = "HS256", value_parser = algorithm)]
    algorithm: Algorithm,

    /// Key id for the token's header, as a JWKS names it
    #[arg(long, value_name = "ID")]
    kid: Option<String>,

    /// A claim; repeat for more. A value that is JSON is taken as JSON, anything else as a string
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = key_value)]
    claims: Vec<(String, String)>,

    /// Lifetime, such as 30s, 5m or 24h; `none` for a token that does not expire
    #[arg(long, value_name = "TIME", default_value = DEFAULT_EXPIRES, value_parser = expires)]
    expires: Expires,
}

const EXAMPLES: &str = r#"Examples:
  ALDIS_SECRET=… aldis token --claim id=42 --claim role=staff
  aldis token --secret-file jwt.key --claim sub=ann --claim 'roles=["staff","cook"]' --expires 8h
  aldis token --secret-file private.pem --algorithm ES256 --kid key-1 --claim aud=notify
  A number as a string: --claim 'id="42"'"#;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expires {
    Never,
    In(Duration),
}

#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("no secret to sign with")]
    NoSecret,
    #[error("the secret is empty")]
    EmptySecret,
    #[error("cannot read the secret file {}", .path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("claim `{0}` is given twice")]
    TwiceClaimed(String),
    #[error("the secret cannot sign with {algorithm:?}")]
    Key { algorithm: Algorithm, source: JwtError },
    #[error("cannot write to standard output")]
    Output(#[source] std::io::Error),
}

impl Explain for TokenError {
    fn is_usage(&self) -> bool {
        matches!(self, Self::NoSecret | Self::EmptySecret | Self::TwiceClaimed(_))
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoSecret => Some(format!("set {SECRET_ENV}, or give --secret-file or --secret")),
            Self::Key { algorithm, .. } => Some(match algorithm.family() {
                AlgorithmFamily::Hmac => "HS algorithms take any secret".to_owned(),
                AlgorithmFamily::Rsa => "give an RSA private key in PEM with --secret-file".to_owned(),
                AlgorithmFamily::Ec | AlgorithmFamily::Ed => {
                    "give a private key in PEM (PKCS#8: `BEGIN PRIVATE KEY`) with --secret-file".to_owned()
                }
            }),
            Self::EmptySecret | Self::Unreadable { .. } | Self::TwiceClaimed(_) | Self::Output(_) => None,
        }
    }
}

/// Prints the token.
pub fn run(args: TokenArgs) -> Result<(), TokenError> {
    use std::io::Write;
    let token = issue(&args, Secret::from_env(SECRET_ENV), Timestamp::now())?;
    writeln!(std::io::stdout(), "{token}").map_err(TokenError::Output)
}

fn issue(args: &TokenArgs, from_env: Option<Secret>, now: Timestamp) -> Result<String, TokenError> {
    let secret = secret(args, from_env)?;
    let claims = claims(args, now)?;
    let unfit = |source| TokenError::Key {
        algorithm: args.algorithm,
        source,
    };
    let key = encoding_key(args.algorithm, &secret).map_err(unfit)?;
    let header = Header {
        kid: args.kid.clone(),
        ..Header::new(args.algorithm)
    };
    jsonwebtoken::encode(&header, &claims, &key).map_err(unfit)
}

/// What is on the command line wins over the environment.
fn secret(args: &TokenArgs, from_env: Option<Secret>) -> Result<Vec<u8>, TokenError> {
    let secret = match (&args.secret_file, &args.secret) {
        (Some(path), _) => {
            let mut content = std::fs::read(path).map_err(|source| TokenError::Unreadable {
                path: path.clone(),
                source,
            })?;
            if content.ends_with(b"\n") {
                content.pop();
                content.pop_if(|last| *last == b'\r');
            }
            content
        }
        (None, Some(secret)) => secret.reveal().as_bytes().to_vec(),
        (None, None) => from_env.ok_or(TokenError::NoSecret)?.reveal().as_bytes().to_vec(),
    };
    if secret.is_empty() {
        Err(TokenError::EmptySecret)
    } else {
        Ok(secret)
    }
}

fn claims(args: &TokenArgs, now: Timestamp) -> Result<Map<String, Value>, TokenError> {
    let mut claims = Map::new();
    for (name, text) in &args.claims {
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.as_str()));
        if claims.insert(name.clone(), value).is_some() {
            return Err(TokenError::TwiceClaimed(name.clone()));
        }
    }
    let now = now.as_second();
    claims.entry("iat").or_insert_with(|| now.into());
    if let Expires::In(lifetime) = args.expires {
        // A part of a second still gives a token that is valid for a moment.
        let seconds = lifetime.as_secs_f64().ceil() as i64;
        claims
            .entry("exp")
            .or_insert_with(|| now.saturating_add(seconds).into());
    }
    Ok(claims)
}

fn encoding_key(algorithm: Algorithm, secret: &[u8]) -> Result<EncodingKey, JwtError> {
    match algorithm.family() {
        AlgorithmFamily::Hmac => Ok(EncodingKey::from_secret(secret)),
        AlgorithmFamily::Rsa => EncodingKey::from_rsa_pem(secret),
        AlgorithmFamily::Ec => EncodingKey::from_ec_pem(secret),
        AlgorithmFamily::Ed => EncodingKey::from_ed_pem(secret),
    }
}

fn algorithm(name: &str) -> Result<Algorithm, String> {
    name.parse()
        .map_err(|_| "unknown algorithm; see `aldis token --help` for the list".to_owned())
}

fn expires(text: &str) -> Result<Expires, String> {
    if text == "none" {
        Ok(Expires::Never)
    } else {
        duration(text).map(Expires::In)
    }
}

#[cfg(test)]
mod tests;
