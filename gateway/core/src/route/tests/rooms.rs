//! Which rooms a delivery goes to.

use serde_json::json;

use super::*;

#[test]
fn the_first_listed_room_decides_and_shared_payloads_are_made_once() {
    let routes = json!([{"types": ["t"], "emit": [{"event": "e", "payload": "shared", "to": [
        {"room": "one", "with": {"id": "event.data.id"}, "payload": {"only": "one"}},
        {"room": "all"},
        {"room": "two", "with": {"a": "1", "b": "'x'"}, "payload": {"only": "two"}},
        {"room": "one", "with": {"id": "'other'"}}
    ]}]}]);
    assert_eq!(
        one(routes, r#"{"t":"t","id":7}"#),
        r#"e → one(7):0 all():1 two(1,x):2 one(other):1 ← {"only":"one"} "shared" {"only":"two"}"#
    );
}

#[test]
fn a_room_that_is_named_twice_is_there_once_with_its_first_payload() {
    let routes = json!([{"types": ["t"], "emit": [{"event": "e", "payload": "shared", "to": [
        {"room": "one", "with": {"id": "event.data.buyer"}},
        {"room": "one", "with": {"id": "event.data.user"}, "payload": "second"},
        {"room": "two", "with": {"a": "event.data.buyer", "b": "1"}}
    ]}]}]);
    assert_eq!(
        one(routes.clone(), r#"{"t":"t","buyer":1,"user":"1"}"#),
        r#"e → one(1):0 two(1,1):0 ← "shared""#
    );
    assert_eq!(
        one(routes, r#"{"t":"t","buyer":1,"user":2}"#),
        r#"e → one(1):0 one(2):1 two(1,1):0 ← "shared" "second""#
    );
}

#[test]
fn an_optional_room_is_left_out_and_another_rejects_everything() {
    let routes = |optional: bool| {
        json!([
            {"types": ["t"], "emit": [{"event": "first", "everyone": true}]},
            {"types": ["t"], "emit": [{"event": "e", "to": [
                {"room": "all"}, {"room": "two", "with": {"a": "event.data.a", "b": "event.data.b"}, "optional": optional}]}]}
        ])
    };
    for (value, why) in [
        (r#"{"t":"t","a":1}"#, "parameter b: event.data.b is not there"),
        (r#"{"t":"t","a":null,"b":1}"#, "parameter a is null"),
        (r#"{"t":"t","a":"","b":1}"#, "parameter a is empty"),
    ] {
        let left_out = made(routes(true), value);
        assert!(left_out[1].starts_with("e → all():0 ←"), "{left_out:?}");
        assert_eq!(
            made(routes(false), value),
            [format!("room_unrenderable: routes[1].emit[0].to[1]: {why}")],
            "nothing of the record is delivered"
        );
    }
    for (value, why) in [
        (
            r#"{"t":"t","a":true,"b":1}"#,
            "parameter a is a boolean; a string or an integer is needed",
        ),
        (
            r#"{"t":"t","a":1.5,"b":1}"#,
            "parameter a is a number with a fraction; a string or an integer is needed",
        ),
        (
            r#"{"t":"t","a":[1],"b":1}"#,
            "parameter a is a list; a string or an integer is needed",
        ),
        (
            r#"{"t":"t","a":"\ud800","b":1}"#,
            "parameter a is a string; a string or an integer is needed",
        ),
    ] {
        let expected = format!("room_unrenderable: routes[1].emit[0].to[1]: {why}");
        assert_eq!(
            made(routes(true), value),
            [expected],
            "unfit is not empty, optional or not"
        );
    }
    let long = json!({"t": "t", "a": "x".repeat(129), "b": 1}).to_string();
    assert_eq!(
        made(routes(true), &long),
        [
            "room_unrenderable: routes[1].emit[0].to[1]: parameter a is longer than 128 bytes; a string or an integer is needed"
        ]
    );
}

#[test]
fn an_emit_whose_rooms_are_all_left_out_is_no_delivery() {
    let routes = json!([{"types": ["t"], "emit": [
        {"event": "e", "payload": "{1 / event.data.zero}", "to": [{"room": "one", "with": {"id": "event.data.gone"}, "optional": true}]},
        {"event": "f", "to": [{"room": "all"}]}]}]);
    assert_eq!(
        names(routes, r#"{"t":"t","zero":0}"#),
        "f",
        "never emitted bare, which would be everyone"
    );
}

#[test]
fn an_error_in_a_rooms_parameter_is_no_empty_room() {
    let routes = json!([{"types": ["t"], "emit": [{"event": "e", "to": [
        {"room": "one", "with": {"id": "1 / event.data.n"}, "optional": true}]}]}]);
    assert_eq!(
        one(routes, r#"{"t":"t","n":0}"#),
        "expression: routes[0].emit[0].to[0]: parameter id: division by zero"
    );
}

#[test]
fn room_values_have_one_form() {
    let routes = json!([{"types": ["t"], "emit": [{"event": "e", "payload": 0, "to": [
        {"room": "two", "with": {"b": "'b'", "a": "event.data.a"}}]}]}]);
    for (a, value) in [
        ("1", "1"),
        ("1.0", "1"),
        ("\"1\"", "1"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("1e3", "1000"),
        ("9223372036854775808", "9223372036854775808"),
        ("12345678901234567890123", "12345678901234567890123"),
        ("\"1.0\"", "1.0"),
        ("\" 1\"", " 1"),
        ("\"a:b\"", "a:b"),
        ("\"\\u00e9\"", "é"),
    ] {
        assert_eq!(
            one(routes.clone(), &format!(r#"{{"t":"t","a":{a}}}"#)),
            format!("e → two({value},b):0 ← 0"),
            "{a}: values come in the order of the room's key"
        );
    }
}
