//! The records to publish: one from the command line, or one a line from standard input.

use std::io::{BufRead, IsTerminal, Read};

use serde_json::Value;
use tokio::sync::mpsc;

/// Largest record read from standard input, 8 MiB: far over what brokers take by default (1 MiB), and a bound
/// on what a file without line breaks costs.
const MAX_RECORD: usize = 8 * 1024 * 1024;

/// Records read ahead of the producer, 16: enough that reading never waits for sending.
const READ_AHEAD: usize = 16;

pub(super) type Receiver = mpsc::Receiver<Result<Record, RecordError>>;

/// One record's payload.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) payload: Vec<u8>,
    /// Line of standard input, from 1; `None` for a record given as an argument.
    pub(super) line: Option<usize>,
}

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("the record is not JSON: {reason} at line {line}, column {column}")]
    NotJson { line: usize, column: usize, reason: String },
    #[error("the record is not UTF-8, so not JSON: line {line}, byte {byte}")]
    NotUtf8 { line: usize, byte: usize },
    #[error("line {line} is longer than {MAX_RECORD} bytes, the most that one record may have")]
    TooLong { line: usize },
    #[error("cannot read line {line} of standard input")]
    Unreadable { line: usize, source: std::io::Error },
}

/// The one record of the command line.
pub(super) fn from_argument(text: &str, raw: bool) -> Result<Receiver, RecordError> {
    let payload = text.as_bytes().to_vec();
    if !raw {
        check_json(&payload, 1)?;
    }
    let (sender, receiver) = mpsc::channel(1);
    // Cannot fail: the receiver is here and the channel has room.
    let _ = sender.try_send(Ok(Record { payload, line: None }));
    Ok(receiver)
}

/// Records of standard input, up to the first that is refused. They are read by a thread of their own, which
/// ends with the input or with the process: a read from a terminal cannot be called back.
pub(super) fn from_stdin(raw: bool) -> Receiver {
    if std::io::stdin().is_terminal() {
        eprintln!("reading records from standard input, one a line; Ctrl-D ends");
    }
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    std::thread::spawn(move || {
        for record in Lines::new(std::io::stdin().lock(), raw) {
            let last = record.is_err();
            if sender.blocking_send(record).is_err() || last {
                return;
            }
        }
    });
    receiver
}

/// Splits an input into records.
struct Lines<R> {
    input: R,
    raw: bool,
    line: usize,
}

impl<R: BufRead> Lines<R> {
    fn new(input: R, raw: bool) -> Self {
        Self { input, raw, line: 0 }
    }

    /// The next line without its line break; `None` at the end.
    fn read(&mut self) -> Result<Option<Vec<u8>>, RecordError> {
        self.line += 1;
        let line = self.line;
        let mut text = Vec::new();
        let mut bounded = (&mut self.input).take(MAX_RECORD as u64 + 1);
        match bounded.read_until(b'\n', &mut text) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(source) => return Err(RecordError::Unreadable { line, source }),
        }
        if text.pop_if(|last| *last == b'\n').is_some() {
            text.pop_if(|last| *last == b'\r');
        } else if text.len() > MAX_RECORD {
            return Err(RecordError::TooLong { line });
        }
        Ok(Some(text))
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let payload = match self.read() {
                Ok(payload) => payload?,
                Err(error) => return Some(Err(error)),
            };
            if payload.is_empty() {
                continue;
            }
            if !self.raw
                && let Err(error) = check_json(&payload, self.line)
            {
                return Some(Err(error));
            }
            return Some(Ok(Record {
                payload,
                line: Some(self.line),
            }));
        }
    }
}

/// `first_line` is the line that the payload begins on.
fn check_json(payload: &[u8], first_line: usize) -> Result<(), RecordError> {
    let text = std::str::from_utf8(payload).map_err(|error| RecordError::NotUtf8 {
        line: first_line,
        byte: error.valid_up_to() + 1,
    })?;
    let Err(error) = serde_json::from_str::<Value>(text) else {
        return Ok(());
    };
    let reason = error.to_string();
    let reason = reason.split(" at line ").next().unwrap_or_default().to_owned();
    Err(RecordError::NotJson {
        line: first_line + error.line() - 1,
        column: error.column(),
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8], raw: bool) -> Vec<Result<Record, String>> {
        Lines::new(input, raw)
            .map(|record| record.map_err(|error| error.to_string()))
            .collect()
    }

    fn record(payload: &str, line: usize) -> Result<Record, String> {
        Ok(Record {
            payload: payload.into(),
            line: Some(line),
        })
    }

    #[test]
    fn each_line_is_a_record_and_empty_lines_are_skipped() {
        assert_eq!(
            lines(b"{}\r\n\n[1]\n\"end\"", false),
            [record("{}", 1), record("[1]", 3), record("\"end\"", 4)]
        );
    }

    #[test]
    fn a_line_that_is_not_json_is_refused_with_its_position() {
        let refused = lines(b"{}\n{\"a\": }\n", false);
        assert_eq!(
            refused[1],
            Err("the record is not JSON: expected value at line 2, column 7".into())
        );
    }

    #[test]
    fn an_argument_of_several_lines_tells_the_line() {
        let error = from_argument("{\n\"a\": x}", false).unwrap_err();
        assert!(
            matches!(error, RecordError::NotJson { line: 2, column: 6, .. }),
            "{error}"
        );
    }

    #[test]
    fn bytes_that_are_not_text_are_refused_with_their_position() {
        let refused = lines(b"{\"a\":\"\xff\"}", false);
        assert_eq!(
            refused,
            [Err("the record is not UTF-8, so not JSON: line 1, byte 7".into())]
        );
    }

    #[test]
    fn raw_records_are_not_checked() {
        assert_eq!(lines(b"not json", true), [record("not json", 1)]);
        assert!(from_argument("not json", true).is_ok());
    }

    #[test]
    fn a_line_over_the_limit_is_refused() {
        let fits = vec![b'1'; MAX_RECORD];
        assert!(lines(&fits, true)[0].is_ok());
        let refused = Lines::new(&vec![b'1'; MAX_RECORD + 1][..], true).next();
        assert!(matches!(refused, Some(Err(RecordError::TooLong { line: 1 }))));
    }
}
