//! How a command's failure is shown: once, with its causes, and with what would mend it.

use std::fmt;
use std::process::ExitCode;

/// Exit code of a command that failed.
const FAILED: u8 = 1;

/// Exit code of a command that was called wrongly, as clap ends with.
const USAGE: u8 = 2;

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
        let mut above = self.error.to_string();
        writeln!(f, "error: {above}")?;
        for cause in self.error.chain().skip(1) {
            let cause = cause.to_string();
            // Some libraries repeat a cause in their own text; saying it twice explains nothing.
            if !above.contains(&cause) {
                writeln!(f, "  caused by: {cause}")?;
                above = cause;
            }
        }
        match &self.hint {
            Some(hint) => writeln!(f, "  hint: {hint}"),
            None => Ok(()),
        }
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
    fn a_cause_already_told_is_not_told_again() {
        let error = anyhow!("refused").context("cannot connect: refused");
        assert_eq!(
            Failure::new(error, None).to_string(),
            "error: cannot connect: refused\n"
        );
    }
}
