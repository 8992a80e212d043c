//! The pattern of `matches()`, compiled once: CEL itself compiles it again for every call, however large it gets.

use std::sync::Arc;

use cel::common::types::{CelBool, CelString};
use cel::common::value::CowVal;
use cel::{ExecutionError, FunctionContext};
use regex::{Regex, RegexBuilder};

use super::bounds::{MAX_MATCHED, MAX_PATTERN};
use super::work;

/// The smallest size that is told apart, in KiB.
const SMALL_KIB: usize = 1;

/// A compiled pattern, as a value that CEL hands to our function.
#[derive(Debug)]
pub(super) struct Pattern {
    regex: Regex,
    /// Size of its program in KiB, up to the next power of two. Where it goes worst, a byte of the text takes some 0.1 µs for
    /// each of them: half a step or more.
    kib: usize,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.regex.as_str() == other.regex.as_str()
    }
}

impl Eq for Pattern {}

impl cel::objects::Opaque for Pattern {
    fn runtime_type_name(&self) -> &str {
        "aldis.Pattern"
    }
}

impl Pattern {
    /// # Errors
    /// What is wrong with it, without the pattern itself.
    pub(super) fn compile(pattern: &str) -> Result<Self, String> {
        let mut kib = SMALL_KIB;
        loop {
            let compiled = RegexBuilder::new(pattern).size_limit(kib * 1024).build();
            match compiled {
                Ok(regex) => return Ok(Self { regex, kib }),
                Err(regex::Error::CompiledTooBig(_)) if kib * 1024 < MAX_PATTERN => kib *= 2,
                Err(regex::Error::CompiledTooBig(_)) => {
                    return Err(format!(
                        "it compiles to more than {MAX_PATTERN} bytes: use smaller repetitions"
                    ));
                }
                Err(error) => {
                    let error = error.to_string();
                    let reason = error.lines().last().unwrap_or_default();
                    return Err(reason.trim_start_matches("error: ").to_owned());
                }
            }
        }
    }

    pub(super) fn value(self) -> cel::Value {
        cel::Value::Opaque(Arc::new(self))
    }
}

/// `@matches(text, pattern)`.
pub(super) fn matches<'context, 'call>(
    call: &mut FunctionContext<'context, 'call>,
) -> Result<CowVal<'context, 'call>, ExecutionError> {
    let error = |message: String| ExecutionError::function_error("matches", message);
    let args: Vec<_> = call.this.iter().chain(&call.args).collect();
    let [text, pattern] = args.as_slice() else {
        return Err(error("takes a text and a pattern".to_owned()));
    };
    let Some(text) = text.downcast_ref::<CelString<'_>>() else {
        return Err(error(format!("takes a string, not {}", text.get_type().name())));
    };
    let cel::Value::Opaque(pattern) = cel::Value::try_from(pattern.as_ref())? else {
        return Err(error("the pattern must be a literal".to_owned()));
    };
    let Some(pattern) = pattern.downcast_ref::<Pattern>() else {
        return Err(error("the pattern must be a literal".to_owned()));
    };
    let text = text.inner();
    if text.len() > MAX_MATCHED {
        return Err(error(format!("the text is longer than {MAX_MATCHED} bytes")));
    }
    work::spend(1 + text.len() * pattern.kib / 2).map_err(|_| error(work::exhausted_message()))?;
    Ok(CowVal::owned(CelBool::from(pattern.regex.is_match(text))))
}
