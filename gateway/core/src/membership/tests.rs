//! What clients may do.

mod replies;

use serde_json::{Value as JsonValue, json};

use super::*;
use crate::channel::Channel;
use crate::fixtures::{NOW, channel, json_of, problems};

fn identity(json: JsonValue) -> Identity {
    Identity {
        user: json["user"].as_str().map(str::to_owned),
        method: "m".to_owned(),
        expires: None,
        json: json_of(json),
    }
}

fn answer(channel: &Channel, who: &Identity, name: &str, args: JsonValue) -> Answer {
    let args = json_of(args);
    let event = ClientEvent {
        name,
        args: &args,
        binary: false,
        socket_id: "socket-1",
    };
    channel.lobby.answer(who, &event, NOW)
}

/// The answer in one line: `join orders:t1`, `leave …`, `code: message`.
fn told(channel: &Channel, who: &Identity, name: &str, args: JsonValue) -> String {
    match answer(channel, who, name, args) {
        Answer::Join(membership) => format!("join {}", membership.shown),
        Answer::Leave(membership) => format!("leave {}", membership.shown),
        Answer::Reply { emit, ack } => {
            let text = |arguments| match arguments {
                Arguments::AsTheyCame => "as they came".to_owned(),
                Arguments::One(text) => text,
            };
            let emit = emit.map_or("nothing".to_owned(), |(name, arguments)| {
                format!("{name} {}", text(arguments))
            });
            format!("emit {emit}, ack {}", ack.map_or("nothing".to_owned(), text))
        }
        Answer::Refuse(denial) => format!("{}: {}", denial.code, denial.message),
    }
}

fn room(mut room: JsonValue) -> Channel {
    room["name"] = json!("r");
    channel(json!({"rooms": [room]}))
}

const DENIED: &str = "denied: you may not join this room";

#[test]
fn a_room_is_joined_by_an_object() {
    let channel = room(json!({"key": "orders:{tenant}:{user}",
        "join": {"event": "sub", "leave": "unsub", "with": {"user": "identity.user", "tenant": "args.tenant_id"}},
        "allow": "args.tenant_id == identity.tenant"}));
    let who = identity(json!({"user": "u1", "tenant": "t1"}));
    assert_eq!(
        told(&channel, &who, "sub", json!([{"tenant_id": "t1", "more": [1]}])),
        "join orders:t1:u1"
    );
    let Answer::Join(membership) = answer(&channel, &who, "sub", json!([{"tenant_id": "t1"}, "more"])) else {
        panic!("it joins")
    };
    assert_eq!(
        membership.room,
        RoomKey {
            name: "r".into(),
            values: ["t1", "u1"].map(Box::from).into()
        },
        "values come in the order of the key, not of with"
    );
    assert_eq!(told(&channel, &who, "sub", json!([{"tenant_id": "t2"}])), DENIED);
    for args in [json!([]), json!([{}]), json!(["t1"]), json!([null]), json!([[]])] {
        assert_eq!(
            told(&channel, &who, "sub", args.clone()),
            "invalid_room: parameter tenant: args.tenant_id is not there",
            "{args}"
        );
    }
    for (tenant, why) in [
        (json!(null), "parameter tenant is null"),
        (json!(""), "parameter tenant is empty"),
        (
            json!(["t1"]),
            "parameter tenant is a list; a string or an integer is needed",
        ),
        (
            json!({"a": 1}),
            "parameter tenant is an object; a string or an integer is needed",
        ),
        (
            json!(1.5),
            "parameter tenant is a number with a fraction; a string or an integer is needed",
        ),
        (
            json!("x".repeat(129)),
            "parameter tenant is longer than 128 bytes; a string or an integer is needed",
        ),
    ] {
        assert_eq!(
            told(&channel, &who, "sub", json!([{"tenant_id": tenant}])),
            format!("invalid_room: {why}")
        );
    }
}

#[test]
fn a_room_is_joined_by_a_scalar_or_by_nothing() {
    let scalar =
        room(json!({"key": "tenant-{t}", "join": {"event": "join-tenant", "with": {"t": "arg"}}, "allow": "true"}));
    let nobody = identity(json!({"user": null}));
    for (arg, shown) in [
        (json!(1), "1"),
        (json!("1"), "1"),
        (json!(1.0), "1"),
        (json!("a@b.c"), "a@b.c"),
    ] {
        assert_eq!(
            told(&scalar, &nobody, "join-tenant", json!([arg])),
            format!("join tenant-{shown}")
        );
    }
    assert_eq!(
        told(&scalar, &nobody, "join-tenant", json!([])),
        "invalid_room: parameter t is null",
        "no argument is null"
    );
    let fixed = room(json!({"key": "display", "join": {"event": "join-display"}, "allow": "true"}));
    for args in [json!([]), json!([{}]), json!(["whatever"])] {
        assert_eq!(told(&fixed, &nobody, "join-display", args), "join display");
    }
}

#[test]
fn only_true_lets_in() {
    let who = identity(json!({"user": "u1", "role": "staff", "yes": "true"}));
    for (allow, joins) in [
        (None, false),
        (Some("true"), true),
        (Some("false"), false),
        (Some("identity.role in ['staff', 'manager']"), true),
        (Some("identity.gone == 'x'"), false),
        (Some("identity.gone"), false),
        (Some("identity.user"), false),
        (Some("identity.yes"), false),
        (Some("1"), false),
        (Some("1 / args.zero == 1"), false),
        (Some("identity.role > 1"), false),
        (Some("identity.gone == 'x' || true"), true),
        (Some("null"), false),
    ] {
        let mut spec = json!({"key": "k", "join": {"event": "sub"}});
        if let Some(allow) = allow {
            spec["allow"] = json!(allow);
        }
        let expected = if joins { "join k" } else { DENIED };
        assert_eq!(
            told(&room(spec), &who, "sub", json!([{"zero": 0}])),
            expected,
            "{allow:?}"
        );
    }
}

#[test]
fn allow_sees_the_rooms_parameters_as_the_texts_that_they_are() {
    let channel = room(
        json!({"key": "user:{user}", "join": {"event": "join", "with": {"user": "arg"}},
        "allow": "params.user == identity.user"}),
    );
    let who = identity(json!({"user": "42"}));
    assert_eq!(told(&channel, &who, "join", json!([42])), "join user:42");
    assert_eq!(told(&channel, &who, "join", json!(["42"])), "join user:42");
    assert_eq!(told(&channel, &who, "join", json!(["43"])), DENIED);
    let number = identity(json!({"user": 42}));
    assert_eq!(
        told(&channel, &number, "join", json!([42])),
        DENIED,
        "a numeric user needs text(identity.user)"
    );
}

#[test]
fn clients_can_not_speak_for_identity_or_params() {
    let channel = room(
        json!({"key": "user:{user}", "join": {"event": "join", "with": {"user": "args.user"}},
        "allow": "identity.role == 'admin' || params.user == 'public'"}),
    );
    let who = identity(json!({"user": "u1"}));
    let args = json!([{"user": "x", "identity": {"role": "admin"}, "params": {"user": "public"}, "role": "admin"}]);
    assert_eq!(told(&channel, &who, "join", args), DENIED);
}

#[test]
fn a_deep_or_huge_argument_is_no_and_does_no_harm() {
    let channel =
        room(json!({"key": "k", "join": {"event": "sub"}, "allow": "args.a == identity.user || size(args.a) == 0"}));
    let test = move || {
        let who = identity(json!({"user": "u1"}));
        for args in [
            format!(r#"[{{"a": {}{}}}]"#, "[".repeat(30_000), "]".repeat(30_000)),
            format!(r#"[{{"a": {}1{}}}]"#, "{\"a\":".repeat(10_000), "}".repeat(10_000)),
            format!(r#"[{{"a": [{}0]}}]"#, "0,".repeat(100_000)),
        ] {
            let args = Json::parse(args).unwrap();
            let event = ClientEvent {
                binary: false,
                name: "sub",
                args: &args,
                socket_id: "s",
            };
            let answer = channel.lobby.answer(&who, &event, NOW);
            assert!(
                matches!(answer, Answer::Refuse(Denial { code: "denied", .. })),
                "{answer:?}"
            );
        }
    };
    std::thread::Builder::new()
        .stack_size(2 * 1024 * 1024)
        .spawn(test)
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn leaving_needs_no_leave() {
    let channel = room(
        json!({"key": "orders:{t}", "join": {"event": "sub", "leave": "unsub", "with": {"t": "arg"}}, "allow": "false"}),
    );
    let who = identity(json!({}));
    assert_eq!(told(&channel, &who, "unsub", json!(["t1"])), "leave orders:t1");
    assert_eq!(told(&channel, &who, "sub", json!(["t1"])), DENIED);
    assert_eq!(
        told(&channel, &who, "unsub", json!([])),
        "invalid_room: parameter t is null"
    );
}

#[test]
fn rooms_without_a_join_event_can_not_be_joined() {
    let channel = channel(json!({"rooms": [
        {"name": "a", "key": "a", "allow": "true"},
        {"name": "b", "key": "b", "join": {"auto": {"when": "false"}}, "allow": "true"}]}));
    let unknown = "unknown_event: this channel has no such event";
    for name in ["a", "b", "", "join", "subscribe:a", "aldis:ready", "connect"] {
        assert_eq!(told(&channel, &identity(json!({})), name, json!([])), unknown);
    }
    assert!(channel.lobby.auto_rooms(&identity(json!({}))).is_empty());
}

#[test]
fn clients_join_by_themselves_where_when_says_so_and_nothing_is_null() {
    let auto = |when: JsonValue, with: &str| {
        let mut room = json!({"name": "r", "key": "c:{u}", "join": {"auto": {"with": {"u": with}}}});
        if !when.is_null() {
            room["join"]["auto"]["when"] = when;
        }
        channel(json!({"rooms": [room, {"name": "all", "key": "all", "join": {"auto": {}}}]}))
    };
    let who = identity(json!({"user": 7, "type": "customer", "none": null, "empty": "", "list": []}));
    for (when, with, rooms) in [
        (json!(null), "identity.user", "c:7 all"),
        (json!("identity.type == 'customer'"), "identity.user", "c:7 all"),
        (json!("identity.type == 'staff'"), "identity.user", "all"),
        (json!("identity.gone == 'x'"), "identity.user", "all"),
        (json!("identity.type"), "identity.user", "all"),
        (json!(null), "identity.none", "all"),
        (json!(null), "identity.gone", "all"),
        (json!(null), "identity.empty", "all"),
        (json!(null), "identity.list", "all"),
        (json!(null), "1 / 0", "all"),
    ] {
        let shown: Vec<_> = auto(when.clone(), with)
            .lobby
            .auto_rooms(&who)
            .into_iter()
            .map(|membership| membership.shown)
            .collect();
        assert_eq!(shown.join(" "), rooms, "{when} {with}");
    }
}

#[test]
fn a_client_event_does_one_thing() {
    let spec = json!({
        "rooms": [
            {"name": "a", "key": "a", "join": {"event": "in", "leave": "out"}, "allow": "true"},
            {"name": "b", "key": "b", "join": {"event": "in", "leave": "in"}, "allow": "true"}],
        "replies": [{"event": "out", "ack": 1, "allow": "true"}, {"event": "ping", "ack": 1, "allow": "true"}, {"event": "ping", "ack": 2, "allow": "true"}]});
    let twice = |field: &str, event: &str| {
        format!("{field}: the client event {event:?} is used above already: each does one thing")
    };
    assert_eq!(
        problems(spec),
        [
            twice("spec.rooms[1].join.event", "in"),
            twice("spec.rooms[1].join.leave", "in"),
            twice("spec.replies[0].event", "out"),
            twice("spec.replies[2].event", "ping"),
        ]
    );
}

#[test]
fn a_denial_is_json_whatever_its_message() {
    let denial = Denial::new("failed", "a \"quoted\"\nline");
    let shown: JsonValue = serde_json::from_str(&denial_json(&denial)).unwrap();
    assert_eq!(
        shown,
        json!({"ok": false, "code": "failed", "message": "a \"quoted\"\nline"})
    );
}

#[test]
fn client_events_do_not_print_what_is_secret() {
    let args = json_of(json!([{"password": "pass"}]));
    let event = ClientEvent {
        name: "login",
        args: &args,
        binary: false,
        socket_id: "transport-secret",
    };
    assert_eq!(format!("{event:?}"), "ClientEvent(\"login\")");
}
