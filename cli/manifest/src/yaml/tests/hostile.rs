//! Input that is meant to harm: bombs, depth, size, and bytes at random.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::*;

#[test]
fn an_alias_bomb_is_an_error_and_not_memory() {
    let mut nodes = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (earlier, name) in ('a'..='y').zip('b'..='z') {
        let aliases = vec![format!("*{earlier}"); 10].join(", ");
        writeln!(nodes, "{name}: &{name} [{aliases}]").unwrap();
    }
    let bytes = format!("a: &a {}\nb: [{}]", "x".repeat(100_000), vec!["*a"; 1000].join(","));
    let merged = format!(
        "a: &a {{b: {}}}\nc: [{}]",
        "x".repeat(100_000),
        vec!["{<<: *a}"; 1000].join(",")
    );
    for bomb in [nodes, bytes, merged] {
        let started = Instant::now();
        let found = mistakes(&bomb);
        assert!(found[0].contains("aliases repeat"), "{found:?}");
        assert!(documents(&bomb)[0].value.is_none());
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn depth_nodes_and_mistakes_are_bounded() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(mistakes(&nested(MAX_DEPTH)), Vec::<String>::new());
    let too_deep = |text: String| {
        mistakes(&text)
            .iter()
            .any(|mistake| mistake.contains("nested deeper") || mistake.contains("limit"))
    };
    assert!(too_deep(nested(MAX_DEPTH + 1)));
    assert!(too_deep(nested(100_000)));
    assert!(too_deep("- ".repeat(100_000)));
    assert!(too_deep("? ".repeat(MAX_DEPTH) + "a: 1") || !mistakes(&"? ".repeat(MAX_DEPTH)).is_empty());
    assert!(too_deep(format!(
        "a: &a {}\nb: &b {}*a{}\n",
        nested(60),
        "[".repeat(60),
        "]".repeat(60)
    )));

    assert!(mistakes(&"- \n".repeat(MAX_NODES + 1))[0].contains("more than 200000 values"));
    let many = mistakes(&"a: 1\n".repeat(10_000));
    assert_eq!(many.len(), MAX_MISTAKES + 1);
    assert!(many.last().unwrap().contains("more mistakes than are shown"));
}

#[test]
fn documents_and_their_bytes_are_bounded() {
    let many = documents(&"a: 1\n---\n".repeat(MAX_DOCUMENTS + 10));
    assert_eq!(many.len(), MAX_DOCUMENTS + 1);
    let last = &many[MAX_DOCUMENTS].mistakes[0];
    assert_eq!(
        (last.position.line, last.message.contains("more than 2000 documents")),
        (2 * MAX_DOCUMENTS + 1, true)
    );
    assert_eq!(documents(&"{\"a\":1}".repeat(500_000)).len(), MAX_DOCUMENTS + 1);
    assert_eq!(
        values(&"# nothing\n---\n".repeat(MAX_DOCUMENTS - 1)),
        Vec::<Value>::new()
    );

    let large = format!("a: {}\n---\nb: 1\n", "x".repeat(MAX_DOCUMENT_BYTES));
    assert_eq!(mistakes(&large), ["1:1: : the document is larger than 1572864 bytes"]);
    assert_eq!(documents(&large)[1].value, Some(json!({"b": 1})));
}

/// A small generator of numbers (splitmix64), so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

#[test]
fn no_bytes_make_the_reader_panic_or_stall() {
    const PIECES: [&str; 40] = [
        "a",
        "b: ",
        "- ",
        "\n",
        "\n  ",
        "\n---\n",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "?",
        "? ",
        "&a ",
        "*a",
        "<<: ",
        "!!str ",
        "!!int ",
        "!",
        "|",
        "|2-\n",
        ">+\n",
        "'",
        "\"",
        "\\u00e",
        "\\",
        "#",
        " #",
        "%YAML 1.1\n",
        "\t",
        "\r",
        "...\n",
        "~",
        "010",
        ".inf",
        "é",
        "\u{feff}",
        "\0",
        "@",
    ];
    let seed = include_str!("../../../../../crds/testdata/valid/channel.yaml");
    let started = Instant::now();
    let mut dice = Dice(1);
    for round in 0..6000 {
        let mut text = String::new();
        match round % 3 {
            0 => (0..dice.below(60)).for_each(|_| text.push_str(PIECES[dice.below(PIECES.len())])),
            1 => {
                let bytes: Vec<u8> = (0..dice.below(200)).map(|_| dice.below(256) as u8).collect();
                text = String::from_utf8_lossy(&bytes).into_owned();
            }
            _ => {
                let lines: Vec<&str> = seed.lines().collect();
                let from = dice.below(lines.len());
                text = lines[from..(from + 30).min(lines.len())].join("\n");
                for _ in 0..dice.below(5) {
                    let at = (0..=dice.below(text.len() + 1).min(text.len()))
                        .rev()
                        .find(|at| text.is_char_boundary(*at));
                    text.insert_str(at.unwrap_or_default(), PIECES[dice.below(PIECES.len())]);
                }
            }
        }
        // The parser counts the end of the text as a line.
        let lines = text.matches(['\n', '\r']).count() + 2;
        for document in documents(&text) {
            assert!(
                document.value.is_some() || !document.mistakes.is_empty(),
                "round {round}: lost without a word: {text:?}"
            );
            for mistake in document.mistakes {
                assert!(
                    (1..=lines).contains(&mistake.position.line),
                    "round {round}: {mistake:?} in {text:?}"
                );
            }
        }
    }
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}
