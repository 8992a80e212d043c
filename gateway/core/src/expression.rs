//! The expression language of channels: CEL, with the semantics that design and docs promise.
//!
//! [`Expression::compile`] once, at load; [`Expression::evaluate`] for every record. Everything that reads a variable is
//! taken out of the CEL program at compile time (`natives`): a field path is then a look-up in the JSON text, and the
//! library sees only the few values that it has to calculate with. Most expressions are nothing but a path.
//!
//! Bounds: see [`bounds`]. An expression has no clock, no I/O and no loops but CEL's macros, which may not nest.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as JsonValue;

pub mod bounds;
mod compile;
mod evaluate;
mod functions;
mod natives;
mod parse;
mod pattern;
mod scope;
mod value;
pub(crate) mod work;

pub use compile::{CompileError, Names};
pub use evaluate::EvaluateError;
pub use scope::{Scope, Variable};
pub use value::Value;

/// Constants of a channel: `tables.<table>[key]`.
pub type Tables = BTreeMap<String, BTreeMap<String, JsonValue>>;

/// A compiled expression.
#[derive(Debug)]
pub struct Expression {
    source: Box<str>,
    code: Code,
}

#[derive(Debug)]
enum Code {
    Native(natives::Native),
    Cel {
        ast: Box<cel::IdedExpr>,
        /// Of the syntax tree: what one evaluation takes, macros aside.
        nodes: usize,
        natives: Vec<natives::Native>,
    },
}

impl Expression {
    /// Compiles `source` where the variables of `names` can be used.
    ///
    /// Call it on a stack of [`bounds::COMPILE_STACK`] bytes ([`bounds::on_big_stack`]): CEL's parser recurses.
    ///
    /// # Errors
    /// What is wrong and at which column.
    pub fn compile(source: &str, names: &Names<'_>, tables: &Arc<Tables>) -> Result<Self, CompileError> {
        compile::compile(source, names, tables)
    }

    /// Its value over `scope`.
    ///
    /// # Errors
    /// [`EvaluateError::Missing`] where a field is not there, [`EvaluateError::Failed`] for everything else.
    pub fn evaluate<'a>(&'a self, scope: &'a Scope<'a>) -> Result<Value<'a>, EvaluateError> {
        evaluate::evaluate(self, scope)
    }

    /// Its value, null where a field is not there.
    ///
    /// # Errors
    /// [`EvaluateError::Failed`].
    pub fn evaluate_or_null<'a>(&'a self, scope: &'a Scope<'a>) -> Result<Value<'a>, EvaluateError> {
        match self.evaluate(scope) {
            Err(EvaluateError::Missing(_)) => Ok(Value::NULL),
            other => other,
        }
    }

    /// Its value as a condition.
    ///
    /// # Errors
    /// Also where the value is neither true nor false.
    pub fn holds(&self, scope: &Scope<'_>) -> Result<bool, EvaluateError> {
        let value = self.evaluate(scope)?;
        value
            .as_bool()
            .ok_or_else(|| EvaluateError::Failed(format!("it gives {}, not true or false", value.describe())))
    }

    /// As it was written.
    pub fn source(&self) -> &str {
        &self.source
    }
}

#[cfg(test)]
mod tests;
