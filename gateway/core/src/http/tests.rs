use serde_json::json;

use super::*;
use crate::fixtures::{NOW, channel, config, json_of, keys, problems, record};

fn staff() -> Identity {
    Identity {
        user: Some("u1".to_owned()),
        method: "staff".to_owned(),
        expires: None,
        json: json_of(json!({"user": "u1", "role": "service"})),
    }
}

/// What endpoint `spec` makes of a request: refusal, or event and answer.
fn call(
    spec: JsonValue,
    identity: Option<&Identity>,
    params: JsonValue,
    query: JsonValue,
    body: JsonValue,
) -> Result<(Option<Published>, u16, String), Refused> {
    let channel = channel(json!({"http": [spec]}));
    let endpoint = &channel.endpoints[0];
    let (params, query, body) = (json_of(params), json_of(query), json_of(body));
    let request = Request {
        params: &params,
        query: &query,
        body: &body,
        identity,
        now: NOW,
    };
    endpoint.check(&request)?;
    let published = endpoint.publish(&request)?;
    let stats = json_of(json!({"connections": 3, "users": [{"user": "a", "connections": 3}]}));
    let facts = Facts {
        stats: &stats,
        uptime: 12,
        published: published.is_some().then_some("e-1"),
    };
    let (code, body) = endpoint.respond(&request, &facts)?;
    Ok((published, code, body))
}

#[test]
fn an_endpoint_answers_from_what_is_known() {
    let spec = json!({"method": "GET", "path": "/api/health", "allow": "true", "respond": {"body": {
        "status": "ok", "connectedClients": "{stats.connections}", "uptime": "{uptime}", "timestamp": "{now}",
        "who": "{identity.user}", "users": "{stats.users.map(u, {'userId': u.user, 'connectionCount': u.connections})}"}}});
    let answer = call(spec, None, json!({}), json!({}), json!(null)).unwrap();
    assert_eq!(
        answer,
        (
            None,
            200,
            r#"{"connectedClients":3,"status":"ok","timestamp":"2026-11-21T09:30:00.250Z","uptime":12,"users":[{"connectionCount":3,"userId":"a"}],"who":null}"#.to_owned()
        )
    );
}

#[test]
fn an_endpoint_publishes_from_path_query_and_body() {
    let spec = json!({"method": "POST", "path": "/t/{tenant}/events", "allow": "identity.role == 'service'",
        "publish": {"type": "order.{query.kind}", "key": "{params.tenant}", "data": {"tenant_id": "{params.tenant}", "order": "{body.order}"}}});
    let published = call(
        spec,
        Some(&staff()),
        json!({"tenant": "t1"}),
        json!({"kind": "ready"}),
        json!({"order": 7}),
    );
    let event = Published {
        type_: "order.ready".to_owned(),
        data: r#"{"order":7,"tenant_id":"t1"}"#.to_owned(),
        key: Some("t1".to_owned()),
    };
    assert_eq!(published.unwrap(), (Some(event), 202, r#"{"id":"e-1"}"#.to_owned()));
}

#[test]
fn without_data_the_body_is_the_data_as_it_came() {
    let spec = json!({"method": "POST", "path": "/e", "allow": "true", "publish": {"type": "t"}});
    let (event, ..) = call(
        spec,
        None,
        json!({}),
        json!({}),
        json!({"big": 12345678901234567890_u64}),
    )
    .unwrap();
    assert_eq!(event.unwrap().data, r#"{"big":12345678901234567890}"#);
}

#[test]
fn refusals_say_who_what_and_which_field() {
    let spec = json!({"method": "POST", "path": "/e", "allow": "identity.role == 'service'",
        "require": ["body.user.id", "query.kind"],
        "validations": [{"rule": "body.stock >= 0", "message": "stock must not be negative"}],
        "publish": {"type": "{body.kind}"}});
    let refused = |identity: Option<&Identity>, query: JsonValue, body: JsonValue| {
        let refused = call(spec.clone(), identity, json!({}), query, body).unwrap_err();
        (refused.status, refused.code, refused.field)
    };
    let guest = Identity {
        json: json_of(json!({"role": "guest"})),
        ..staff()
    };
    let kind = json!({"kind": "x"});
    assert_eq!(refused(None, json!({}), json!({})), (401, "unauthorized", None));
    assert_eq!(refused(Some(&guest), json!({}), json!({})), (403, "forbidden", None));
    let field = |field: &str| (400, "field_required", Some(field.to_owned()));
    assert_eq!(
        refused(Some(&staff()), kind.clone(), json!({"user": {}})),
        field("body.user.id")
    );
    assert_eq!(refused(Some(&staff()), kind.clone(), json!([])), field("body.user.id"));
    assert_eq!(
        refused(Some(&staff()), json!({}), json!({"user": {"id": 1}})),
        field("query.kind")
    );
    let body = |stock: JsonValue, kind: JsonValue| json!({"user": {"id": 1}, "stock": stock, "kind": kind});
    assert_eq!(
        refused(Some(&staff()), kind.clone(), body(json!(-1), json!("a"))),
        (422, "invalid", None)
    );
    assert_eq!(
        refused(Some(&staff()), kind.clone(), body(json!("-"), json!("a"))),
        (422, "invalid", None)
    );
    assert_eq!(
        refused(Some(&staff()), kind.clone(), body(json!(1), json!(""))),
        (422, "invalid", None)
    );
    assert_eq!(
        refused(Some(&staff()), kind, body(json!(1), json!({}))),
        (422, "failed", None)
    );
    assert_eq!(
        Refused {
            field: Some("body.x".to_owned()),
            ..Refused::new(400, "field_required", "a \"b\"")
        }
        .json(),
        r#"{"error":{"code":"field_required","message":"a \"b\"","field":"body.x"}}"#
    );
}

#[test]
fn without_the_grant_nobody_uses_an_endpoint_without_a_token() {
    let mut config = config(json!({"http": [{"method": "GET", "path": "/e", "allow": "1 == 1", "respond": {}}]}));
    config.open = false;
    let channel =
        crate::expression::bounds::on_big_stack(|| crate::channel::Channel::compile(&config, &keys())).unwrap();
    let null = Json::null();
    let request = |identity| Request {
        params: &null,
        query: &null,
        body: &null,
        identity,
        now: NOW,
    };
    assert_eq!(channel.endpoints[0].check(&request(None)).unwrap_err().status, 401);
    let staff = staff();
    assert_eq!(channel.endpoints[0].check(&request(Some(&staff))), Ok(()));
}

#[test]
fn the_built_in_endpoints_are_for_whom_the_channel_says() {
    let with = channel(json!({"api": {"allow": "identity.role == 'service' && operation != 'disconnect'"}}));
    assert_eq!(with.api.check(Some(&staff()), Operation::Read), Ok(()));
    assert_eq!(
        with.api
            .check(Some(&staff()), Operation::Disconnect)
            .unwrap_err()
            .status,
        403
    );
    assert_eq!(with.api.check(None, Operation::Read).unwrap_err().status, 401);
    let without = channel(json!({}));
    assert_eq!(
        without.api.check(Some(&staff()), Operation::Read).unwrap_err().status,
        403
    );
}

#[test]
fn what_came_over_http_is_for_the_channel_that_its_header_names() {
    let over_http = channel(json!({"api": {"allow": "true"}}));
    let mut record = record(r#"{"n":1}"#);
    for (name, value) in [("ce_specversion", "1.0"), ("ce_id", "i"), ("ce_type", "t")] {
        record.headers.push((name.to_owned(), Some(value.into())));
    }
    let events = |record: &crate::record::Record| crate::fixtures::decode(&over_http, record).unwrap();
    assert!(events(&record).is_none());
    record
        .headers
        .push((CHANNEL_HEADER.to_owned(), Some("bistro/other".into())));
    assert!(events(&record).is_none());
    record
        .headers
        .push((CHANNEL_HEADER.to_owned(), Some("bistro/orders".into())));
    let events = events(&record).unwrap();
    assert_eq!((events[0].type_.as_str(), events[0].data.text()), ("t", r#"{"n":1}"#));
    assert!(channel(json!({})).sources.is_empty());
}

#[test]
fn a_path_is_decoded_once_and_means_one_thing() {
    assert_eq!(decode_path("/a/b%20c").as_deref(), Some("/a/b c"));
    assert_eq!(decode_path("/%61/%C3%A9").as_deref(), Some("/a/é"));
    for none in [
        "",
        "a",
        "/",
        "/a/",
        "//a",
        "/a/../b",
        "/a/%2e%2e/b",
        "/a%2Fb",
        "/a%5cb",
        "/a%00",
        "/%ff",
        "/a/.",
    ] {
        assert_eq!(decode_path(none), None, "{none}");
    }
    assert_eq!(decode_path(&format!("/{}", "a".repeat(3_000))), None);
}

#[test]
fn the_first_endpoint_of_a_method_and_shape_stays_and_literals_come_before_parameters() {
    let mut routing = Routing::default();
    let mut add = |method, path: &str, name| routing.insert(method, &PathPattern::parse(path).unwrap(), name);
    add(Method::GET, "/a/{x}", "parameter");
    add(Method::GET, "/a/{other}", "late");
    add(Method::POST, "/a/{y}", "post");
    add(Method::GET, "/a/b", "literal");
    add(Method::GET, "/{p}/b/c", "deep");
    let to = |name, params: &[(&'static str, &str)]| {
        Routed::To(
            name,
            params
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned()))
                .collect(),
        )
    };
    assert_eq!(routing.route("GET", "/a/1"), to(&"parameter", &[("x", "1")]));
    assert_eq!(routing.route("POST", "/a/1"), to(&"post", &[("y", "1")]));
    assert_eq!(routing.route("GET", "/a/b"), to(&"literal", &[]));
    assert_eq!(routing.route("GET", "/a/b/c"), to(&"deep", &[("p", "a")]));
    assert_eq!(
        routing.route("PUT", "/a/1"),
        Routed::OtherMethods(vec![Method::GET, Method::POST])
    );
    assert_eq!(routing.route("GET", "/a/{x}"), to(&"parameter", &[("x", "{x}")]));
    assert_eq!(routing.route("GET", "/b"), Routed::Nowhere);
}

#[test]
fn what_is_wrong_with_an_endpoint_is_said_with_its_field() {
    let wrong = problems(json!({"http": [
        {"method": "GET", "path": "/a/{x}/{x}", "allow": "tru", "respond": {"body": "{stats.connections"}},
        {"method": "GET", "path": "/a//b", "allow": "true", "respond": {}},
        {"method": "GET", "path": "/a{b}", "allow": "true", "respond": {}}],
        "api": {"allow": "identity.role =="}}));
    let fields: Vec<_> = wrong
        .iter()
        .map(|problem| problem.split(": ").next().unwrap())
        .collect();
    assert_eq!(
        fields,
        [
            "spec.http[0].path",
            "spec.http[0].allow",
            "spec.http[0].respond.body",
            "spec.http[1].path",
            "spec.http[2].path",
            "spec.api.allow"
        ]
    );
}
