//! What tests begin with: a channel from JSON, a record, a moment.

use aldis_crds::channel::SecretKeyRef;
use aldis_crds::contract::{Attachment, ChannelConfig, Keys, Secret};
use aldis_crds::names::ChannelName;
use serde_json::{Value as JsonValue, json};

use crate::channel::Channel;
use crate::compiler::Problem;
use crate::decode::{Decoded, Event};
use crate::expression::bounds::on_big_stack;
use crate::json::Json;
use crate::record::Record;
use crate::reject::Rejected;
use crate::time::Millis;

/// 2026-11-21T09:30:00.250Z
pub(crate) const NOW: Millis = Millis(1_795_253_400_250);
/// The value of `{name: jwt, key: secret}` in the namespace of the tests' channels.
pub(crate) const SECRET: &str = "correct horse battery staple";
/// The value of `{name: jwt, key: other}`.
pub(crate) const OTHER_SECRET: &str = "another secret of the same tenant";

pub(crate) fn keys() -> Keys {
    let mut keys = Keys::default();
    for (key, value) in [("secret", SECRET), ("other", OTHER_SECRET), ("empty", "")] {
        let reference = SecretKeyRef {
            name: "jwt".to_owned(),
            key: key.to_owned(),
        };
        keys.insert("bistro", reference, Secret::new(value));
    }
    keys
}

/// The channel `bistro/orders` at `/bistro/orders`, with what `spec` says beside its parent.
pub(crate) fn config(mut spec: JsonValue) -> ChannelConfig {
    spec["parentRefs"] = json!([{"name": "shared"}]);
    ChannelConfig {
        channel: ChannelName {
            namespace: "bistro".to_owned(),
            name: "orders".to_owned(),
        },
        uid: String::new(),
        attachments: vec![Attachment {
            listener: "web".to_owned(),
            path: "/bistro/orders".to_owned(),
        }],
        spec: serde_json::from_value(spec).expect("the spec fits its type"),
        limits: Default::default(),
        open: true,
        egress: Vec::new(),
    }
}

pub(crate) fn compile(spec: JsonValue) -> Result<Channel, Vec<Problem>> {
    let config = config(spec);
    on_big_stack(|| Channel::compile(&config, &keys()))
}

pub(crate) fn channel(spec: JsonValue) -> Channel {
    compile(spec).unwrap_or_else(|problems| {
        let problems: Vec<_> = problems.iter().map(Problem::to_string).collect();
        panic!("the channel does not compile: {}", problems.join("\n"))
    })
}

/// Everything that is wrong with a spec, one `field: message` each.
pub(crate) fn problems(spec: JsonValue) -> Vec<String> {
    let problems = compile(spec).err().unwrap_or_default();
    problems.iter().map(Problem::to_string).collect()
}

/// A record at `orders/3/41`, of 09:30:00.000.
pub(crate) fn record(value: &str) -> Record {
    Record {
        topic: "orders".into(),
        partition: 3,
        offset: 41,
        key: None,
        headers: Vec::new(),
        timestamp_ms: 1_795_253_400_000,
        value: Some(value.as_bytes().to_vec().into()),
    }
}

/// What the channel's first source makes of a record; `None` where it is not for the channel.
pub(crate) fn decode(channel: &Channel, record: &Record) -> Result<Option<Vec<Event>>, Rejected> {
    match channel.sources[0].decode(record)? {
        Decoded::Events(events) => Ok(Some(events)),
        Decoded::NotForUs => Ok(None),
    }
}

pub(crate) fn json_of(value: JsonValue) -> Json {
    Json::from_value(&value)
}
