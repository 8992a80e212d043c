//! What goes where, and what must go nowhere.

mod rooms;

use serde_json::{Value as JsonValue, json};

use super::*;
use crate::channel::{Channel, Outcome};
use crate::fixtures::{NOW, channel, problems, record};

/// Rooms `one:{id}`, `two:{a}:{b}` and `all`; events of the body's `t` with the body as data.
fn routed(routes: JsonValue) -> JsonValue {
    json!({
        "sources": [{"name": "s", "kafka": {"topics": ["orders"]}, "type": "{body.t}"}],
        "tables": {"names": {"a": "event-a"}, "texts": {"default": "?"}},
        "rooms": [{"name": "one", "key": "one:{id}"}, {"name": "two", "key": "two:{a}:{b}"}, {"name": "all", "key": "all"}],
        "routes": routes
    })
}

fn process(channel: &Channel, value: &str) -> Result<Vec<Delivery>, Rejected> {
    match channel.process(&[0], &record(value), NOW)? {
        Outcome::Deliver(deliveries) => Ok(deliveries),
        Outcome::NotForUs => panic!("the source takes everything"),
    }
}

/// Deliveries as `event → rooms ← payloads`.
fn made(routes: JsonValue, value: &str) -> Vec<String> {
    let shown = |delivery: &Delivery| {
        let rooms = match &delivery.audience {
            Audience::Everyone => "everyone".to_owned(),
            Audience::Rooms(rooms) => rooms
                .iter()
                .map(|(room, payload)| format!("{}({}):{payload}", room.name, room.values.join(",")))
                .collect::<Vec<_>>()
                .join(" "),
        };
        format!("{} → {rooms} ← {}", delivery.event, delivery.payloads.join(" "))
    };
    match process(&channel(routed(routes)), value) {
        Ok(deliveries) => deliveries.iter().map(shown).collect(),
        Err(rejected) => vec![rejected.to_string()],
    }
}

fn one(routes: JsonValue, value: &str) -> String {
    made(routes, value).join(" | ")
}

/// A route for type `t` that emits `e` with `payload` to everyone.
fn rendered(payload: JsonValue, value: &str) -> String {
    let routes = json!([{"types": ["t"], "emit": [{"event": "e", "payload": payload, "everyone": true}]}]);
    one(routes, value).replace("e → everyone ← ", "")
}

/// The names of what is emitted.
fn names(routes: JsonValue, value: &str) -> String {
    let deliveries = process(&channel(routed(routes)), value).unwrap();
    let names: Vec<_> = deliveries.iter().map(|delivery| &*delivery.event).collect();
    names.join(" ")
}

#[test]
fn types_match_exactly_or_by_prefix_and_routes_fire_in_listed_order_once() {
    let emit = |name: &str| json!([{"event": name, "everyone": true}]);
    let routes = json!([
        {"types": ["*"], "emit": emit("any")},
        {"types": ["order.made", "order.*", "order.m*"], "emit": emit("twice-listed")},
        {"types": ["order"], "emit": emit("exact")},
        {"types": ["order.late*"], "emit": emit("late")},
        {"types": ["order.made"], "emit": emit("made")}
    ]);
    for (type_, expected) in [
        ("order.made", "any twice-listed made"),
        ("order", "any exact"),
        ("order.", "any twice-listed"),
        ("order.late", "any twice-listed late"),
        ("order.latest", "any twice-listed late"),
        ("Order", "any"),
        ("*", "any"),
        ("orders", "any"),
    ] {
        assert_eq!(
            names(routes.clone(), &json!({"t": type_}).to_string()),
            expected,
            "{type_}"
        );
    }
    let routes = json!([{"types": ["order"], "emit": emit("e")}]);
    assert_eq!(
        names(routes, r#"{"t": "payment"}"#),
        "",
        "no route matches: nothing, and nothing is wrong"
    );
}

#[test]
fn when_is_true_or_false_and_an_error_rejects_the_record() {
    let routes = |when: &str| {
        json!([
            {"types": ["t"], "emit": [{"event": "before", "everyone": true}]},
            {"types": ["t"], "when": when, "emit": [{"event": "e", "everyone": true}]}
        ])
    };
    assert_eq!(names(routes("event.data.n > 1"), r#"{"t":"t","n":2}"#), "before e");
    assert_eq!(names(routes("event.data.n > 1"), r#"{"t":"t","n":1}"#), "before");
    for (when, value, why) in [
        ("event.data.n > 1", r#"{"t":"t"}"#, "event.data.n is not there"),
        (
            "event.data.n > 1",
            r#"{"t":"t","n":"2"}"#,
            "> does not take (string, int)",
        ),
        (
            "event.data.n",
            r#"{"t":"t","n":null}"#,
            "it gives null, not true or false",
        ),
        ("1 / event.data.n == 1", r#"{"t":"t","n":0}"#, "division by zero"),
    ] {
        assert_eq!(one(routes(when), value), format!("expression: routes[1].when: {why}"));
    }
    assert_eq!(
        names(routes("has(event.data.n) && event.data.n > 1"), r#"{"t":"t"}"#),
        "before"
    );
    assert_eq!(
        names(routes("now - event.time < duration('1s')"), r#"{"t":"t"}"#),
        "before e"
    );
}

#[test]
fn let_is_for_payload_target_and_event_name_and_missing_is_null() {
    let routes = json!([{
        "types": ["t"],
        "let": {"who": "first(event.data.buyer, event.data.user)", "gone": "event.data.gone", "kind": "event.data.kind"},
        "emit": [{"event": "e:{kind}", "payload": {"who": "{who}", "gone": "{gone}", "size": "{size(who)}"},
                  "to": [{"room": "one", "with": {"id": "who"}}, {"room": "two", "with": {"a": "who", "b": "gone"}, "optional": true}]}]
    }]);
    assert_eq!(
        one(routes.clone(), r#"{"t":"t","user":"u1","kind":"k"}"#),
        r#"e:k → one(u1):0 ← {"gone":null,"size":2,"who":"u1"}"#
    );
    assert_eq!(
        one(routes, r#"{"t":"t","kind":"k"}"#),
        "room_unrenderable: routes[0].emit[0].to[0]: parameter id is null"
    );
    let failing =
        json!([{"types": ["t"], "let": {"x": "1 / event.data.n"}, "emit": [{"event": "e", "everyone": true}]}]);
    assert_eq!(
        one(failing, r#"{"t":"t","n":0}"#),
        "expression: routes[0].let.x: division by zero"
    );
    let unwritable =
        json!([{"types": ["t"], "let": {"x": "1.0 / event.data.n"}, "emit": [{"event": "e", "everyone": true}]}]);
    assert!(
        one(unwritable, r#"{"t":"t","n":0.0}"#).starts_with("expression: routes[0].let.x: it gives a number that JSON")
    );
}

#[test]
fn a_let_entry_may_be_called_like_a_type_or_function() {
    let routes = json!([{"types": ["t"], "let": {"type": "event.data.n", "size": "event.data.n", "string": "event.data.n", "item": "1"},
        "emit": [{"event": "e", "payload": ["{type}", "{size}", "{string}", "{string(size)}", "{item}"], "everyone": true}]}]);
    assert_eq!(one(routes, r#"{"t":"t","n":5}"#), r#"e → everyone ← [5,5,5,"5",1]"#);
}

#[test]
fn without_a_payload_the_event_itself_goes_out() {
    let routes =
        json!([{"types": ["t"], "emit": [{"event": "e", "to": [{"room": "all"}]}, {"event": "f", "everyone": true}]}]);
    let default = r#"{"id":"orders/3/41","type":"t","timestamp":"2026-11-21T09:30:00.000Z","data":{"t": "t", "n":12345678901234567890123}}"#;
    assert_eq!(
        made(routes, r#"{"t": "t", "n":12345678901234567890123}"#),
        [format!("e → all():0 ← {default}"), format!("f → everyone ← {default}")]
    );
}

#[test]
fn payloads_show_ids_times_and_numbers_as_promised() {
    let payload = json!({"id": "{event.id}", "type": "{event.type}", "time": "{event.time}", "now": "{now}",
        "text": "at {event.time}", "price": "{event.data.price}", "big": "{event.data.big}", "sum": "{event.data.n + 0.5}",
        "whole": "{event.data.n * 2.0}", "gone": "{event.data.gone}", "in": "<{event.data.gone}>", "brace": "{{x}}"});
    let expected = r#"{"big":12345678901234567890123,"brace":"{x}","gone":null,"id":"orders/3/41","in":"<>","now":"2026-11-21T09:30:00.250Z","price":1.10,"sum":2.5,"text":"at 2026-11-21T09:30:00.000Z","time":"2026-11-21T09:30:00.000Z","type":"t","whole":4}"#;
    assert_eq!(
        rendered(payload, r#"{"t":"t","price":1.10,"big":12345678901234567890123,"n":2}"#),
        expected
    );
    assert_eq!(
        rendered(json!("{event.data.s}"), r#"{"t":"t","s":"\u0000\""}"#),
        r#""\u0000\"""#
    );
    assert_eq!(
        rendered(json!({"a": [{"b": "{1 / event.data.n}"}]}), r#"{"t":"t","n":0}"#),
        "expression: routes[0].emit[0].payload.a[0].b: division by zero"
    );
}

#[test]
fn an_error_in_a_rooms_own_payload_names_it() {
    let routes = json!([{"types": ["t"], "emit": [{"event": "e", "to": [
        {"room": "all"}, {"room": "one", "with": {"id": "1"}, "payload": {"x": "{upper(event.data.n)}"}}]}]}]);
    assert_eq!(
        one(routes, r#"{"t":"t","n":0}"#),
        "expression: routes[0].emit[0].to[1].payload.x: upper: takes a string, not a number"
    );
}

#[test]
fn event_names_can_be_made_and_reserved_ones_reject_the_record() {
    let routes = json!([{"types": ["t"], "emit": [{"event": "{event.data.name}", "payload": 0, "everyone": true}]}]);
    let named = |name: JsonValue| one(routes.clone(), &json!({"t": "t", "name": name}).to_string());
    assert_eq!(named(json!("order:made")), "order:made → everyone ← 0");
    assert_eq!(named(json!(7)), "7 → everyone ← 0");
    for reserved in [
        "connect",
        "connect_error",
        "disconnect",
        "disconnecting",
        "newListener",
        "removeListener",
        "aldis:ready",
    ] {
        assert_eq!(
            named(json!(reserved)),
            format!(
                "event_name: routes[0].emit[0].event: the event name {reserved:?} is reserved by Socket.IO or Aldis"
            )
        );
    }
    for empty in [json!(null), json!("")] {
        assert_eq!(
            named(empty),
            "event_name: routes[0].emit[0].event: the event name is null or empty"
        );
    }
    assert_eq!(
        named(json!("x".repeat(257))),
        "event_name: routes[0].emit[0].event: the event name is longer than 256 bytes"
    );
    assert_eq!(
        named(json!(["a"])),
        "expression: routes[0].emit[0].event: it gives a list or an object, not a text"
    );
    let by_table =
        json!([{"types": ["*"], "emit": [{"event": "{tables.names[event.type]}", "payload": 0, "everyone": true}]}]);
    assert_eq!(one(by_table.clone(), r#"{"t":"a"}"#), "event-a → everyone ← 0");
    assert_eq!(
        one(by_table, r#"{"t":"b"}"#),
        "event_name: routes[0].emit[0].event: the event name is null or empty"
    );
}

#[test]
fn one_bad_element_of_a_list_rejects_the_others_too() {
    let mut spec = routed(
        json!([{"types": ["*"], "emit": [{"event": "e", "to": [{"room": "one", "with": {"id": "event.data"}}]}]}]),
    );
    spec["sources"][0] = json!({"name": "s", "kafka": {"topics": ["orders"]}, "each": "body"});
    let channel = channel(spec);
    assert_eq!(process(&channel, "[1, 2]").unwrap().len(), 2);
    assert_eq!(
        process(&channel, "[1, 2, null]").unwrap_err().to_string(),
        "room_unrenderable: routes[0].emit[0].to[0]: parameter id is null"
    );
}

#[test]
fn what_one_record_makes_is_bounded() {
    let mut spec =
        routed(json!([{"types": ["*"], "emit": [{"event": "e", "payload": "{event.data.pad}", "everyone": true}]}]));
    spec["sources"][0] = json!({"name": "s", "kafka": {"topics": ["orders"]}, "each": "body"});
    spec["routes"][0]["emit"] = json!(vec![spec["routes"][0]["emit"][0].clone(); 8]);
    let channel = channel(spec.clone());
    let list = |count: usize, pad: usize| json!(vec![json!({"pad": "x".repeat(pad)}); count]).to_string();
    assert_eq!(process(&channel, &list(1_000, 10)).unwrap().len(), 8_000);
    assert_eq!(
        process(&channel, &list(3, 900_000)).unwrap_err().to_string(),
        "too_large: routes[0].emit[2].payload: the payloads of this record are longer than 16777216 bytes together"
            .replace(".payload", "")
    );
    spec["routes"] = json!(vec![spec["routes"][0].clone(); 2]);
    let channel = crate::fixtures::channel(spec);
    assert_eq!(
        process(&channel, &list(1_000, 10)).unwrap_err().to_string(),
        "too_large: routes[0].emit[0]: this record makes more than 10000 deliveries"
    );
}

#[test]
fn a_payload_is_at_most_a_mebibyte() {
    let value = json!({"t": "t", "s": "x".repeat(600 * 1024)}).to_string();
    assert_eq!(
        rendered(json!(["{event.data.s}", "{event.data.s}"]), &value),
        "expression: routes[0].emit[0].payload[1]: the rendered text is longer than 1048576 bytes"
    );
}

#[test]
fn let_names_that_could_never_be_read_are_problems() {
    for name in [
        "event", "now", "tables", "true", "false", "null", "in", "a-b", "1a", "a.b",
    ] {
        let spec = routed(json!([{"types": ["t"], "let": {name: "1"}, "emit": [{"event": "e", "everyone": true}]}]));
        assert_eq!(
            problems(spec),
            [format!(
                "spec.routes[0].let.{name}: choose another name: letters, digits and _, and none of event, now, tables, true, false, null and in"
            )]
        );
    }
}
