//! The parts of an expression that Aldis evaluates itself, because they read variables: CEL gets only their values.

use std::sync::Arc;

use super::evaluate::EvaluateError;
use super::scope::{Scope, Step};
use super::value::Value;
use super::{Expression, Tables, work};

/// One such part.
#[derive(Debug)]
pub(super) enum Native {
    /// A variable, or a field below it.
    Path(Path),
    /// `has(path)`: whether the field is there, at whatever step the path ends.
    Has(Path),
    /// `first(a, b, …)`: the first that is there and not null.
    First(Vec<Expression>),
    /// `tables.<table>[key]`, or the table's `default`.
    Lookup {
        tables: Arc<Tables>,
        table: String,
        key: Box<Expression>,
    },
    /// A constant.
    Literal(cel::Value),
}

/// A variable of the scope and the steps below it.
#[derive(Debug)]
pub(super) struct Path {
    pub(super) name: String,
    pub(super) steps: Vec<Step>,
}

impl Path {
    /// As it is written.
    pub(super) fn shown(&self) -> String {
        self.steps.iter().fold(self.name.clone(), |shown, step| match step {
            Step::Key(key) => format!("{shown}.{key}"),
            Step::Index(index) => format!("{shown}[{index}]"),
        })
    }
}

impl Native {
    pub(super) fn evaluate<'a>(&'a self, scope: &'a Scope<'a>) -> Result<Value<'a>, EvaluateError> {
        work::spend(1)?;
        match self {
            Native::Path(path) => scope
                .find(&path.name, &path.steps)
                .ok_or_else(|| EvaluateError::Missing(path.shown())),
            Native::Has(path) => Ok(Value::Cel(scope.find(&path.name, &path.steps).is_some().into())),
            Native::First(choices) => first(choices, scope),
            Native::Lookup { tables, table, key } => look_up(tables, table, key, scope),
            Native::Literal(value) => Ok(Value::Cel(value.clone())),
        }
    }
}

fn first<'a>(choices: &'a [Expression], scope: &'a Scope<'a>) -> Result<Value<'a>, EvaluateError> {
    for choice in choices {
        let value = choice.evaluate_or_null(scope)?;
        if !value.is_null() {
            return Ok(value);
        }
    }
    let tried: Vec<_> = choices.iter().map(Expression::source).collect();
    Err(EvaluateError::Missing(format!("first({})", tried.join(", "))))
}

fn look_up<'a>(
    tables: &'a Tables,
    table: &str,
    key: &'a Expression,
    scope: &'a Scope<'a>,
) -> Result<Value<'a>, EvaluateError> {
    let entries = tables
        .get(table)
        .ok_or_else(|| EvaluateError::Failed(format!("there is no table {table:?}")))?;
    let source = key;
    let key = key.evaluate_or_null(scope)?;
    let key = key.text().map_err(EvaluateError::Failed)?;
    entries
        .get(key.as_ref())
        .or_else(|| entries.get("default"))
        .map(Value::Constant)
        .ok_or_else(|| EvaluateError::Missing(format!("tables.{table}[{}]", source.source())))
}
