//! A view of JSON text that looks only where it is asked to.
//!
//! A record is checked once for being JSON and then read along the paths that expressions name; the rest is passed on as
//! the text that came in, so big integers, decimals and key order stay as the producer wrote them.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// One JSON value: its text (a part of a shared one), and its own parts once somebody has asked for them.
#[derive(Clone)]
pub struct Json {
    whole: Arc<str>,
    range: Range<usize>,
    parts: OnceLock<Parts>,
}

#[derive(Clone)]
enum Parts {
    Scalar,
    List(Vec<Json>),
    Map(Vec<(Box<str>, Json)>),
}

/// JSON's six types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// any number
    Number,
    /// a string
    String,
    /// an array
    List,
    /// an object
    Map,
}

impl Json {
    /// Checks that `text` is one JSON value.
    ///
    /// # Errors
    /// What is wrong with it and where, in serde_json's words.
    pub fn parse(text: impl Into<Arc<str>>) -> Result<Self, serde_json::Error> {
        let whole: Arc<str> = text.into();
        let range = range_in(&whole, serde_json::from_str::<&RawValue>(&whole)?);
        Ok(Self {
            whole,
            range,
            parts: OnceLock::new(),
        })
    }

    /// [`Json::parse`] for bytes that may not be UTF-8.
    ///
    /// # Errors
    /// As [`Json::parse`], and a text for bytes that are not UTF-8.
    pub fn parse_bytes(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|e| format!("not UTF-8: {e}"))?;
        Self::parse(text).map_err(|e| e.to_string())
    }

    /// `null`.
    pub fn null() -> Self {
        Self {
            range: 0..4,
            whole: "null".into(),
            parts: OnceLock::new(),
        }
    }

    /// `{}`.
    pub fn empty_map() -> Self {
        Self {
            range: 0..2,
            whole: "{}".into(),
            parts: OnceLock::new(),
        }
    }

    /// A JSON string.
    pub fn string(text: &str) -> Self {
        let mut out = String::with_capacity(text.len() + 2);
        write_string(&mut out, text);
        Self {
            range: 0..out.len(),
            whole: out.into(),
            parts: OnceLock::new(),
        }
    }

    /// The JSON of a parsed value.
    pub fn from_value(value: &serde_json::Value) -> Self {
        let text = value.to_string();
        Self {
            range: 0..text.len(),
            whole: text.into(),
            parts: OnceLock::new(),
        }
    }

    /// The JSON text.
    pub fn text(&self) -> &str {
        &self.whole[self.range.clone()]
    }

    /// Its type, by its first character.
    pub fn kind(&self) -> Kind {
        match self.text().as_bytes().first() {
            Some(b'{') => Kind::Map,
            Some(b'[') => Kind::List,
            Some(b'"') => Kind::String,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'n') => Kind::Null,
            _ => Kind::Number,
        }
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        self.kind() == Kind::Null
    }

    /// The string, or `None` where this is none (or holds an escape that is no character).
    pub fn as_str(&self) -> Option<Cow<'_, str>> {
        match self.kind() {
            Kind::String => {
                let text = self.text();
                let inner = &text[1..text.len() - 1];
                if inner.contains('\\') {
                    serde_json::from_str::<String>(text).ok().map(Cow::Owned)
                } else {
                    Some(Cow::Borrowed(inner))
                }
            }
            _ => None,
        }
    }

    /// The field of an object. Of a repeated key the last one counts.
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.fields()
            .iter()
            .rev()
            .find(|(name, _)| **name == *key)
            .map(|(_, value)| value)
    }

    /// The value at the end of a path of fields.
    pub fn at<S: AsRef<str>>(&self, path: &[S]) -> Option<&Json> {
        path.iter().try_fold(self, |value, key| value.get(key.as_ref()))
    }

    /// The elements of an array; none for anything else.
    pub fn elements(&self) -> &[Json] {
        match self.parts() {
            Parts::List(elements) => elements,
            _ => &[],
        }
    }

    /// The fields of an object, as written; none for anything else.
    pub fn fields(&self) -> &[(Box<str>, Json)] {
        match self.parts() {
            Parts::Map(fields) => fields,
            _ => &[],
        }
    }

    fn parts(&self) -> &Parts {
        self.parts.get_or_init(|| match self.kind() {
            Kind::List => serde_json::from_str::<Vec<&RawValue>>(self.text()).map_or(Parts::Scalar, |list| {
                Parts::List(list.into_iter().map(|raw| self.part(raw)).collect())
            }),
            Kind::Map => serde_json::Deserializer::from_str(self.text())
                .deserialize_map(Fields(self))
                .map_or(Parts::Scalar, Parts::Map),
            _ => Parts::Scalar,
        })
    }

    fn part(&self, raw: &RawValue) -> Json {
        Json {
            whole: Arc::clone(&self.whole),
            range: range_in(&self.whole, raw),
            parts: OnceLock::new(),
        }
    }
}

/// Where in `whole` the text of `raw`, a part of it, stands.
fn range_in(whole: &str, raw: &RawValue) -> Range<usize> {
    let start = raw.get().as_ptr() as usize - whole.as_ptr() as usize;
    start..start + raw.get().len()
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Reads an object as a list of fields.
struct Fields<'p>(&'p Json);

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = Vec<(Box<str>, Json)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some((key, value)) = map.next_entry::<Box<str>, &'de RawValue>()? {
            fields.push((key, self.0.part(value)));
        }
        Ok(fields)
    }
}

/// Writes `text` as a JSON string.
pub fn write_string(out: &mut String, text: &str) {
    out.push('"');
    write_escaped(out, text);
    out.push('"');
}

/// Writes `text` with what JSON strings must escape, without the quotes.
pub fn write_escaped(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c < ' ' || c == '"' || c == '\\') {
        out.push_str(&rest[..at]);
        let c = rest.as_bytes()[at];
        match c {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            _ => out.push_str(&format!("\\u{c:04x}")),
        }
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_followed_and_the_rest_stays_text() {
        let text = r#" {"a": {"b":[1, {"c": 12345678901234567890123}]}, "price": 1.10, "a\u0062": true} "#;
        let json = Json::parse(text).unwrap();
        assert_eq!(
            json.at(&["a", "b"]).unwrap().elements()[1].get("c").unwrap().text(),
            "12345678901234567890123"
        );
        assert_eq!(json.get("price").unwrap().text(), "1.10");
        assert_eq!(json.get("ab").unwrap().text(), "true");
        assert!(json.at(&["a", "x", "y"]).is_none());
    }

    #[test]
    fn the_last_of_a_repeated_key_counts() {
        assert_eq!(Json::parse(r#"{"a":1,"a":2}"#).unwrap().get("a").unwrap().text(), "2");
    }

    #[test]
    fn strings_are_unescaped_and_written_back() {
        let json = Json::parse(r#""a\n\"ü\u0001""#).unwrap();
        let text = json.as_str().unwrap();
        assert_eq!(text, "a\n\"ü\u{1}");
        let mut out = String::new();
        write_string(&mut out, &text);
        assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
    }

    #[test]
    fn what_is_not_json_says_where() {
        assert!(Json::parse("{\"a\":}").unwrap_err().to_string().contains("column 6"));
        assert!(Json::parse_bytes(&[0xff]).unwrap_err().starts_with("not UTF-8"));
        assert!(Json::parse("1 2").is_err());
    }

    #[test]
    fn deep_nesting_does_not_use_the_stack() {
        let text = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        assert_eq!(Json::parse(text).unwrap().elements().len(), 1);
    }
}
