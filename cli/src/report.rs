//! How a command's failure is shown: once, with its causes, and with what would mend it.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Exit code of a command that failed.
const FAILED: u8 = 1;

/// Exit code of a command that was called wrongly, as clap ends with.
const USAGE: u8 = 2;

/// How lists are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Columns, for people
    #[default]
    Table,
    /// One JSON value
    Json,
    /// The same as YAML
    Yaml,
}

/// Whether text is coloured: only where a terminal is, and not where the environment's `NO_COLOR` says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// It is.
    Colours,
    /// It is not.
    Plain,
}

impl Style {
    /// For a stream that is a terminal, or none.
    pub fn of(is_terminal: bool) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        match is_terminal && !no_color {
            true => Self::Colours,
            false => Self::Plain,
        }
    }

    /// What stands out.
    pub fn bold(self, text: &str) -> String {
        self.painted("1", text)
    }

    /// What is wrong.
    pub fn red(self, text: &str) -> String {
        self.painted("31", text)
    }

    /// What is right.
    pub fn green(self, text: &str) -> String {
        self.painted("32", text)
    }

    /// What names a place.
    pub fn cyan(self, text: &str) -> String {
        self.painted("36", text)
    }

    fn painted(self, code: &str, text: &str) -> String {
        match self {
            Self::Colours => format!("\x1b[{code}m{text}\x1b[0m"),
            Self::Plain => text.to_owned(),
        }
    }
}

/// How often progress is shown. 200 ms: it moves, and costs nothing.
const PROGRESS: Duration = Duration::from_millis(200);

/// A line on a terminal that says how far long work has come, and is gone when it ends. Where no terminal is, nothing.
pub struct Progress<W: Write> {
    to: Option<W>,
    shown: Option<Instant>,
}

impl Progress<io::Stderr> {
    /// On standard error, unless `others` write to the same terminal meanwhile.
    pub fn new(others: bool) -> Self {
        Self::on((io::stderr().is_terminal() && !others).then(io::stderr))
    }
}

impl<W: Write> Progress<W> {
    fn on(to: Option<W>) -> Self {
        Self { to, shown: None }
    }

    /// Shows what `text` says, if the last was some time ago.
    pub fn show(&mut self, text: impl FnOnce() -> String) {
        let Some(to) = &mut self.to else { return };
        if self.shown.is_some_and(|shown| shown.elapsed() < PROGRESS) {
            return;
        }
        self.shown = Some(Instant::now());
        // Who can not be shown how far it is misses nothing else.
        let _ = write!(to, "\r\x1b[K{}", text()).and_then(|()| to.flush());
    }
}

impl<W: Write> Drop for Progress<W> {
    fn drop(&mut self) {
        if let (Some(to), Some(_)) = (&mut self.to, self.shown) {
            let _ = write!(to, "\r\x1b[K").and_then(|()| to.flush());
        }
    }
}

/// A command's error, as far as its user is concerned.
pub trait Explain: std::error::Error + Send + Sync + 'static {
    /// What would mend it, if that can be said.
    fn hint(&self) -> Option<String>;

    /// Whether the command was called wrongly, as against having failed.
    fn is_usage(&self) -> bool {
        false
    }
}

/// A failed command. `Display` is the whole text for standard error, several lines, newline at the end.
#[derive(Debug)]
pub struct Failure {
    error: anyhow::Error,
    hint: Option<String>,
    exit_code: u8,
}

impl Failure {
    /// A failure whose causes are in `error`.
    pub fn new(error: impl Into<anyhow::Error>, hint: Option<String>) -> Self {
        Self {
            error: error.into(),
            hint,
            exit_code: FAILED,
        }
    }

    /// What the process ends with.
    pub fn exit_code(&self) -> ExitCode {
        self.exit_code.into()
    }

    /// The whole text for standard error.
    pub fn text(&self, style: Style) -> String {
        let mut out = String::new();
        let mut above = self.error.to_string();
        // Writing to a String does not fail.
        let _ = writeln!(out, "{} {above}", style.red("error:"));
        for cause in self.error.chain().skip(1) {
            let cause = cause.to_string();
            // Some libraries repeat a cause in their own text; saying it twice explains nothing.
            if !above.contains(&cause) {
                let _ = writeln!(out, "  caused by: {cause}");
                above = cause;
            }
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(out, "  {} {hint}", style.cyan("hint:"));
        }
        out
    }
}

impl<E: Explain> From<E> for Failure {
    fn from(error: E) -> Self {
        let (hint, usage) = (error.hint(), error.is_usage());
        Self {
            exit_code: if usage { USAGE } else { FAILED },
            ..Self::new(error, hint)
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(Style::Plain))
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn error_causes_and_hint_are_one_line_each() {
        let error = anyhow!("connection refused")
            .context("cannot connect")
            .context("cannot publish");
        let shown = Failure::new(error, Some("start the broker".into())).to_string();
        assert_eq!(
            shown,
            "error: cannot publish\n  caused by: cannot connect\n  caused by: connection refused\n  hint: start the broker\n"
        );
    }

    #[test]
    fn progress_is_shown_where_a_terminal_is_and_taken_away_at_the_end() {
        let mut shown = Vec::new();
        let mut progress = Progress::on(Some(&mut shown));
        progress.show(|| "1 published".to_owned());
        progress.show(|| unreachable!("not again within {PROGRESS:?}"));
        drop(progress);
        assert_eq!(String::from_utf8(shown).unwrap(), "\r\x1b[K1 published\r\x1b[K");
        Progress::<Vec<u8>>::on(None).show(|| unreachable!("nobody looks"));
    }

    #[test]
    fn a_failure_is_coloured_only_where_colours_are_wanted() {
        let failure = Failure::new(anyhow!("refused"), Some("start the broker".into()));
        assert_eq!(
            failure.text(Style::Colours),
            "\x1b[31merror:\x1b[0m refused\n  \x1b[36mhint:\x1b[0m start the broker\n"
        );
        assert!(!failure.to_string().contains('\x1b'));
    }

    #[test]
    fn a_cause_already_told_is_not_told_again() {
        let error = anyhow!("refused").context("cannot connect: refused");
        assert_eq!(
            Failure::new(error, None).to_string(),
            "error: cannot connect: refused\n"
        );
    }
}
