//! Expressions that make an identity of claims or of a query.

use aldis_crds::channel::IdentityMapping;

use super::Identity;
use crate::compiler::{Compiler, Expressions};
use crate::expression::{Expression, Names, Scope};
use crate::json::{Json, write_string};

#[derive(Debug)]
pub(super) struct Mapping {
    user: Option<Expression>,
    attributes: Expressions,
}

impl Mapping {
    pub(super) fn compile(field: &str, spec: &IdentityMapping, variable: &str, compiler: &mut Compiler) -> Self {
        let names = [variable];
        let names = Names(&names);
        if spec.attributes.contains_key("user") {
            compiler.problem(
                format!("{field}.attributes.user"),
                "user has a field of its own: identity.user",
            );
        }
        Self {
            user: compiler.expression(&format!("{field}.user"), &spec.user, &names),
            attributes: compiler.by_name(&format!("{field}.attributes"), &spec.attributes, &names),
        }
    }

    /// An expression that fails gives null.
    pub(super) fn identity(&self, method: &str, scope: &Scope<'_>) -> Identity {
        let value = |expression: &Expression| {
            let mut text = String::new();
            let written = expression
                .evaluate(scope)
                .ok()
                .and_then(|value| value.write_json(&mut text).ok());
            written.and_then(|()| Json::parse(text).ok()).unwrap_or_else(Json::null)
        };
        let user = self.user.as_ref().map_or_else(Json::null, value);
        let mut identity = format!("{{\"user\":{}", user.text());
        for (name, expression) in &self.attributes {
            identity.push(',');
            write_string(&mut identity, name);
            identity.push(':');
            identity.push_str(value(expression).text());
        }
        identity.push('}');
        let user_text = || {
            user.as_str()
                .map_or_else(|| user.text().to_owned(), |text| text.into_owned())
        };
        Identity {
            user: (!user.is_null()).then(user_text),
            method: method.to_owned(),
            json: Json::parse(identity).unwrap_or_else(|_| nobody()),
            expires: None,
        }
    }
}

/// The identity of somebody who has none.
pub(super) fn anonymous() -> Identity {
    Identity {
        user: None,
        method: "anonymous".to_owned(),
        json: nobody(),
        expires: None,
    }
}

fn nobody() -> Json {
    Json::from_value(&serde_json::json!({ "user": null }))
}
