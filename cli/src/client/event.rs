//! An event as it came: one packet's text, looked at only as far as asked.

use std::borrow::Cow;

use serde_json::Value;
use serde_json::value::RawValue;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::packet::PacketError;

/// An event from the server. Holds the frame it came in, so cloning it copies no text.
#[derive(Clone)]
pub struct Event {
    frame: Utf8Bytes,
    /// Where in `frame` the JSON array `["name", argument, …]` begins; it ends with the frame.
    array: usize,
    /// Where in `frame` the name's JSON string ends, its closing quote included.
    name_end: usize,
    ack_id: Option<u64>,
}

impl Event {
    /// `array` is the offset of the JSON array in `frame`.
    pub(super) fn new(frame: Utf8Bytes, array: usize, ack_id: Option<u64>) -> Result<Self, PacketError> {
        let fail = |reason| PacketError::new(reason, &frame);
        let text = &frame[array..];
        if !text.starts_with("[\"") {
            return Err(fail("an event must be an array that begins with its name"));
        }
        let name_len = string_len(&text[1..]).ok_or_else(|| fail("unterminated event name"))?;
        let after = text.as_bytes().get(1 + name_len);
        if !matches!(after, Some(b',' | b']')) || !text.ends_with(']') {
            return Err(fail("unterminated event array"));
        }
        let name_end = array + 1 + name_len;
        Ok(Self {
            frame,
            array,
            name_end,
            ack_id,
        })
    }

    /// Reads an event from its JSON array `["name", argument, …]`.
    pub fn parse(array: Utf8Bytes) -> Result<Self, PacketError> {
        Self::new(array, 0, None)
    }

    /// The event's name.
    pub fn name(&self) -> Cow<'_, str> {
        let quoted = &self.frame[self.array + 1..self.name_end];
        if quoted.contains('\\') {
            // A name with a broken escape is shown as it was sent.
            serde_json::from_str(quoted).map_or(Cow::Borrowed(quoted), Cow::Owned)
        } else {
            Cow::Borrowed(&quoted[1..quoted.len() - 1])
        }
    }

    /// The id of the acknowledgement the server asks for, if it does. This client does not send them.
    pub fn ack_id(&self) -> Option<u64> {
        self.ack_id
    }

    /// The JSON text of the whole array, name first, as it was sent; not checked to be valid JSON.
    pub fn text(&self) -> &str {
        &self.frame[self.array..]
    }

    /// The arguments after the name, each as the JSON text that was sent. Checks the syntax; builds no values.
    pub fn raw_args(&self) -> serde_json::Result<Vec<&RawValue>> {
        let mut all: Vec<&RawValue> = serde_json::from_str(self.text())?;
        all.remove(0);
        Ok(all)
    }

    /// The arguments after the name, parsed.
    pub fn args(&self) -> serde_json::Result<Vec<Value>> {
        let mut all: Vec<Value> = serde_json::from_str(self.text())?;
        all.remove(0);
        Ok(all)
    }

    /// The last argument if it is a string: what connection state recovery calls the offset.
    pub fn offset(&self) -> Option<String> {
        // Most events without an offset end in an object: seen from the last byte, without parsing.
        if !self.text().trim_end_matches(']').trim_end().ends_with('"') {
            return None;
        }
        serde_json::from_str(self.raw_args().ok()?.last()?.get()).ok()
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Event").field(&self.text()).finish()
    }
}

/// Length in bytes of the JSON string that `text` begins with, quotes included.
fn string_len(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(array: &str) -> Event {
        Event::new(Utf8Bytes::from(format!("42/a,{array}")), 5, None).unwrap()
    }

    #[test]
    fn name_and_arguments_are_read() {
        let event = event(r#"["order:status", {"a": 1.50}, "t:7"]"#);
        assert_eq!(event.name(), "order:status");
        assert_eq!(event.args().unwrap(), [json!({"a": 1.5}), json!("t:7")]);
        assert_eq!(
            event.raw_args().unwrap()[0].get(),
            r#"{"a": 1.50}"#,
            "text must be kept as sent"
        );
    }

    #[test]
    fn an_escaped_name_is_unescaped() {
        assert_eq!(event(r#"["a\"],\u0062"]"#).name(), "a\"],b");
        assert_eq!(event(r#"["\\"]"#).name(), "\\");
    }

    #[test]
    fn the_offset_is_the_last_argument_when_it_is_a_string() {
        assert_eq!(event(r#"["e",{},"t:7"]"#).offset().as_deref(), Some("t:7"));
        assert_eq!(
            event(r#"["e","t:7",["x"]]"#).offset(),
            None,
            "a string inside an array is not the last argument"
        );
        assert_eq!(event(r#"["e",1]"#).offset(), None);
        assert_eq!(event(r#"["e"]"#).offset(), None, "the name is no argument");
    }

    #[test]
    fn what_is_no_event_array_is_refused() {
        for array in ["", "{}", "[]", "[1]", r#"["e"#, r#"["e\""#, r#"["e"1]"#, r#"["e",1"#] {
            assert!(Event::new(Utf8Bytes::from(array), 0, None).is_err(), "{array}");
        }
    }

    #[test]
    fn arguments_that_are_not_json_are_an_error_only_when_read() {
        let event = event(r#"["e",{]"#);
        assert_eq!(event.name(), "e");
        assert!(event.args().is_err());
    }
}
