//! How a Redis Cluster spreads keys: which hash slot a key is in, and what a node says of who has which slots.

use std::ops::RangeInclusive;

use redis::Value;

/// Hash slots of a Cluster.
pub(super) const SLOTS: u16 = 16_384;

/// The hash slot of a key: of what stands between its first braces, if something does.
pub(super) fn slot(key: &str) -> u16 {
    let tagged = key.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    let hashed = match tagged {
        Some((tag, _)) if !tag.is_empty() => tag,
        _ => key,
    };
    // CRC16 as in XMODEM.
    let crc = hashed.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => (crc << 1) ^ 0x1021,
        })
    });
    crc % SLOTS
}

/// Who has which slots, as one node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// Whether the node takes part in a Cluster that serves all slots.
    pub(super) is_ok: bool,
    /// Grows with every change that nodes agree on: of two views the one with more is newer.
    pub(super) epoch: u64,
    pub(super) shards: Vec<Shard>,
}

/// Slots, and the master that has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shard {
    pub(super) slots: RangeInclusive<u16>,
    pub(super) host: String,
    pub(super) port: u16,
}

impl View {
    /// What `CLUSTER INFO` and `CLUSTER SLOTS` say. A node that does not name itself is where it was `asked`.
    pub(super) fn of(info: &str, slots: &Value, asked: &str) -> Self {
        let field = |name: &str| {
            let mut fields = info.lines().filter_map(|line| line.split_once(':'));
            fields
                .find(|(key, _)| *key == name)
                .map_or("", |(_, value)| value.trim())
        };
        Self {
            is_ok: field("cluster_state") == "ok",
            epoch: field("cluster_current_epoch").parse().unwrap_or(0),
            shards: list(slots).iter().filter_map(|entry| shard(entry, asked)).collect(),
        }
    }
}

/// `first, last, [host, port, …], replicas…`.
fn shard(entry: &Value, asked: &str) -> Option<Shard> {
    let [Value::Int(first), Value::Int(last), master, ..] = list(entry) else {
        return None;
    };
    let [host, Value::Int(port), ..] = list(master) else {
        return None;
    };
    let host = match host {
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        Value::SimpleString(host) => host,
        _ => "",
    };
    let host = match host {
        "" => asked,
        // It has no name that clients could use.
        "?" => return None,
        host => host,
    };
    Some(Shard {
        slots: u16::try_from(*first).ok()?..=u16::try_from(*last).ok()?.min(SLOTS - 1),
        host: host.to_owned(),
        port: u16::try_from(*port).ok()?,
    })
}

fn list(value: &Value) -> &[Value] {
    match value {
        Value::Array(values) => values,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_slot_in_which_redis_has_them() {
        // As CLUSTER KEYSLOT says.
        assert_eq!(slot("123456789"), 0x31C3);
        assert_eq!(slot("foo"), 12_182);
        assert_eq!(slot("a{foo}b{c}"), slot("foo"));
        assert_eq!(slot("{}foo"), slot("{}foo"));
        assert_ne!(slot("{}foo"), slot("foo"));
        assert_eq!(slot("aldis:{g|orders}:c"), slot("aldis:{g|orders}:p:r/1:{a}"));
    }

    #[test]
    fn what_a_node_says_is_read_whatever_it_does_not_say() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let node = |host: Value| Value::Array(vec![host, Value::Int(7000), text("id"), Value::Map(vec![])]);
        let entry = |first, last, host| Value::Array(vec![Value::Int(first), Value::Int(last), node(host)]);
        let slots = Value::Array(vec![
            entry(0, 99, text("10.0.0.1")),
            entry(100, 199, Value::Nil),
            entry(200, 299, text("?")),
            entry(300, 99_999, text("10.0.0.2")),
            Value::Int(7),
        ]);
        let view = View::of("cluster_state:ok\r\ncluster_current_epoch:6\r\n", &slots, "seed");
        assert_eq!((view.is_ok, view.epoch), (true, 6));
        let shard = |slots, host: &str| Shard {
            slots,
            host: host.to_owned(),
            port: 7000,
        };
        assert_eq!(view.shards, [shard(0..=99, "10.0.0.1"), shard(100..=199, "seed")]);
        assert!(!View::of("cluster_state:fail", &Value::Nil, "seed").is_ok);
    }
}
