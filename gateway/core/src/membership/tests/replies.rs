//! Client events that are answered, and the greeting.

use serde_json::{Value as JsonValue, json};

use super::*;

fn reply(mut reply: JsonValue) -> Channel {
    reply["event"] = json!("ask");
    if reply.get("allow").is_none() {
        reply["allow"] = json!("true");
    }
    channel(json!({"replies": [reply]}))
}

fn replied(spec: JsonValue, args: JsonValue) -> String {
    told(&reply(spec), &identity(json!({"user": "u1"})), "ask", args)
}

#[test]
fn replies_render_their_payload_and_acknowledgement() {
    let payload =
        json!({"now": "{now}", "you": "{identity.user}", "sent": "{args.a}", "first": "{arg}", "id": "{socket.id}"});
    assert_eq!(
        replied(
            json!({"emit": {"event": "pong", "payload": payload}, "ack": {"ok": true, "a": "{args.a}"}}),
            json!([{"a": 1.10}])
        ),
        r#"emit pong {"first":{"a":1.1},"id":"socket-1","now":"2026-11-21T09:30:00.250Z","sent":1.1,"you":"u1"}, ack {"a":1.1,"ok":true}"#
    );
    assert_eq!(
        replied(json!({"emit": {"event": "pong"}}), json!([1])),
        "emit pong null, ack nothing"
    );
    assert_eq!(
        replied(json!({"ack": "got {arg}"}), json!([])),
        r#"emit nothing, ack "got ""#
    );
}

#[test]
fn all_arguments_come_back_as_they_came() {
    let spec = json!({"emit": {"event": "echo", "args": "{args}"}, "ack": "{args}"});
    assert_eq!(
        replied(spec, json!([1, "two", {"three": [null]}])),
        "emit echo as they came, ack as they came"
    );
    assert_eq!(
        replied(json!({"ack": ["{args}"]}), json!([1, 2])),
        "emit nothing, ack [1]",
        "anywhere else args is the first argument"
    );
}

#[test]
fn binary_arguments_come_back_and_name_no_room() {
    let channel = channel(json!({
        "rooms": [{"name": "r", "key": "r:{x}", "join": {"event": "join", "leave": "leave", "with": {"x": "'a'"}}, "allow": "true"}],
        "replies": [{"event": "echo", "ack": "{args}", "allow": "true"}],
    }));
    let args = json_of(json!([null]));
    let answer = |name| {
        let event = ClientEvent {
            name,
            args: &args,
            binary: true,
            socket_id: "s",
        };
        channel.lobby.answer(&identity(json!({})), &event, NOW)
    };
    for event in ["join", "leave"] {
        let Answer::Refuse(denial) = answer(event) else {
            panic!("{event} is refused")
        };
        assert_eq!(denial.code, "binary_unsupported");
    }
    assert_eq!(
        answer("echo"),
        Answer::Reply {
            emit: None,
            ack: Some(Arguments::AsTheyCame)
        }
    );
}

#[test]
fn a_reply_may_be_denied_or_fail() {
    let denied = "denied: you may not send this event";
    assert_eq!(replied(json!({"ack": 1, "allow": "false"}), json!([])), denied);
    assert_eq!(
        replied(json!({"ack": 1, "allow": "identity.gone == 1"}), json!([])),
        denied
    );
    assert_eq!(
        replied(json!({"ack": 1, "allow": "args.n > 1"}), json!([{"n": 1}])),
        denied
    );
    assert_eq!(
        replied(json!({"ack": "{1 / args.n}"}), json!([{"n": 0}])),
        "failed: division by zero"
    );
    assert_eq!(
        replied(
            json!({"emit": {"event": "e", "payload": {"a": "{upper(arg)}"}}}),
            json!([1])
        ),
        "failed: upper: takes a string, not a number"
    );
}

#[test]
fn a_client_can_not_have_itself_sent_a_reserved_event() {
    let spec = json!({"emit": {"event": "{args.name}", "payload": 1}});
    let named = |name: JsonValue| replied(spec.clone(), json!([{"name": name}]));
    assert_eq!(named(json!("fine")), "emit fine 1, ack nothing");
    for reserved in ["disconnect", "connect", "aldis:ready"] {
        assert_eq!(
            named(json!(reserved)),
            format!("failed: the event name {reserved:?} is reserved by Socket.IO or Aldis")
        );
    }
    assert_eq!(named(json!(null)), "failed: the event name is null or empty");
    assert_eq!(
        named(json!("x".repeat(1000))),
        "failed: the event name is longer than 256 bytes"
    );
}

#[test]
fn clients_are_greeted() {
    let greeting = |spec: JsonValue| {
        let greeted = channel(json!({"greeting": spec}));
        greeted
            .lobby
            .greeting(&identity(json!({"user": "u1"})), None, "socket-1", NOW)
    };
    let some = |event: &str, payload: &str| Some((event.to_owned(), payload.to_owned()));
    assert_eq!(
        greeting(
            json!({"event": "connection:established", "payload": {"socketId": "{socket.id}", "user": "{identity.user}", "at": "{now}", "gone": "{identity.gone}"}})
        ),
        some(
            "connection:established",
            r#"{"at":"2026-11-21T09:30:00.250Z","gone":null,"socketId":"socket-1","user":"u1"}"#
        )
    );
    assert_eq!(greeting(json!({"event": "hello"})), some("hello", "null"));
    assert_eq!(
        greeting(json!({"event": "hello {identity.user}", "payload": 1})),
        some("hello u1", "1")
    );
    assert_eq!(
        greeting(json!({"event": "{'connect'}", "payload": 1})),
        None,
        "a reserved name is not sent"
    );
    assert_eq!(greeting(json!({"event": "hello", "payload": "{1 / 0}"})), None);
    assert_eq!(
        channel(json!({})).lobby.greeting(&identity(json!({})), None, "s", NOW),
        None
    );
}

#[test]
fn a_greeting_may_show_a_client_what_its_connect_brought() {
    let greeted = channel(json!({"greeting": {"event": "auth", "payload": "{handshake.auth}"}}));
    let greeting = |auth: Option<&Json>| greeted.lobby.greeting(&identity(json!({})), auth, "s", NOW).unwrap().1;
    assert_eq!(greeting(None), "{}");
    assert_eq!(greeting(Some(&json_of(json!({"token": "123"})))), r#"{"token":"123"}"#);
}

#[test]
fn a_reply_tells_who_is_there_where_it_asks_for_it() {
    let channel = channel(json!({"replies": [
        {"event": "request:stats", "emit": {"event": "stats", "payload": {"users": "{stats.uniqueUsers}"}}, "allow": "true"},
        {"event": "ping", "ack": {"ok": true}, "allow": "true"},
    ]}));
    assert!(channel.lobby.needs_stats("request:stats"));
    assert!(!channel.lobby.needs_stats("ping") && !channel.lobby.needs_stats("no such event"));
    let args = json_of(json!([]));
    let event = ClientEvent {
        name: "request:stats",
        args: &args,
        binary: false,
        socket_id: "s",
    };
    let stats = json_of(json!({"connections": 3, "uniqueUsers": 2}));
    let answer = channel.lobby.answer_with(&identity(json!({})), &event, NOW, &stats);
    let told = Arguments::One(r#"{"users":2}"#.to_owned());
    assert_eq!(
        answer,
        Answer::Reply {
            emit: Some(("stats".into(), told)),
            ack: None
        }
    );
}
