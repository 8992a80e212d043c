//! Logs: structured lines on standard error, for people or as JSON.

use std::env;
use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// Environment variable with the filter: a level (`debug`), or `target=level` pairs (`warn,aldis_gateway=debug`).
pub const FILTER_ENV: &str = "ALDIS_LOG";

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
        Some("log") => "info".to_owned(),
        Some(filter) => filter.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_has_a_default_and_an_alias() {
        assert_eq!(filter(None), DEFAULT_FILTER);
        assert_eq!(filter(Some(" ")), DEFAULT_FILTER);
        assert_eq!(filter(Some("log")), "info");
        assert_eq!(filter(Some("debug")), "debug");
    }
}
