//! JSON files. JSON is nearly YAML; the rest is made so here, without moving anything to another line or column.

use std::borrow::Cow;

use serde::de::IgnoredAny;

use super::{Chunk, Position};

/// The documents of a text, one behind the other and as YAML, if all of it is JSON objects.
pub(super) fn chunks(text: &str) -> Option<Vec<Chunk<'_>>> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    let mut chunks = Vec::new();
    let mut end = 0;
    let mut place = Position { line: 1, column: 1 };
    while let Some(value) = values.next() {
        value.ok()?;
        let gap = text[end..].len() - text[end..].trim_start().len();
        let start = end + gap;
        let after_gap = behind(place, &text[end..start]);
        end = values.byte_offset();
        chunks.push(Chunk {
            text: as_yaml(&text[start..end]),
            start: after_gap,
            mistake: None,
        });
        place = behind(after_gap, &text[start..end]);
    }
    Some(chunks)
}

/// The place behind a text that begins at `place`.
fn behind(place: Position, text: &str) -> Position {
    let last_line = text.rsplit('\n').next().unwrap_or_default();
    place.then(text.matches('\n').count() + 1, last_line.chars().count() + 1)
}

/// Tabs between tokens become spaces, and two escapes that make one character one escape.
fn as_yaml(json: &str) -> Cow<'_, str> {
    if !json.contains(['\t', '\\']) {
        return json.into();
    }
    let mut yaml = String::with_capacity(json.len());
    let mut rest = json;
    let mut in_string = false;
    while let Some(c) = rest.chars().next() {
        if let Some(character) = in_string.then(|| surrogates(rest)).flatten() {
            yaml.push_str(&format!("\\U{:08x}", u32::from(character)));
            rest = &rest[12..];
            continue;
        }
        let length = if in_string && c == '\\' { 2 } else { c.len_utf8() };
        match c {
            '\t' if !in_string => yaml.push(' '),
            _ => yaml.push_str(&rest[..length]),
        }
        in_string ^= c == '"';
        rest = &rest[length..];
    }
    yaml.into()
}

/// The character of `\ud83d\ude00` at the beginning of a text.
fn surrogates(text: &str) -> Option<char> {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let (high, low) = (unit(0)?, unit(6).unwrap_or_default());
    char::decode_utf16([high, low])
        .next()?
        .ok()
        .filter(|_| (0xd800..0xdc00).contains(&high))
}
