//! The golden table (expression × JSON type), and what must never happen.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::json;

use super::bounds::{MAX_LIST, on_big_stack};
use super::*;
use crate::json::Json;
use crate::time::Millis;

mod work;

const INPUTS: [&str; 13] = [
    "null",
    "true",
    "0",
    "7",
    "-3",
    "9223372036854775807",
    "12345678901234567890",
    "2.0",
    "1.10",
    "\"\"",
    "\"a b\"",
    "[1,\"x\"]",
    "{\"k\":1}",
];

const EXPRESSIONS: [&str; 40] = [
    "x",
    "x.k",
    "x[0]",
    "has(x.k)",
    "x == null",
    "x == 7",
    "x == 7.0",
    "x == 2",
    "x == 'a b'",
    "x < 5",
    "x >= 2.0",
    "x + 1",
    "x + 1.5",
    "x - 1",
    "x * 2",
    "x / 2",
    "x % 2",
    "1 + x",
    "x + 'z'",
    "-x",
    "!x",
    "x && true",
    "x || true",
    "x ? 1 : 2",
    "x in [7, 2.0, 'a b']",
    "size(x)",
    "text(x)",
    "fixed(x, 2)",
    "snake(x)",
    "upper(x)",
    "string(x)",
    "int(x)",
    "double(x)",
    "first(x, 'none')",
    "first(x.k, x)",
    "first(x.gone, x.k)",
    "tables.t[x]",
    "x.map(e, e)",
    "x.all(e, e != 'y')",
    "type(x) == int",
];

fn tables() -> Arc<Tables> {
    let tables: Tables =
        serde_json::from_value(json!({"t": {"7": "seven", "a b": {"deep": [1]}, "default": "other"}, "u": {"a": 1}}))
            .unwrap();
    Arc::new(tables)
}

fn compile(source: &str) -> Result<Expression, CompileError> {
    on_big_stack(|| Expression::compile(source, &Names(&["x", "now", "event.time"]), &tables()))
}

fn show(expression: &Expression, x: &str) -> String {
    let x = Json::parse(x).unwrap();
    let scope = Scope::new()
        .with("x", Variable::Json(&x))
        .with("now", Variable::Time(Millis(1_795_253_400_007)))
        .with("event.time", Variable::Time(Millis(1_795_253_400_000)));
    let result = match expression.evaluate(&scope) {
        Ok(value) => {
            let mut out = String::new();
            value.write_json(&mut out).map(|()| out)
        }
        Err(error) => Err(error.to_string()),
    };
    result.unwrap_or_else(|error| format!("error: {error}"))
}

fn eval(source: &str, x: &str) -> String {
    match compile(source) {
        Ok(expression) => show(&expression, x),
        Err(error) => format!("compile: {error}"),
    }
}

#[test]
fn golden_table() {
    let mut table = String::from("# expression × JSON type of x. Regenerate with BLESS=1.\n");
    for source in EXPRESSIONS {
        writeln!(table, "\n{source}").unwrap();
        let expression = compile(source).unwrap();
        for x in INPUTS {
            writeln!(table, "  {x:<22} {}", show(&expression, x)).unwrap();
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/expressions.golden");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap_or_default();
    for (line, (found, expected)) in table.lines().zip(golden.lines()).enumerate() {
        assert_eq!(
            found,
            expected,
            "line {} of {path}; if it is meant, run with BLESS=1",
            line + 1
        );
    }
    assert_eq!(
        table.lines().count(),
        golden.lines().count(),
        "{path} has another length; if it is meant, run with BLESS=1"
    );
}

#[test]
fn json_passes_through_untouched() {
    assert_eq!(eval("x.price", r#"{"price": 1.10}"#), "1.10");
    assert_eq!(
        eval("x", r#"{"b":1,  "a":12345678901234567890123}"#),
        r#"{"b":1,  "a":12345678901234567890123}"#
    );
    assert_eq!(
        eval("first(x.a, 0)", r#"{"a":12345678901234567890123}"#),
        "12345678901234567890123"
    );
    assert_eq!(
        eval("[x.a]", r#"{"a":12345678901234567890123}"#),
        "[12345678901234567890123]"
    );
}

#[test]
fn times_are_times() {
    assert_eq!(eval("now", "0"), "\"2026-11-21T09:30:00.007Z\"");
    assert_eq!(eval("now - event.time < duration('1s')", "0"), "true");
    assert_eq!(eval("event.time + duration('1h')", "0"), "\"2026-11-21T10:30:00.000Z\"");
    assert_eq!(eval("timestamp('2026-11-21T09:30:00Z') == event.time", "0"), "true");
}

#[test]
fn first_sees_only_what_is_there() {
    let x = r#"{"buyer": null, "user": {"id": 5}, "text": "t"}"#;
    assert_eq!(eval("first(x.buyer, x.user.id)", x), "5");
    assert_eq!(eval("first(x.text.deeper, 'd')", x), "\"d\"");
    assert_eq!(eval("'u-' + text(first(x.gone, x.user.id)) + '!'", x), "\"u-5!\"");
    assert_eq!(
        eval("first(x.gone, x.buyer)", x),
        "error: first(x.gone, x.buyer) is not there"
    );
    assert_eq!(eval("first(1 / 0, 2)", x), "error: division by zero");
}

#[test]
fn tables_fall_back_to_their_default() {
    assert_eq!(eval("tables.t['7']", "0"), "\"seven\"");
    assert_eq!(eval("tables.t.zzz", "0"), "\"other\"");
    assert_eq!(
        eval("tables.u[x.k]", r#"{"k":"b"}"#),
        "error: tables.u[x.k] is not there"
    );
    assert_eq!(eval("size(tables.t[x].deep)", "\"a b\""), "1");
}

#[test]
fn macros_work_on_what_is_there() {
    let x = r#"{"items":[{"n":1,"p":2.5},{"n":2,"p":4}]}"#;
    assert_eq!(eval("x.items.filter(i, i.n > 1).map(i, i.n * i.p)", x), "[8]");
    assert_eq!(eval("x.items.map(i, i.n + i.p)", x), "[3.5,6]");
    assert_eq!(eval("x.items.exists(i, i.p == 4.0)", x), "true");
    assert_eq!(eval("x.items[1].n", x), "2");
    assert_eq!(eval("x.items[5].n", x), "error: x.items[5].n is not there");
}

#[test]
fn compile_errors_say_what_and_where() {
    let error = |source: &str| compile(source).unwrap_err().to_string();
    assert_eq!(
        error("1 + evnt.x"),
        "column 5: there is no \"evnt\" here; there are x, now, event.time"
    );
    assert_eq!(
        error("event"),
        "column 1: there is no \"event\" here; there are x, now, event.time"
    );
    assert_eq!(error("x =="), "column 5: syntax error: it ends too early");
    assert_eq!(
        error("x == 'A' B"),
        "column 10: syntax error: extraneous input 'B' expecting <EOF>"
    );
    assert_eq!(error(" "), "column 1: it is empty: write an expression");
    assert!(error("frist(x, 1)").contains("there is no function frist()"));
    assert_eq!(
        error("tables.v[x]"),
        "column 1: there is no table \"v\"; there are: t, u"
    );
    assert!(error("x.map(a, x.map(b, a))").contains("can not nest"));
    assert!(error("x.map(a, first(a.b, 1))").contains("can not use a"));
    assert!(error("x.matches(x)").contains("must be a literal"));
    assert!(error(&"x".repeat(1025)).contains("longer than 1024"));
}

#[test]
fn hostile_sources_are_refused_not_run() {
    for source in [
        ["1"; 500].join("+"),
        format!("{}1{}", "(".repeat(500), ")".repeat(500)),
        format!("{}x{}", "[".repeat(500), "]".repeat(500)),
        "!".repeat(1000) + "x",
        "-".repeat(1000) + "1",
        format!("x{}", ".a".repeat(500)),
        format!("x{}", "[0]".repeat(300)),
        "x?1:".repeat(250) + "1",
    ] {
        match compile(&source) {
            // Paths of any length are one look-up; an even number of negations is none.
            Ok(expression) => assert!(!show(&expression, "true").is_empty()),
            Err(error) => assert!(!error.message.is_empty()),
        }
    }
}

#[test]
fn long_lists_and_large_values_end_an_evaluation() {
    let long = format!("[{}0]", "0,".repeat(MAX_LIST));
    assert_eq!(
        eval("x.map(e, e)", &long),
        format!("error: macro: the list is longer than {MAX_LIST}")
    );
    let large = format!("[{}0]", "0,".repeat(100_000));
    assert_eq!(
        eval("size(x)", &large),
        "error: it reads more than 20000 values, or one that is nested deeper than 64"
    );
    let text = format!("\"{}\"", "y".repeat(60_000));
    assert_eq!(eval("x + x", &text), "error: +: the result is longer than 65536");
    assert_eq!(
        eval("[1,2,3,4,5,6,7,8,9,10,11,12].map(e, size(x)).size()", &text),
        "error: it reads more than 20000 values, or one that is nested deeper than 64"
    );
}
