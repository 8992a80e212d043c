//! Arguments of Socket.IO events as JSON text, in and out.

use aldis_core::json::{Json, Kind};
use aldis_core::membership::Denial;
use serde::ser::{Serialize, SerializeTuple, Serializer};
use serde_json::value::RawValue;
use socketioxide_core::Value;

/// Arguments that go out as they are.
pub(super) struct RawArgs<'a>(Vec<&'a RawValue>);

impl<'a> RawArgs<'a> {
    /// `args` are JSON texts; one that is none (which nothing here makes) would be left out.
    pub(super) fn new(args: &'a [String]) -> Self {
        Self(args.iter().filter_map(|arg| serde_json::from_str(arg).ok()).collect())
    }
}

/// Clients with a session take the last string argument of any event for their position, and the name of one without
/// arguments: only deliveries may end so. Others get a null behind.
pub(super) fn without_position(mut args: Vec<String>) -> Vec<String> {
    if args.last().is_none_or(|last| last.starts_with('"')) {
        args.push("null".to_owned());
    }
    args
}

/// A tuple: socketioxide makes one argument of each element.
impl Serialize for RawArgs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        for arg in &self.0 {
            tuple.serialize_element(arg)?;
        }
        tuple.end()
    }
}

/// Name and arguments of a client's event, `["name", arg, …]`.
pub(super) fn parse_event(event: &Value) -> Result<(String, Json), Denial> {
    let malformed = |message: &str| Denial {
        code: "malformed_event",
        message: message.to_owned(),
    };
    let text = match event {
        Value::Str(_, Some(attachments)) if !attachments.is_empty() => {
            return Err(Denial {
                code: "binary_unsupported",
                message: "binary arguments are not supported".to_owned(),
            });
        }
        Value::Str(text, _) => text.as_str(),
        Value::Bytes(_) => return Err(malformed("the event is no text")),
    };
    let packet = Json::parse(text).map_err(|error| malformed(&error.to_string()))?;
    let Some((name, args)) = packet.elements().split_first().filter(|_| packet.kind() == Kind::List) else {
        return Err(malformed("the event has no name"));
    };
    let name = name
        .as_str()
        .ok_or_else(|| malformed("the event's name is no string"))?
        .into_owned();
    let args: Vec<_> = args.iter().map(Json::text).collect();
    let args = Json::parse(format!("[{}]", args.join(","))).map_err(|error| malformed(&error.to_string()))?;
    Ok((name, args))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(String, String), &'static str> {
        let event = Value::Str(text.to_owned().into(), None);
        parse_event(&event)
            .map(|(name, args)| (name, args.text().to_owned()))
            .map_err(|denial| denial.code)
    }

    #[test]
    fn an_event_is_a_name_and_arguments() {
        assert_eq!(parse(r#"["a"]"#), Ok(("a".to_owned(), "[]".to_owned())));
        assert_eq!(
            parse(r#"["a\n", {"x": 1.0}, null ]"#),
            Ok(("a\n".to_owned(), r#"[{"x": 1.0},null]"#.to_owned()))
        );
    }

    #[test]
    fn anything_else_is_malformed() {
        for text in ["[]", "[1]", "{}", "\"a\"", "[", ""] {
            assert_eq!(parse(text), Err("malformed_event"), "{text}");
        }
        let binary = Value::Str(
            "[\"a\"]".to_owned().into(),
            Some([bytes::Bytes::from_static(b"x")].into()),
        );
        assert_eq!(parse_event(&binary).unwrap_err().code, "binary_unsupported");
    }

    #[test]
    fn only_deliveries_end_in_a_string() {
        let guarded = |args: &[&str]| without_position(args.iter().map(|arg| (*arg).to_owned()).collect()).join(",");
        assert_eq!(guarded(&[]), "null");
        assert_eq!(guarded(&["1", "\"a\""]), "1,\"a\",null");
        assert_eq!(guarded(&["\"a\"", "{}"]), "\"a\",{}");
    }

    #[test]
    fn raw_arguments_keep_their_text() {
        let args = ["1.10".to_owned(), "{\"b\":1,\"a\":2}".to_owned()];
        assert_eq!(
            serde_json::to_string(&RawArgs::new(&args)).unwrap(),
            r#"[1.10,{"b":1,"a":2}]"#
        );
    }
}
