//! document: what a channel answers over HTTP, as OpenAPI 3.1: what its endpoints declare, the built-in ones, and health.

use std::collections::BTreeSet;

use aldis_crds::channel::{Endpoint, Method};
use aldis_crds::contract::ChannelConfig;
use serde_json::{Value as JsonValue, json};
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::{ArrayBuilder, Components, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, InfoBuilder, OpenApi, Paths, Ref, RefOr, Required, ResponseBuilder, Schema};

use super::PathPattern;
use super::built_in::{BuiltIn, Health};

/// The scheme of `Authorization: Bearer <token>`.
const BEARER: &str = "bearer";

/// The document of a channel, as JSON text.
pub(super) fn document(config: &ChannelConfig) -> String {
    let mut paths = Paths::new();
    for endpoint in &config.spec.http {
        let Ok(path) = PathPattern::parse(&endpoint.path) else {
            continue;
        };
        let operation = declared(endpoint, &path, config.open).tag(config.channel.to_string());
        paths.add_path_operation(&endpoint.path, vec![method(endpoint.method)], operation);
    }
    if config.spec.api.is_some() {
        for endpoint in BuiltIn::ALL {
            let path = endpoint.path_of(&config.channel);
            paths.add_path_operation(
                path,
                vec![method(endpoint.method())],
                built_in(endpoint).tag("built in"),
            );
        }
    }
    let taken = |health: &Health| config.spec.http.iter().any(|endpoint| endpoint.path == health.path());
    for endpoint in Health::ALL.into_iter().filter(|health| !taken(health)) {
        paths.add_path_operation(endpoint.path(), vec![HttpMethod::Get], health(endpoint).tag("health"));
    }
    let info = InfoBuilder::new()
        .title(config.channel.to_string())
        .version("v1")
        .description(Some(
            "What this channel answers over HTTP. All of it is JSON; what is published goes to the channel's routes through Kafka.",
        ))
        .build();
    let mut document = OpenApi::new(info, paths);
    document.components = Some(components());
    // Its own types are written as JSON: that does not fail.
    document.to_json().unwrap_or_default()
}

fn method(method: Method) -> HttpMethod {
    match method {
        Method::GET => HttpMethod::Get,
        Method::POST => HttpMethod::Post,
        Method::PUT => HttpMethod::Put,
        Method::PATCH => HttpMethod::Patch,
        Method::DELETE => HttpMethod::Delete,
    }
}

fn declared(endpoint: &Endpoint, path: &PathPattern, open: bool) -> OperationBuilder {
    let required = |root: &str| -> BTreeSet<String> {
        let fields = endpoint.require.iter().flatten();
        let fields = fields.filter_map(|field| field.strip_prefix(root)?.strip_prefix('.'));
        fields
            .map(|field| field.split('.').next().unwrap_or(field).to_owned())
            .collect()
    };
    let text = json!(endpoint).to_string();
    let mut operation = OperationBuilder::new().summary(Some(summary(endpoint)));
    let in_path = path
        .parameters()
        .iter()
        .map(|name| parameter(name, ParameterIn::Path, true, None));
    let must = required("query");
    let in_query = named(&text, "query.").union(&must).cloned().collect::<Vec<_>>();
    let in_query = in_query
        .iter()
        .map(|name| parameter(name, ParameterIn::Query, must.contains(name), None));
    operation = operation.parameters(Some(
        in_path
            .chain(in_query)
            .chain(endpoint.publish.iter().map(|_| idempotency_key())),
    ));
    let fields = named(&text, "body.");
    let takes_body = !fields.is_empty() || endpoint.publish.as_ref().is_some_and(|publish| publish.data.is_none());
    if takes_body {
        operation = operation.request_body(Some(body_of(&fields, &required("body"))));
    }
    if !endpoint.validations.is_empty() {
        let rules = endpoint
            .validations
            .iter()
            .map(|rule| format!("\n- {} (`{}`)", rule.message, rule.rule));
        let description = format!(
            "Refused with 422 unless all of this holds:\n{}",
            rules.collect::<String>()
        );
        let rules = endpoint
            .validations
            .iter()
            .map(|rule| json!({"rule": rule.rule, "message": rule.message}));
        let extension = ExtensionsBuilder::new().add("x-aldis-validations", JsonValue::Array(rules.collect()));
        operation = operation
            .description(Some(description))
            .extensions(Some(extension.build()));
    }
    let respond = endpoint.respond.as_ref();
    let code = respond.and_then(|respond| respond.code);
    let code = code.unwrap_or(if endpoint.publish.is_some() { 202 } else { 200 });
    let answer = match respond.and_then(|respond| respond.body.as_ref()) {
        Some(body) => shape(body),
        None if endpoint.publish.is_some() => component("Published"),
        None => ObjectBuilder::new().into(),
    };
    operation = operation.response(code.to_string(), answers("The answer", answer));
    let mut refusals = vec![401, 403];
    if endpoint.require.is_some() || takes_body {
        refusals.push(400);
    }
    if takes_body {
        refusals.extend([413, 415]);
    }
    if !endpoint.validations.is_empty() || endpoint.publish.is_some() || respond.is_some() {
        refusals.push(422);
    }
    refusals.push(503);
    let operation = refused(operation, refusals);
    let operation = operation.security(bearer());
    if open {
        operation.security(SecurityRequirement::default())
    } else {
        operation
    }
}

fn summary(endpoint: &Endpoint) -> String {
    match &endpoint.publish {
        Some(publish) => format!("Publishes an event of type {}", publish.type_),
        None if endpoint.docs => "This document".to_owned(),
        None => "Answers".to_owned(),
    }
}

fn built_in(endpoint: BuiltIn) -> OperationBuilder {
    let summary = match endpoint {
        BuiltIn::Publish => "Publishes an event for the channel's routes",
        BuiltIn::Rooms => "Rooms that have clients",
        BuiltIn::Room => "How many clients a room has",
        BuiltIn::DisconnectRoom => "Disconnects everybody in a room; stock clients do not come back by themselves",
        BuiltIn::DisconnectUser => "Disconnects a user; stock clients do not come back by themselves",
        BuiltIn::DisconnectSocket => "Disconnects one client; a stock one does not come back by itself",
        BuiltIn::Stats => "Who is connected, to any of the replicas",
    };
    let (code, answer) = match endpoint {
        BuiltIn::Publish => ("202", "Published"),
        BuiltIn::Rooms => ("200", "Rooms"),
        BuiltIn::Room => ("200", "Room"),
        BuiltIn::DisconnectRoom | BuiltIn::DisconnectUser | BuiltIn::DisconnectSocket => ("200", "Disconnected"),
        BuiltIn::Stats => ("200", "Stats"),
    };
    let operation = OperationBuilder::new()
        .summary(Some(summary))
        .description(Some(format!(
            "`spec.api.allow` decides over `operation == '{}'`.",
            endpoint.operation().as_str()
        )))
        .security(bearer())
        .response(code, answers("The answer", component(answer)));
    let operation = match endpoint {
        BuiltIn::Room | BuiltIn::DisconnectRoom => operation.parameter(parameter(
            "room",
            ParameterIn::Path,
            true,
            Some("The room as its key shows it"),
        )),
        BuiltIn::DisconnectUser => operation.parameter(parameter("user", ParameterIn::Path, true, None)),
        BuiltIn::DisconnectSocket => operation.parameter(parameter(
            "socket",
            ParameterIn::Path,
            true,
            Some("The id that the client knows of itself"),
        )),
        BuiltIn::Publish => operation
            .parameter(idempotency_key())
            .request_body(Some(json_body(component("Event")))),
        BuiltIn::Rooms | BuiltIn::Stats => operation,
    };
    match endpoint {
        BuiltIn::Publish => refused(operation, vec![400, 401, 403, 413, 415, 503]),
        _ => refused(operation, vec![401, 403, 503]),
    }
}

fn health(endpoint: Health) -> OperationBuilder {
    let (summary, ready) = match endpoint {
        Health::Whole | Health::Ready => ("Whether clients should come", true),
        Health::Live => ("Whether the process answers", false),
    };
    let operation = OperationBuilder::new()
        .summary(Some(summary))
        .response("200", answers("Yes", component("Health")));
    match ready {
        true => operation.response("503", answers("No", component("Health"))),
        false => operation,
    }
}

fn bearer() -> SecurityRequirement {
    SecurityRequirement::new(BEARER, [] as [&str; 0])
}

fn refused(operation: OperationBuilder, mut statuses: Vec<u16>) -> OperationBuilder {
    statuses.sort_unstable();
    statuses.into_iter().fold(operation, |operation, status| {
        let means = match status {
            400 => "A field is missing or wrong, or the body is no JSON: `field` says where",
            401 => "No token, or one that does not hold",
            403 => "The channel does not let this caller",
            413 => "The body is too long",
            415 => "The body is not said to be `application/json`",
            422 => "A rule of the channel does not hold, or a template can not be made of this request",
            _ => "Not for now: repeat the request, with the same `Idempotency-Key` where it publishes",
        };
        operation.response(status.to_string(), answers(means, component("Refusal")))
    })
}

fn answers(description: &str, schema: RefOr<Schema>) -> utoipa::openapi::Response {
    ResponseBuilder::new()
        .description(description)
        .content("application/json", Content::new(Some(schema)))
        .build()
}

fn parameter(name: &str, within: ParameterIn, required: bool, description: Option<&str>) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(within)
        .required(if required { Required::True } else { Required::False })
        .description(description)
        .schema(Some(of_type(Type::String)))
        .build()
}

fn idempotency_key() -> Parameter {
    let means = "A request that is repeated with the same key publishes nothing more, and gets the id of the first";
    parameter("Idempotency-Key", ParameterIn::Header, false, Some(means))
}

fn json_body(schema: RefOr<Schema>) -> RequestBody {
    RequestBodyBuilder::new()
        .required(Some(Required::True))
        .content("application/json", Content::new(Some(schema)))
        .build()
}

fn body_of(fields: &BTreeSet<String>, required: &BTreeSet<String>) -> RequestBody {
    let object = fields.union(required).fold(ObjectBuilder::new(), |object, name| {
        object.property(name.clone(), anything())
    });
    let object = required
        .iter()
        .fold(object, |object, name| object.required(name.clone()));
    json_body(object.into())
}

/// What a template makes: constants are known, expressions are anything.
fn shape(template: &JsonValue) -> RefOr<Schema> {
    match template {
        JsonValue::Object(fields) => {
            let object = ObjectBuilder::new();
            fields
                .iter()
                .fold(object, |object, (name, value)| {
                    object.property(name.clone(), shape(value))
                })
                .into()
        }
        JsonValue::String(text) if text.starts_with('{') && text.ends_with('}') => anything(),
        JsonValue::String(_) => of_type(Type::String).into(),
        JsonValue::Bool(_) => of_type(Type::Boolean).into(),
        JsonValue::Number(_) => of_type(Type::Number).into(),
        JsonValue::Array(_) | JsonValue::Null => anything(),
    }
}

fn of_type(kind: impl Into<SchemaType>) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(kind)
}

fn anything() -> RefOr<Schema> {
    of_type(SchemaType::AnyValue).into()
}

fn component(name: &str) -> RefOr<Schema> {
    Ref::from_schema_name(name).into()
}

/// Names that a text of expressions uses below `root`: `body.` finds `order` in `body.order.id > 0`.
fn named(text: &str, root: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let found = text.match_indices(root).filter_map(|(at, _)| {
        let before = text[..at].chars().next_back();
        let name: String = text[at + root.len()..].chars().take_while(|c| is_name(*c)).collect();
        let stands_alone = before.is_none_or(|c| !is_name(c) && c != '.');
        (stands_alone && !name.is_empty()).then_some(name)
    });
    found.collect()
}

fn components() -> Components {
    let text = || of_type(Type::String);
    let number = || of_type(Type::Integer);
    let all = |fields: Vec<(&str, RefOr<Schema>)>| {
        fields.into_iter().fold(ObjectBuilder::new(), |object, (name, schema)| {
            object.property(name, schema).required(name)
        })
    };
    let list = |items: ObjectBuilder| ArrayBuilder::new().items(items.build());
    let room = || all(vec![("name", text().into()), ("members", number().into())]);
    let user = || all(vec![("user", text().into()), ("connections", number().into())]);
    let replicas = || {
        all(vec![("answered", number().into()), ("of", number().into())])
            .description(Some("How many of the gateway's replicas are in the answer"))
    };
    let refusal = all(vec![
        ("code", text().description(Some("For programs")).into()),
        ("message", text().description(Some("For people")).into()),
    ])
    .property(
        "field",
        text().description(Some("The field of the request that is to blame, where one is")),
    );
    let event = all(vec![(
        "type",
        text().min_length(Some(1)).max_length(Some(super::MAX_TYPE)).into(),
    )])
    .property("data", of_type(SchemaType::AnyValue))
    .property(
        "key",
        text()
            .max_length(Some(super::MAX_KEY))
            .description(Some("Events of one key keep their order")),
    );
    let stats = all(vec![
        ("connections", number().into()),
        ("uniqueUsers", number().into()),
        ("users", list(user()).into()),
        ("roomCount", number().into()),
        ("rooms", list(room()).into()),
        ("replicas", replicas().into()),
    ]);
    let schemas: Vec<(&str, RefOr<Schema>)> = vec![
        ("Refusal", all(vec![("error", refusal.into())]).into()),
        (
            "Published",
            all(vec![("id", text().description(Some("Id of the event")).into())]).into(),
        ),
        ("Event", event.into()),
        (
            "Room",
            room().property("replicas", replicas()).required("replicas").into(),
        ),
        (
            "Rooms",
            all(vec![
                ("rooms", list(room()).into()),
                ("count", number().into()),
                ("replicas", replicas().into()),
            ])
            .into(),
        ),
        (
            "Disconnected",
            all(vec![
                ("disconnected", number().description(Some("How many clients")).into()),
                ("replicas", replicas().into()),
            ])
            .into(),
        ),
        ("Stats", stats.into()),
        ("Health", all(vec![("status", text().into())]).into()),
    ];
    let mut components = Components::new();
    components.schemas = schemas
        .into_iter()
        .map(|(name, schema)| (name.to_owned(), schema))
        .collect();
    components.add_security_scheme(BEARER, SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    components
}

#[cfg(test)]
mod tests;
