//! A small YAML printer for what a CustomResourceDefinition holds: block style, keys sorted, and in quotes whatever a
//! reader of YAML 1.1 could take for something other than a string.

use serde_json::{Map, Value};

/// Prints a value as one YAML document that ends in a newline.
pub(super) fn print(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => mapping(map, 0, &mut out),
        Value::Array(items) if !items.is_empty() => sequence(items, 0, &mut out),
        scalar => {
            out.push_str(&inline(scalar, 0));
            out.push('\n');
        }
    }
    out
}

fn mapping(map: &Map<String, Value>, indent: usize, out: &mut String) {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    for (position, (key, value)) in entries.into_iter().enumerate() {
        // The first key of a list's element stands behind its dash.
        if position > 0 || !out.ends_with("- ") {
            out.push_str(&" ".repeat(indent));
        }
        out.push_str(&string(key));
        out.push(':');
        match value {
            Value::Object(map) if !map.is_empty() => {
                out.push('\n');
                mapping(map, indent + 2, out);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                sequence(items, indent, out);
            }
            scalar => {
                out.push(' ');
                out.push_str(&inline(scalar, indent + 2));
                out.push('\n');
            }
        }
    }
}

fn sequence(items: &[Value], indent: usize, out: &mut String) {
    for item in items {
        out.push_str(&" ".repeat(indent));
        out.push_str("- ");
        match item {
            Value::Object(map) if !map.is_empty() => mapping(map, indent + 2, out),
            // Lists of lists do not occur in a CRD; flow style keeps them correct all the same.
            scalar => {
                out.push_str(&inline(scalar, indent + 2));
                out.push('\n');
            }
        }
    }
}

/// A value on the line it begins on; texts of several lines go on below it as a block, at `indent`.
fn inline(value: &Value, indent: usize) -> String {
    match value {
        Value::String(text) if is_block(text) => {
            let padding = " ".repeat(indent);
            let lines = text.split('\n').map(|line| {
                if line.is_empty() {
                    String::new()
                } else {
                    format!("{padding}{line}")
                }
            });
            format!("|-\n{}", lines.collect::<Vec<_>>().join("\n"))
        }
        Value::String(text) => string(text),
        // The API server prints 1, not 1.0, for a bound.
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15 => format!("{float:.0}"),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

/// Whether a text reads well, and unchanged, as a literal block.
fn is_block(text: &str) -> bool {
    text.contains('\n')
        && !text.starts_with([' ', '\n'])
        && !text.ends_with(['\n', ' '])
        && text.chars().all(|c| c == '\n' || !c.is_control())
}

fn string(text: &str) -> String {
    if is_plain(text) {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}

/// Whether every reader takes these characters for this string. Stricter than YAML: what begins with a letter and is
/// none of the words below is neither number, date, null, boolean nor indicator.
fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 9] = ["y", "yes", "n", "no", "on", "off", "true", "false", "null"];
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_alphanumeric() || " _-./()`<>@+;,':=&|?!".contains(c))
        && !text.contains(": ")
        && !text.ends_with([':', ' '])
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_and_numbers_of_yaml_1_1_are_quoted() {
        for word in [
            "on",
            "No",
            "YES",
            "y",
            "~",
            "",
            "null",
            "012",
            "0x1f",
            "1:20",
            "2026-01-01",
            "- a",
            "a: b",
            "a #b",
            "*a",
            "<<",
            "x:",
        ] {
            assert!(string(word).starts_with('"'), "{word:?} is printed plainly");
        }
        assert_eq!(string("Where clients listen."), "Where clients listen.");
    }

    #[test]
    fn blocks_lists_and_bounds_are_printed_as_people_write_them() {
        let value = json!({ "b": [{ "y": 1.0, "x": "one\n\ntwo" }, "z"], "a": {}, "c": [] });
        assert_eq!(
            print(&value),
            "a: {}\nb:\n- x: |-\n    one\n\n    two\n  \"y\": 1\n- z\nc: []\n"
        );
    }
}
