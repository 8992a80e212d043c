//! A delivery as Redis keeps and publishes it: bytes that every replica can read.
//!
//! `version source event payloads audience`; numbers are little-endian, texts and lists begin with their length (u32).
//! Who reads a version that it does not know says so, and never guesses.

use std::sync::Arc;

use aldis_core::room::RoomKey;
use aldis_core::route::{Audience, Delivery};

use crate::adapter::Source;

/// Changes with the form of what follows.
const VERSION: u8 = 1;

/// The bytes of a delivery.
pub(super) fn pack(delivery: &Delivery, source: &Source) -> Vec<u8> {
    let payloads: usize = delivery.payloads.iter().map(|payload| payload.len() + 4).sum();
    let mut out = Vec::with_capacity(payloads + 128);
    out.push(VERSION);
    text(&mut out, &source.topic);
    out.extend(source.partition.to_le_bytes());
    out.extend(source.offset.to_le_bytes());
    out.extend(source.index.to_le_bytes());
    text(&mut out, &delivery.event);
    length(&mut out, delivery.payloads.len());
    for payload in &delivery.payloads {
        text(&mut out, payload);
    }
    match &delivery.audience {
        Audience::Everyone => out.push(0),
        Audience::Rooms(rooms) => {
            out.push(1);
            length(&mut out, rooms.len());
            for (room, payload) in rooms {
                text(&mut out, &room.name);
                length(&mut out, room.values.len());
                for value in &room.values {
                    text(&mut out, value);
                }
                length(&mut out, *payload);
            }
        }
    }
    out
}

fn length(out: &mut Vec<u8>, length: usize) {
    // What is longer is refused long before: payloads of a record have 16 MiB together.
    out.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

fn text(out: &mut Vec<u8>, text: &str) {
    length(out, text.len());
    out.extend(text.as_bytes());
}

/// What the bytes say; `None` where they are of another version, or none of ours.
pub(super) fn unpack(bytes: &[u8]) -> Option<(Delivery, Source)> {
    let mut rest = Rest(bytes);
    if rest.bytes::<1>()? != [VERSION] {
        return None;
    }
    let source = Source {
        topic: rest.text()?.into(),
        partition: i32::from_le_bytes(rest.bytes()?),
        offset: i64::from_le_bytes(rest.bytes()?),
        index: u32::from_le_bytes(rest.bytes()?),
    };
    let event = rest.text()?.into();
    let payloads: Vec<Arc<str>> = rest.list(|rest| rest.text().map(Arc::from))?;
    let audience = match rest.bytes()? {
        [0] => Audience::Everyone,
        [1] => Audience::Rooms(rest.list(|rest| {
            let name = rest.text()?.into();
            let values: Vec<Box<str>> = rest.list(|rest| rest.text().map(Box::from))?;
            let payload = rest.length()?;
            let room = RoomKey {
                name,
                values: values.into(),
            };
            (payload < payloads.len()).then_some((room, payload))
        })?),
        _ => return None,
    };
    let delivery = Delivery {
        event,
        payloads,
        audience,
    };
    rest.0.is_empty().then_some((delivery, source))
}

struct Rest<'b>(&'b [u8]);

impl<'b> Rest<'b> {
    fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn length(&mut self) -> Option<usize> {
        Some(u32::from_le_bytes(self.bytes()?) as usize)
    }

    fn text(&mut self) -> Option<&'b str> {
        let length = self.length()?;
        std::str::from_utf8(self.take(length)?).ok()
    }

    fn list<T>(&mut self, item: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        // No capacity by what the bytes claim.
        (0..self.length()?).map(|_| item(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(audience: Audience) -> (Delivery, Source) {
        let delivery = Delivery {
            event: "order:ready".into(),
            payloads: vec![r#"{"a":"é"}"#.into(), "".into()],
            audience,
        };
        let source = Source {
            topic: "orders".into(),
            partition: 3,
            offset: i64::MAX,
            index: 7,
        };
        (delivery, source)
    }

    fn samples() -> [(Delivery, Source); 2] {
        let room = |values: &[&str]| RoomKey {
            name: "r".into(),
            values: values.iter().map(|value| Box::from(*value)).collect(),
        };
        let rooms = vec![(room(&["a:b", ""]), 1), (room(&[]), 0)];
        [sample(Audience::Everyone), sample(Audience::Rooms(rooms))]
    }

    #[test]
    fn what_is_packed_is_unpacked_the_same() {
        for (delivery, source) in samples() {
            assert_eq!(unpack(&pack(&delivery, &source)), Some((delivery, source)));
        }
    }

    #[test]
    fn bytes_that_are_cut_or_changed_are_never_half_read() {
        for (delivery, source) in samples() {
            let packed = pack(&delivery, &source);
            for cut in 0..packed.len() {
                assert_eq!(unpack(&packed[..cut]), None, "cut at {cut}");
            }
            for at in 0..packed.len() {
                let mut changed = packed.clone();
                changed[at] ^= 0xff;
                // Whatever it says then, it neither panics nor asks for memory that is not there.
                let _ = unpack(&changed);
            }
            assert_eq!(unpack(&[&packed[..], &[0]].concat()), None);
            assert_eq!(unpack(&[&[2], &packed[1..]].concat()), None, "another version");
        }
    }
}
