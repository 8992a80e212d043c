//! What an expression gives, and how it is shown.

use std::borrow::Cow;
use std::sync::Arc;

use crate::json::{Json, Kind, write_escaped, write_string};
use crate::time::Millis;

use super::bounds::MAX_VALUE_DEPTH;

/// The value of an expression. JSON that came in goes out as the text that came in.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// JSON of the record, the token or the client.
    Json(&'a Json),
    /// JSON of a channel's table.
    Constant(&'a serde_json::Value),
    /// A string.
    Text(Cow<'a, str>),
    /// A time.
    Time(Millis),
    /// An integer.
    Int(i64),
    /// What CEL has calculated.
    Cel(cel::Value),
}

impl Value<'_> {
    /// `null`.
    pub const NULL: Value<'static> = Value::Cel(cel::Value::Null);

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        match self {
            Value::Json(json) => json.is_null(),
            Value::Constant(value) => value.is_null(),
            Value::Cel(value) => matches!(value, cel::Value::Null),
            Value::Text(_) | Value::Time(_) | Value::Int(_) => false,
        }
    }

    /// True or false, where it is one of them.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Json(json) => (json.kind() == Kind::Bool).then(|| json.text() == "true"),
            Value::Constant(value) => value.as_bool(),
            Value::Cel(cel::Value::Bool(value)) => Some(*value),
            _ => None,
        }
    }

    /// As JSON.
    ///
    /// # Errors
    /// Where CEL gives something that JSON has no form for (a type, NaN).
    pub fn write_json(&self, out: &mut String) -> Result<(), String> {
        match self {
            Value::Json(json) => out.push_str(json.text()),
            Value::Constant(value) => out.push_str(&value.to_string()),
            Value::Text(text) => write_string(out, text),
            Value::Time(time) => write_string(out, &time.rfc3339()),
            Value::Int(int) => out.push_str(&int.to_string()),
            Value::Cel(value) => write_cel(out, value)?,
        }
        Ok(())
    }

    /// As text, as within a longer string: strings without quotes, null as nothing, lists and objects as JSON.
    ///
    /// # Errors
    /// As [`Value::write_json`].
    pub fn text(&self) -> Result<Cow<'_, str>, String> {
        if self.is_null() {
            return Ok(Cow::Borrowed(""));
        }
        match self {
            Value::Text(text) => Ok(Cow::Borrowed(text)),
            Value::Time(time) => Ok(Cow::Owned(time.rfc3339())),
            Value::Json(json) => Ok(json.as_str().unwrap_or(Cow::Borrowed(json.text()))),
            Value::Constant(serde_json::Value::String(text)) => Ok(Cow::Borrowed(text)),
            Value::Cel(cel::Value::String(text)) => Ok(Cow::Borrowed(text)),
            Value::Cel(cel::Value::Timestamp(time)) => Ok(Cow::Owned(Millis(time.timestamp_millis()).rfc3339())),
            _ => {
                let mut out = String::new();
                self.write_json(&mut out)?;
                Ok(Cow::Owned(out))
            }
        }
    }

    /// As text within a JSON string.
    ///
    /// # Errors
    /// As [`Value::write_json`].
    pub fn write_text(&self, out: &mut String) -> Result<(), String> {
        write_escaped(out, &self.text()?);
        Ok(())
    }

    /// For messages: what it is, briefly and without its contents.
    pub fn describe(&self) -> &'static str {
        match self {
            Value::Json(json) => describe_kind(json.kind()),
            Value::Constant(value) => match value {
                serde_json::Value::Null => "null",
                serde_json::Value::Bool(_) => "a boolean",
                serde_json::Value::Number(_) => "a number",
                serde_json::Value::String(_) => "a string",
                serde_json::Value::Array(_) => "a list",
                serde_json::Value::Object(_) => "an object",
            },
            Value::Text(_) => "a string",
            Value::Time(_) => "a time",
            Value::Int(_) => "a number",
            Value::Cel(value) => match value {
                cel::Value::Null => "null",
                cel::Value::Bool(_) => "a boolean",
                cel::Value::Int(_) | cel::Value::UInt(_) | cel::Value::Float(_) => "a number",
                cel::Value::String(_) => "a string",
                cel::Value::List(_) => "a list",
                cel::Value::Map(_) => "an object",
                cel::Value::Timestamp(_) => "a time",
                cel::Value::Duration(_) => "a duration",
                _ => "something that is no JSON",
            },
        }
    }
}

fn describe_kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Null => "null",
        Kind::Bool => "a boolean",
        Kind::Number => "a number",
        Kind::String => "a string",
        Kind::List => "a list",
        Kind::Map => "an object",
    }
}

fn write_cel(out: &mut String, value: &cel::Value) -> Result<(), String> {
    match value {
        cel::Value::Null => out.push_str("null"),
        cel::Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        cel::Value::Int(value) => out.push_str(&value.to_string()),
        cel::Value::UInt(value) => out.push_str(&value.to_string()),
        cel::Value::Float(value) => write_double(out, *value)?,
        cel::Value::String(text) => write_string(out, text),
        cel::Value::Timestamp(time) => write_string(out, &Millis(time.timestamp_millis()).rfc3339()),
        cel::Value::Duration(duration) => {
            write_string(out, &format!("{}s", duration.num_milliseconds() as f64 / 1000.0))
        }
        cel::Value::List(list) => {
            out.push('[');
            for (i, element) in list.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_cel(out, element)?;
            }
            out.push(']');
        }
        cel::Value::Map(map) => {
            let mut fields: Vec<_> = map.map.iter().map(|(key, value)| (key.to_string(), value)).collect();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            out.push('{');
            for (i, (key, value)) in fields.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_string(out, &key);
                out.push(':');
                write_cel(out, value)?;
            }
            out.push('}');
        }
        cel::Value::Opaque(opaque) => match opaque.downcast_ref::<BigNumber>() {
            Some(number) => out.push_str(&number.0),
            None => return Err("it gives something that is no JSON".to_owned()),
        },
        _ => return Err("it gives something that is no JSON".to_owned()),
    }
    Ok(())
}

/// As JavaScript writes them: 2.0 is `2`.
fn write_double(out: &mut String, value: f64) -> Result<(), String> {
    if !value.is_finite() {
        return Err("it gives a number that JSON has no form for (NaN or infinity)".to_owned());
    }
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        out.push_str(&(value as i64).to_string());
    } else {
        out.push_str(&serde_json::Value::from(value).to_string());
    }
    Ok(())
}

/// A JSON number that is no i64 and no finite double: passed through, never calculated with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BigNumber(pub(super) Box<str>);

impl cel::objects::Opaque for BigNumber {
    fn runtime_type_name(&self) -> &str {
        "aldis.BigNumber"
    }
}

/// What of one evaluation's cost is left.
pub(super) struct Budget(pub(super) usize);

impl Budget {
    fn spend(&mut self, cost: usize) -> Result<(), TooCostly> {
        self.0 = self.0.checked_sub(cost).ok_or(TooCostly)?;
        super::work::spend(cost).map_err(|_| TooCostly)?;
        Ok(())
    }
}

/// The evaluation has read more than [`MAX_COST`](super::bounds::MAX_COST), or deeper than [`MAX_VALUE_DEPTH`].
pub(super) struct TooCostly;

/// A value as CEL sees it.
pub(super) fn to_cel(value: &Value<'_>, budget: &mut Budget) -> Result<cel::Value, TooCostly> {
    Ok(match value {
        Value::Json(json) => json_to_cel(json, budget, 1)?,
        Value::Constant(value) => constant_to_cel(value, budget)?,
        Value::Text(text) => {
            budget.spend(1 + text.len() / 32)?;
            cel::Value::String(Arc::new(text.clone().into_owned()))
        }
        Value::Time(time) => cel::Value::Timestamp(time.to_chrono().fixed_offset()),
        Value::Int(int) => cel::Value::Int(*int),
        Value::Cel(value) => value.clone(),
    })
}

fn json_to_cel(json: &Json, budget: &mut Budget, depth: usize) -> Result<cel::Value, TooCostly> {
    if depth > MAX_VALUE_DEPTH {
        return Err(TooCostly);
    }
    budget.spend(
        1 + if json.kind() == Kind::String {
            json.text().len() / 32
        } else {
            0
        },
    )?;
    Ok(match json.kind() {
        Kind::Null => cel::Value::Null,
        Kind::Bool => cel::Value::Bool(json.text() == "true"),
        Kind::Number => number_to_cel(json.text()),
        Kind::String => cel::Value::String(Arc::new(json.as_str().unwrap_or_default().into_owned())),
        Kind::List => {
            let elements: Result<Vec<_>, _> = json
                .elements()
                .iter()
                .map(|element| json_to_cel(element, budget, depth + 1))
                .collect();
            cel::Value::List(Arc::new(elements?))
        }
        Kind::Map => {
            let mut fields = std::collections::HashMap::new();
            for (key, value) in json.fields() {
                fields.insert(key.to_string(), json_to_cel(value, budget, depth + 1)?);
            }
            cel::Value::Map(fields.into())
        }
    })
}

fn constant_to_cel(value: &serde_json::Value, budget: &mut Budget) -> Result<cel::Value, TooCostly> {
    json_to_cel(&Json::from_value(value), budget, 1)
}

fn number_to_cel(text: &str) -> cel::Value {
    if let Ok(int) = text.parse::<i64>() {
        return cel::Value::Int(int);
    }
    let is_integer = !text.contains(['.', 'e', 'E']);
    match text.parse::<f64>() {
        Ok(double) if double.is_finite() && !is_integer => cel::Value::Float(double),
        _ => cel::Value::Opaque(Arc::new(BigNumber(text.into()))),
    }
}
