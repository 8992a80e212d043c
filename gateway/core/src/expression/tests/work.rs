//! The most that a channel which compiles can make one record, or one client event, cost.

use std::time::{Duration, Instant};

use serde_json::{Value as JsonValue, json};

use super::*;
use crate::channel::{Channel, Outcome};
use crate::expression::bounds::{MAX_MATCHED, MAX_WORK};
use crate::fixtures::{NOW, channel, record};
use crate::identity::{Examined, Handshake};
use crate::membership::{Answer, ClientEvent};
use crate::reject::Reason;

/// However slow the machine, and without optimisation: what is not bounded takes minutes.
const GENEROUS: Duration = Duration::from_secs(30);

/// A channel whose only route makes 250 deliveries fields of `expression`.
fn heavy(expression: &str) -> Channel {
    let payload: Vec<_> = (0..250).map(|_| json!(format!("{{{expression}}}"))).collect();
    channel(json!({
        "sources": [{"name": "s", "kafka": {"topics": ["orders"]}}],
        "routes": [{"types": ["*"], "emit": [{"event": "e", "everyone": true, "payload": payload}]}]}))
}

fn items(count: usize, item: JsonValue) -> String {
    json!({"items": vec![item; count], "text": "x".repeat(4_000)}).to_string()
}

/// What becomes of it, in bounded time.
fn outcome(what: &str, channel: &Channel, body: &str) -> Result<usize, Reason> {
    let began = Instant::now();
    let outcome = channel.process(&[0], &record(body), NOW);
    let took = began.elapsed();
    println!(
        "{what}: {took:?}, {:?}",
        outcome.as_ref().map(|_| "delivered").map_err(|error| error.to_string())
    );
    assert!(took < GENEROUS, "{what}: {took:?}");
    match outcome {
        Ok(Outcome::Deliver(deliveries)) => Ok(deliveries.len()),
        Ok(Outcome::NotForUs) => Ok(0),
        Err(rejected) => Err(rejected.reason),
    }
}

#[test]
fn what_all_expressions_of_a_record_take_together_is_bounded() {
    let chain = ["x"; 40].join(" + ");
    let large = items(900, json!("y".repeat(640)));
    let small = items(1_000, json!({"a": 1, "b": "two", "c": [3]}));
    for (what, expression, body) in [
        (
            "macros over long lists",
            "event.data.items.map(x, x.a + x.a * 2 + x.a)",
            &small,
        ),
        (
            "comparing long elements",
            "event.data.items.filter(x, x == x && x == x && x == x)",
            &small,
        ),
        (
            "chains of text in a macro",
            &*format!("event.data.items.map(x, size({chain}))"),
            &large,
        ),
        (
            "lists of copies",
            &*format!("event.data.items.map(x, [{}])", ["x"; 200].join(",")),
            &large,
        ),
        ("reading all of it", "size(event.data.items)", &small),
    ] {
        assert_eq!(
            outcome(what, &heavy(expression), body),
            Err(Reason::TooCostly),
            "{what}"
        );
    }
}

#[test]
fn what_a_usual_record_takes_is_far_from_the_bound() {
    let usual = heavy("event.data.items.filter(x, x.a > 0).map(x, x.b + '!')");
    assert_eq!(
        outcome("20 items, 250 macros", &usual, &items(20, json!({"a": 1, "b": "two"}))),
        Ok(1)
    );
    let paths = heavy("event.data.items[3].a");
    assert_eq!(outcome("paths", &paths, &items(1_000, json!({"a": 1}))), Ok(1));
}

#[test]
fn events_routes_and_targets_count_together() {
    let target = json!({"room": "r", "optional": true, "with": {"p": "event.data.none"}});
    let emit = json!({"event": "e", "to": vec![target; 8]});
    let routes: Vec<_> = (0..128)
        .map(|_| json!({"types": ["*"], "emit": vec![emit.clone(); 8]}))
        .collect();
    let many = channel(json!({
        "sources": [{"name": "s", "kafka": {"topics": ["orders"]}, "each": "body.items"}],
        "rooms": [{"name": "r", "key": "r:{p}"}],
        "routes": routes}));
    assert_eq!(
        outcome("eight million rooms", &many, &items(1_000, json!(1))),
        Err(Reason::TooCostly)
    );
}

#[test]
fn what_is_spent_for_one_record_is_not_missed_by_the_next() {
    let heavy = heavy("event.data.items.map(x, x + x)");
    assert_eq!(
        outcome("a heavy one", &heavy, &items(1_000, json!(1))),
        Err(Reason::TooCostly)
    );
    assert_eq!(outcome("a light one", &heavy, &items(1, json!(1))), Ok(1));
}

#[test]
fn a_client_event_has_the_same_bound() {
    let reply: Vec<_> = (0..250).map(|_| json!("{args.map(x, x + x * 2 - x)}")).collect();
    let channel = channel(json!({
        "authentication": {"anonymous": {}},
        "replies": [{"event": "ask", "ack": reply, "allow": "true"}]}));
    let args = Json::parse(json!([vec![1; 1_000]]).to_string()).unwrap();
    let (name, socket_id) = ("ask", "s");
    let event = ClientEvent {
        name,
        args: &args,
        binary: false,
        socket_id,
    };
    let handshake = Handshake { query: &[], auth: None };
    let Ok(Examined::Admitted(identity)) = channel.methods.examine(&handshake, NOW) else {
        panic!("anybody may connect");
    };
    match channel.lobby.answer(&identity, &event, NOW) {
        Answer::Refuse(denial) => {
            assert_eq!(denial.code, "failed");
            assert!(denial.message.contains(&MAX_WORK.to_string()), "{denial:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn patterns_are_compiled_once_and_within_bounds() {
    let long = format!("\"{}\"", "a".repeat(MAX_MATCHED));
    assert_eq!(eval("x.matches('^a+$')", &long), "true");
    assert_eq!(eval("matches(x, 'b')", &long), "false");
    let longer = format!("\"{}\"", "a".repeat(MAX_MATCHED + 1));
    assert_eq!(
        eval("x.matches('^a+$')", &longer),
        format!("error: matches: the text is longer than {MAX_MATCHED} bytes")
    );
    assert_eq!(eval("x.matches('a')", "1"), "error: matches: takes a string, not int");
    for usual in [
        r"^\\w+@\\w+\\.\\w{2,3}$",
        r"^\\d{4}-\\d{2}-\\d{2}$",
        "^(?i)(paid|open|late)$",
        r"^[\\w.+-]+@[\\w-]+(\\.[\\w-]+)+$",
        "^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$",
    ] {
        assert!(compile(&format!("x.matches('{usual}')")).is_ok(), "{usual}");
    }
    for hostile in [r"\\w{500}", "(((a{30}){30}){30})", "(a|b|c){100}{100}"] {
        let error = compile(&format!("x.matches('{hostile}')")).unwrap_err().to_string();
        assert!(error.contains("compiles to more than"), "{hostile}: {error}");
    }
    assert!(
        compile("x.matches('(')")
            .unwrap_err()
            .to_string()
            .contains("is no regular expression")
    );
}

#[test]
fn a_pattern_that_goes_worst_is_bounded_over_a_record() {
    let body = json!({"items": vec!["ab".repeat(16); 600], "text": "ab".repeat(2_000)}).to_string();
    for (what, expression) in [
        (
            "a large pattern in a macro",
            "event.data.items.all(x, x.matches('[ab]*a[ab]{600}') || true)",
        ),
        (
            "a large pattern on a long text",
            "event.data.text.matches('(a?){300}b*a{300}[ab]*a[ab]{200}c')",
        ),
    ] {
        assert_eq!(
            outcome(what, &heavy(expression), &body),
            Err(Reason::TooCostly),
            "{what}"
        );
    }
}
