//! Socket.IO v5 packets inside Engine.IO v4 text frames, as a client reads and writes them.
//!
//! [`parse`] looks only at the envelope: a packet's JSON stays text, so that a reader that only counts
//! events does not pay for parsing them.

use std::fmt::Write;

use serde_json::Value;

/// Longest part of a malformed packet that an error shows, in characters: enough to recognise it.
const EXCERPT_CHARS: usize = 60;

/// One text frame from the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// Engine.IO `open` with its JSON handshake.
    Open(&'a str),
    /// Engine.IO `close`.
    Close,
    /// Engine.IO `ping`; the text must come back in the pong.
    Ping(&'a str),
    /// Engine.IO frames that ask nothing of a client (`pong`, `noop`).
    Ignored,
    /// Engine.IO `message`: a Socket.IO packet.
    Message(Packet<'a>),
}

/// One Socket.IO packet. `id` is the acknowledgement it asks for, or the one it answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    pub(super) kind: Kind,
    /// `/` where the packet names none.
    pub(super) namespace: &'a str,
    pub(super) id: Option<u64>,
    /// The JSON text that follows, unparsed; empty where there is none.
    pub(super) json: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Connect,
    Disconnect,
    Event,
    Ack,
    ConnectError,
    BinaryEvent { attachments: usize },
    BinaryAck { attachments: usize },
}

/// A text frame that is not Engine.IO v4 or not Socket.IO v5.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("malformed packet from the server: {reason} in `{excerpt}`")]
pub struct PacketError {
    reason: &'static str,
    excerpt: String,
}

impl PacketError {
    pub(super) fn new(reason: &'static str, frame: &str) -> Self {
        Self {
            reason,
            excerpt: frame.chars().take(EXCERPT_CHARS).collect(),
        }
    }
}

/// Reads one text frame.
pub(super) fn parse(frame: &str) -> Result<Frame<'_>, PacketError> {
    let fail = |reason| PacketError::new(reason, frame);
    let Some(kind) = frame.chars().next() else {
        return Err(fail("empty frame"));
    };
    let rest = &frame[kind.len_utf8()..];
    match kind {
        '0' => Ok(Frame::Open(rest)),
        '1' => Ok(Frame::Close),
        '2' => Ok(Frame::Ping(rest)),
        '3' | '5' | '6' => Ok(Frame::Ignored),
        '4' => parse_packet(rest).map(Frame::Message).map_err(fail),
        _ => Err(fail("unknown Engine.IO packet type")),
    }
}

fn parse_packet(text: &str) -> Result<Packet<'_>, &'static str> {
    let Some(digit) = text.chars().next() else {
        return Err("missing Socket.IO packet type");
    };
    let mut rest = &text[digit.len_utf8()..];
    let kind = match digit {
        '0' => Kind::Connect,
        '1' => Kind::Disconnect,
        '2' => Kind::Event,
        '3' => Kind::Ack,
        '4' => Kind::ConnectError,
        '5' | '6' => {
            let (count, after) = rest.split_once('-').ok_or("missing attachment count")?;
            let attachments = count.parse().map_err(|_| "bad attachment count")?;
            rest = after;
            if digit == '5' {
                Kind::BinaryEvent { attachments }
            } else {
                Kind::BinaryAck { attachments }
            }
        }
        _ => return Err("unknown Socket.IO packet type"),
    };
    let mut namespace = "/";
    if rest.starts_with('/') {
        (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
    }
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let id = match &rest[..digits] {
        "" => None,
        id => Some(id.parse().map_err(|_| "bad acknowledgement id")?),
    };
    Ok(Packet {
        kind,
        namespace,
        id,
        json: &rest[digits..],
    })
}

/// The CONNECT packet, framed. `auth` is any JSON object; `None` sends none.
pub(super) fn connect(namespace: &str, auth: Option<&Value>) -> String {
    let mut frame = head('0', namespace, None);
    if let Some(auth) = auth {
        let _ = write!(frame, "{auth}");
    }
    frame
}

/// The DISCONNECT packet, framed.
pub(super) fn disconnect(namespace: &str) -> String {
    head('1', namespace, None)
}

/// An EVENT packet, framed: asks for acknowledgement `id` if there is one.
pub(super) fn event(namespace: &str, id: Option<u64>, name: &str, args: &[Value]) -> String {
    let mut frame = head('2', namespace, id);
    let _ = write!(frame, "[{}", Value::from(name));
    for arg in args {
        let _ = write!(frame, ",{arg}");
    }
    frame.push(']');
    frame
}

fn head(kind: char, namespace: &str, id: Option<u64>) -> String {
    let mut frame = String::from("4");
    frame.push(kind);
    if namespace != "/" {
        frame.push_str(namespace);
        frame.push(',');
    }
    if let Some(id) = id {
        let _ = write!(frame, "{id}");
    }
    frame
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn packet(frame: &str) -> Packet<'_> {
        match parse(frame) {
            Ok(Frame::Message(packet)) => packet,
            other => panic!("{frame}: {other:?}"),
        }
    }

    #[test]
    fn engine_frames_are_told_apart() {
        assert_eq!(parse(r#"0{"sid":"a"}"#), Ok(Frame::Open(r#"{"sid":"a"}"#)));
        assert_eq!(parse("1"), Ok(Frame::Close));
        assert_eq!(parse("2"), Ok(Frame::Ping("")));
        assert_eq!(parse("2probe"), Ok(Frame::Ping("probe")));
        assert_eq!(parse("6"), Ok(Frame::Ignored));
    }

    #[test]
    fn envelope_of_each_packet_is_read() {
        let expect = |kind, namespace, id, json| Packet {
            kind,
            namespace,
            id,
            json,
        };
        assert_eq!(
            packet(r#"40{"sid":"x"}"#),
            expect(Kind::Connect, "/", None, r#"{"sid":"x"}"#)
        );
        assert_eq!(
            packet(r#"40/a/b,{"sid":"x"}"#),
            expect(Kind::Connect, "/a/b", None, r#"{"sid":"x"}"#)
        );
        assert_eq!(packet("41/a,"), expect(Kind::Disconnect, "/a", None, ""));
        assert_eq!(packet("41/a"), expect(Kind::Disconnect, "/a", None, ""));
        assert_eq!(packet(r#"42["e",1]"#), expect(Kind::Event, "/", None, r#"["e",1]"#));
        assert_eq!(
            packet(r#"42/a,12["e"]"#),
            expect(Kind::Event, "/a", Some(12), r#"["e"]"#)
        );
        assert_eq!(packet("43/a,7[1]"), expect(Kind::Ack, "/a", Some(7), "[1]"));
        assert_eq!(
            packet(r#"44/a,{"message":"no"}"#),
            expect(Kind::ConnectError, "/a", None, r#"{"message":"no"}"#)
        );
        assert_eq!(
            packet(r#"452-/a,["e"]"#),
            expect(Kind::BinaryEvent { attachments: 2 }, "/a", None, r#"["e"]"#)
        );
        assert_eq!(
            packet("461-5[]"),
            expect(Kind::BinaryAck { attachments: 1 }, "/", Some(5), "[]")
        );
    }

    #[test]
    fn malformed_frames_are_refused_with_the_reason() {
        for (frame, reason) in [
            ("", "empty frame"),
            ("9", "unknown Engine.IO packet type"),
            ("é", "unknown Engine.IO packet type"),
            ("4", "missing Socket.IO packet type"),
            ("4é", "unknown Socket.IO packet type"),
            ("45[]", "missing attachment count"),
            ("45x-[]", "bad attachment count"),
            ("4399999999999999999999[]", "bad acknowledgement id"),
        ] {
            assert_eq!(parse(frame), Err(PacketError::new(reason, frame)), "{frame}");
        }
    }

    #[test]
    fn a_long_malformed_frame_is_shown_in_part() {
        let error = parse(&"x".repeat(10_000)).unwrap_err();
        assert!(error.to_string().len() < 200, "{error}");
    }

    #[test]
    fn written_packets_are_what_a_server_reads() {
        assert_eq!(connect("/", None), "40");
        assert_eq!(connect("/a", Some(&json!({"token": "t"}))), r#"40/a,{"token":"t"}"#);
        assert_eq!(disconnect("/a"), "41/a,");
        assert_eq!(event("/", None, "e", &[]), r#"42["e"]"#);
        assert_eq!(
            event("/a", Some(3), "q\"", &[json!(1), json!({"k": "v"})]),
            r#"42/a,3["q\"",1,{"k":"v"}]"#
        );
    }
}
