//! Checks a document against a structural schema as an API server does with strict field validation, and says more.
//!
//! Structural schemas are a small closed subset of OpenAPI; the test of `aldis-crds` that the CRDs are structural lists
//! the keywords that are understood here.

use serde_json::{Map, Value};

use crate::field;

mod hint;

pub(crate) use hint::closest;

/// Findings that are reported of one document.
pub(crate) const MAX_FINDINGS: usize = 100;

/// Characters of a value that a message shows.
const SHOWN_CHARS: usize = 60;

/// Something that the schema refuses.
#[derive(Debug, PartialEq)]
pub(crate) struct Finding {
    /// The field; for a missing one, where it would be.
    pub(crate) field: String,
    pub(crate) message: String,
}

/// Checks `value`, and returns it as the API server would store it: nulls and unknown fields are gone.
pub(crate) fn check(schema: &Value, value: &Value) -> (Value, Vec<Finding>) {
    let mut walk = Walk {
        path: String::new(),
        findings: Vec::new(),
    };
    let stored = walk.node(schema, value);
    (stored, walk.findings)
}

struct Walk {
    path: String,
    findings: Vec<Finding>,
}

impl Walk {
    fn refuse(&mut self, message: impl Into<String>) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding {
                field: self.path.clone(),
                message: message.into(),
            });
        } else if self.findings.len() == MAX_FINDINGS {
            let message = "this document has more problems than are shown".to_owned();
            self.findings.push(Finding {
                field: String::new(),
                message,
            });
        }
    }

    /// Runs `check` with the path of a field.
    fn at_key<T>(&mut self, key: &str, check: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        field::push_key(&mut self.path, key);
        let result = check(self);
        self.path.truncate(length);
        result
    }

    fn node(&mut self, schema: &Value, value: &Value) -> Value {
        let Some(wanted) = schema["type"].as_str() else {
            return value.clone();
        };
        match (wanted, value) {
            ("object", Value::Object(fields)) => Value::Object(self.object(schema, fields)),
            ("array", Value::Array(items)) => Value::Array(self.array(schema, items)),
            ("string", Value::String(text)) => {
                self.string(schema, text);
                value.clone()
            }
            ("integer", Value::Number(number)) if !number.is_f64() => {
                self.range(schema, value);
                value.clone()
            }
            ("number", Value::Number(_)) => {
                self.range(schema, value);
                value.clone()
            }
            ("boolean", Value::Bool(_)) => value.clone(),
            _ => {
                self.refuse(hint::wrong_type(wanted, value));
                Value::Null
            }
        }
    }

    fn object(&mut self, schema: &Value, fields: &Map<String, Value>) -> Map<String, Value> {
        let none = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&none);
        let values = &schema["additionalProperties"];
        let keeps_unknown = schema["x-kubernetes-preserve-unknown-fields"] == true;
        let mut stored = Map::new();
        for (key, value) in fields {
            let child = properties.get(key).or_else(|| values.is_object().then_some(values));
            match child {
                // The API server drops a null that the schema does not ask for, before it looks at anything else.
                Some(child) if value.is_null() && child["nullable"] != true => {}
                Some(child) => {
                    let value = self.at_key(key, |walk| walk.node(child, value));
                    stored.insert(key.clone(), value);
                }
                None if keeps_unknown => {
                    stored.insert(key.clone(), value.clone());
                }
                None => {
                    let message = hint::unknown_field(key, properties.keys().map(String::as_str));
                    self.at_key(key, |walk| walk.refuse(message));
                }
            }
        }
        let present =
            |key: &str| stored.contains_key(key) || !properties.get(key).is_none_or(|p| p["default"].is_null());
        for missing in names(&schema["required"]).filter(|key| !present(key)) {
            self.at_key(missing, |walk| walk.refuse("this field is required"));
        }
        self.alternatives(schema, present);
        self.length(
            schema,
            fields.len(),
            ["minProperties", "maxProperties"],
            "entry",
            "entries",
        );
        stored
    }

    /// `anyOf` and `not`, of which the kinds only use lists of required fields.
    fn alternatives(&mut self, schema: &Value, present: impl Fn(&str) -> bool) {
        let all_present = |branch: &Value| names(&branch["required"]).all(&present);
        if let Some(branches) = schema["anyOf"].as_array()
            && !branches.iter().any(all_present)
        {
            let choices: Vec<_> = branches
                .iter()
                .map(|branch| names(&branch["required"]).collect::<Vec<_>>().join(" with "))
                .collect();
            self.refuse(format!("name at least one of {}", choices.join(", ")));
        }
        let forbidden = &schema["not"];
        if forbidden.is_object() && all_present(forbidden) {
            let together: Vec<_> = names(&forbidden["required"]).collect();
            self.refuse(format!("{} exclude each other", together.join(" and ")));
        }
    }

    fn array(&mut self, schema: &Value, items: &[Value]) -> Vec<Value> {
        self.length(schema, items.len(), ["minItems", "maxItems"], "item", "items");
        let mut stored = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let length = self.path.len();
            field::push_index(&mut self.path, index);
            let item = self.node(&schema["items"], item);
            self.path.truncate(length);
            stored.push(item);
        }
        stored
    }

    fn string(&mut self, schema: &Value, text: &str) {
        let allowed: Vec<&str> = names(&schema["enum"]).collect();
        if !allowed.is_empty() && !allowed.contains(&text) {
            return self.refuse(hint::not_allowed(text, &allowed));
        }
        let length = text.chars().count();
        if length == 0 && schema["minLength"].as_u64() > Some(0) {
            return self.refuse("must not be empty");
        }
        self.length(schema, length, ["minLength", "maxLength"], "character", "characters");
        if let Some(pattern) = schema["pattern"].as_str()
            && !hint::fits(pattern, text)
        {
            self.refuse(format!("{} {}", shown(text), hint::pattern(pattern)));
        }
    }

    /// `minimum` and `maximum` of a number.
    fn range(&mut self, schema: &Value, value: &Value) {
        let (minimum, maximum) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
        let number = value.as_f64().unwrap_or_default();
        if minimum.is_none_or(|minimum| number >= minimum) && maximum.is_none_or(|maximum| number <= maximum) {
            return;
        }
        self.refuse(match (minimum, maximum) {
            (Some(minimum), Some(maximum)) => format!("must be between {minimum} and {maximum}, and is {value}"),
            (Some(minimum), None) => format!("must be at least {minimum}, and is {value}"),
            (_, maximum) => format!("must be at most {}, and is {value}", maximum.unwrap_or_default()),
        });
    }

    fn length(&mut self, schema: &Value, length: usize, [least, most]: [&str; 2], one: &str, many: &str) {
        let counted = |count: u64| format!("{count} {}", if count == 1 { one } else { many });
        let length = length as u64;
        if let Some(least) = schema[least].as_u64().filter(|least| length < *least) {
            self.refuse(format!("must have at least {}, and has {length}", counted(least)));
        }
        if let Some(most) = schema[most].as_u64().filter(|most| length > *most) {
            self.refuse(format!("must have at most {}, and has {length}", counted(most)));
        }
    }
}

/// The strings of a list of strings.
fn names(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// A text in quotes, cut where it is long. What stands before the `@` of a URL may be a password: it is not shown.
fn shown(text: &str) -> String {
    let url = text.split_once("://");
    let hidden = url.and_then(|(scheme, rest)| Some(format!("{scheme}://…@{}", rest.rsplit_once('@')?.1)));
    let text = hidden.as_deref().unwrap_or(text);
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests;
