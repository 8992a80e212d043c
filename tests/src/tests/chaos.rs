//! Everything goes wrong at once, at times that a seed decides; see docs/reliability.md.

use std::time::Duration;

use aldis_gateway::sabotage::Rule;

use crate::chaos::{Plan, report, run};

/// A number that the environment may give.
fn given(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not {value}")),
    )
}

/// `make chaos`: one seed, and its row in docs/reliability.md.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make chaos"]
async fn chaos_of_one_seed() {
    let plan = Plan {
        seed: given("SEED").unwrap_or(1),
        length: Duration::from_secs(given("CHAOS_SECONDS").unwrap_or(60)),
        stock: 6,
        light: 12,
        without: None::<Rule>,
    };
    let outcome = run(&plan).await;
    println!("{:#?}", outcome.verdict);
    report(&plan, &outcome);
    assert!(outcome.verdict.holds(), "see {}", outcome.evidence.display());
}
