use socketioxide_core::parser::Parse as _;

use super::*;

fn binary(text: &str, attachments: &[&'static [u8]]) -> Value {
    let attachments = attachments.iter().map(|bytes| Bytes::from_static(bytes)).collect();
    Value::Str(text.to_owned().into(), Some(attachments))
}

fn parse(event: &Value) -> Result<(String, String), (&'static str, String)> {
    Event::parse(event)
        .map(|event| (event.name.clone(), event.args().text().to_owned()))
        .map_err(|denial| (denial.code, denial.message))
}

fn text(text: &str) -> Value {
    Value::Str(text.to_owned().into(), None)
}

/// The arguments as socketioxide encodes them: text and attachments.
fn encoded(args: &Args<'_>) -> (String, Vec<Bytes>) {
    let value = socketioxide_parser_common::CommonParser
        .encode_value(args, Some("e"))
        .unwrap();
    let Value::Str(text, attachments) = value else {
        panic!("the parser makes text")
    };
    (text.as_str().to_owned(), attachments.into_iter().flatten().collect())
}

#[test]
fn an_event_is_a_name_and_arguments() {
    let ok = |name: &str, args: &str| Ok((name.to_owned(), args.to_owned()));
    assert_eq!(parse(&text(r#"["a"]"#)), ok("a", "[]"));
    assert_eq!(
        parse(&text(r#"["a\n", {"x": 1.0}, null ]"#)),
        ok("a\n", r#"[{"x": 1.0},null]"#)
    );
}

#[test]
fn anything_else_is_malformed() {
    for bad in ["[]", "[1]", "{}", "\"a\"", "[", ""] {
        assert_eq!(parse(&text(bad)).unwrap_err().0, "malformed_event", "{bad}");
    }
}

#[test]
fn expressions_see_null_for_binary_arguments() {
    let sent = binary(
        r#"["up", {"file":{"_placeholder":true,"num":1},"size": 1.10}, [{"num":0,"_placeholder":true}]]"#,
        &[b"abc", b"defg"],
    );
    assert_eq!(
        parse(&sent),
        Ok(("up".to_owned(), r#"[{"file":null,"size":1.10},[null]]"#.to_owned()))
    );
}

#[test]
fn binary_arguments_come_back_with_their_placeholders_numbered_anew() {
    let sent = binary(
        r#"["up", {"file":{"_placeholder":true,"num":1},"size": 1.10}, [{"num":0,"_placeholder":true}], "x"]"#,
        &[b"abc", b"defg"],
    );
    let event = Event::parse(&sent).unwrap();
    let (text, attachments) = encoded(&event.reply(&Arguments::AsTheyCame).without_position());
    assert_eq!(
        text,
        r#"["e",{"file":{"_placeholder":true,"num":0},"size":1.10},[{"_placeholder":true,"num":1}],"x",null]"#
    );
    assert_eq!(attachments, [&b"defg"[..], b"abc"]);
}

#[test]
fn placeholders_are_those_of_the_attachments_each_once() {
    let refused = |text: &str, attachments: &[&'static [u8]]| parse(&binary(text, attachments)).unwrap_err().1;
    let one = r#"["e",{"_placeholder":true,"num":0}]"#;
    assert_eq!(refused(one, &[b"a", b"b"]), "an attachment has no placeholder");
    assert_eq!(
        refused(
            r#"["e",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]"#,
            &[b"a"]
        ),
        "two placeholders name one attachment"
    );
    for num in ["1", "-1", "0.5", "\"0\"", "null", "99999999999999999999"] {
        assert_eq!(
            refused(&format!(r#"["e",{{"_placeholder":true,"num":{num}}}]"#), &[b"a"]),
            "a placeholder names no attachment",
            "{num}"
        );
    }
    let deep = format!("[\"e\",{}{}]", "[".repeat(50_000), "]".repeat(50_000));
    assert_eq!(
        refused(&deep, &[b"a"]),
        "an event with attachments nests deeper than 64"
    );
}

#[test]
fn a_placeholder_in_a_packet_without_attachments_is_an_object_like_any_other() {
    let event = Event::parse(&text(r#"["e",{"_placeholder":true,"num":0}]"#)).unwrap();
    assert!(!event.is_binary());
    let (text, attachments) = encoded(&event.reply(&Arguments::AsTheyCame));
    assert_eq!(text, r#"["e",{"_placeholder":true,"num":0}]"#);
    assert_eq!(attachments, Vec::<Bytes>::new());
}

#[test]
fn only_deliveries_end_in_a_string() {
    let guarded = |args: &[&str]| encoded(&Args::of(args.iter().copied()).without_position()).0;
    assert_eq!(guarded(&[]), r#"["e",null]"#);
    assert_eq!(guarded(&["1", "\"a\""]), r#"["e",1,"a",null]"#);
    assert_eq!(guarded(&["\"a\"", "{}"]), r#"["e","a",{}]"#);
}

#[test]
fn raw_arguments_keep_their_text() {
    let args = Args::of(["1.10", r#"{"b":1,"a":2}"#]);
    assert_eq!(encoded(&args).0, r#"["e",1.10,{"b":1,"a":2}]"#);
}

#[test]
fn their_length_is_about_that_of_what_is_sent() {
    let file = [7_u8; 3_000];
    let sent = Value::Str(
        r#"["e",{"_placeholder":true,"num":0},"text"]"#.to_owned().into(),
        Some([Bytes::copy_from_slice(&file)].into()),
    );
    let event = Event::parse(&sent).unwrap();
    let bytes = event.reply(&Arguments::AsTheyCame).bytes();
    assert!((4_000..4_200).contains(&bytes), "{bytes}");
    assert_eq!(Args::of(["12345"]).bytes(), 6);
}
