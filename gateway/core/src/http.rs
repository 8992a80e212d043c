//! check: an HTTP request to one of a channel's endpoints: may this caller, is it whole, what does it publish, what is the
//! answer.

use std::borrow::Cow;

use aldis_crds::channel::{Api as ApiSpec, Endpoint as EndpointSpec, Method};
use aldis_crds::contract::ChannelConfig;
use serde_json::Value as JsonValue;

use crate::compiler::Compiler;
use crate::expression::{Expression, Names, Scope, Variable};
use crate::identity::Identity;
use crate::json::{Json, write_string};
use crate::template::Template;
use crate::time::Millis;

mod built_in;
mod document;
mod path;

pub use built_in::{BuiltIn, Health};
pub use path::{PathPattern, Routed, Routing, decode_path};

/// Kafka header of a record that came over HTTP: `namespace/name` of the channel that it is for.
pub const CHANNEL_HEADER: &str = "aldis-channel";
/// Longest event type that a request may publish, in bytes. As for records.
pub const MAX_TYPE: usize = crate::decode::MAX_TYPE;
/// Longest key of a record that a request may publish, in bytes. 256: an identifier.
pub const MAX_KEY: usize = 256;

/// A compiled endpoint.
#[derive(Debug)]
pub struct Endpoint {
    /// Its method.
    pub method: Method,
    /// Its path, with the names of its parameters.
    pub path: PathPattern,
    /// Whether who shows no token may use it at all.
    open: bool,
    allow: Option<Expression>,
    require: Vec<Vec<String>>,
    validations: Vec<(Expression, String)>,
    publish: Option<Publish>,
    code: u16,
    body: Option<Template>,
    /// Whether the answer tells of the channel's clients: who counts them need not do so in vain.
    pub needs_stats: bool,
    /// The channel's OpenAPI document, where that is the answer.
    document: Option<String>,
}

#[derive(Debug)]
struct Publish {
    type_: Option<Template>,
    data: Option<Template>,
    key: Option<Template>,
}

/// A request to an endpoint. Does not print: it is the caller's.
pub struct Request<'a> {
    /// Values of the path's parameters, by name: a JSON object.
    pub params: &'a Json,
    /// The query, decoded: a JSON object of strings; of a repeated name the last one counts.
    pub query: &'a Json,
    /// The body; null where there is none.
    pub body: &'a Json,
    /// Who calls; `None` for who has shown no token.
    pub identity: Option<&'a Identity>,
    /// Now.
    pub now: Millis,
}

/// An event that a request publishes.
#[derive(Debug, PartialEq)]
pub struct Published {
    /// The event's type.
    pub type_: String,
    /// The event's data, as JSON text.
    pub data: String,
    /// Key of its record.
    pub key: Option<String>,
}

/// What an answer may tell beside the request.
pub struct Facts<'a> {
    /// `{connections, uniqueUsers, users: [{user, connections}], rooms: [{name, members}]}` of the channel.
    pub stats: &'a Json,
    /// Since when the gateway runs, in seconds.
    pub uptime: i64,
    /// Id of the event that was published.
    pub published: Option<&'a str>,
}

/// Why a request does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// HTTP status.
    pub status: u16,
    /// For programs: `unauthorized`, `forbidden`, `field_required`, `invalid`, `failed`.
    pub code: &'static str,
    /// For people.
    pub message: String,
    /// The field of the request, where one is to blame: `body.user_id`.
    pub field: Option<String>,
}

impl Refused {
    /// A refusal that no field is to blame for.
    pub fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            field: None,
        }
    }

    /// `{"error": {"code": …, "message": …, "field": …}}`.
    pub fn json(&self) -> String {
        let mut out = format!("{{\"error\":{{\"code\":\"{}\",\"message\":", self.code);
        write_string(&mut out, &self.message);
        if let Some(field) = &self.field {
            out.push_str(",\"field\":");
            write_string(&mut out, field);
        }
        out.push_str("}}");
        out
    }
}

const REQUEST: [&str; 5] = ["params", "query", "body", "identity", "now"];
const RESPOND: [&str; 8] = [
    "params",
    "query",
    "body",
    "identity",
    "now",
    "stats",
    "uptime",
    "published.id",
];

/// All endpoints of a channel, in their order.
pub(crate) fn compile(config: &ChannelConfig, compiler: &mut Compiler) -> Vec<Endpoint> {
    let endpoints = config.spec.http.iter().enumerate();
    let mut endpoints: Vec<_> = endpoints
        .filter_map(|(index, spec)| Endpoint::compile(&format!("spec.http[{index}]"), spec, config.open, compiler))
        .collect();
    for endpoint in endpoints.iter_mut().filter(|endpoint| endpoint.document.is_some()) {
        endpoint.document = Some(document::document(config));
    }
    endpoints
}

impl Endpoint {
    fn compile(field: &str, spec: &EndpointSpec, open: bool, compiler: &mut Compiler) -> Option<Self> {
        let names = Names(&REQUEST);
        let path = PathPattern::parse(&spec.path);
        if let Err(message) = &path {
            compiler.problem(format!("{field}.path"), message.clone());
        }
        let validations = spec.validations.iter().enumerate();
        let validations = validations.filter_map(|(i, validation)| {
            let rule = compiler.expression(&format!("{field}.validations[{i}].rule"), &validation.rule, &names)?;
            Some((rule, validation.message.clone()))
        });
        let validations = validations.collect();
        let publish = spec.publish.as_ref().map(|publish| {
            let field = format!("{field}.publish");
            Publish {
                type_: compiler.text_template(&format!("{field}.type"), &publish.type_, &names),
                data: publish
                    .data
                    .as_ref()
                    .and_then(|data| compiler.template(&format!("{field}.data"), data, &names)),
                key: publish
                    .key
                    .as_ref()
                    .and_then(|key| compiler.text_template(&format!("{field}.key"), key, &names)),
            }
        });
        if spec.docs && (spec.method != Method::GET || spec.publish.is_some() || spec.respond.is_some()) {
            let message = "an endpoint with docs is a GET without publish and respond: declare another for those";
            compiler.problem(format!("{field}.docs"), message.to_owned());
        }
        let respond = spec.respond.clone().unwrap_or_default();
        let body = respond.body.as_ref();
        Some(Self {
            method: spec.method,
            open,
            allow: compiler.expression(&format!("{field}.allow"), &spec.allow, &names),
            require: spec.require.iter().flatten().map(|path| split(path)).collect(),
            validations,
            code: respond.code.unwrap_or(if publish.is_some() { 202 } else { 200 }),
            body: body.and_then(|body| compiler.template(&format!("{field}.respond.body"), body, &Names(&RESPOND))),
            // A word that only looks like it costs a count, no more.
            needs_stats: body.is_some_and(|body| body.to_string().contains("stats")),
            publish,
            document: spec.docs.then(String::new),
            path: path.ok()?,
        })
    }

    /// Whether the caller may, and the request is whole.
    ///
    /// # Errors
    /// Status and reason of the refusal.
    pub fn check(&self, request: &Request<'_>) -> Result<(), Refused> {
        let null = Json::null();
        let scope = request.scope(&null);
        let allowed = self
            .allow
            .as_ref()
            .is_some_and(|allow| allow.holds(&scope).unwrap_or(false));
        if !allowed || (request.identity.is_none() && !self.open) {
            return Err(match request.identity {
                Some(_) => Refused::new(403, "forbidden", "you may not use this endpoint"),
                None => Refused::new(401, "unauthorized", "send a token: Authorization: Bearer <token>"),
            });
        }
        for path in &self.require {
            let (root, rest) = path
                .split_first()
                .map_or(("", path.as_slice()), |(root, rest)| (root.as_str(), rest));
            let root = if root == "body" { request.body } else { request.query };
            if root.at(rest).is_none_or(Json::is_null) {
                let field = path.join(".");
                return Err(Refused {
                    field: Some(field.clone()),
                    ..Refused::new(400, "field_required", format!("{field} is required"))
                });
            }
        }
        for (rule, message) in &self.validations {
            if !rule.holds(&scope).unwrap_or(false) {
                return Err(Refused::new(422, "invalid", message.clone()));
            }
        }
        Ok(())
    }

    /// The event that the request publishes, if its endpoint publishes.
    ///
    /// # Errors
    /// Where one of its templates fails over this request.
    pub fn publish(&self, request: &Request<'_>) -> Result<Option<Published>, Refused> {
        let Some(publish) = &self.publish else { return Ok(None) };
        let null = Json::null();
        let scope = request.scope(&null);
        let text = |template: &Option<Template>, what: &str| {
            let template = template.as_ref().map(|template| template.render_name(&scope));
            let text = template
                .transpose()
                .map_err(|error| failed(what, error.message))?
                .flatten();
            Ok(text)
        };
        let type_ = text(&publish.type_, "the event's type")?
            .filter(|type_| type_.len() <= MAX_TYPE)
            .ok_or_else(|| {
                let message = format!("the event's type is empty, or longer than {MAX_TYPE} bytes");
                Refused::new(422, "invalid", message)
            })?;
        let key = text(&publish.key, "the record's key")?;
        if key.as_ref().is_some_and(|key| key.len() > MAX_KEY) {
            let message = format!("the record's key is longer than {MAX_KEY} bytes");
            return Err(Refused::new(422, "invalid", message));
        }
        let data = match &publish.data {
            Some(template) => render(template, &scope, "the event's data")?,
            None => request.body.text().to_owned(),
        };
        Ok(Some(Published { type_, data, key }))
    }

    /// Whether the answer is the channel's OpenAPI document.
    pub fn is_document(&self) -> bool {
        self.document.is_some()
    }

    /// Status and body of the answer.
    ///
    /// # Errors
    /// Where its template fails. What was published stays published.
    pub fn respond(&self, request: &Request<'_>, facts: &Facts<'_>) -> Result<(u16, String), Refused> {
        if let Some(document) = &self.document {
            return Ok((self.code, document.clone()));
        }
        let null = Json::null();
        let Some(body) = &self.body else {
            let body = facts.published.map_or_else(|| "{}".to_owned(), published_json);
            return Ok((self.code, body));
        };
        let published = facts
            .published
            .map_or(Variable::Null, |id| Variable::Text(Cow::Borrowed(id)));
        let scope = request
            .scope(&null)
            .with("stats", Variable::Json(facts.stats))
            .with("uptime", Variable::Int(facts.uptime))
            .with("published.id", published);
        Ok((self.code, render(body, &scope, "the answer")?))
    }
}

/// `{"id": …}` of an event that was published.
pub fn published_json(id: &str) -> String {
    let mut out = "{\"id\":".to_owned();
    write_string(&mut out, id);
    out.push('}');
    out
}

impl<'a> Request<'a> {
    fn scope(&self, null: &'a Json) -> Scope<'a> {
        Scope::new()
            .with("params", Variable::Json(self.params))
            .with("query", Variable::Json(self.query))
            .with("body", Variable::Json(self.body))
            .with(
                "identity",
                Variable::Json(self.identity.map_or(null, |identity| &identity.json)),
            )
            .with("now", Variable::Time(self.now))
    }
}

fn render(template: &Template, scope: &Scope<'_>, what: &str) -> Result<String, Refused> {
    let mut out = String::new();
    template
        .render(scope, &mut out)
        .map_err(|error| failed(&format!("{what}{}", error.at), error.message))?;
    Ok(out)
}

fn failed(what: &str, message: String) -> Refused {
    Refused::new(
        422,
        "failed",
        format!("{what} can not be made of this request: {message}"),
    )
}

fn split(path: &str) -> Vec<String> {
    path.split('.').map(str::to_owned).collect()
}

/// What a caller wants of the built-in endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Publish an event.
    Publish,
    /// Read rooms, counts and statistics.
    Read,
    /// Disconnect clients.
    Disconnect,
}

impl Operation {
    /// As `operation` in expressions, and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Publish => "publish",
            Operation::Read => "read",
            Operation::Disconnect => "disconnect",
        }
    }
}

/// Who may use the built-in endpoints of a channel.
#[derive(Debug, Default)]
pub struct Api {
    allow: Option<Expression>,
}

impl Api {
    pub(crate) fn compile(spec: Option<&ApiSpec>, compiler: &mut Compiler) -> Self {
        let names = Names(&["identity", "operation"]);
        Self {
            allow: spec.and_then(|spec| compiler.expression("spec.api.allow", &spec.allow, &names)),
        }
    }

    /// Whether the channel says who may at all.
    pub fn is_there(&self) -> bool {
        self.allow.is_some()
    }

    /// Whether a caller may.
    ///
    /// # Errors
    /// Status and reason of the refusal. Who has shown no token may nothing.
    pub fn check(&self, identity: Option<&Identity>, operation: Operation) -> Result<(), Refused> {
        let Some(identity) = identity else {
            return Err(Refused::new(
                401,
                "unauthorized",
                "send a token: Authorization: Bearer <token>",
            ));
        };
        let operation = operation.as_str();
        let scope = Scope::new()
            .with("identity", Variable::Json(&identity.json))
            .with("operation", Variable::Text(Cow::Borrowed(operation)));
        let allowed = self
            .allow
            .as_ref()
            .is_some_and(|allow| allow.holds(&scope).unwrap_or(false));
        if allowed {
            Ok(())
        } else {
            Err(Refused::new(
                403,
                "forbidden",
                format!("spec.api.allow does not let you {operation}"),
            ))
        }
    }
}

/// A JSON object of texts.
pub fn object<'t>(fields: impl Iterator<Item = (&'t str, &'t str)>) -> Json {
    let fields = fields.map(|(name, value)| (name.to_owned(), JsonValue::String(value.to_owned())));
    Json::from_value(&JsonValue::Object(fields.collect()))
}

#[cfg(test)]
mod tests;
