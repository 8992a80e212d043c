//! Everything goes wrong at once, at times that a seed decides; see docs/reliability.md.

use std::time::Duration;

use aldis_gateway::sabotage::Rule;

use crate::chaos::{Kind, Plan, report, run};

/// The rules that `SABOTAGE` can name.
const RULES: [Rule; 22] = [
    Rule::OneOrder,
    Rule::OnlyPositionsAreStrings,
    Rule::Gate,
    Rule::Upgrade,
    Rule::Stall,
    Rule::Polling,
    Rule::OnlyPermanentRefusals,
    Rule::Generation,
    Rule::CompleteOrTold,
    Rule::Identity,
    Rule::ChannelState,
    Rule::Prev,
    Rule::CheckFirst,
    Rule::PayloadOnce,
    Rule::Epoch,
    Rule::Subscription,
    Rule::Marks,
    Rule::StartAt,
    Rule::Behind,
    Rule::Lease,
    Rule::PublishThroughKafka,
    Rule::Herd,
];

fn given(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A number that the environment may give.
fn number(name: &str) -> Option<u64> {
    given(name).map(|value| {
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not {value}"))
    })
}

/// `make chaos`: one seed, and its row in docs/reliability.md unless a rule is switched off or faults are named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make chaos"]
async fn chaos_of_one_seed() {
    let length = Duration::from_secs(number("CHAOS_SECONDS").unwrap_or(60));
    let mut plan = Plan::new(number("SEED").unwrap_or(1), length);
    if let Some(name) = given("SABOTAGE") {
        let rule = RULES.into_iter().find(|rule| format!("{rule:?}") == name);
        plan.without = Some(rule.unwrap_or_else(|| panic!("SABOTAGE is one of {RULES:?}, not {name}")));
    }
    if let Some(history) = number("CHAOS_HISTORY") {
        plan.history = history as usize;
    }
    for (name, count) in [
        ("CHAOS_STOCK", &mut plan.stock),
        ("CHAOS_LIGHT", &mut plan.light),
        ("CHAOS_TWINS", &mut plan.twins),
    ] {
        *count = number(name).map_or(*count, |given| given as usize);
    }
    plan.repeats = given("CHAOS_REPEATS").is_some();
    plan.only = given("CHAOS_FAULTS")
        .unwrap_or_default()
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    match given("PEER").as_deref() {
        None => {}
        // Light clients say more than Node's server understands.
        Some("node") => (plan.kind, plan.stock, plan.light) = (Kind::Node, plan.stock + plan.light, 0),
        Some(other) => panic!("PEER is node, not {other}"),
    }
    let outcome = run(&plan).await;
    println!("{:#?}", outcome.verdict);
    let holds = outcome.verdict.holds();
    println!("verdict: {}", if holds { "holds" } else { "broken" });
    // A drill is no seed.
    if plan.without.is_none() && plan.only.is_empty() {
        report(&plan, &outcome);
    }
    assert!(holds, "see {}", outcome.evidence.display());
}

/// Short seeds with fewer clients, in `make test`.
async fn chaos_of_a_short_seed(seed: u64) {
    let plan = Plan {
        stock: 2,
        light: 4,
        ..Plan::new(seed, Duration::from_secs(15))
    };
    let outcome = run(&plan).await;
    assert!(
        outcome.verdict.holds(),
        "{:#?}, see {}",
        outcome.verdict,
        outcome.evidence.display()
    );
}

macro_rules! short_seeds {
    ($($test:ident: $seed:expr),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            chaos_of_a_short_seed($seed).await;
        })*
    };
}

short_seeds! {
    short_chaos_1001: 1001,
    short_chaos_1002: 1002,
    short_chaos_1003: 1003,
    short_chaos_1004: 1004,
    short_chaos_1005: 1005,
    short_chaos_1006: 1006,
    short_chaos_1007: 1007,
    short_chaos_1008: 1008,
    short_chaos_1009: 1009,
    short_chaos_1010: 1010,
}
