//! CloudEvents, structured and binary.

use bytes::Bytes;
use serde_json::json;

use super::*;

#[test]
fn structured_cloud_events_are_recognised() {
    let body = r#"{"specversion":"1.0","id":"A1","source":"/s","type":"com.made","time":"2026-11-21T10:00:00.5+01:00","data":{"n":1}}"#;
    assert_eq!(one(json!({}), body), r#"A1 com.made {"n":1}"#);
    let events = decode(&source(json!({})), &record(body)).unwrap().unwrap();
    assert_eq!(events[0].time.rfc3339(), "2026-11-21T09:00:00.500Z");
    assert_eq!(
        one(json!({"type": "{body.source}", "data": "{body.data.n}"}), body),
        "A1 /s 1",
        "the source's own rules win"
    );
    let without_data = r#"{"specversion":"1.0","id":"A1","source":"/s","type":"com.made","time":"yesterday"}"#;
    assert_eq!(one(json!({}), without_data), "A1 com.made null");
    let events = decode(&source(json!({})), &record(without_data)).unwrap().unwrap();
    assert_eq!(
        events[0].time.rfc3339(),
        "2026-11-21T09:30:00.000Z",
        "else the record's time"
    );
    assert_eq!(
        one(
            json!({}),
            r#"{"specversion":"1.0","id":"A","source":"/","type":"t","data_base64":"aGk="}"#
        ),
        r#"A t "aGk=""#
    );
    for no_cloud_event in [
        r#"{"specversion":"0.3","id":"A","source":"/","type":"t"}"#,
        r#"{"specversion":"1.0","id":7,"source":"/","type":"t"}"#,
        r#"{"specversion":"1.0","id":"A","type":"t"}"#,
        r#"{"specversion":"1.0","id":"A","source":"/","type":""}"#,
    ] {
        assert_eq!(
            one(json!({}), no_cloud_event),
            format!("orders/3/41 orders {no_cloud_event}")
        );
    }
}

#[test]
fn binary_cloud_events_are_recognised() {
    let mut binary = record(r#"{"n":1}"#);
    binary.headers = vec![
        header("ce_specversion", "1.0"),
        header("ce_id", "first"),
        header("ce_id", "B1"),
        header("ce_type", "com.made"),
        header("ce_time", "2026-11-21T09:00:00Z"),
    ];
    assert_eq!(made(json!({}), &binary), [r#"B1 com.made {"n":1}"#]);
    let events = decode(&source(json!({})), &binary).unwrap().unwrap();
    assert_eq!(events[0].time.rfc3339(), "2026-11-21T09:00:00.000Z");
    assert_eq!(
        made(json!({"each": "[1, 2]"}), &binary),
        ["B1/0 com.made 1", "B1/1 com.made 2"]
    );
    binary.headers[3].1 = Some(Bytes::from_static(b"\xff"));
    assert_eq!(made(json!({}), &binary), [r#"orders/3/41 orders {"n":1}"#]);
    binary.headers[3] = header("ce_type", &"t".repeat(300));
    assert_eq!(
        made(json!({}), &binary),
        ["no_type: sources[s].type: the event's type is longer than 256 bytes"]
    );
}
