//! Expressions: whatever a tenant writes is refused with a column, or ends soon with a value or a reason.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aldis_core::expression::bounds::on_big_stack;
use aldis_core::expression::{Expression, Names, Scope, Tables, Variable};
use aldis_core::json::Json;

use crate::hostile::{Random, seeds};

/// However slow the machine, and without optimisation: what is not bounded takes minutes.
const GENEROUS: Duration = Duration::from_secs(20);

const ATOMS: [&str; 25] = [
    "x",
    "x.a",
    "x.items",
    "x.items[0].n",
    "x.text",
    "x['a']",
    "tables.t[x.a]",
    "1",
    "-9223372036854775808",
    "2.5",
    "1e308",
    "18446744073709551615u",
    "'é'",
    "b'\\xff'",
    "[]",
    "[1, 'a', null]",
    "{'k': 1}",
    "null",
    "true",
    "y",
    "now",
    "'a{2}'",
    "timestamp('9999-12-31T23:59:59Z')",
    "duration('87600h')",
    "dyn(1)",
];

const TOKENS: [&str; 24] = [
    "(", ")", "[", "]", "{", "}", "?", ":", ".", ",", "+", "&&", "||", "in", "'", "\"", "\\", "!", "-", "//", "\0",
    "x.items", "😀", "r'''",
];

/// An expression that the grammar allows, mostly.
fn grown(random: &mut Random, depth: usize) -> String {
    if depth == 0 || random.one_in(4) {
        return random.of(&ATOMS).to_owned();
    }
    let (a, b) = (grown(random, depth - 1), grown(random, depth - 1));
    let operator = random.of(&["+", "-", "*", "/", "%", "==", "<", ">=", "&&", "||", "in"]);
    let function = random.of(&[
        "size",
        "text",
        "string",
        "int",
        "double",
        "snake",
        "upper",
        "type",
        "has",
        "timestamp",
        "duration",
    ]);
    let name = random.of(&["map", "filter", "all", "exists", "exists_one"]);
    match random.below(10) {
        0..3 => format!("{a} {operator} {b}"),
        3 => format!("{function}({a})"),
        4 => format!("first({a}, {b})"),
        5 => format!(
            "fixed({a}, {})",
            random.of(&["2", "10", "-1", "9223372036854775807", "x"])
        ),
        6 => format!("({a}).{name}(y, {b})"),
        7 => format!("{a} ? {b} : {a}"),
        8 => format!(
            "text({a}).matches('{}')",
            random.of(&["^a+$", "(a|aa)+b", "\\\\w{9}", "(a{30}){30}", "["])
        ),
        _ => format!("[{a}, {b}]"),
    }
}

/// What is known to be worst: chains, nesting, doubling, copies.
fn amplified(random: &mut Random) -> String {
    let (count, atom) = (1 + random.below(300), random.of(&ATOMS));
    let joined = |by: &str| vec![atom; count].join(by);
    match random.below(7) {
        0 => joined(" + "),
        1 => joined(" && "),
        2 => format!("x.items.map(y, [{}])", joined(",")),
        3 => format!("x.items.map(y, {})", joined(" + ")),
        4 => format!("{}{atom}{}", "(".repeat(count), ")".repeat(count)),
        5 => format!("{}{atom}", random.of(&["!", "-", "[", "{"]).repeat(count)),
        _ => format!("x.items.filter(y, {} == {atom})", joined(" == ")),
    }
}

fn source(random: &mut Random) -> String {
    let depth = 1 + random.below(4);
    match random.below(4) {
        0 => amplified(random),
        1 => grown(random, depth),
        _ => {
            let source = grown(random, depth);
            random.mutated_text(&source, &TOKENS)
        }
    }
}

#[test]
fn ten_thousand_expressions_are_refused_with_a_column_or_evaluated_within_bounds() {
    let tables: Tables = serde_json::from_str(r#"{"t": {"a": 1, "default": [null]}}"#).unwrap();
    let tables = Arc::new(tables);
    let items = vec![r#"{"n": 1, "s": "some text"}"#; 1_000].join(",");
    let large = format!(r#"{{"a": "a", "items": [{items}], "text": "{}"}}"#, "a".repeat(20_000));
    let records: Vec<_> = [large.as_str(), r#"{"a": null, "items": {}}"#, "[1,2,3]", "\"a\"", "7"]
        .map(|record| Json::parse(record).unwrap())
        .into();
    let (mut refused, mut failed, mut valued, mut longest) = (0, 0, 0, (Duration::ZERO, 0));
    let seeds = seeds("expressions");
    let inputs = seeds.clone().count();
    on_big_stack(|| {
        for seed in seeds {
            let source = source(&mut Random::new(seed));
            let round = || {
                let expression = match Expression::compile(&source, &Names(&["x", "now"]), &tables) {
                    Ok(expression) => expression,
                    Err(error) => {
                        assert!(error.column >= 1 && !error.message.is_empty(), "{error}");
                        return None;
                    }
                };
                let mut values = 0;
                // The large one takes longest.
                for record in &records[usize::from(seed % 8 != 0)..] {
                    let scope = Scope::new()
                        .with("x", Variable::Json(record))
                        .with("now", Variable::Time(aldis_core::time::Millis(0)));
                    let mut out = String::new();
                    let written = expression.evaluate(&scope).map_err(|error| error.to_string());
                    match written.and_then(|value| value.write_json(&mut out)) {
                        Ok(()) => values += 1,
                        Err(reason) => assert!(!reason.is_empty() && !reason.contains("panicked"), "{reason}"),
                    }
                }
                Some(values)
            };
            let began = Instant::now();
            match catch_unwind(AssertUnwindSafe(round)) {
                Ok(None) => refused += 1,
                Ok(Some(0)) => failed += 1,
                Ok(Some(_)) => valued += 1,
                Err(_) => panic!("ALDIS_SEED={seed} repeats it: {source}"),
            }
            longest = longest.max((began.elapsed(), seed));
        }
    });
    println!(
        "{refused} refused, {failed} with a reason for each record, {valued} with a value; the longest took {longest:?}"
    );
    assert_eq!(refused + failed + valued, inputs);
    assert!(longest.0 < GENEROUS, "ALDIS_SEED={} took {:?}", longest.1, longest.0);
}
