//! What is refused at load: each mistake with its field and its message, all of them at once.

use serde_json::{Value as JsonValue, json};

use crate::fixtures::{compile, problems};

/// A channel that is right. Cases change one thing.
fn good() -> JsonValue {
    json!({
        "authentication": {
            "jwt": [{"name": "staff", "secretRef": {"name": "jwt", "key": "secret"}, "algorithms": ["HS256"],
                     "identity": {"user": "claims.sub", "attributes": {"tenant": "claims.tenant"}}}],
            "query": {"identity": {"user": "query.user", "attributes": {"tenant": "query.tenant"}}}
        },
        "greeting": {"event": "hello", "payload": {"id": "{socket.id}"}},
        "sources": [{"name": "s", "kafka": {"topics": ["orders"]}, "type": "{body.t}", "data": "{body.d}", "where": "body.a == 1"}],
        "rooms": [
            {"name": "orders", "key": "orders:{tenant}", "join": {"event": "sub", "leave": "unsub", "with": {"tenant": "args.t"}}, "allow": "args.t == identity.tenant"},
            {"name": "customer", "key": "customer:{tenant}:{user}", "join": {"auto": {"when": "identity.user != null", "with": {"tenant": "identity.tenant", "user": "identity.user"}}}},
            {"name": "all", "key": "all"}
        ],
        "replies": [{"event": "ping", "emit": {"event": "pong", "payload": "{now}"}, "ack": "{arg}", "allow": "true"}],
        "tables": {"text": {"default": "?"}},
        "routes": [{
            "types": ["order.*"], "when": "event.data.a > 1", "let": {"text": "tables.text[event.data.s]"},
            "emit": [{"event": "order:made", "payload": {"text": "{text}"}, "to": [
                {"room": "orders", "with": {"tenant": "event.data.tenant"}},
                {"room": "customer", "with": {"tenant": "event.data.tenant", "user": "event.data.user"}, "payload": ["{event.id}"]}]}]
        }]
    })
}

/// The good channel with `value` at a JSON pointer.
fn with(pointer: &str, value: JsonValue) -> JsonValue {
    let mut spec = good();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match spec.pointer_mut(parent).unwrap_or_else(|| panic!("{parent} is there")) {
        JsonValue::Object(fields) => {
            fields.insert(key.to_owned(), value);
        }
        JsonValue::Array(elements) => elements[key.parse::<usize>().unwrap()] = value,
        scalar => panic!("{scalar} has no fields"),
    }
    spec
}

#[test]
fn the_good_channel_is_good() {
    assert_eq!(problems(good()), [""; 0]);
}

#[test]
fn each_mistake_names_its_field() {
    let names = "there are event.id, event.type, event.time, event.data, now";
    let route = "/routes/0/emit/0";
    let cases = [
        // Rooms and their parameters.
        (
            format!("{route}/to/0/room"),
            json!("order"),
            "spec.routes[0].emit[0].to[0].room: there is no room \"order\"; there are: all, customer, orders".to_owned(),
        ),
        (
            format!("{route}/to/0/with"),
            json!({}),
            "spec.routes[0].emit[0].to[0].with: parameter \"tenant\" of room \"orders\" is missing".to_owned(),
        ),
        (
            format!("{route}/to/1/with/usr"),
            json!("1"),
            "spec.routes[0].emit[0].to[1].with.usr: room \"customer\" has no parameter \"usr\"; it has tenant, user".to_owned(),
        ),
        (
            format!("{route}/to/0"),
            json!({"room": "all", "with": {"tenant": "1"}}),
            "spec.routes[0].emit[0].to[0].with.tenant: room \"all\" has no parameter \"tenant\"; it has none".to_owned(),
        ),
        (
            format!("{route}/to/0/with/tenant"),
            json!("evnt.data.tenant"),
            format!("spec.routes[0].emit[0].to[0].with.tenant: column 1: there is no \"evnt\" here; {names}, text"),
        ),
        (
            "/rooms/0/join/with".to_owned(),
            json!({}),
            "spec.rooms[0].join.with: parameter \"tenant\" of room \"orders\" is missing".to_owned(),
        ),
        (
            "/rooms/1/join/auto/with".to_owned(),
            json!({"tenant": "identity.tenant"}),
            "spec.rooms[1].join.auto.with: parameter \"user\" of room \"customer\" is missing".to_owned(),
        ),
        (
            "/rooms/1/join/auto/with/user".to_owned(),
            json!("args.user"),
            "spec.rooms[1].join.auto.with.user: column 1: there is no \"args\" here; there are identity".to_owned(),
        ),
        (
            "/rooms/1/join/auto/when".to_owned(),
            json!("params.user == ''"),
            "spec.rooms[1].join.auto.when: column 1: there is no \"params\" here; there are identity".to_owned(),
        ),
        (
            "/rooms/0/join/with/tenant".to_owned(),
            json!("params.tenant"),
            "spec.rooms[0].join.with.tenant: column 1: there is no \"params\" here; there are args, arg, identity".to_owned(),
        ),
        (
            "/rooms/0/allow".to_owned(),
            json!("identity.tenant == tenant"),
            "spec.rooms[0].allow: column 20: there is no \"tenant\" here; there are args, arg, identity, params".to_owned(),
        ),
        (
            "/rooms/2/key".to_owned(),
            json!("all:{"),
            "spec.rooms[2].key: a brace is not closed: write the room's parameters as {name}".to_owned(),
        ),
        (
            "/rooms/2/key".to_owned(),
            json!("all:{a.b}"),
            "spec.rooms[2].key: \"a.b\" is no parameter name: letters, digits and _ only, as in orders:{tenant}".to_owned(),
        ),
        (
            "/rooms/2/key".to_owned(),
            json!("{a}{a}"),
            "spec.rooms[2].key: the parameter {a} stands twice".to_owned(),
        ),
        // Variables, with their column.
        (
            "/routes/0/when".to_owned(),
            json!("has(event.data.x) && evnt.data.x > 1"),
            format!("spec.routes[0].when: column 22: there is no \"evnt\" here; {names}"),
        ),
        (
            "/routes/0/when".to_owned(),
            json!("text == 'x'"),
            format!("spec.routes[0].when: column 1: there is no \"text\" here; {names}"),
        ),
        (
            "/routes/0/when".to_owned(),
            json!("event == null"),
            format!("spec.routes[0].when: column 1: there is no \"event\" here; {names}"),
        ),
        (
            "/routes/0/when".to_owned(),
            json!("event.dta.x > 1"),
            format!("spec.routes[0].when: column 1: there is no \"event\" here; {names}"),
        ),
        (
            "/routes/0/let/other".to_owned(),
            json!("text + 'x'"),
            format!("spec.routes[0].let.other: column 1: there is no \"text\" here; {names}"),
        ),
        (
            "/sources/0/where".to_owned(),
            json!("item.a == 1"),
            "spec.sources[0].where: column 1: there is no \"item\" here; there are body, record.topic, record.key, record.headers, record.partition, record.offset, record.timestamp".to_owned(),
        ),
        (
            "/sources/0/each".to_owned(),
            json!("item.list"),
            "spec.sources[0].each: column 1: there is no \"item\" here; there are body, record.topic, record.key, record.headers, record.partition, record.offset, record.timestamp".to_owned(),
        ),
        (
            "/sources/0/type".to_owned(),
            json!("order.{event.type}"),
            "spec.sources[0].type: column 8: there is no \"event\" here; there are body, record.topic, record.key, record.headers, record.partition, record.offset, record.timestamp".to_owned(),
        ),
        (
            "/sources/0/data".to_owned(),
            json!("{bdy}"),
            "spec.sources[0].data: column 2: there is no \"bdy\" here; there are body, record.topic, record.key, record.headers, record.partition, record.offset, record.timestamp".to_owned(),
        ),
        (
            "/authentication/jwt/0/identity/user".to_owned(),
            json!("claim.sub"),
            "spec.authentication.jwt[0].identity.user: column 1: there is no \"claim\" here; there are claims".to_owned(),
        ),
        (
            "/authentication/query/identity/attributes/tenant".to_owned(),
            json!("claims.tenant"),
            "spec.authentication.query.identity.attributes.tenant: column 1: there is no \"claims\" here; there are query".to_owned(),
        ),
        (
            "/authentication/query/identity/attributes/user".to_owned(),
            json!("query.other"),
            "spec.authentication.query.identity.attributes.user: user has a field of its own: identity.user".to_owned(),
        ),
        (
            "/greeting/payload".to_owned(),
            json!({"a": ["x", "{args.a}"]}),
            "spec.greeting.payload.a[1]: column 2: there is no \"args\" here; there are identity, socket.id, handshake.auth, now".to_owned(),
        ),
        (
            "/replies/0/emit/payload".to_owned(),
            json!("{event.data}"),
            "spec.replies[0].emit.payload: column 2: there is no \"event\" here; there are args, arg, identity, socket.id, now, stats".to_owned(),
        ),
        (
            "/replies/0/ack".to_owned(),
            json!({"x": "{params.a}"}),
            "spec.replies[0].ack.x: column 2: there is no \"params\" here; there are args, arg, identity, socket.id, now, stats".to_owned(),
        ),
        (
            "/replies/0/allow".to_owned(),
            json!("now == now"),
            "spec.replies[0].allow: column 1: there is no \"now\" here; there are args, arg, identity".to_owned(),
        ),
        // Templates.
        (
            format!("{route}/payload"),
            json!({"a": {"b": "é {event.id"}}),
            "spec.routes[0].emit[0].payload.a.b: column 3: the brace is not closed; write {{ for a brace".to_owned(),
        ),
        (
            format!("{route}/to/1/payload"),
            json!(["{}"]),
            "spec.routes[0].emit[0].to[1].payload[0]: column 2: it is empty: write an expression".to_owned(),
        ),
        (
            format!("{route}/payload"),
            json!("x".repeat(1025)),
            "spec.routes[0].emit[0].payload: a string of a template has at most 1024 bytes".to_owned(),
        ),
        (
            format!("{route}/payload"),
            json!(vec![0; 300]),
            "spec.routes[0].emit[0].payload[255]: a template has at most 256 values, 16 deep".to_owned(),
        ),
        // Names of events.
        (
            format!("{route}/event"),
            json!("disconnect"),
            "spec.routes[0].emit[0].event: the event name \"disconnect\" is reserved by Socket.IO or Aldis: choose another".to_owned(),
        ),
        (
            "/greeting/event".to_owned(),
            json!("connect"),
            "spec.greeting.event: the event name \"connect\" is reserved by Socket.IO or Aldis: choose another".to_owned(),
        ),
        (
            "/replies/0/emit/event".to_owned(),
            json!("aldis:ready"),
            "spec.replies[0].emit.event: the event name \"aldis:ready\" is reserved by Socket.IO or Aldis: choose another".to_owned(),
        ),
        (
            "/replies/0/event".to_owned(),
            json!("disconnecting"),
            "spec.replies[0].event: the event name \"disconnecting\" is reserved by Socket.IO or Aldis: choose another".to_owned(),
        ),
        (
            "/rooms/0/join/event".to_owned(),
            json!("aldis:x"),
            "spec.rooms[0].join.event: the event name \"aldis:x\" is reserved by Socket.IO or Aldis: choose another".to_owned(),
        ),
        (
            "/rooms/0/join/leave".to_owned(),
            json!("newListener"),
            "spec.rooms[0].join.leave: the event name \"newListener\" is reserved by Socket.IO or Aldis: choose another".to_owned(),
        ),
        (
            "/rooms/0/join/leave".to_owned(),
            json!("sub"),
            "spec.rooms[0].join.leave: the client event \"sub\" is used above already: each does one thing".to_owned(),
        ),
        (
            "/replies/0/event".to_owned(),
            json!("unsub"),
            "spec.replies[0].event: the client event \"unsub\" is used above already: each does one thing".to_owned(),
        ),
        // Secrets and tables.
        (
            "/authentication/jwt/0/secretRef/key".to_owned(),
            json!("gone"),
            "spec.authentication.jwt[0].secretRef: there is no key \"gone\" in a Secret \"jwt\" of namespace \"bistro\" that is labelled aldis.dev/use: channel".to_owned(),
        ),
        (
            "/authentication/jwt/0/secretRef/key".to_owned(),
            json!("empty"),
            "spec.authentication.jwt[0].secretRef: the secret is empty: anybody could sign a token with it".to_owned(),
        ),
        (
            "/routes/0/let/text".to_owned(),
            json!("tables.texts[event.data.s]"),
            "spec.routes[0].let.text: column 1: there is no table \"texts\"; there are: text".to_owned(),
        ),
        (
            "/routes/0/let/text".to_owned(),
            json!("tables.text"),
            "spec.routes[0].let.text: column 1: a table is looked up with one key: tables.name[key]".to_owned(),
        ),
        (
            "/routes/0/let/text".to_owned(),
            json!("1 + tables[event.data.a].b"),
            "spec.routes[0].let.text: column 5: a table is looked up with one key: tables.name[key]".to_owned(),
        ),
        // let.
        (
            "/routes/0/let/now".to_owned(),
            json!("1"),
            "spec.routes[0].let.now: choose another name: letters, digits and _, and none of event, now, tables, true, false, null and in".to_owned(),
        ),
        // Expressions.
        (
            "/routes/0/when".to_owned(),
            json!("event.data.s.matches('a(')"),
            "spec.routes[0].when: column 21: the pattern of matches() is no regular expression: unclosed group".to_owned(),
        ),
        (
            "/routes/0/when".to_owned(),
            json!("event.data.s.matches(event.data.p)"),
            "spec.routes[0].when: column 21: the pattern of matches() must be a literal".to_owned(),
        ),
        (
            "/routes/0/when".to_owned(),
            json!("true && first()"),
            "spec.routes[0].when: column 14: first() needs at least one argument".to_owned(),
        ),
    ];
    let mut wrong = Vec::new();
    for (pointer, value, expected) in cases {
        let found = problems(with(&pointer, value.clone()));
        if found != [expected.clone()] {
            wrong.push(format!(
                "{pointer} = {value}\n  gives  {found:?}\n  not    {expected:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_fields() {
    let mut spec = good();
    spec["routes"][0]["when"] = json!("x");
    spec["routes"][0]["emit"][0]["payload"] = json!({"a": "{y}", "b": ["{z}"]});
    spec["routes"][0]["emit"][0]["to"][0]["room"] = json!("w");
    spec["rooms"][0]["allow"] = json!("v");
    spec["authentication"]["jwt"][0]["secretRef"]["key"] = json!("gone");
    let fields: Vec<_> = compile(spec)
        .unwrap_err()
        .into_iter()
        .map(|problem| problem.field)
        .collect();
    assert_eq!(
        fields,
        [
            "spec.authentication.jwt[0].secretRef",
            "spec.rooms[0].allow",
            "spec.routes[0].when",
            "spec.routes[0].emit[0].payload.a",
            "spec.routes[0].emit[0].payload.b[0]",
            "spec.routes[0].emit[0].to[0].room",
        ]
    );
}

#[test]
fn hostile_specs_are_refused_not_run() {
    for source in [
        "(".repeat(1024),
        "[".repeat(1024),
        "{".repeat(100),
        "[{".repeat(100),
        "1?1:".repeat(60) + &"{".repeat(60),
        "{'}':".repeat(95) + &"{".repeat(60),
        "{a:".repeat(78) + "{",
        "a.".repeat(512),
        "!".repeat(1024),
        "{".repeat(1024),
        "1+".repeat(511) + "1",
        "event.data".to_owned() + &".a".repeat(500),
        "x".repeat(1025),
        "é".repeat(512),
        "\u{0}".to_owned(),
        "'".to_owned(),
        "'\\".to_owned(),
        "event.data.map(a, event.data.map(b, b))".to_owned(),
        "9223372036854775808".to_owned(),
        "".to_owned(),
        " ".to_owned(),
        "// nothing".to_owned(),
        "a.b{c: 1}".to_owned(),
        "__result__".to_owned(),
        "@0".to_owned(),
        "event.data.all(@result, true)".to_owned(),
    ] {
        for problem in problems(with("/routes/0/when", json!(source))) {
            assert!(
                problem.starts_with("spec.routes[0].when: column "),
                "{source}: {problem}"
            );
            assert!(problem.len() < 300, "{source}: {problem}");
        }
        for problem in problems(with("/routes/0/emit/0/payload", json!({"a": format!("{{{source}}}")}))) {
            assert!(
                problem.starts_with("spec.routes[0].emit[0].payload.a: "),
                "{source}: {problem}"
            );
        }
    }
}
