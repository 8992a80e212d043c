//! Random channels and random records: nothing panics, and every refusal says why.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use serde_json::{Value as JsonValue, json};

use crate::channel::{Channel, Outcome};
use crate::expression::bounds::on_big_stack;
use crate::fixtures::{NOW, config, json_of, keys, record};
use crate::identity::{Examined, Handshake};
use crate::membership::ClientEvent;
use crate::route::Delivery;

const ROUNDS: u64 = 4_000;
/// Records and client events for each channel: compiling it costs most.
const RECORDS: usize = 16;
/// Well below what a test run notices; a slow machine makes fewer rounds.
const TIME: Duration = Duration::from_millis(1_500);

/// SplitMix64: enough for this, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_in(&mut self, chance: usize) -> bool {
        self.below(chance) == 0
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

const OPERANDS: [&str; 38] = [
    "0",
    "1",
    "-1",
    "2.5",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615u",
    "1e308",
    "true",
    "null",
    "''",
    "'é\\n'",
    "b'\\xff'",
    "[]",
    "[1, 'a', null]",
    "{}",
    "{'a': 1}",
    "now",
    "event.time",
    "event.data",
    "event.data.a",
    "event.data.b",
    "event.data.a.b",
    "event.data['a']",
    "event.data[0]",
    "event.data.a[1]",
    "event.type",
    "body",
    "body.a",
    "body.b.a",
    "item",
    "record.key",
    "record.timestamp",
    "args.a",
    "arg",
    "identity.user",
    "params.p",
    "tables.t[event.data.a]",
];

const OPERATORS: [&str; 16] = [
    "+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "&&", "||", "in", "? 1 :", ".",
];

const FUNCTIONS: [&str; 30] = [
    "size",
    "string",
    "int",
    "uint",
    "double",
    "bool",
    "bytes",
    "type",
    "timestamp",
    "duration",
    "text",
    "snake",
    "upper",
    "lower",
    "has",
    "-",
    "!",
    "dyn",
    "getFullYear",
    "getDayOfYear",
    "getHours",
    "getMilliseconds",
    "first",
    "fixed",
    "contains",
    "startsWith",
    "matches",
    "endsWith",
    "getDate",
    "getMonth",
];

fn expression(random: &mut Random, depth: usize) -> String {
    if depth == 0 || random.one_in(3) {
        return random.of(&OPERANDS).to_owned();
    }
    let mut inner = || expression(random, depth - 1);
    let (a, b) = (inner(), inner());
    match random.below(9) {
        0..=2 => format!("{a} {} {b}", random.of(&OPERATORS)),
        3 => format!("{}({a})", random.of(&FUNCTIONS)),
        4 => format!("{}({a}, {b})", random.of(&FUNCTIONS)),
        5 => format!("{a}.{}({b})", random.of(&FUNCTIONS)),
        6 => format!(
            "({a}).{}(x, {})",
            random.of(&["map", "all", "exists", "filter", "exists_one"]),
            b.replace("event.data", "x")
        ),
        7 => format!("{a}[{b}]"),
        _ => format!("[{a}, {b}]"),
    }
}

/// Any bytes, now and then.
fn broken(random: &mut Random, text: String) -> String {
    if !random.one_in(12) {
        return text;
    }
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..=random.below(3) {
        let at = random.below(chars.len() + 1);
        match random.below(3) {
            0 => chars.truncate(at),
            1 => chars.insert(
                at,
                ['{', '}', '"', '\'', '\\', '(', '\u{0}', 'é', '😀'][random.below(9)],
            ),
            _ => chars.rotate_left(at),
        }
    }
    chars.into_iter().collect()
}

fn code(random: &mut Random) -> String {
    let text = expression(random, 3);
    broken(random, text)
}

fn template(random: &mut Random) -> String {
    let text = match random.below(4) {
        0 => format!("{{{}}}", expression(random, 2)),
        1 => format!("a {{{}}} b {{{}}}", expression(random, 1), expression(random, 2)),
        2 => "{{}} {".to_owned(),
        _ => random
            .of(&["plain", "", "{body.a}", "{event.data.a}", "{arg}"])
            .to_owned(),
    };
    broken(random, text)
}

fn value(random: &mut Random, depth: usize) -> String {
    let scalar = [
        "null",
        "true",
        "false",
        "0",
        "-0",
        "1",
        "-1",
        "2.0",
        "1.10",
        "1e400",
        "-1e-400",
        "9223372036854775807",
        "9223372036854775808",
        "123456789012345678901234567890",
        "\"\"",
        "\"a\"",
        "\"\\ud800\"",
        "\"\\u0000é\"",
        "\"87600h\"",
        "\"9999-12-31T23:59:59Z\"",
        "\"-9223372036854775808\"",
        "\"disconnect\"",
    ];
    if depth == 0 || random.one_in(3) {
        return random.of(&scalar).to_owned();
    }
    let count = random.below(4);
    let parts: Vec<_> = (0..count).map(|_| value(random, depth - 1)).collect();
    if random.one_in(3) {
        return format!("[{}]", parts.join(","));
    }
    let fields: Vec<_> = parts
        .into_iter()
        .map(|part| format!("\"{}\":{part}", random.of(&["a", "b", "t", "items", "\\ud800", ""])))
        .collect();
    format!("{{{}}}", fields.join(", "))
}

fn spec(random: &mut Random) -> JsonValue {
    let mut spec = json!({
        "authentication": {"query": {"identity": {"user": "query.user", "attributes": {"a": code(random)}}}, "anonymous": {}},
        "greeting": {"event": "hi", "payload": template(random)},
        "tables": {"t": {"a": 1, "default": [null]}},
        "sources": [{"name": "s", "kafka": {"topics": ["orders"]}, "data": template(random)}],
        "rooms": [{"name": "r", "key": "r:{p}", "join": {"event": "in", "with": {"p": code(random)}, "auto": {"with": {"p": "identity.user"}}}, "allow": code(random)}],
        "replies": [{"event": "ask", "emit": {"event": template(random), "payload": template(random)}, "ack": {"a": [template(random)]}, "allow": "true"}],
        "routes": [{"types": ["*"], "let": {"l": code(random)}, "emit": [
            {"event": template(random), "payload": {"x": template(random), "l": "{l}"}, "everyone": true},
            {"event": "e", "to": [{"room": "r", "with": {"p": code(random)}, "optional": true, "payload": template(random)}]}]}]
    });
    let source = &mut spec["sources"][0];
    for (field, chance) in [("where", 4), ("each", 3), ("type", 2)] {
        if random.one_in(chance) {
            source[field] = json!(if field == "type" {
                template(random)
            } else {
                code(random)
            });
        }
    }
    if random.one_in(2) {
        spec["routes"][0]["when"] = json!(code(random));
    }
    spec
}

/// Takes away what does not compile, so that the rest can run: a problem's field leads to it.
fn mended(mut spec: JsonValue) -> Option<Channel> {
    for _ in 0..20 {
        let config = config(spec.clone());
        let problems = match Channel::compile(&config, &keys()) {
            Ok(channel) => return Some(channel),
            Err(problems) => problems,
        };
        assert!(!problems.is_empty(), "refused for nothing");
        for problem in problems {
            assert!(
                problem.field.starts_with("spec.") && !problem.message.is_empty(),
                "{problem}"
            );
            let pointer = problem.field["spec".len()..].replace(['.', '['], "/").replace(']', "");
            let harmless = if pointer.ends_with("/data") || pointer.contains("payload") {
                "plain"
            } else {
                "'x'"
            };
            *spec
                .pointer_mut(&pointer)
                .unwrap_or_else(|| panic!("{} is a field", problem.field)) = json!(if pointer.ends_with("/allow")
                || pointer.ends_with("/when")
                || pointer.ends_with("/where")
            {
                "true"
            } else if pointer.ends_with("/each") {
                "[1, body]"
            } else {
                harmless
            });
        }
    }
    None
}

fn check(deliveries: &[Delivery]) {
    for delivery in deliveries {
        assert!(!delivery.event.is_empty());
        for payload in &delivery.payloads {
            serde_json::from_str::<&serde_json::value::RawValue>(payload).expect("a payload is JSON");
        }
    }
}

/// One channel and some records and client events; says how many records were delivered and rejected.
fn round(seed: u64) -> (u32, u32) {
    let random = &mut Random(seed);
    let channel = mended(spec(random)).expect("what is mended compiles");
    let (mut delivered, mut rejected) = (0, 0);
    for _ in 0..RECORDS {
        let text = value(random, 4);
        let text = broken(random, text);
        let mut record = record(&text);
        if random.one_in(4) {
            record.timestamp_ms = [i64::MIN, -1, i64::MAX, 253_402_300_799_999][random.below(4)];
        }
        if random.one_in(20) {
            let mut bytes = text.clone().into_bytes();
            bytes.insert(random.below(bytes.len() + 1), 0xff);
            record.value = Some(bytes.into());
        }
        match channel.process(&[0], &record, NOW) {
            Ok(Outcome::Deliver(deliveries)) => {
                check(&deliveries);
                delivered += 1;
            }
            Ok(Outcome::NotForUs) => {}
            Err(why) => {
                assert!(!why.at.is_empty() && !why.detail.is_empty(), "{why:?}");
                assert!(!why.detail.contains("panicked"), "{why}");
                rejected += 1;
            }
        }
        let query = [("user".to_owned(), text.clone())];
        let handshake = Handshake {
            query: &query,
            auth: None,
        };
        let Ok(Examined::Admitted(identity)) = channel.methods.examine(&handshake, NOW) else {
            panic!("anonymous is enough")
        };
        let args = crate::json::Json::parse(format!("[{}]", value(random, 3))).unwrap_or_else(|_| json_of(json!([])));
        for name in ["in", "ask", &text] {
            let event = ClientEvent {
                name,
                args: &args,
                binary: false,
                socket_id: "s",
            };
            let answer = format!("{:?}", channel.lobby.answer(&identity, &event, NOW));
            assert!(!answer.contains("panicked"), "{answer}");
        }
        channel.lobby.auto_rooms(&identity);
        channel.lobby.greeting(&identity, None, "s", NOW);
    }
    (delivered, rejected)
}

#[test]
fn nothing_panics_and_every_refusal_says_why() {
    let first = std::env::var("FUZZ_SEED")
        .ok()
        .map(|seed| seed.parse::<u64>().expect("a number"));
    let start = Instant::now();
    let (mut delivered, mut rejected, mut rounds) = (0, 0, 0);
    // One thread for all: compiling wants a big stack.
    on_big_stack(|| {
        for seed in first.map_or(0..ROUNDS, |seed| seed..seed + 1) {
            let Ok((more_delivered, more_rejected)) = catch_unwind(AssertUnwindSafe(|| round(seed))) else {
                panic!("repeat it with FUZZ_SEED={seed}");
            };
            delivered += more_delivered;
            rejected += more_rejected;
            rounds += 1;
            if start.elapsed() > TIME {
                break;
            }
        }
    });
    println!("{rounds} channels, {delivered} records delivered, {rejected} rejected");
    assert!(
        first.is_some() || (delivered > 10 && rejected > 10),
        "it tests both ways: {delivered}, {rejected}"
    );
}
