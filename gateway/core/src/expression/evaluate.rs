//! Evaluation: natives by ourselves, the rest by the CEL library.

use std::panic::AssertUnwindSafe;
use std::sync::{LazyLock, Mutex, PoisonError};

use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::{Context, ExecutionError};
use thiserror::Error;

use super::bounds::{MAX_COST, MAX_VALUE_DEPTH};
use super::natives::Native;
use super::scope::Scope;
use super::value::{Budget, Value, to_cel};
use super::{Code, Expression, functions, work};

/// Why an expression gives no value. Holds names and types, never the data itself.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum EvaluateError {
    /// A field that is not there.
    #[error("{0} is not there")]
    Missing(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// What an evaluation says that made the CEL library panic.
pub(super) const PANICKED: &str = "the expression library panicked; that is a defect of the gateway, please report it";

/// The functions, shared by all evaluations.
static ROOT: LazyLock<Context<'static, 'static>> = LazyLock::new(functions::root_context);

impl From<work::Exhausted> for EvaluateError {
    fn from(_: work::Exhausted) -> Self {
        EvaluateError::Failed(work::exhausted_message())
    }
}

pub(super) fn evaluate<'a>(expression: &'a Expression, scope: &'a Scope<'a>) -> Result<Value<'a>, EvaluateError> {
    work::bounded(|| evaluate_bounded(expression, scope))
}

fn evaluate_bounded<'a>(expression: &'a Expression, scope: &'a Scope<'a>) -> Result<Value<'a>, EvaluateError> {
    match &expression.code {
        Code::Native(native) => native.evaluate(scope),
        Code::Cel { ast, nodes, natives } => {
            work::spend(*nodes)?;
            let resolver = Resolver {
                natives,
                scope,
                budget: Mutex::new(Budget(MAX_COST)),
            };
            let value = {
                let mut context = inner_scope();
                context.set_variable_resolver(&resolver);
                // A record or client must not end a worker, whatever it makes the library do.
                std::panic::catch_unwind(AssertUnwindSafe(|| cel::Value::resolve(ast, &context)))
                    .map_err(|_| EvaluateError::Failed(PANICKED.to_owned()))?
            };
            value
                .map(Value::Cel)
                .map_err(|error| explain(&error, &expression.source, natives, scope))
        }
    }
}

/// A scope for variables below the shared functions.
fn inner_scope<'v>() -> Context<'static, 'v> {
    let root: &'static Context<'static, 'v> = &ROOT;
    root.new_inner_scope()
}

/// Gives CEL the values of the natives, by their numbers.
struct Resolver<'a> {
    natives: &'a [Native],
    scope: &'a Scope<'a>,
    budget: Mutex<Budget>,
}

impl VariableResolver for Resolver<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let native = self.natives.get(number(variable)?)?;
        let value = native.evaluate(self.scope).ok()?;
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        let value: Box<dyn Val> = to_cel(&value, &mut budget).ok()?.try_into().ok()?;
        Some(CowVal::Owned(value))
    }
}

/// Name that stands for the native of this number in the CEL program.
pub(super) fn native_name(number: usize) -> String {
    format!("@{number}")
}

fn number(name: &str) -> Option<usize> {
    name.strip_prefix('@')?.parse().ok()
}

/// CEL's error in our words: its own would print the data.
fn explain(error: &ExecutionError, source: &str, natives: &[Native], scope: &Scope<'_>) -> EvaluateError {
    let text = match error {
        ExecutionError::UndeclaredReference(name) => {
            let native = number(name).and_then(|number| natives.get(number));
            return match native.map(|native| native.evaluate(scope)) {
                _ if work::is_exhausted() => work::Exhausted.into(),
                Some(Err(error)) => error,
                Some(Ok(_)) => EvaluateError::Failed(format!(
                    "it reads more than {MAX_COST} values, or one that is nested deeper than {MAX_VALUE_DEPTH}"
                )),
                None => EvaluateError::Failed(format!("{name} is not known")),
            };
        }
        // A key that the source does not name came from the data.
        ExecutionError::NoSuchKey(key) if source.contains(key.as_str()) => {
            return EvaluateError::Missing(key.to_string());
        }
        ExecutionError::NoSuchKey(_) => return EvaluateError::Missing("the key that is looked up".to_owned()),
        ExecutionError::NoSuchOverload(overload) => {
            let types: Vec<_> = overload.argument_types().iter().map(String::as_str).collect();
            format!(
                "{} does not take ({})",
                plain_operator(overload.function()),
                types.join(", ")
            )
        }
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "division by zero".to_owned(),
        ExecutionError::Overflow(..) => "the result does not fit into 64 bits".to_owned(),
        ExecutionError::IndexOutOfBounds(_) => "the list is shorter than the index".to_owned(),
        // The library's message quotes the text.
        ExecutionError::FunctionError { function, .. } if function == "duration" || function == "timezone" => {
            format!("{function}: the text is none, or out of range")
        }
        ExecutionError::FunctionError { function, message } => format!("{}: {message}", plain_operator(function)),
        ExecutionError::ValuesNotComparable(a, b) => {
            format!("{} and {} can not be compared", a.type_of(), b.type_of())
        }
        ExecutionError::UnsupportedBinaryOperator(operator, a, b) => {
            format!("{operator} does not take ({}, {})", a.type_of(), b.type_of())
        }
        ExecutionError::UnexpectedType { got, want } => format!("{want} was expected, not {got}"),
        _ => "the types do not fit".to_owned(),
    };
    EvaluateError::Failed(text)
}

/// `_+_` and `@add` as they are written: `+`.
fn plain_operator(function: &str) -> String {
    functions::ARITHMETIC
        .iter()
        .find(|(_, name, _)| *name == function)
        .map_or_else(
            || function.trim_matches(['_', '@']).to_owned(),
            |(_, _, shown)| (*shown).to_owned(),
        )
}
