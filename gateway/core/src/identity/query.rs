//! Identity from the query of the handshake.

use aldis_crds::channel::QueryMethod;
use serde_json::Value as JsonValue;

use super::mapping::Mapping;
use super::{Handshake, Identity};
use crate::compiler::Compiler;
use crate::expression::{Scope, Variable};
use crate::json::Json;

#[derive(Debug)]
pub(super) struct Query {
    required: Vec<String>,
    identity: Mapping,
}

impl Query {
    pub(super) fn compile(field: &str, spec: &QueryMethod, compiler: &mut Compiler) -> Self {
        let identity = Mapping::compile(&format!("{field}.identity"), &spec.identity, "query", compiler);
        Self {
            required: spec.required.clone().unwrap_or_default(),
            identity,
        }
    }

    /// The first required field that is not there.
    pub(super) fn missing(&self, handshake: &Handshake<'_>) -> Option<&str> {
        let given = |field: &str| {
            handshake
                .query
                .iter()
                .any(|(name, value)| name == field && is_given(value))
        };
        self.required.iter().map(String::as_str).find(|field| !given(field))
    }

    pub(super) fn identity(&self, handshake: &Handshake<'_>) -> Identity {
        let fields = handshake
            .query
            .iter()
            .filter(|(name, value)| is_given(value) && !is_transport_field(name));
        let query = fields
            .map(|(name, value)| (name.clone(), JsonValue::String(value.clone())))
            .collect();
        let query = Json::from_value(&JsonValue::Object(query));
        self.identity
            .identity("query", &Scope::new().with("query", Variable::Json(&query)))
    }
}

/// engine.io-client writes an absent value as `undefined`.
fn is_given(value: &str) -> bool {
    !matches!(value, "" | "undefined" | "null")
}

/// Engine.IO's own fields; `sid` is a secret of the transport.
fn is_transport_field(name: &str) -> bool {
    matches!(name, "EIO" | "transport" | "sid" | "t" | "b64" | "j")
}
