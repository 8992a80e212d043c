//! Functions that CEL does not have, and its arithmetic with int and double mixed.

use std::sync::Arc;

use cel::common::ast::operators;
use cel::common::types::{CelDouble, CelInt, CelList, CelString};
use cel::common::value::CowVal;
use cel::{Context, Env, ExecutionError, FunctionContext};

use super::bounds::{MAX_CONCATENATION, MAX_LIST};
use super::pattern::matches;
use super::value::Value;
use super::work;

/// CEL's operator, our function that stands in for it, and how it is written.
pub(super) const ARITHMETIC: [(&str, &str, &str); 5] = [
    (operators::ADD, "@add", "+"),
    (operators::SUBSTRACT, "@sub", "-"),
    (operators::MULTIPLY, "@mul", "*"),
    (operators::DIVIDE, "@div", "/"),
    (operators::MODULO, "@mod", "%"),
];

/// Wraps what a macro goes through: a longer list is an error.
pub(super) const BOUNDED: &str = "@bounded";

/// Stands in for `matches`: takes a compiled pattern.
pub(super) const MATCHES: &str = "@matches";

/// `first` is compiled, not called.
pub(super) const FIRST: &str = "first";

/// What an expression may call: CEL's standard functions and ours.
pub(super) const KNOWN: [&str; 31] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "string",
    "int",
    "uint",
    "double",
    "bool",
    "bytes",
    "dyn",
    "type",
    "timestamp",
    "duration",
    "getFullYear",
    "getMonth",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getHours",
    "getMinutes",
    "getSeconds",
    "getMilliseconds",
    "first",
    "text",
    "fixed",
    "snake",
    "upper",
    "lower",
];

type Called<'context, 'call> = Result<CowVal<'context, 'call>, ExecutionError>;
type Function =
    Box<dyn for<'context, 'call> Fn(&mut FunctionContext<'context, 'call>) -> Called<'context, 'call> + Send + Sync>;

/// The context whose functions all evaluations share.
pub(super) fn root_context() -> Context<'static, 'static> {
    let mut context = Context::with_env(Arc::new(Env::stdlib()));
    let functions: [(&str, Function); 12] = [
        ("@add", Box::new(|call| arithmetic(call, operators::ADD))),
        ("@sub", Box::new(|call| arithmetic(call, operators::SUBSTRACT))),
        ("@mul", Box::new(|call| arithmetic(call, operators::MULTIPLY))),
        ("@div", Box::new(|call| arithmetic(call, operators::DIVIDE))),
        ("@mod", Box::new(|call| arithmetic(call, operators::MODULO))),
        (BOUNDED, Box::new(bounded)),
        (MATCHES, Box::new(matches)),
        (
            "text",
            Box::new(|call| string(call, |value| value.text().map(|text| text.into_owned()))),
        ),
        (
            "snake",
            Box::new(|call| string(call, |value| only_string(value).map(|text| snake(&text)))),
        ),
        (
            "upper",
            Box::new(|call| string(call, |value| only_string(value).map(|text| text.to_uppercase()))),
        ),
        (
            "lower",
            Box::new(|call| string(call, |value| only_string(value).map(|text| text.to_lowercase()))),
        ),
        ("fixed", Box::new(fixed)),
    ];
    for (name, function) in functions {
        context
            .add_function(name, function)
            .expect("CEL's standard library has no function of this name");
    }
    context
}

/// The arguments, the receiver of `x.upper()` first.
fn arguments<'context, 'call>(call: &FunctionContext<'context, 'call>) -> Vec<CowVal<'context, 'call>> {
    call.this.iter().chain(&call.args).cloned().collect()
}

fn one_of(call: &FunctionContext<'_, '_>, count: usize) -> Result<(), ExecutionError> {
    let actual = call.args.len() + usize::from(call.this.is_some());
    if actual == count {
        Ok(())
    } else {
        Err(call.error(format!("takes {count} arguments, not {actual}")))
    }
}

/// `+ - * / %` where an int beside a double counts as a double.
fn arithmetic<'context, 'call>(
    call: &mut FunctionContext<'context, 'call>,
    operator: &'static str,
) -> Called<'context, 'call> {
    let args = arguments(call);
    let (left, right) = promote(&args[0], &args[1]);
    let unsupported = || {
        ExecutionError::no_such_overload(
            operator,
            args.iter().map(|value| value.get_type().name().to_owned()).collect(),
        )
    };
    let result = match operator {
        operators::ADD if length(&left) + length(&right) > MAX_CONCATENATION => {
            return Err(call.error(format!("the result is longer than {MAX_CONCATENATION}")));
        }
        operators::ADD if work::spend_bytes(length(&left) + length(&right)).is_err() => {
            return Err(call.error(work::exhausted_message()));
        }
        operators::ADD => left.as_adder().map(|left| left.add(right.as_ref())),
        operators::SUBSTRACT => left.as_subtractor().map(|left| left.sub(right.as_ref())),
        operators::MULTIPLY => left.as_multiplier().map(|left| left.mul(right.as_ref())),
        operators::DIVIDE => left.as_divider().map(|left| left.div(right.as_ref())),
        _ => left.as_modder().map(|left| left.modulo(right.as_ref())),
    };
    let result = match result {
        Some(Ok(result)) => result.into_owned(),
        None | Some(Err(ExecutionError::UnsupportedBinaryOperator(..))) => return Err(unsupported()),
        Some(Err(error)) => return Err(error),
    };
    // What is calculated is a new value: nothing of the operands is kept.
    cel::Value::try_from(result.as_ref()).and_then(owned)
}

fn owned<'context, 'call>(value: cel::Value) -> Called<'context, 'call> {
    Ok(CowVal::Owned(value.try_into()?))
}

fn promote<'context, 'call>(
    left: &CowVal<'context, 'call>,
    right: &CowVal<'context, 'call>,
) -> (CowVal<'context, 'call>, CowVal<'context, 'call>) {
    let int = |value: &CowVal<'_, '_>| value.downcast_ref::<CelInt>().map(|int| *int.inner() as f64);
    let is_double = |value: &CowVal<'_, '_>| value.downcast_ref::<CelDouble>().is_some();
    match (int(left), int(right)) {
        (Some(int), None) if is_double(right) => (CowVal::owned(CelDouble::from(int)), right.clone()),
        (None, Some(int)) if is_double(left) => (left.clone(), CowVal::owned(CelDouble::from(int))),
        _ => (left.clone(), right.clone()),
    }
}

fn length(value: &CowVal<'_, '_>) -> usize {
    if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        text.inner().len()
    } else if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        list.inner().len()
    } else {
        0
    }
}

fn bounded<'context, 'call>(call: &mut FunctionContext<'context, 'call>) -> Called<'context, 'call> {
    let range = call
        .args
        .first()
        .cloned()
        .ok_or_else(ExecutionError::missing_argument_or_target)?;
    let longer = match range.as_sizer() {
        Some(sizer) => *sizer.size().inner() > MAX_LIST as i64,
        None => false,
    };
    let error = |message: String| Err(ExecutionError::function_error("macro", message));
    if longer {
        return error(format!("the list is longer than {MAX_LIST}"));
    }
    let round = call.args.get(1).and_then(|round| round.downcast_ref::<CelInt>());
    let round = round.map_or(1, |round| usize::try_from(*round.inner()).unwrap_or(1));
    let weight = weight(&cel::Value::try_from(range.as_ref())?);
    match work::spend(round.saturating_mul(weight)) {
        Ok(()) => Ok(range),
        Err(_) => error(work::exhausted_message()),
    }
}

/// Values in a value, a string's 32 bytes for one.
fn weight(value: &cel::Value) -> usize {
    1 + match value {
        cel::Value::List(list) => list.iter().map(weight).sum(),
        cel::Value::Map(map) => map.map.values().map(weight).sum(),
        cel::Value::String(text) => text.len() / 32,
        cel::Value::Bytes(bytes) => bytes.len() / 32,
        _ => 0,
    }
}

fn string<'context, 'call>(
    call: &mut FunctionContext<'context, 'call>,
    convert: impl Fn(&Value<'_>) -> Result<String, String>,
) -> Called<'context, 'call> {
    one_of(call, 1)?;
    let value = cel::Value::try_from(arguments(call)[0].as_ref())?;
    let text = convert(&Value::Cel(value)).map_err(|message| call.error(message))?;
    Ok(CowVal::owned(CelString::from(text)))
}

fn only_string(value: &Value<'_>) -> Result<String, String> {
    match value {
        Value::Cel(cel::Value::String(text)) => Ok(text.to_string()),
        other => Err(format!("takes a string, not {}", other.describe())),
    }
}

/// `fixed(12.5, 2)` is `"12.50"`.
fn fixed<'context, 'call>(call: &mut FunctionContext<'context, 'call>) -> Called<'context, 'call> {
    one_of(call, 2)?;
    let args = arguments(call);
    let number = match (args[0].downcast_ref::<CelInt>(), args[0].downcast_ref::<CelDouble>()) {
        (Some(int), _) => *int.inner() as f64,
        (_, Some(double)) => *double.inner(),
        _ => return Err(call.error(format!("takes a number, not {}", args[0].get_type().name()))),
    };
    let digits = args[1]
        .downcast_ref::<CelInt>()
        .and_then(|digits| usize::try_from(*digits.inner()).ok());
    match digits {
        Some(digits) if digits <= 10 => Ok(CowVal::owned(CelString::from(format!("{number:.digits$}")))),
        _ => Err(call.error("takes 0 to 10 digits")),
    }
}

/// `order:statusChanged` is `order_status_changed`.
fn snake(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 4);
    let mut lower_before = false;
    for c in text.chars() {
        if !c.is_alphanumeric() {
            out.push('_');
            lower_before = false;
            continue;
        }
        if c.is_uppercase() && lower_before {
            out.push('_');
        }
        lower_before = c.is_lowercase() || c.is_numeric();
        out.extend(c.to_lowercase());
    }
    out
}
