//! Templates: JSON whose strings may hold `{expression}`.
//!
//! A string that is one `{expression}` keeps the value's type, `{{` and `}}` are braces. A field that is not there gives
//! null, or nothing within a longer string. Compiled to pieces of ready JSON text with holes, so that rendering is copying.

use std::sync::Arc;

use serde_json::Value as JsonValue;
use thiserror::Error;

use crate::expression::bounds::MAX_SOURCE;
use crate::expression::{CompileError, Expression, Names, Scope, Tables, Value, work};
use crate::json::{Json, Kind, write_escaped, write_string};

/// Deepest nesting of a template.
pub const MAX_DEPTH: usize = 16;
/// Most values (objects, lists and scalars) of a template.
pub const MAX_NODES: usize = 256;
/// Longest text that a template may make, in bytes: Kafka's own default bound of a record.
pub const MAX_RENDERED: usize = 1024 * 1024;

/// A compiled template.
#[derive(Debug)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug)]
enum Piece {
    /// JSON text as it is.
    Text(String),
    /// A value in its own type.
    Value(Hole),
    /// A value as text within a string.
    Inside(Hole),
}

#[derive(Debug)]
struct Hole {
    /// Where in the template: `.data.order_id`, or nothing for the template itself.
    at: String,
    expression: Expression,
}

/// What is wrong with a template, and where in it (`.data.order_id`).
#[derive(Clone, Debug, PartialEq)]
pub struct TemplateError {
    /// Field below the template's own, or nothing.
    pub at: String,
    /// What is wrong, and what to do.
    pub message: String,
}

/// Why a template could not be rendered.
#[derive(Clone, Debug, Error, PartialEq)]
#[error("{message}")]
pub struct RenderError {
    /// Field below the template's own, or nothing.
    pub at: String,
    /// Why.
    pub message: String,
}

impl Template {
    /// Compiles a template where the variables of `names` can be used. Needs the stack that expressions need.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(value: &JsonValue, names: &Names<'_>, tables: &Arc<Tables>) -> Result<Self, Vec<TemplateError>> {
        let mut builder = Builder {
            names,
            tables,
            pieces: Vec::new(),
            errors: Vec::new(),
            nodes: 0,
        };
        builder.value(value, &mut String::new(), 0);
        if builder.errors.is_empty() {
            Ok(Self { pieces: builder.pieces })
        } else {
            Err(builder.errors)
        }
    }

    /// Appends its JSON over `scope` to `out`.
    ///
    /// # Errors
    /// Where an expression fails for another reason than a field that is not there, or the text gets too long.
    pub fn render(&self, scope: &Scope<'_>, out: &mut String) -> Result<(), RenderError> {
        for piece in &self.pieces {
            let before = out.len();
            let (hole, result) = match piece {
                Piece::Text(text) => {
                    out.push_str(text);
                    continue;
                }
                Piece::Value(hole) => (hole, hole.evaluate(scope, |value| value.write_json(out))),
                Piece::Inside(hole) => (hole, hole.evaluate(scope, |value| value.write_text(out))),
            };
            result.map_err(|message| RenderError {
                at: hole.at.clone(),
                message,
            })?;
            work::spend_bytes(out.len() - before).map_err(|_| RenderError {
                at: hole.at.clone(),
                message: work::exhausted_message(),
            })?;
            if out.len() > MAX_RENDERED {
                let message = format!("the rendered text is longer than {MAX_RENDERED} bytes");
                return Err(RenderError {
                    at: hole.at.clone(),
                    message,
                });
            }
        }
        Ok(())
    }

    /// Its text over `scope` where it makes a string, a number or a boolean; `None` where it makes null or an empty text.
    ///
    /// # Errors
    /// As [`Template::render`], and where it makes a list or an object.
    pub fn render_name(&self, scope: &Scope<'_>) -> Result<Option<String>, RenderError> {
        if let [Piece::Text(text)] = self.pieces.as_slice()
            && let Ok(text) = serde_json::from_str::<String>(text)
        {
            return Ok(Some(text).filter(|text| !text.is_empty()));
        }
        let mut out = String::new();
        self.render(scope, &mut out)?;
        let fail = |message: &str| RenderError {
            at: String::new(),
            message: message.to_owned(),
        };
        let made = Json::parse(out).map_err(|error| fail(&error.to_string()))?;
        match made.kind() {
            Kind::Null => Ok(None),
            Kind::String => match made.as_str() {
                Some(text) => Ok(Some(text.into_owned()).filter(|text| !text.is_empty())),
                None => Err(fail("it gives a string that holds half a character")),
            },
            Kind::Number | Kind::Bool => Ok(Some(made.text().to_owned())),
            Kind::List | Kind::Map => Err(fail("it gives a list or an object, not a text")),
        }
    }

    /// The text, where the template has no expressions and is a string.
    pub fn constant(&self) -> Option<String> {
        match self.pieces.as_slice() {
            [Piece::Text(text)] => serde_json::from_str(text).ok(),
            _ => None,
        }
    }
}

impl Hole {
    fn evaluate(&self, scope: &Scope<'_>, write: impl FnOnce(&Value<'_>) -> Result<(), String>) -> Result<(), String> {
        let value = self
            .expression
            .evaluate_or_null(scope)
            .map_err(|error| error.to_string())?;
        write(&value)
    }
}

struct Builder<'a> {
    names: &'a Names<'a>,
    tables: &'a Arc<Tables>,
    pieces: Vec<Piece>,
    errors: Vec<TemplateError>,
    nodes: usize,
}

impl Builder<'_> {
    fn text(&mut self, text: &str) {
        match self.pieces.last_mut() {
            Some(Piece::Text(last)) => last.push_str(text),
            _ => self.pieces.push(Piece::Text(text.to_owned())),
        }
    }

    fn error(&mut self, at: &str, message: String) {
        self.errors.push(TemplateError {
            at: at.to_owned(),
            message,
        });
    }

    fn value(&mut self, value: &JsonValue, at: &mut String, depth: usize) {
        self.nodes += 1;
        if depth > MAX_DEPTH || self.nodes > MAX_NODES {
            if self.errors.is_empty() {
                self.error(
                    at,
                    format!("a template has at most {MAX_NODES} values, {MAX_DEPTH} deep"),
                );
            }
            return;
        }
        let length = at.len();
        match value {
            JsonValue::String(text) => self.string(text, at),
            JsonValue::Array(elements) => {
                self.text("[");
                for (i, element) in elements.iter().enumerate() {
                    if i > 0 {
                        self.text(",");
                    }
                    at.push_str(&format!("[{i}]"));
                    self.value(element, at, depth + 1);
                    at.truncate(length);
                }
                self.text("]");
            }
            JsonValue::Object(fields) => {
                self.text("{");
                for (i, (key, field)) in fields.iter().enumerate() {
                    if i > 0 {
                        self.text(",");
                    }
                    let mut name = String::new();
                    write_string(&mut name, key);
                    self.text(&name);
                    self.text(":");
                    at.push_str(&format!(".{key}"));
                    self.value(field, at, depth + 1);
                    at.truncate(length);
                }
                self.text("}");
            }
            scalar => self.text(&scalar.to_string()),
        }
    }

    fn string(&mut self, text: &str, at: &str) {
        if text.len() > MAX_SOURCE {
            return self.error(at, format!("a string of a template has at most {MAX_SOURCE} bytes"));
        }
        let parts = match split(text) {
            Ok(parts) => parts,
            Err(message) => return self.error(at, message),
        };
        if let [Part::Expression(source, column)] = parts.as_slice() {
            if let Some(expression) = self.expression(source, *column, at) {
                self.pieces.push(Piece::Value(Hole {
                    at: at.to_owned(),
                    expression,
                }));
            }
            return;
        }
        self.text("\"");
        for part in parts {
            match part {
                Part::Literal(literal) => {
                    let mut escaped = String::new();
                    write_escaped(&mut escaped, &literal);
                    self.text(&escaped);
                }
                Part::Expression(source, column) => {
                    if let Some(expression) = self.expression(source, column, at) {
                        self.pieces.push(Piece::Inside(Hole {
                            at: at.to_owned(),
                            expression,
                        }));
                    }
                }
            }
        }
        self.text("\"");
    }

    fn expression(&mut self, source: &str, column: usize, at: &str) -> Option<Expression> {
        match Expression::compile(source, self.names, self.tables) {
            Ok(expression) => Some(expression),
            Err(CompileError { column: inner, message }) => {
                self.error(at, format!("column {}: {message}", column + inner));
                None
            }
        }
    }
}

enum Part<'t> {
    Literal(String),
    /// Its source, and the column (from 0, in characters) at which it begins.
    Expression(&'t str, usize),
}

/// Splits a string into literal text and expressions. Braces and quotes within an expression are CEL's.
fn split(text: &str) -> Result<Vec<Part<'_>>, String> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        literal.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if rest.starts_with(brace) {
            literal.push_str(brace);
            rest = &rest[1..];
        } else if brace == "}" {
            literal.push('}');
        } else {
            let column = text[..text.len() - rest.len()].chars().count();
            let end = expression_end(rest)
                .ok_or_else(|| format!("column {column}: the brace is not closed; write {{{{ for a brace"))?;
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Expression(&rest[..end], column));
            rest = &rest[end + 1..];
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() || parts.is_empty() {
        parts.push(Part::Literal(literal));
    }
    Ok(parts)
}

/// Where the expression's closing brace stands.
fn expression_end(text: &str) -> Option<usize> {
    let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '{') => depth += 1,
            (None, '}') if depth == 0 => return Some(at),
            (None, '}') => depth -= 1,
            (None, _) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::expression::Variable;

    fn render(template: JsonValue, event: JsonValue) -> Result<String, String> {
        let template = Template::compile(&template, &Names(&["x", "now"]), &Arc::default()).map_err(|errors| {
            errors
                .iter()
                .map(|e| format!("{}: {}", e.at, e.message))
                .collect::<Vec<_>>()
                .join("; ")
        })?;
        let x = Json::from_value(&event);
        let scope = Scope::new()
            .with("x", Variable::Json(&x))
            .with("now", Variable::Time(crate::time::Millis(0)));
        let mut out = String::new();
        template
            .render(&scope, &mut out)
            .map_err(|e| format!("{}: {}", e.at, e.message))?;
        Ok(out)
    }

    #[test]
    fn a_string_that_is_one_expression_keeps_its_type() {
        let template = json!({"n": "{x.n}", "s": "{x.s}", "o": "{x.o}", "t": "no {x.n}!", "now": "{now}", "five": 5});
        assert_eq!(
            render(template, json!({"n": 12, "s": "a\"b", "o": [1, null]})).unwrap(),
            r#"{"five":5,"n":12,"now":"1970-01-01T00:00:00.000Z","o":[1,null],"s":"a\"b","t":"no 12!"}"#
        );
    }

    #[test]
    fn braces_are_doubled_and_quotes_inside_expressions_are_cels() {
        assert_eq!(
            render(json!("{{x}} {'}' + x.s} }"), json!({"s": "é\n"})).unwrap(),
            r#""{x} }é\n }""#
        );
        assert_eq!(
            render(json!("{{\"a\": 1}.a}"), json!({})).unwrap(),
            r#""{\"a\": 1}.a}""#
        );
        assert_eq!(render(json!("{ {\"a\": 1}.a }"), json!({})).unwrap(), "1");
    }

    #[test]
    fn what_is_not_there_is_null_or_nothing() {
        assert_eq!(
            render(json!(["{x.gone}", "<{x.gone}>"]), json!({})).unwrap(),
            r#"[null,"<>"]"#
        );
    }

    #[test]
    fn other_failures_name_the_field() {
        assert_eq!(
            render(json!({"a": ["{1 / x.n}"]}), json!({"n": 0})).unwrap_err(),
            ".a[0]: division by zero"
        );
    }

    #[test]
    fn errors_name_field_and_column() {
        let error = render(json!({"a": {"b": "ü {y.z}"}}), json!({})).unwrap_err();
        assert_eq!(error, ".a.b: column 4: there is no \"y\" here; there are x, now");
        assert!(
            render(json!("a {x"), json!({}))
                .unwrap_err()
                .contains("column 3: the brace is not closed")
        );
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let deep = (0..MAX_DEPTH + 1).fold(json!(1), |inner, _| json!([inner]));
        assert!(render(deep, json!({})).unwrap_err().contains("16 deep"));
        assert!(
            render(json!(vec![0; MAX_NODES]), json!({}))
                .unwrap_err()
                .contains("256 values")
        );
        let long = json!({"s": "x".repeat(MAX_RENDERED)});
        assert!(render(json!("{x.s}"), long).unwrap_err().contains("longer than"));
    }
}
