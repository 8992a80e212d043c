//! Rooms: a name and the values of its parameters, never a string.
//!
//! So `customer:a:b` with one parameter and with two cannot collide, whatever the values hold.

use std::sync::Arc;

use crate::compiler::{Compiler, Expressions};
use crate::expression::{EvaluateError, Scope, Value};
use crate::json::Kind;

/// Longest value of a room's parameter, in bytes.
pub const MAX_VALUE: usize = 128;

/// One room of one channel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoomKey {
    /// Its name in `spec.rooms`.
    pub name: Arc<str>,
    /// Values in the order in which the room's key names its parameters.
    pub values: Box<[Box<str>]>,
}

/// `orders:{tenant}`: the parameters of a room, and how it is shown.
#[derive(Debug)]
pub struct RoomPattern {
    name: Arc<str>,
    /// Literal text before each parameter, and after the last.
    literals: Vec<String>,
    parameters: Vec<String>,
}

/// Why a room's parameters make no room.
#[derive(Clone, Debug, PartialEq)]
pub enum RoomError {
    /// A parameter is null, absent or empty.
    Empty(String),
    /// A parameter is no string and no integer, or too long.
    Unfit(String),
    /// Its expression failed.
    Failed(String),
}

impl RoomError {
    /// For people.
    pub fn message(&self) -> &str {
        match self {
            RoomError::Empty(message) | RoomError::Unfit(message) | RoomError::Failed(message) => message,
        }
    }
}

impl RoomPattern {
    pub(crate) fn compile(field: &str, name: &str, key: &str, compiler: &mut Compiler) -> Option<Self> {
        let mut pattern = Self {
            name: name.into(),
            literals: Vec::new(),
            parameters: Vec::new(),
        };
        let mut rest = key;
        while let Some(open) = rest.find('{') {
            let Some(close) = rest[open..].find('}') else {
                compiler.problem(field, "a brace is not closed: write the room's parameters as {name}");
                return None;
            };
            let parameter = &rest[open + 1..open + close];
            if !is_identifier(parameter) {
                compiler.problem(
                    field,
                    format!("{parameter:?} is no parameter name: letters, digits and _ only, as in orders:{{tenant}}"),
                );
                return None;
            }
            if pattern.parameters.iter().any(|known| known == parameter) {
                compiler.problem(field, format!("the parameter {{{parameter}}} stands twice"));
                return None;
            }
            pattern.literals.push(rest[..open].to_owned());
            pattern.parameters.push(parameter.to_owned());
            rest = &rest[open + close + 1..];
        }
        pattern.literals.push(rest.to_owned());
        Some(pattern)
    }

    /// Its name in `spec.rooms`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its parameters, in the order of the values in a [`RoomKey`].
    pub fn parameters(&self) -> &[String] {
        &self.parameters
    }

    /// How a room of this pattern is shown: `orders:t1`.
    pub fn shown(&self, room: &RoomKey) -> String {
        let mut shown = String::new();
        for (literal, value) in self
            .literals
            .iter()
            .zip(room.values.iter().map(|value| &**value).chain([""]))
        {
            shown.push_str(literal);
            shown.push_str(value);
        }
        shown
    }

    /// Checks that `with` gives each parameter, and nothing else, in the pattern's order.
    pub(crate) fn order(&self, field: &str, with: Expressions, compiler: &mut Compiler) -> Expressions {
        for (name, _) in &with {
            if !self.parameters.contains(name) {
                let known = if self.parameters.is_empty() {
                    "none".to_owned()
                } else {
                    self.parameters.join(", ")
                };
                compiler.problem(
                    format!("{field}.{name}"),
                    format!("room {:?} has no parameter {name:?}; it has {known}", self.name),
                );
            }
        }
        let mut with: Vec<Option<(String, crate::expression::Expression)>> = with.into_iter().map(Some).collect();
        let mut ordered = Vec::new();
        for parameter in &self.parameters {
            match with
                .iter_mut()
                .find(|entry| entry.as_ref().is_some_and(|(name, _)| name == parameter))
            {
                Some(entry) => ordered.extend(entry.take()),
                // An expression that failed to compile has been reported already.
                None if compiler
                    .problems
                    .iter()
                    .any(|problem| problem.field == format!("{field}.{parameter}")) => {}
                None => compiler.problem(
                    field,
                    format!("parameter {parameter:?} of room {:?} is missing", self.name),
                ),
            }
        }
        ordered
    }

    /// The room that `with` names over `scope`.
    ///
    /// # Errors
    /// [`RoomError`], naming the parameter.
    pub fn room(&self, with: &Expressions, scope: &Scope<'_>) -> Result<RoomKey, RoomError> {
        let values: Result<Box<[_]>, _> = with
            .iter()
            .map(|(name, expression)| {
                let value = expression.evaluate(scope).map_err(|error| match error {
                    EvaluateError::Missing(what) => RoomError::Empty(format!("parameter {name}: {what} is not there")),
                    EvaluateError::Failed(message) => RoomError::Failed(format!("parameter {name}: {message}")),
                })?;
                parameter(name, &value)
            })
            .collect();
        Ok(RoomKey {
            name: Arc::clone(&self.name),
            values: values?,
        })
    }
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Strings, ints and integral doubles: 1, 1.0 and "1" are one room.
fn parameter(name: &str, value: &Value<'_>) -> Result<Box<str>, RoomError> {
    if value.is_null() {
        return Err(RoomError::Empty(format!("parameter {name} is null")));
    }
    let unfit = |what: &str| {
        Err(RoomError::Unfit(format!(
            "parameter {name} is {what}; a string or an integer is needed"
        )))
    };
    let fits = match value {
        // A string with half a character (`"\ud800"`) has no text.
        Value::Json(json) if json.kind() == Kind::String => json.as_str().is_some(),
        Value::Json(json) => json.kind() == Kind::Number,
        Value::Constant(value) => value.is_string() || value.is_number(),
        Value::Text(_) | Value::Int(_) => true,
        Value::Cel(value) => {
            matches!(
                value,
                cel::Value::String(_) | cel::Value::Int(_) | cel::Value::UInt(_) | cel::Value::Float(_)
            )
        }
        Value::Time(_) => false,
    };
    if !fits {
        return unfit(value.describe());
    }
    let text = value
        .text()
        .map_err(|message| RoomError::Failed(format!("parameter {name}: {message}")))?;
    let is_string = value.describe() == "a string";
    let text = match is_string {
        true => text,
        false => match integral(&text) {
            Some(integer) => integer.into(),
            None => return unfit("a number with a fraction"),
        },
    };
    match text.len() {
        0 => Err(RoomError::Empty(format!("parameter {name} is empty"))),
        1..=MAX_VALUE => Ok(text.into()),
        _ => unfit(&format!("longer than {MAX_VALUE} bytes")),
    }
}

/// A JSON number without a fraction, in one form: `1.0` and `1e0` are `1`.
fn integral(number: &str) -> Option<String> {
    if !number.contains(['.', 'e', 'E']) {
        return Some(if number == "-0" {
            "0".to_owned()
        } else {
            number.to_owned()
        });
    }
    let double: f64 = number.parse().ok()?;
    (double.fract() == 0.0 && double.abs() < 9_007_199_254_740_992.0).then(|| (double as i64).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Json;

    fn value_of(json: &str) -> Result<Box<str>, RoomError> {
        parameter("p", &Value::Json(&Json::parse(json).unwrap()))
    }

    #[test]
    fn one_room_for_1_and_1_0_and_the_string_1() {
        for json in ["1", "1.0", "\"1\"", "1e0", "10e-1"] {
            assert_eq!(&*value_of(json).unwrap(), "1", "{json}");
        }
        assert_eq!(&*value_of("12345678901234567890").unwrap(), "12345678901234567890");
    }

    #[test]
    fn other_values_are_no_room() {
        for json in ["null", "\"\""] {
            assert!(matches!(value_of(json), Err(RoomError::Empty(_))), "{json}");
        }
        for json in ["1.5", "true", "[]", "{}", "1e300"] {
            assert!(matches!(value_of(json), Err(RoomError::Unfit(_))), "{json}");
        }
        assert!(value_of(&format!("\"{}\"", "x".repeat(128))).is_ok());
        assert!(matches!(
            value_of(&format!("\"{}\"", "x".repeat(129))),
            Err(RoomError::Unfit(_))
        ));
    }

    #[test]
    fn rooms_are_shown_by_their_key_and_differ_by_their_values() {
        let mut compiler = Compiler::new(&Default::default());
        let pattern = RoomPattern::compile("f", "customer", "customer:{tenant}:{user}!", &mut compiler).unwrap();
        let room = |values: [&str; 2]| RoomKey {
            name: "customer".into(),
            values: values.map(Box::from).into(),
        };
        assert_eq!(pattern.shown(&room(["a", "b:c"])), "customer:a:b:c!");
        assert_eq!(pattern.shown(&room(["a:b", "c"])), "customer:a:b:c!");
        assert_ne!(room(["a", "b:c"]), room(["a:b", "c"]));
    }

    #[test]
    fn bad_keys_are_refused() {
        for key in ["a:{", "a:{b c}", "{a}{a}", "{}"] {
            let mut compiler = Compiler::new(&Default::default());
            assert!(RoomPattern::compile("f", "r", key, &mut compiler).is_none(), "{key}");
            assert_eq!(compiler.problems.len(), 1);
        }
    }
}
