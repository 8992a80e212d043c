//! The first ping of a connection. socketioxide sends it with its open packet, Engine.IO after an interval: a client's first
//! packets are then answered by what they ask for, and thousands of clients that come at once are not pinged at once. The wire
//! swallows that one, and answers it in the client's place, between two frames of the client.

/// A text frame `3` as a client sends it, masked with zeros.
pub(super) const PONG: [u8; 7] = [0x81, 0x81, 0, 0, 0, 0, b'3'];

/// What socketioxide writes: an open packet, and a ping.
const OPEN: &[u8] = b"0{";
const PING: &[u8] = b"2";

/// Where the first ping is, and where the client is in its frames until then.
#[derive(Debug, Default)]
pub(super) enum FirstPing {
    /// No open packet has passed: perhaps none will, where a session goes over from polling.
    #[default]
    NotOpen,
    /// The open packet has passed.
    Expected(Incoming),
    /// It was swallowed, and its answer is to be read.
    Swallowed(Incoming),
    Answered,
}

/// Where a client is in its frames.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    header: Vec<u8>,
    /// Bytes of the payload that are still to come.
    rest: u64,
}

impl FirstPing {
    /// Whether the packet in a frame of socketioxide is the first ping.
    pub(super) fn takes(&mut self, packet: &[u8]) -> bool {
        match self {
            FirstPing::NotOpen if packet.starts_with(OPEN) => *self = FirstPing::Expected(Incoming::default()),
            FirstPing::Expected(incoming) if packet == PING => {
                *self = FirstPing::Swallowed(std::mem::take(incoming));
                return true;
            }
            _ => {}
        }
        false
    }

    /// What the client has sent.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        if let FirstPing::Expected(incoming) | FirstPing::Swallowed(incoming) = self {
            incoming.advance(bytes);
        }
    }

    /// Whether its answer goes here. Only once.
    pub(super) fn answers(&mut self) -> bool {
        let here = matches!(self, FirstPing::Swallowed(incoming) if incoming.is_between_frames());
        if here {
            *self = FirstPing::Answered;
        }
        here
    }
}

impl Incoming {
    fn is_between_frames(&self) -> bool {
        self.rest == 0 && self.header.is_empty()
    }

    fn advance(&mut self, mut bytes: &[u8]) {
        while let Some((first, others)) = bytes.split_first() {
            if self.rest > 0 {
                let taken = self.rest.min(bytes.len() as u64);
                self.rest -= taken;
                bytes = &bytes[taken as usize..];
                continue;
            }
            self.header.push(*first);
            bytes = others;
            if let Some(length) = payload_length(&self.header) {
                self.rest = length;
                self.header.clear();
            }
        }
    }
}

/// The length of the payload, once the header is whole (RFC 6455, 5.2; clients mask).
fn payload_length(header: &[u8]) -> Option<u64> {
    let second = *header.get(1)?;
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    let (extended, length) = match second & 0x7f {
        126 => (2, u16::from_be_bytes(header.get(2..4)?.try_into().ok()?).into()),
        127 => (8, u64::from_be_bytes(header.get(2..10)?.try_into().ok()?)),
        length => (0, length.into()),
    };
    (header.len() == 2 + extended + mask).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(length: usize) -> Vec<u8> {
        let mut frame = vec![0x81];
        match length {
            0..126 => frame.push(0x80 | length as u8),
            126..65_536 => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend([7; 4]);
        frame.extend(std::iter::repeat_n(b'x', length));
        frame
    }

    #[test]
    fn the_ends_of_a_clients_frames_are_known_however_they_come() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let frame = masked(length);
            for piece in [1, 3, frame.len()] {
                let mut incoming = Incoming::default();
                let mut left = frame.len();
                for bytes in frame.chunks(piece) {
                    assert!(left == frame.len() || !incoming.is_between_frames(), "{length} {left}");
                    incoming.advance(bytes);
                    left -= bytes.len();
                }
                assert!(incoming.is_between_frames(), "{length} in pieces of {piece}");
            }
        }
        let mut incoming = Incoming::default();
        incoming.advance(&[masked(3), masked(200), masked(0)].concat());
        assert!(incoming.is_between_frames());
    }

    #[test]
    fn only_the_first_ping_behind_an_open_packet_is_taken_and_it_is_answered_once() {
        let mut ping = FirstPing::default();
        assert!(!ping.takes(b"2"), "an upgraded session has had its first");
        assert!(!ping.takes(b"0{\"sid\":\"a\"}"));
        assert!(!ping.answers());
        ping.read(&masked(5)[..4]);
        assert!(!ping.takes(b"40{}"));
        assert!(ping.takes(b"2"));
        assert!(!ping.answers(), "in the middle of a frame");
        ping.read(&masked(5)[4..]);
        assert!(ping.answers());
        assert!(!ping.answers());
        assert!(!ping.takes(b"2"));
    }
}
