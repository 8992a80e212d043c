use clap::Parser;
use serde_json::json;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::target::connect_options;
use super::*;
use crate::args::{Cli, Command};
use crate::client::Event;

fn args(args: &[&str]) -> TailArgs {
    match Cli::try_parse_from([&["aldis", "tail"], args].concat()) {
        Ok(Cli {
            command: Command::Tail(args),
        }) => args,
        other => panic!("{other:?}"),
    }
}

fn line(output: Output, array: &'static str) -> String {
    let event = Event::parse(Utf8Bytes::from(array)).unwrap();
    output
        .line(&event, "2026-01-02T03:04:05.678912Z".parse().unwrap())
        .unwrap()
}

#[test]
fn a_url_path_is_the_namespace_and_its_query_the_query() {
    let options = connect_options(&args(&["http://h:1/bistro/orders?a=b%20c&d"]), None).unwrap();
    assert_eq!(
        (options.url.as_str(), options.namespace.as_str()),
        ("http://h:1", "/bistro/orders")
    );
    assert_eq!(options.query, [("a".into(), "b c".into()), ("d".into(), "".into())]);
}

#[test]
fn the_namespace_option_wins_and_a_bare_host_is_http() {
    let options = connect_options(&args(&["h:1/x", "--namespace", "/y", "--query", "k=v"]), None).unwrap();
    assert_eq!((options.url.as_str(), options.namespace.as_str()), ("http://h:1", "/y"));
    assert_eq!(options.query, [("k".into(), "v".into())]);
    assert_eq!(connect_options(&args(&["http://h:1"]), None).unwrap().namespace, "/");
}

#[test]
fn auth_is_taken_from_options_before_the_environment() {
    let env = || Some(Secret::new("env"));
    let auth = |given: &[&str]| {
        connect_options(&args(&[&["http://h"], given].concat()), env())
            .unwrap()
            .auth
    };
    assert_eq!(auth(&[]), Some(json!({"token": "env"})));
    assert_eq!(auth(&["--token", "t"]), Some(json!({"token": "t"})));
    assert_eq!(auth(&["--auth", r#"{"token":"a"}"#]), Some(json!({"token": "a"})));
    assert_eq!(connect_options(&args(&["http://h"]), None).unwrap().auth, None);
}

#[test]
fn auth_that_is_no_object_is_refused() {
    for wrong in ["[]", "hunter2", "{"] {
        let error = connect_options(&args(&["http://h", "--auth", wrong]), None).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn emit_takes_an_event_and_perhaps_one_json_argument() {
    assert_eq!(
        emit("a:b={\"k\":\"=\"}"),
        Ok(Emit {
            event: "a:b".into(),
            args: vec![json!({"k": "="})]
        })
    );
    assert_eq!(
        emit("a:b"),
        Ok(Emit {
            event: "a:b".into(),
            args: vec![]
        })
    );
    assert!(emit("a=text").unwrap_err().contains("quotes"));
    assert!(emit("=1").is_err());
}

#[test]
fn only_what_cannot_pass_ends_the_command() {
    let http = |status| ConnectError::Http {
        server: String::new(),
        status,
        body: String::new(),
    };
    assert!(is_permanent(&http(404)));
    assert!(!is_permanent(&http(503)));
    assert!(!is_permanent(&http(429)));
    assert!(!is_permanent(&ConnectError::Closed { server: String::new() }));
    let message = "Authentication token required".to_owned();
    let refused = ConnectError::Refused {
        namespace: "/".into(),
        message,
        data: None,
    };
    assert!(is_permanent(&refused));
    assert!(TailError::from(refused).hint().unwrap().contains("--token"));
}

#[test]
fn a_pretty_line_has_time_name_and_arguments() {
    assert_eq!(
        line(Output::Pretty, r#"["order:new", {"n": 1.0}, "t:7"]"#),
        r#"03:04:05.678Z order:new {"n": 1.0} "t:7""#
    );
}

#[test]
fn a_json_line_keeps_the_arguments_text() {
    assert_eq!(
        line(Output::Json, r#"["e",{"n":1.0,"big":12345678901234567890123}]"#),
        r#"{"event":"e","args":[{"n":1.0,"big":12345678901234567890123}],"receivedAt":"2026-01-02T03:04:05.678Z"}"#
    );
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let shown = line(Output::Pretty, "[\"a\\u001b[2J\",{\n\"k\":\t\"\u{9b}\"}]");
    assert_eq!(shown, "03:04:05.678Z a\\u001b[2J { \"k\": \"\\u009b\"}");
}

#[test]
fn a_timeout_tells_what_came_and_why_not_more() {
    let error = TailError::TimedOut {
        after: Duration::from_secs(30),
        received: 1,
        wanted: Some(3),
        trouble: Some("disconnected: transport close".into()),
    };
    assert_eq!(
        error.to_string(),
        "--timeout 30s is over: 1 of 3 events received; not connected: disconnected: transport close"
    );
}
