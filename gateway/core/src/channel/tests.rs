//! Whole channels: golden folders, what is refused at load, hostile input, and cost.

mod compile;
mod fuzz;
mod golden;

use serde_json::json;

use crate::channel::Outcome;
use crate::fixtures::{NOW, channel, record};

#[test]
fn a_record_that_two_sources_read_is_delivered_by_both_or_by_none() {
    let channel = channel(json!({
        "sources": [
            {"name": "a", "kafka": {"topics": ["orders"]}, "type": "{body.a}"},
            {"name": "b", "kafka": {"topics": ["orders"]}, "type": "{body.b}", "where": "has(body.b)"},
        ],
        "routes": [{"types": ["*"], "emit": [{"event": "e", "everyone": true}]}],
    }));
    let delivered = |value: &str| match channel.process(&[0, 1], &record(value), NOW) {
        Ok(Outcome::Deliver(deliveries)) => Some(deliveries.len()),
        Ok(Outcome::NotForUs) => Some(0),
        Err(_) => None,
    };
    assert_eq!(delivered(r#"{"a": "x", "b": "y"}"#), Some(2));
    assert_eq!(delivered(r#"{"a": "x"}"#), Some(1));
    assert_eq!(delivered(r#"{"a": "x", "b": null}"#), None);
}
