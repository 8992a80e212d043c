//! The variables of one evaluation.

use std::borrow::Cow;

use crate::json::Json;
use crate::time::Millis;

use super::value::Value;
use super::work;

/// Variables by name. Names may have dots (`event.data`): the longest name that begins a path wins.
#[derive(Debug, Default)]
pub struct Scope<'a> {
    variables: Vec<(&'a str, Variable<'a>)>,
}

/// What a name stands for.
#[derive(Debug)]
pub enum Variable<'a> {
    /// JSON that somebody else holds.
    Json(&'a Json),
    /// JSON that was made for this scope.
    OwnJson(Json),
    /// A string.
    Text(Cow<'a, str>),
    /// A time.
    Time(Millis),
    /// An integer.
    Int(i64),
    /// `null`.
    Null,
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl<'a> Scope<'a> {
    /// An empty scope.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more variable.
    #[must_use]
    pub fn with(mut self, name: &'a str, variable: Variable<'a>) -> Self {
        self.variables.push((name, variable));
        self
    }

    /// The value at the end of `steps` below the variable `name`, or `None` where there is none.
    pub(super) fn find(&'a self, name: &str, steps: &[Step]) -> Option<Value<'a>> {
        let (_, variable) = self.variables.iter().rev().find(|(known, _)| *known == name)?;
        let json = match variable {
            Variable::Json(json) => *json,
            Variable::OwnJson(json) => json,
            scalar => return if steps.is_empty() { Some(scalar.scalar()) } else { None },
        };
        steps
            .iter()
            .try_fold(json, |json, step| match step {
                // Fields are looked through one by one. Where nothing is left for that, it is not there: who asked for it
                // has nothing left either.
                Step::Key(key) => work::spend(json.fields().len() / 16).ok().and_then(|()| json.get(key)),
                Step::Index(index) => json.elements().get(*index),
            })
            .map(Value::Json)
    }
}

impl<'a> Variable<'a> {
    fn scalar(&'a self) -> Value<'a> {
        match self {
            Variable::Text(text) => Value::Text(Cow::Borrowed(text)),
            Variable::Time(time) => Value::Time(*time),
            Variable::Int(int) => Value::Int(*int),
            Variable::Json(json) => Value::Json(json),
            Variable::OwnJson(json) => Value::Json(json),
            Variable::Null => Value::NULL,
        }
    }
}
