//! Records of every kind, good and hostile, through one source.

mod cloudevents;

use bytes::Bytes;
use serde_json::{Value as JsonValue, json};

use super::*;
use crate::channel::Channel;
use crate::fixtures::{channel, decode, record};

fn source(mut source: JsonValue) -> Channel {
    source["name"] = json!("s");
    source["kafka"] = json!({"topics": ["orders"]});
    channel(json!({"sources": [source]}))
}

/// Events as `id type data`, or why there are none.
fn made(spec: JsonValue, record: &Record) -> Vec<String> {
    match decode(&source(spec), record) {
        Ok(Some(events)) => events
            .iter()
            .map(|event| format!("{} {} {}", event.id, event.type_, event.data.text()))
            .collect(),
        Ok(None) => vec!["not for us".to_owned()],
        Err(rejected) => vec![rejected.to_string()],
    }
}

fn one(spec: JsonValue, value: &str) -> String {
    one_of(spec, &record(value))
}

fn one_of(spec: JsonValue, record: &Record) -> String {
    made(spec, record).join(" | ")
}

fn header(name: &str, value: &str) -> (String, Option<Bytes>) {
    (name.to_owned(), Some(value.as_bytes().to_vec().into()))
}

#[test]
fn without_rules_the_topic_is_the_type_and_the_body_the_data() {
    assert_eq!(one(json!({}), r#" {"a" : 1} "#), r#"orders/3/41 orders {"a" : 1}"#);
    assert_eq!(one(json!({}), "7"), "orders/3/41 orders 7");
    let events = decode(&source(json!({})), &record("null")).unwrap().unwrap();
    assert_eq!(events[0].time.rfc3339(), "2026-11-21T09:30:00.000Z");
}

#[test]
fn what_is_no_json_is_rejected_with_its_position_and_without_its_text() {
    for (value, position) in [
        ("", "EOF while parsing a value at line 1 column 0"),
        ("{\"a\": secret}", "expected value at line 1 column 7"),
        ("{\"a\": 1", "EOF while parsing an object at line 1 column 7"),
        ("{\n\"a\": 1,\n}", "key must be a string at line 3 column 1"),
        ("{} secret", "trailing characters at line 1 column 4"),
        ("NaN", "expected value at line 1 column 1"),
        (
            "\"\u{1}\"",
            "control character (\\u0000-\\u001F) found while parsing a string at line 1 column 1",
        ),
        ("\u{feff}{}", "expected value at line 1 column 1"),
    ] {
        assert_eq!(
            one(json!({}), value),
            format!("not_json: value: {position}"),
            "{value:?}"
        );
    }
    let mut bytes = record("");
    bytes.value = Some(Bytes::from_static(b"{\"a\": \"\xff\"}"));
    assert_eq!(
        made(json!({}), &bytes),
        ["not_json: value: not UTF-8: invalid utf-8 sequence of 1 bytes from index 7"]
    );
}

#[test]
fn a_tombstone_is_not_for_us() {
    let mut tombstone = record("");
    tombstone.value = None;
    let spec = json!({"type": "{body.t}", "require": ["data.a"], "where": "body.a > 1", "each": "body.items"});
    assert_eq!(made(spec, &tombstone), ["not for us"]);
}

#[test]
fn numbers_and_spacing_pass_through_data_untouched() {
    let body = r#"{"data": {"z":12345678901234567890123, "price": 1.10,"e":1E+2, "a":"\u00e9\ud83d\ude00"}}"#;
    let data = r#"{"z":12345678901234567890123, "price": 1.10,"e":1E+2, "a":"\u00e9\ud83d\ude00"}"#;
    assert_eq!(
        one(json!({"data": "{body.data}"}), body),
        format!("orders/3/41 orders {data}")
    );
    assert_eq!(
        one(json!({"data": "{first(body.gone, body.data)}"}), body),
        format!("orders/3/41 orders {data}")
    );
}

#[test]
fn the_type_comes_from_its_template() {
    let typed = |value: &str| one(json!({"type": "{body.t}", "data": "x"}), value);
    assert_eq!(typed(r#"{"t": "order.made"}"#), r#"orders/3/41 order.made "x""#);
    assert_eq!(
        typed(r#"{"t": 12345678901234567890123}"#),
        r#"orders/3/41 12345678901234567890123 "x""#
    );
    assert_eq!(typed(r#"{"t": true}"#), r#"orders/3/41 true "x""#);
    for missing in ["{}", r#"{"t": null}"#, r#"{"t": ""}"#, "[]", "7"] {
        assert_eq!(
            typed(missing),
            "no_type: sources[s].type: the event's type is null or empty",
            "{missing}"
        );
    }
    for unfit in [r#"{"t": {}}"#, r#"{"t": ["a"]}"#] {
        assert_eq!(
            typed(unfit),
            "expression: sources[s].type: it gives a list or an object, not a text"
        );
    }
    let long = format!(r#"{{"t": "{}"}}"#, "x".repeat(MAX_TYPE + 1));
    assert_eq!(
        typed(&long),
        "no_type: sources[s].type: the event's type is longer than 256 bytes"
    );
    assert_eq!(
        one(json!({"type": "{record.topic}.{body.t}"}), r#"{"t": "é"}"#),
        r#"orders/3/41 orders.é {"t": "é"}"#
    );
    assert_eq!(
        one(json!({"type": "{1 / body.t}"}), r#"{"t": 0}"#),
        "expression: sources[s].type: division by zero"
    );
}

#[test]
fn required_fields_are_there_and_not_null() {
    let required = |value: &str| one(json!({"data": "{body.data}", "require": ["data.a", "data.b.c"]}), value);
    assert_eq!(
        required(r#"{"data": {"a": false, "b": {"c": ""}}}"#),
        r#"orders/3/41 orders {"a": false, "b": {"c": ""}}"#
    );
    for (value, missing) in [
        ("{}", "data.a"),
        (r#"{"data": {"a": null, "b": {"c": 1}}}"#, "data.a"),
        (r#"{"data": {"a": 1, "b": {"c": null}}}"#, "data.b.c"),
        (r#"{"data": {"a": 1, "b": "c"}}"#, "data.b.c"),
        (r#"{"data": [1]}"#, "data.a"),
        // Of a repeated key the last one counts.
        (r#"{"data": {"a": 1, "b": {"c": 1}, "a": null}}"#, "data.a"),
    ] {
        let expected = format!("required_field: sources[s].require: {missing} is required and is not there");
        assert_eq!(required(value), expected, "{value}");
    }
}

#[test]
fn where_is_true_or_false_and_anything_else_is_an_error() {
    let filtered = |value: &str| one(json!({"where": "body.tenant == 't1'"}), value);
    assert_eq!(filtered(r#"{"tenant":"t1"}"#), r#"orders/3/41 orders {"tenant":"t1"}"#);
    assert_eq!(filtered(r#"{"tenant":"t2"}"#), "not for us");
    assert_eq!(filtered(r#"{"tenant":1}"#), "not for us");
    assert_eq!(filtered("{}"), "expression: sources[s].where: body.tenant is not there");
    assert_eq!(
        one(json!({"where": "body.n"}), r#"{"n": 1}"#),
        "expression: sources[s].where: it gives a number, not true or false"
    );
    assert_eq!(
        one(json!({"where": "body.n < 3"}), r#"{"n": "secret"}"#),
        "expression: sources[s].where: < does not take (string, int)"
    );
    assert_eq!(one(json!({"where": "has(body.n) && body.n < 3"}), "{}"), "not for us");
}

#[test]
fn each_element_of_a_list_is_an_event_that_knows_its_index() {
    let spec = json!({"each": "body.items", "type": "{item.t}", "where": "item.n > 0"});
    assert_eq!(
        one(
            spec.clone(),
            r#"{"items": [{"t":"a","n":1},{"t":"b","n":0},{"t":"c","n":2}]}"#
        ),
        r#"orders/3/41/0 a {"t":"a","n":1} | orders/3/41/2 c {"t":"c","n":2}"#
    );
    assert_eq!(one(spec.clone(), r#"{"items": [{"t":"b","n":0}]}"#), "not for us");
    assert_eq!(
        one(spec.clone(), r#"{"items": []}"#),
        "",
        "an empty list: no events, nothing wrong"
    );
    assert_eq!(
        one(spec.clone(), r#"{"items": [{"t":"a","n":1},{"n":2}]}"#),
        "no_type: sources[s].type: the event's type is null or empty",
        "one bad element rejects the whole record"
    );
    for (value, why) in [
        (r#"{"items": {"t":"a"}}"#, "it gives no list"),
        (r#"{"items": "abc"}"#, "it gives no list"),
        (r#"{"items": null}"#, "it gives no list"),
        ("{}", "body.items is not there"),
    ] {
        assert_eq!(one(spec.clone(), value), format!("expression: sources[s].each: {why}"));
    }
}

#[test]
fn a_list_has_at_most_a_thousand_elements() {
    let list = |length: usize| format!("[{}]", vec!["1"; length].join(","));
    let spec = json!({"each": "body"});
    assert_eq!(made(spec.clone(), &record(&list(MAX_EVENTS))).len(), MAX_EVENTS);
    assert_eq!(
        one(spec, &list(MAX_EVENTS + 1)),
        "expression: sources[s].each: the list has 1001 elements, more than 1000"
    );
}

#[test]
fn elements_can_be_calculated_and_keep_their_text() {
    assert_eq!(
        one(json!({"each": "body.filter(n, n > 1)"}), "[1,2,3]"),
        "orders/3/41/0 orders 2 | orders/3/41/1 orders 3"
    );
    assert_eq!(
        one(json!({"each": "body", "data": "{item}-{body[0]}"}), "[1.10]"),
        r#"orders/3/41/0 orders "1.10-1.10""#
    );
}

#[test]
fn data_that_a_template_multiplies_is_bounded() {
    // 200 events that all hold the whole body of 200 KiB: 40 MiB out of a record of 200 KiB.
    let body = format!(
        r#"{{"pad": "{}", "n": [{}0]}}"#,
        "x".repeat(200 * 1024),
        "0,".repeat(199)
    );
    assert_eq!(
        one(json!({"each": "body.n", "data": "{body}"}), &body),
        "too_large: sources[s].data: the data of this record's events is longer than 16777216 bytes together"
    );
    assert_eq!(
        made(json!({"each": "body.n", "data": "{item}"}), &record(&body)).len(),
        200
    );
}

#[test]
fn the_record_itself_can_be_read() {
    let mut full = record("{}");
    full.key = Some(Bytes::from_static(b"k1"));
    full.headers = vec![header("kind", "a"), header("kind", "b"), header("x-y", "z")];
    let data = "{[record.topic, record.key, record.partition, record.offset, record.timestamp, record.headers.kind, record.headers['x-y']]}";
    assert_eq!(
        made(json!({"data": data}), &full),
        [r#"orders/3/41 orders ["orders","k1",3,41,"2026-11-21T09:30:00.000Z","b","z"]"#]
    );
    full.key = Some(Bytes::from_static(b"\xff\xfe"));
    full.headers = vec![
        header("kind", "text"),
        ("kind".to_owned(), Some(Bytes::from_static(b"\xff"))),
        ("none".to_owned(), None),
    ];
    assert_eq!(
        made(
            json!({"data": "{[record.key, has(record.headers.none), has(record.headers.kind)]}"}),
            &full
        ),
        ["orders/3/41 orders [null,false,true]"],
        "a key or header that is no text is not there"
    );
    full.key = None;
    assert_eq!(
        made(json!({"data": "{record.key}"}), &full),
        ["orders/3/41 orders null"]
    );
}

#[test]
fn times_that_no_calendar_has_do_no_harm() {
    // The longest duration of CEL is 292 years; beyond year 262,142 the library's addition panics.
    let after = |timestamp_ms: i64| {
        let mut odd = record(r#"{"d": "2562047h"}"#);
        odd.timestamp_ms = timestamp_ms;
        one_of(
            json!({"type": "{record.timestamp + duration(body.d)}", "data": "{record.timestamp}"}),
            &odd,
        )
    };
    let from_epoch = r#"orders/3/41 2262-04-11T23:00:00.000Z "1970-01-01T00:00:00.000Z""#;
    for no_time in [
        i64::MIN,
        i64::MAX,
        8_210_266_876_799_999,
        253_402_300_800_000,
        -62_135_596_800_001,
    ] {
        assert_eq!(after(no_time), from_epoch, "{no_time}");
    }
    assert_eq!(
        after(-1),
        r#"orders/3/41 2262-04-11T22:59:59.999Z "1969-12-31T23:59:59.999Z""#,
        "Kafka's own word for no time"
    );
    assert_eq!(
        after(253_402_300_799_999),
        "expression: sources[s].type: the result does not fit into 64 bits"
    );
}

#[test]
fn deep_json_passes_through_and_is_refused_where_it_would_be_calculated_with() {
    let deep = format!(r#"{{"d": {}{}}}"#, "[".repeat(50_000), "]".repeat(50_000));
    // The stack of a worker.
    let worker = std::thread::Builder::new().stack_size(2 * 1024 * 1024);
    let test = move || {
        assert!(one(json!({"data": "{body.d}"}), &deep).starts_with("orders/3/41 orders [[["));
        let refused = "it reads more than 20000 values, or one that is nested deeper than 64";
        assert_eq!(
            one(json!({"where": "size(body.d) == 1"}), &deep),
            format!("expression: sources[s].where: {refused}")
        );
        assert_eq!(
            one(json!({"where": "body.d == body.d"}), &deep),
            format!("expression: sources[s].where: {refused}")
        );
        assert_eq!(
            one(json!({"type": "{body.d}"}), &deep),
            "expression: sources[s].type: it gives a list or an object, not a text"
        );
        let fits = format!(r#"{{"d": {}{}}}"#, "[".repeat(60), "]".repeat(60));
        assert!(one(json!({"where": "size(body.d) == 1"}), &fits).starts_with("orders/3/41 orders"));
    };
    worker.spawn(test).unwrap().join().unwrap();
}

#[test]
fn what_is_wrong_with_the_data_does_not_tell_the_data() {
    let value = r#"{"s": "SECRET", "n": 1, "l": ["SECRET"], "m": {"SECRET": 1}}"#;
    for expression in [
        "int(body.s) == 1",
        "uint(body.s) == 1u",
        "double(body.s) == 1.0",
        "bool(body.s)",
        "timestamp(body.s) == record.timestamp",
        "duration(body.s) == duration('1s')",
        "{'a': 1}[body.s] == 1",
        "body.l[body.s] == 1",
        "body.m[body.s + 'x'] == 1",
        "tables.t[body.s] == 1",
        "tables.t[body.s + '!'] == 1",
        "body.s + body.n == 'x'",
        "fixed(body.s, 1) == '1'",
        "record.timestamp.getHours(body.s) == 1",
        "body.l.map(x, int(x)).size() == 1",
        "upper(body.n) == 'x'",
        "body.s < body.n",
        "body.s",
        "body.m",
    ] {
        let mut spec = json!({"sources": [{"name": "s", "kafka": {"topics": ["orders"]}, "where": expression}]});
        spec["tables"] = json!({"t": {"a": 1}});
        let rejected = decode(&channel(spec), &record(value)).unwrap_err();
        assert!(!rejected.detail.is_empty(), "{expression}");
        assert!(!rejected.to_string().contains("SECRET"), "{expression}: {rejected}");
    }
}
