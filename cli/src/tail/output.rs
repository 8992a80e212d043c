//! One event as one line of text.

use std::borrow::Cow;
use std::fmt::Write;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::client::Event;

/// How events are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    Pretty,
    Json,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    event: &'a str,
    args: Vec<&'a RawValue>,
    /// RFC 3339 with milliseconds, UTC.
    received_at: String,
}

impl Output {
    /// The event without a line break; arguments are the text that was sent. Fails if they are not JSON.
    pub(super) fn line(self, event: &Event, received_at: Timestamp) -> serde_json::Result<String> {
        let args = event.raw_args()?;
        let name = event.name();
        let line = match self {
            Self::Json => serde_json::to_string(&Line {
                event: &name,
                args,
                received_at: format!("{received_at:.3}"),
            })?,
            Self::Pretty => {
                let time = received_at.strftime("%H:%M:%S%.3fZ");
                let mut line = format!("{time} {name}");
                for arg in args {
                    let _ = write!(line, " {arg}");
                }
                line
            }
        };
        Ok(one_line(&line).into_owned())
    }
}

/// Replaces control characters: they could break the line or command the terminal. Valid JSON keeps its
/// meaning, since it has line breaks and tabs only between its tokens.
pub(super) fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\n' | '\r' | '\t' => line.push(' '),
            char if char.is_control() => {
                let _ = write!(line, "\\u{:04x}", u32::from(char));
            }
            char => line.push(char),
        }
    }
    Cow::Owned(line)
}
