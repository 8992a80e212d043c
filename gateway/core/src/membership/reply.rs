//! Client events that are answered to the client itself.

use aldis_crds::channel::Reply as ReplySpec;
use serde_json::{Value as JsonValue, json};

use super::{ARGS, Answer, Denial};
use crate::compiler::Compiler;
use crate::event_name;
use crate::expression::{Expression, Names, Scope};
use crate::template::Template;

/// Arguments that go back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arguments {
    /// `{args}`: all that came, binary ones too.
    AsTheyCame,
    /// One, as JSON text.
    One(String),
}

/// A compiled reply.
#[derive(Debug)]
pub(super) struct Reply {
    allow: Option<Expression>,
    emit: Option<(Template, ReplyArgs)>,
    ack: Option<ReplyArgs>,
    /// Whether it tells of the channel's clients: who counts them need not do so in vain.
    pub(super) needs_stats: bool,
}

#[derive(Debug)]
enum ReplyArgs {
    /// `{args}`
    All,
    One(Template),
}

const REPLY: [&str; 6] = ["args", "arg", "identity", "socket.id", "now", "stats"];

impl Reply {
    pub(super) fn compile(field: &str, spec: &ReplySpec, compiler: &mut Compiler) -> Self {
        let names = Names(&REPLY);
        let emit = spec.emit.as_ref().and_then(|emit| {
            let event = compiler.event_name(&format!("{field}.emit.event"), &emit.event, &names);
            let args = match (&emit.args, &emit.payload) {
                (Some(_), _) => Some(ReplyArgs::All),
                (None, payload) => {
                    let payload = payload.as_ref().unwrap_or(&JsonValue::Null);
                    compiler
                        .template(&format!("{field}.emit.payload"), payload, &names)
                        .map(ReplyArgs::One)
                }
            };
            Some((event?, args?))
        });
        let ack = spec.ack.as_ref().and_then(|ack| match ack.as_str() {
            Some("{args}") => Some(ReplyArgs::All),
            _ => compiler
                .template(&format!("{field}.ack"), ack, &names)
                .map(ReplyArgs::One),
        });
        Self {
            allow: compiler.expression(&format!("{field}.allow"), &spec.allow, &Names(&ARGS)),
            emit,
            ack,
            // A word that only looks like it costs a count, no more.
            needs_stats: json!([spec.emit, spec.ack]).to_string().contains("stats"),
        }
    }

    pub(super) fn answer(&self, scope: &Scope<'_>) -> Result<Answer, Denial> {
        if !self
            .allow
            .as_ref()
            .is_some_and(|allow| allow.holds(scope).unwrap_or(false))
        {
            return Err(Denial::new("denied", "you may not send this event"));
        }
        let failed = |message: String| Denial::new("failed", message);
        let emit = match &self.emit {
            Some((name, args)) => {
                let name = name.render_name(scope).map_err(|error| failed(error.message))?;
                Some((event_name::checked(name).map_err(failed)?, args.render(scope)?))
            }
            None => None,
        };
        let ack = self.ack.as_ref().map(|ack| ack.render(scope)).transpose()?;
        Ok(Answer::Reply { emit, ack })
    }
}

impl ReplyArgs {
    fn render(&self, scope: &Scope<'_>) -> Result<Arguments, Denial> {
        match self {
            ReplyArgs::All => Ok(Arguments::AsTheyCame),
            ReplyArgs::One(template) => {
                let mut out = String::new();
                template
                    .render(scope, &mut out)
                    .map_err(|error| Denial::new("failed", error.message))?;
                Ok(Arguments::One(out))
            }
        }
    }
}
