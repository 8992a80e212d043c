//! What `aldis dev` prints once it runs: where everything is, and commands that work when they are pasted.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;

use super::about::About;
use super::sample::ANNOTATION;

/// Where things are.
pub(super) struct Places<'p> {
    pub(super) dir: &'p Path,
    pub(super) kafka: &'p str,
    /// Whether Kafka is the embedded broker.
    pub(super) embedded: bool,
    pub(super) page: &'p str,
    pub(super) admin: SocketAddr,
}

pub(super) fn banner(places: &Places<'_>, channels: &[About]) -> String {
    let mut out = String::new();
    let broker = if places.embedded {
        "embedded, in memory"
    } else {
        "external"
    };
    let admin = places.admin;
    // Writing to a String does not fail.
    let _ = writeln!(out, "aldis dev {}\n", places.dir.display());
    let _ = writeln!(out, "page     {}", places.page);
    let _ = writeln!(out, "kafka    {} ({broker})", places.kafka);
    let _ = writeln!(out, "health   http://{admin}/health   metrics  http://{admin}/metrics");
    for channel in channels {
        if let Some(error) = &channel.bad_annotation {
            let name = &channel.name;
            let _ = writeln!(
                out,
                "\nchannel {name}: the annotation {ANNOTATION} is not used: {error}"
            );
        }
        out.push_str(&about(channel, places.kafka));
    }
    out.push_str("\nSave a file to put it in force. Ctrl-C ends.\n");
    out
}

fn about(channel: &About, kafka: &str) -> String {
    let About { sample, urls, .. } = channel;
    let mut out = format!("\nchannel {}\n", channel.name);
    let _ = writeln!(out, "  url      {}", urls.join("  "));
    if !channel.admits {
        let _ = writeln!(out, "  nobody can connect: spec.authentication is absent");
    }
    let mut tail = format!("{} tail {}", program(), urls.first().map_or("", String::as_str));
    if let Some(token) = &channel.token {
        let claims = sample.claims.clone();
        let claims = claims.map_or_else(String::new, |claims| Value::Object(claims).to_string());
        let _ = writeln!(
            out,
            "  token    {}\n           ({}: {claims}, 12 h)",
            token.token, token.method
        );
        let _ = write!(tail, " --token {}", token.token);
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
