use serde_json::{Value, json};

use super::*;

/// The values of a text's documents; panics if one has a mistake.
fn values(text: &str) -> Vec<Value> {
    let good = |document: Document| match document.mistakes.first() {
        None => document.value.unwrap(),
        Some(mistake) => panic!("{text:?}: {mistake:?}"),
    };
    documents(text).into_iter().map(good).collect()
}

/// The value of a text with one document.
fn value(text: &str) -> Value {
    values(text).pop().unwrap()
}

/// `line:column: field: message` of every mistake in a text.
fn mistakes(text: &str) -> Vec<String> {
    let line = |mistake: Mistake| {
        format!(
            "{}:{}: {}: {}",
            mistake.position.line, mistake.position.column, mistake.field, mistake.message
        )
    };
    documents(text)
        .into_iter()
        .flat_map(|document| document.mistakes)
        .map(line)
        .collect()
}

/// Taken from what kubectl 1.34 makes of each (`sigs.k8s.io/yaml` 1.6).
#[test]
fn plain_scalars_are_what_kubectl_takes_them_for() {
    let table = [
        ("y Y yes Yes YES on On ON true True TRUE", json!(true)),
        ("n N no No NO off Off OFF false False FALSE", json!(false)),
        ("~ null Null NULL", json!(null)),
        ("0 -0 +0 00 0x0 0b0 0o0", json!(0)),
        ("8 010 +010 0o10 0x8 0b1000 8_", json!(8)),
        ("-8 -010 -0x8 -0b1000 -8.0", json!(-8)),
        ("9223372036854775807 0x7fffffffffffffff", json!(i64::MAX)),
        ("18446744073709551615 0xffffffffffffffff", json!(u64::MAX)),
        ("-9223372036854775808", json!(i64::MIN)),
        ("1.5 +1.5 15e-1 .15e1 1.5e+0 01.5 1_.5", json!(1.5)),
        ("1e3 1000.0 1.e3 +1E3", json!(1000)),
        (".5 0.5 5e-1", json!(0.5)),
    ];
    for (words, wanted) in table {
        for word in words.split(' ') {
            assert_eq!(value(&format!("a: {word}"))["a"], wanted, "{word}");
        }
    }
    let strings = "yEs oN nULL tRUE 0x 0xg 0b2 0o8 _1 +-1 --1 1.2.3 1e 1e400 . .. .5. 0x1.8p1 .iNF inf nan 1:20 190:20:30 \
                   2026-01-01 2026-01-01T10:00:00Z = 1a 10.0.0.1 5m 100% << ~a -a";
    for word in strings.split_whitespace() {
        assert_eq!(value(&format!("- {word}"))[0], json!(word), "{word}");
    }
}

#[test]
fn quotes_and_tags_decide_over_words() {
    for text in [
        "'yes'",
        "\"yes\"",
        "!!str yes",
        "! yes",
        "!ours yes",
        "|-\n  yes",
        ">-\n  yes",
    ] {
        assert_eq!(value(&format!("a: {text}")), json!({ "a": "yes" }), "{text}");
    }
    assert_eq!(value("a: !!int '7'"), json!({ "a": 7 }));
    assert_eq!(value("a: !!float 7"), json!({ "a": 7 }));
    assert_eq!(value("a: !!binary |\n  aGVs\n  bG8=\n"), json!({ "a": "hello" }));
    assert_eq!(value("a: !<tag:yaml.org,2002:int> 010"), json!({ "a": 8 }));
    for refused in [
        "!!int x",
        "!!bool 1",
        "!!null x",
        "!!float x",
        "!!binary '%'",
        ".inf",
        "-.INF",
        ".nan",
    ] {
        let found = mistakes(&format!("a: {refused}"));
        assert_eq!(found.len(), 1, "{refused}");
        assert!(found[0].starts_with("1:4: a: "), "{found:?}");
    }
}

#[test]
fn keys_become_strings_as_kubectl_makes_them() {
    let text = "1: a\n010: b\nyes: c\n1.5: d\n1e6: e\n0.0001: f\n1e-5: g\n2026-01-01: h\n.inf: i\n'~': j\n? k\n: l\n";
    let wanted = json!({
        "1": "a", "8": "b", "true": "c", "1.5": "d", "1e+06": "e", "0.0001": "f", "1e-05": "g", "2026-01-01": "h",
        ".inf": "i", "~": "j", "k": "l"
    });
    assert_eq!(value(text), wanted);
    assert_eq!(
        mistakes("a:\n  ~: 1"),
        ["2:3: a: a key cannot be null; put it in quotes"]
    );
    assert_eq!(
        mistakes("? [a]\n: 1"),
        ["1:3: : a key must be a string, and not a list or a mapping"]
    );
    assert_eq!(
        mistakes(&format!("? {}\n: 1", "k".repeat(MAX_KEY_BYTES + 1))),
        ["1:3: : a key must be at most 1024 bytes long"]
    );
}

#[test]
fn documents_are_cut_where_kubectl_cuts_them() {
    assert_eq!(values(""), Vec::<Value>::new());
    assert_eq!(
        values("# nothing\n---\n---\nnull\n--- # nothing either\n~"),
        Vec::<Value>::new()
    );
    assert_eq!(
        values("\u{feff}a: 1\n---\r\nb: |\n  ---\n--- # c\nc: 3"),
        [json!({"a": 1}), json!({"b": "---\n"}), json!({"c": 3})]
    );
    assert_eq!(mistakes("a: 1\n--- b\nc: 2\n---\nd").len(), 1);
    assert_eq!(mistakes("a: 1\n...\nb: 2").len(), 1);
}

#[test]
fn a_broken_document_does_not_hide_the_others() {
    let documents = documents("a: [\n---\nb: 1\n---\nc: }\n---\nd: 2\n");
    let read: Vec<_> = documents.iter().map(|document| document.value.clone()).collect();
    assert_eq!(read, [None, Some(json!({"b": 1})), None, Some(json!({"d": 2}))]);
    assert_eq!(documents[2].mistakes[0].position.line, 5);
}

#[test]
fn merge_keys_and_aliases_give_what_kubectl_gives() {
    assert_eq!(
        value("a: &x {b: 1, c: 2}\nd:\n  <<: *x\n  c: 3\n")["d"],
        json!({"b": 1, "c": 3})
    );
    assert_eq!(
        value("- &x {b: 1}\n- <<: [*x, {b: 2, e: 3}]\n")[1],
        json!({"b": 1, "e": 3}),
        "the earlier wins"
    );
    assert_eq!(value("'<<': {b: 1}"), json!({"<<": {"b": 1}}), "in quotes it is a key");
    assert_eq!(value("a: &k b\n*k : [1]")["b"], json!([1]), "a key may be an alias");
    assert_eq!(
        value("- &x 1\n- &x 2\n- *x"),
        json!([1, 2, 2]),
        "the last anchor of a name counts"
    );
    assert_eq!(
        mistakes("d:\n  b: 2\n  <<: {b: 1}\n"),
        ["3:3: d.b: kubectl lets << win over this key in line 2; put << first"]
    );
    assert_eq!(mistakes("<<: [1]"), ["1:6: : << takes a mapping or a list of mappings"]);
}

#[test]
fn a_key_that_is_there_already_names_both_lines() {
    let text = "a:\n  b: 1\n  c: 2\n  b: 3\na: 4\n";
    assert_eq!(
        mistakes(text),
        [
            "4:3: a.b: this key is in line 2 already",
            "5:1: a: this key is in line 1 already"
        ]
    );
    assert_eq!(
        mistakes("{1: a, '1': b}"),
        ["1:8: [\"1\"]: this key is in line 1 already"]
    );
}

#[test]
fn tabs_are_found_where_they_stand() {
    for text in [
        "a:\n\tb: 1\n",
        "a:\n  b: 1\n\tc: 2\n",
        "a: 1\n\t# c\nb: 2\n",
        "a:\n  \tb\n",
        "a: 1\n\t\nb: 2\n",
    ] {
        let found = mistakes(text);
        assert_eq!(found.len(), 1, "{text:?}: {found:?}");
        assert!(found[0].ends_with(TAB), "{text:?}: {found:?}");
        let line = text
            .lines()
            .position(|line| line.trim_start_matches(' ').starts_with('\t'))
            .unwrap()
            + 1;
        assert!(found[0].starts_with(&format!("{line}:")), "{text:?}: {found:?}");
    }
    for text in [
        "a:\t\n  - b\t\n",
        "a: |\n  x\n  \ty\n",
        "{\n\tb: 1\n}\n",
        "a: \"x\n  \ty\"\n",
        "[\n\t1,\n\t2]\n",
    ] {
        assert_eq!(mistakes(text), Vec::<String>::new(), "{text:?}");
    }
}

#[test]
fn a_template_without_quotes_is_not_taken_for_a_mapping() {
    let found = mistakes("a: {at: {now}, b: [{event.data.x}]}\n");
    assert_eq!(
        found,
        [
            format!("1:9: a.at: {}", strict_message()),
            format!("1:20: a.b[0]: {}", strict_message())
        ]
    );
    for fine in [
        "a: {b: {}}",
        "a: {b: }",
        "a: {b: {c: null}}",
        "a: {b, c}",
        "a: ['{now}', {b: c}]",
        "a:\n  b:\n",
    ] {
        assert_eq!(mistakes(fine), Vec::<String>::new(), "{fine}");
    }
}

fn strict_message() -> &'static str {
    "without quotes this is no template, but a mapping with a key and no value; put it in quotes"
}

#[test]
fn json_files_are_read_with_tabs_escapes_and_one_behind_the_other() {
    let text = "{\n\t\"a\":\t\"\\ud83d\\ude00 \\/\\t\\\\ud83d\"}{\"b\": {\"c\": 1}}\n{\"d\": \"é\"}";
    let documents = documents(text);
    let read: Vec<_> = documents
        .iter()
        .map(|document| document.value.clone().unwrap())
        .collect();
    assert_eq!(
        read,
        [json!({"a": "😀 /\t\\ud83d"}), json!({"b": {"c": 1}}), json!({"d": "é"})]
    );
    assert_eq!(documents[0].positions.position("a"), Position { line: 2, column: 2 });
    assert_eq!(documents[1].positions.position("b.c"), Position { line: 2, column: 41 });
    assert_eq!(documents[2].positions.position("d"), Position { line: 3, column: 2 });
    assert_eq!(
        mistakes("{\"a\": 1,\n \"a\": 2}"),
        ["2:2: a: this key is in line 1 already"]
    );
}

#[test]
fn every_field_knows_its_place_and_a_missing_one_its_parent() {
    let text = "# c\n---\nspec:\n  a.b: &x\n  - é: 1\n    c: 2\n  d: {e: f,  g: *x}\n";
    let document = &documents(text)[0];
    let at = |path: &str| {
        let Position { line, column } = document.positions.position(path);
        (line, column)
    };
    assert_eq!(at(""), (3, 1));
    assert_eq!(at("spec"), (3, 1));
    assert_eq!(at(r#"spec["a.b"]"#), (4, 3));
    assert_eq!(at(r#"spec["a.b"][0]"#), (5, 5));
    assert_eq!(at(r#"spec["a.b"][0].c"#), (6, 5));
    assert_eq!(at("spec.d.g"), (7, 14));
    assert_eq!(
        at("spec.d.g[0].c"),
        (6, 5),
        "what an alias repeats is where it is written"
    );
    assert_eq!(at("spec.d.x.y[3]"), (7, 3));
    assert_eq!(at("other"), (3, 1));
}

mod hostile;
