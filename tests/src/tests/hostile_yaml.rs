//! YAML, as `aldis validate` and `aldis dev` read it: a bad manifest is refused with file, line and reason, and the good ones
//! beside it are served.

use std::collections::BTreeSet;

use aldis_cli::declared::{Declared, Elsewhere};

use crate::hostile::{Random, seeds};
use crate::kafka::repository;
use crate::manifests::Manifests;

/// Bad manifests that are read together. A mistake in one is none in another.
const TOGETHER: usize = 100;

const TOKENS: [&str; 26] = [
    "{",
    "}",
    "[",
    "]",
    ": ",
    "- ",
    "\n",
    "  ",
    "\t",
    "&a ",
    "*a",
    "<<: ",
    "!!binary ",
    "|\n",
    ">",
    "\"",
    "'",
    "#",
    "---\n",
    "...\n",
    "null",
    "0x7fffffffffffffff",
    "1e999",
    "yes",
    "\u{feff}",
    "{{",
];

#[test]
fn ten_thousand_bad_manifests_are_refused_with_a_place_and_a_reason_and_the_good_ones_stay() {
    let manifests = Manifests::news();
    let good = ["orders.yaml", "kitchen.yaml"].map(|file| {
        let text = std::fs::read_to_string(repository().join("examples/bistro").join(file)).unwrap();
        // In a namespace of its own: what it claims is nothing that the good ones have.
        text.replace("namespace: bistro", "namespace: hostile")
            .replace("paths: [/", "paths: [/hostile/")
    });
    let (mut refused, mut unharmed, mut reasons) = (0, 0, BTreeSet::new());
    let all: Vec<_> = seeds("yaml").collect();
    for seeds in all.chunks(TOGETHER) {
        for (n, seed) in seeds.iter().enumerate() {
            let random = &mut Random::new(*seed);
            let seed = &good[random.below(good.len())];
            let text = match random.below(20) {
                0 => random.of(&["[", "{a: ", "- ", "? "]).repeat(1 + random.below(5_000)),
                1 => (0..9).fold("a: &a0 [x]\n".to_owned(), |text, n| {
                    format!("{text}b{n}: &a{} [{}]\n", n + 1, vec![format!("*a{n}"); 9].join(","))
                }),
                _ => random.mutated_text(seed, &TOKENS),
            };
            manifests.write(&format!("bad-{n}.yaml"), &text);
        }
        let declared = std::panic::catch_unwind(|| {
            Declared::read(
                &manifests.path(),
                Elsewhere {
                    gateways: false,
                    secrets: true,
                },
            )
        });
        let declared = declared
            .unwrap_or_else(|_| panic!("ALDIS_SEED is one of {seeds:?}"))
            .unwrap();
        let bad: BTreeSet<_> = declared
            .findings
            .iter()
            .map(|finding| {
                let problem = &finding.problem;
                assert!(
                    problem.line >= 1 && problem.column >= 1 && !problem.message.is_empty(),
                    "{finding}"
                );
                reasons.insert(
                    problem
                        .message
                        .chars()
                        .filter(|c| c.is_ascii_alphabetic())
                        .take(12)
                        .collect::<String>(),
                );
                problem.file.file_name().unwrap().to_owned()
            })
            .collect();
        assert!(
            !bad.iter().any(|file| file == "news.yaml" || file == "gateway.yaml"),
            "{:?}",
            declared.findings
        );
        let served = &declared.outcome.gateways[0].channels;
        assert!(
            served.iter().any(|channel| channel.channel.to_string() == "press/news"),
            "the good one is served"
        );
        refused += bad.len();
        unharmed += seeds.len() - bad.len();
    }
    println!(
        "{refused} refused, for some {} kinds of reasons; {unharmed} are still valid, or nothing of ours",
        reasons.len()
    );
    assert_eq!(refused + unharmed, all.len());
    assert!(all.len() == 1 || refused > all.len() / 4);
}
