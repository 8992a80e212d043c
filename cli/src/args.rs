//! The command line: which commands there are, and how their values are read.
//!
//! The options of a command live beside the command; this file has what they share.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, Subcommand};
use jiff::SignedDuration;
use serde_json::Value;

use crate::{dev, list, manual, publish, status, tail, token, translate, validate, why};

/// Work with Aldis notification channels: watch what clients receive, publish records, issue tokens.
#[derive(Debug, Parser)]
#[command(name = "aldis", version, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage. `aldis COMMAND --help` shows examples.";

#[derive(Debug, Subcommand)]
pub enum Command {
    Dev(dev::DevArgs),
    Validate(validate::ValidateArgs),
    List(list::ListArgs),
    Translate(translate::TranslateArgs),
    Publish(publish::PublishArgs),
    Tail(tail::TailArgs),
    Token(token::TokenArgs),
    Status(status::StatusArgs),
    Why(why::WhyArgs),
    Completions(manual::CompletionsArgs),
    Man(manual::ManArgs),
}

/// A value that no message and no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The environment variable's value, unless it is unset or empty.
    pub fn from_env(name: &str) -> Option<Self> {
        std::env::var(name).ok().filter(|value| !value.is_empty()).map(Self)
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        Ok(Self::new(value))
    }
}

/// `name=value`; the value may be empty and may contain `=`.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected name=value".to_owned()),
    }
}

/// A time span such as `500ms`, `30s`, `5m` or `1h30m`; more than zero.
pub fn duration(text: &str) -> Result<Duration, String> {
    let span: SignedDuration = text
        .parse()
        .map_err(|_| "expected a number with a unit, such as 500ms, 30s, 5m or 1h30m".to_owned())?;
    match Duration::try_from(span) {
        Ok(span) if span > MAX_DURATION => Err(format!("longer than the most that makes sense, {MAX_DURATION:?}")),
        Ok(span) if !span.is_zero() => Ok(span),
        _ => Err("must be more than zero".to_owned()),
    }
}

/// Longest time span accepted, 100 years in seconds: keeps sums with the present within every clock.
const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// A JSON object.
pub fn json_object(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err("expected a JSON object such as {\"token\":\"…\"}".to_owned()),
        Err(error) => Err(format!("not JSON: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_need_a_unit_and_a_positive_value() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        for wrong in ["", "30", "0s", "-5s", "soon", "99999999999999h", "9999999h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn key_value_splits_at_the_first_equals_sign() {
        assert_eq!(key_value("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(key_value("a="), Ok(("a".into(), "".into())));
        assert!(key_value("a").is_err());
        assert!(key_value("=b").is_err());
    }

    #[test]
    fn a_secret_is_not_shown_by_debug() {
        let cli = Cli::parse_from(["aldis", "token", "--secret", "hunter2"]);
        assert!(!format!("{cli:?}").contains("hunter2"));
        let cli = Cli::parse_from(["aldis", "tail", "http://h", "--token", "hunter2"]);
        assert!(!format!("{cli:?}").contains("hunter2"));
    }
}
