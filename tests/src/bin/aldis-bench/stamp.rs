//! What a record of the benchmark carries, and how a client finds it again without parsing the event.

use std::fmt::Write as _;
use std::time::Instant;

/// Partitions of the topic. 4, as Aldis' examples have it.
pub const PARTITIONS: i32 = 4;

/// Topic that the channel of the benchmark reads.
pub const TOPIC: &str = "orders";

/// Where the stamp begins in a record, and in what clients get of it.
const MARK: &str = "\"bench\":\"";

/// What a record is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One that is counted.
    Counted,
    /// Shows that a partition is being read, before anything is counted.
    Probe,
    /// Nothing follows it in this room and partition.
    End,
}

/// One record's identity and time of birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// What it is for.
    pub kind: Kind,
    /// Number of the record within the run, from 0.
    pub number: u64,
    /// Its partition.
    pub partition: i32,
    /// When it was handed to the producer, in ns since the start of the program.
    pub born: u64,
}

impl Stamp {
    /// The room of a counted record: rooms take turns.
    pub fn room_of(number: u64, rooms: u64) -> u64 {
        number % rooms
    }

    /// The partition of a counted record. The records of one room go to all partitions in turn, so that a client sees
    /// several orders interleaved.
    pub fn partition_of(number: u64, rooms: u64) -> i32 {
        let turn = number / rooms + number;
        i32::try_from(turn % PARTITIONS.unsigned_abs() as u64).unwrap_or_default()
    }

    /// The record's value: an `order.status_changed` of the tenant that the room belongs to, `bytes` long, or a little
    /// longer where that is too short for what must be in it.
    pub fn value(&self, room: u64, bytes: usize) -> String {
        let kind = match self.kind {
            Kind::Counted => 'c',
            Kind::Probe => 'p',
            Kind::End => 'e',
        };
        let Self {
            number,
            partition,
            born,
            ..
        } = self;
        let mut text = String::with_capacity(bytes + 16);
        // Writing to a String does not fail.
        let _ = write!(
            text,
            r#"{{"event_type":"order.status_changed","data":{{"order_id":{number},"tenant_id":"{}",{MARK}{kind}:{number}:{partition}:{born}","note":""#,
            tenant(room)
        );
        let end = "\"}}";
        while text.len() + end.len() < bytes {
            text.push('x');
        }
        text.push_str(end);
        text
    }

    /// Finds the stamp in what a client received.
    pub fn find(text: &str) -> Option<Self> {
        let from = text.find(MARK)? + MARK.len();
        let rest = &text[from..];
        let mut parts = rest[..rest.find('"')?].split(':');
        let kind = match parts.next()? {
            "c" => Kind::Counted,
            "p" => Kind::Probe,
            "e" => Kind::End,
            _ => return None,
        };
        Some(Self {
            kind,
            number: parts.next()?.parse().ok()?,
            partition: parts.next()?.parse().ok()?,
            born: parts.next()?.parse().ok()?,
        })
    }
}

/// The tenant whose `orders:{tenant}` is a room.
pub fn tenant(room: u64) -> String {
    format!("t-{room}")
}

/// Nanoseconds since `start`.
pub fn nanos_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
