//! What the compilation of a channel's parts shares: the tables, and the list of everything that is wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aldis_crds::names::event_name_is_free;
use serde_json::Value as JsonValue;

use crate::expression::{Expression, Names, Tables};
use crate::template::Template;

/// Something wrong in a channel's spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Field path as kubectl writes it, from the object's root: `spec.routes[0].when`.
    pub field: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Compiles expressions and templates of one channel, collecting problems.
#[derive(Debug)]
pub(crate) struct Compiler {
    tables: Arc<Tables>,
    pub(crate) problems: Vec<Problem>,
}

/// Expressions by name, in the order of their names.
pub(crate) type Expressions = Vec<(String, Expression)>;

impl Compiler {
    pub(crate) fn new(tables: &Tables) -> Self {
        Self {
            tables: Arc::new(tables.clone()),
            problems: Vec::new(),
        }
    }

    pub(crate) fn problem(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem {
            field: field.into(),
            message: message.into(),
        });
    }

    pub(crate) fn expression(&mut self, field: &str, source: &str, names: &Names<'_>) -> Option<Expression> {
        match Expression::compile(source, names, &self.tables) {
            Ok(expression) => Some(expression),
            Err(error) => {
                self.problem(field, error.to_string());
                None
            }
        }
    }

    pub(crate) fn optional(&mut self, field: &str, source: Option<&str>, names: &Names<'_>) -> Option<Expression> {
        source.and_then(|source| self.expression(field, source, names))
    }

    pub(crate) fn by_name(
        &mut self,
        field: &str,
        sources: &BTreeMap<String, String>,
        names: &Names<'_>,
    ) -> Expressions {
        let mut compiled = Vec::with_capacity(sources.len());
        for (name, source) in sources {
            if let Some(expression) = self.expression(&format!("{field}.{name}"), source, names) {
                compiled.push((name.clone(), expression));
            }
        }
        compiled
    }

    pub(crate) fn template(&mut self, field: &str, value: &JsonValue, names: &Names<'_>) -> Option<Template> {
        match Template::compile(value, names, &self.tables) {
            Ok(template) => Some(template),
            Err(errors) => {
                for error in errors {
                    self.problem(format!("{field}{}", error.at), error.message);
                }
                None
            }
        }
    }

    /// A template in a field that is a string.
    pub(crate) fn text_template(&mut self, field: &str, source: &str, names: &Names<'_>) -> Option<Template> {
        self.template(field, &JsonValue::String(source.to_owned()), names)
    }

    /// The name of an event that a channel emits: a template, or a name that is free.
    pub(crate) fn event_name(&mut self, field: &str, source: &str, names: &Names<'_>) -> Option<Template> {
        let template = self.text_template(field, source, names)?;
        if let Some(name) = template.constant()
            && !self.name_is_free(field, &name)
        {
            return None;
        }
        Some(template)
    }

    /// Whether an event of this name is a channel's to use; says so where it is not.
    pub(crate) fn name_is_free(&mut self, field: &str, name: &str) -> bool {
        let free = event_name_is_free(name);
        if !free {
            self.problem(
                field,
                format!("the event name {name:?} is reserved by Socket.IO or Aldis: choose another"),
            );
        }
        free
    }
}
