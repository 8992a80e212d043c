//! What `aldis dev` prints once it runs: where everything is, and commands that work when they are pasted.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aldis_crds::channel::Algorithm;
use aldis_crds::contract::{Attachment, ChannelConfig, GatewayConfig, Keys};
use aldis_gateway::app::Gateway;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Map, Value};

use super::sample::{ANNOTATION, Sample};
use crate::declared::Declared;

/// Lifetime of a printed token. 12 h: a day's work.
const TOKEN_LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);

pub(super) fn banner(
    dir: &Path,
    config: &GatewayConfig,
    keys: &Keys,
    declared: &Declared,
    gateway: &Gateway,
    kafka: &str,
    embedded: bool,
) -> String {
    let mut out = String::new();
    let broker = if embedded { "embedded, in memory" } else { "external" };
    // Writing to a String does not fail.
    let _ = writeln!(out, "aldis dev {}\n", dir.display());
    let _ = writeln!(out, "kafka    {kafka} ({broker})");
    let _ = writeln!(
        out,
        "health   http://{}/health   metrics  http://{}/metrics",
        gateway.admin(),
        gateway.admin()
    );
    for channel in &config.channels {
        let annotation = declared.annotation(&channel.channel, ANNOTATION);
        let sample = match Sample::of(annotation, &channel.spec) {
            Ok(sample) => sample,
            Err(error) => {
                let _ = writeln!(
                    out,
                    "\nchannel {}: the annotation {ANNOTATION} is not used: {error}",
                    channel.channel
                );
                Sample::default()
            }
        };
        out.push_str(&about(channel, &sample, config, keys, gateway, kafka));
    }
    out.push_str("\nSave a file to put it in force. Ctrl-C ends.\n");
    out
}

fn about(
    channel: &ChannelConfig,
    sample: &Sample,
    config: &GatewayConfig,
    keys: &Keys,
    gateway: &Gateway,
    kafka: &str,
) -> String {
    let ends_tls = |name: &str| {
        config
            .listeners
            .iter()
            .any(|listener| listener.name == name && listener.tls.is_some())
    };
    let scheme = |at: &Attachment| if ends_tls(&at.listener) { "https" } else { "http" };
    let mut out = format!("\nchannel {}\n", channel.channel);
    let urls = channel.attachments.iter().filter_map(|at| {
        Some(format!(
            "{}://{}{}",
            scheme(at),
            gateway.address(&at.listener)?,
            at.path
        ))
    });
    let urls: Vec<_> = urls.collect();
    let _ = writeln!(out, "  url      {}", urls.join("  "));
    if channel.spec.authentication.is_none() {
        let _ = writeln!(out, "  nobody can connect: spec.authentication is absent");
    }
    let mut tail = format!("{} tail {}", program(), urls.first().map_or("", String::as_str));
    if let Some((method, token)) = token(channel, sample, keys) {
        let claims = sample
            .claims
            .clone()
            .map_or_else(String::new, |claims| Value::Object(claims).to_string());
        let _ = writeln!(out, "  token    {token}\n           ({method}: {claims}, 12 h)");
        let _ = write!(tail, " --token {token}");
    } else if let Some(query) = &sample.query {
        for (name, value) in query {
            let _ = write!(tail, " --query {}", quoted(&format!("{name}={value}")));
        }
    }
    if let Some(join) = &sample.join {
        let args: Vec<_> = join.args.iter().map(Value::to_string).collect();
        let _ = write!(
            tail,
            " --emit {}",
            quoted(&format!("{}={}", join.event, args.join(",")))
        );
    }
    let _ = writeln!(out, "  watch    {tail}");
    if let Some(record) = &sample.record {
        let publish = format!(
            "{} publish --broker {kafka} --topic {} {}",
            program(),
            record.topic,
            quoted(&record.value.to_string())
        );
        let _ = writeln!(out, "  publish  {publish}");
    }
    out
}

/// A token for the first jwt method of a channel whose secret is here, and that method's name.
fn token(channel: &ChannelConfig, sample: &Sample, keys: &Keys) -> Option<(String, String)> {
    let mut methods = channel.spec.authentication.as_ref()?.jwt.iter();
    let (method, secret) = methods.find_map(|method| {
        let secret = keys.get(&channel.channel.namespace, method.secret_ref.as_ref()?)?;
        Some((method, secret))
    })?;
    let algorithm = match method.algorithms().first()? {
        Algorithm::HS384 => jsonwebtoken::Algorithm::HS384,
        Algorithm::HS512 => jsonwebtoken::Algorithm::HS512,
        _ => jsonwebtoken::Algorithm::HS256,
    };
    let mut claims: Map<String, Value> = sample.claims.clone().unwrap_or_default();
    let expires = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + TOKEN_LIFETIME;
    claims.entry("exp").or_insert_with(|| expires.as_secs().into());
    if let Some(issuer) = &method.issuer {
        claims.insert("iss".to_owned(), issuer.clone().into());
    }
    if let Some(audience) = method.audiences.as_ref().and_then(|audiences| audiences.first()) {
        claims.insert("aud".to_owned(), audience.clone().into());
    }
    let token = jsonwebtoken::encode(
        &Header::new(algorithm),
        &claims,
        &EncodingKey::from_secret(secret.expose()),
    )
    .ok()?;
    Some((method.name.clone(), token))
}

/// This program as it was called, so that what is printed can be pasted.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "aldis".to_owned())
}

/// For a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn shell_quotes_survive_quotes() {
        assert_eq!(super::quoted("it's {\"a\": 1}"), r#"'it'\''s {"a": 1}'"#);
    }
}
