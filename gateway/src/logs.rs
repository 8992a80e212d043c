//! Logs: structured lines on standard error, for people or as JSON.

use std::env;
use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Environment variable with the filter: a level (`debug`), which is that of [`OWN`], or `target=level` pairs
/// (`warn,aldis_gateway=debug`). Of the libraries below debug shows what clients send, their tokens too: only by name.
pub const FILTER_ENV: &str = "ALDIS_LOG";

/// Targets that never show a secret, a token or the id of a socket.
const OWN: [&str; 5] = [
    "aldis_gateway",
    "aldis_core",
    "aldis_operator",
    "aldis_cli",
    "librdkafka",
];

/// What is logged where the environment says nothing: what the gateway does, and what goes wrong elsewhere.
const DEFAULT_FILTER: &str = "warn,aldis_gateway=info,aldis_cli=info";

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Begins to log. Only the first call counts.
pub fn init(format: Format) {
    let filter = EnvFilter::new(filter(env::var(FILTER_ENV).ok().as_deref()));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let result = match format {
        Format::Text => builder.with_target(false).try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    if result.is_err() {
        tracing::debug!("logging had begun already");
    }
}

/// The filter to use; `log` is what NestJS calls info.
fn filter(given: Option<&str>) -> String {
    match given.map(str::trim) {
        None | Some("") => DEFAULT_FILTER.to_owned(),
        Some("log") => of_our_own(LevelFilter::INFO),
        Some(filter) => filter.parse().map_or_else(|_| filter.to_owned(), of_our_own),
    }
}

fn of_our_own(level: LevelFilter) -> String {
    let others = level.min(LevelFilter::WARN).to_string();
    OWN.iter()
        .fold(others, |filter, target| format!("{filter},{target}={level}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_has_a_default_and_an_alias() {
        assert_eq!(filter(None), DEFAULT_FILTER);
        assert_eq!(filter(Some(" ")), DEFAULT_FILTER);
        assert_eq!(filter(Some("log")), filter(Some("info")));
        let debug = "warn,aldis_gateway=debug,aldis_core=debug,aldis_operator=debug,aldis_cli=debug,librdkafka=debug";
        assert_eq!(filter(Some("debug")), debug);
        assert!(filter(Some("off")).starts_with("off,aldis_gateway=off,"));
        assert_eq!(filter(Some("warn,socketioxide=trace")), "warn,socketioxide=trace");
    }
}
