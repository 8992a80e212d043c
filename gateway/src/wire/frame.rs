//! WebSocket frames (RFC 6455) as a server sends them, and the packets of Engine.IO 4 and Socket.IO 5 in them.

use bytes::{BufMut, Bytes, BytesMut};

use super::SWITCH_EVENT;

/// FIN and the opcode of text, binary and close.
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;

/// The packet with which Engine.IO closes.
pub(super) const ENGINE_CLOSE: &str = "1";
/// A WebSocket Close with status 1001: the server goes away (RFC 6455, 7.4.1).
pub(super) const CLOSE_FRAME: [u8; 4] = [CLOSE, 2, 0x03, 0xe9];
/// What stands before the number that clients are told.
const MAX_PAYLOAD: &str = "\"maxPayload\":";

/// A text frame as a server sends it: whole, not masked.
pub fn text_frame(text: &str) -> Bytes {
    let mut frame = BytesMut::with_capacity(text.len() + 10);
    frame.put_u8(TEXT);
    match text.len() {
        length @ 0..126 => frame.put_u8(length as u8),
        length @ 126..65_536 => {
            frame.put_u8(126);
            frame.put_u16(length as u16);
        }
        length => {
            frame.put_u8(127);
            frame.put_u64(length as u64);
        }
    }
    frame.put_slice(text.as_bytes());
    frame.freeze()
}

/// A CONNECT's frame with the session's name in it.
pub(super) fn with_pid(frame: &Bytes, pid: &str) -> Option<Bytes> {
    let body = frame.get(header(frame)?.0..)?;
    connect_with_pid(std::str::from_utf8(body).ok()?, pid).map(|text| text_frame(&text))
}

/// An open packet's frame that tells `bytes` as the most that a client may send at once.
pub(super) fn with_max_payload(frame: &Bytes, bytes: usize) -> Option<Bytes> {
    let body = frame.get(header(frame)?.0..)?;
    open_with_max_payload(std::str::from_utf8(body).ok()?, bytes).map(|text| text_frame(&text))
}

/// `0{…,"maxPayload":…}` with another number; `None` for anything else.
pub(crate) fn open_with_max_payload(text: &str, bytes: usize) -> Option<String> {
    let number = text.strip_prefix('0').and_then(|_| text.find(MAX_PAYLOAD))? + MAX_PAYLOAD.len();
    let length = text[number..].find(|c: char| !c.is_ascii_digit())?;
    Some(format!("{}{bytes}{}", &text[..number], &text[number + length..]))
}

/// `40/ns,{"sid":…}` with `"pid":…` in it; `None` for anything else.
pub(crate) fn connect_with_pid(text: &str, pid: &str) -> Option<String> {
    let brace = text.strip_prefix("40").and_then(|_| text.find("{\"sid\""))?;
    Some(format!("{}{{\"pid\":\"{pid}\",{}", &text[..brace], &text[brace + 1..]))
}

/// What separates code and message in the text that a refusal gives to socketioxide, whose CONNECT_ERROR has room for a text
/// alone: unit separator, which JSON shows as an escape.
const UNIT: char = '\u{1f}';
const ESCAPED_UNIT: &str = "\\u001f";

/// The text of a refusal, from which its CONNECT_ERROR gets `data: {code}` on the way out.
pub(crate) fn refusal_text(code: &str, message: &str) -> String {
    format!("{code}{UNIT}{message}")
}

/// `44/ns,{"message":…,"data":{"code":…}}`; `None` for anything but a CONNECT_ERROR of a [`refusal_text`].
pub(crate) fn error_with_code(text: &str) -> Option<String> {
    const MESSAGE: &str = "{\"message\":\"";
    let message = text.strip_prefix("44").and_then(|_| text.find(MESSAGE))? + MESSAGE.len();
    let (code, rest) = text[message..].strip_suffix("\"}")?.split_once(ESCAPED_UNIT)?;
    Some(format!(
        "{}{rest}\",\"data\":{{\"code\":\"{code}\"}}}}",
        &text[..message]
    ))
}

/// A frame with a refusal's code in it, or as it is.
pub(super) fn with_code(frame: Bytes) -> Bytes {
    let text = header(&frame).and_then(|(header, _)| std::str::from_utf8(frame.get(header..)?).ok());
    text.and_then(error_with_code).map_or(frame, |text| text_frame(&text))
}

/// The namespace of a CONNECT packet.
pub(crate) fn connect_namespace(text: &str) -> Option<&str> {
    text.strip_prefix("40").map(|rest| namespace(rest).0)
}

/// Takes a whole frame off the front, if there is one.
pub(super) fn split_frame(bytes: &mut BytesMut) -> Option<Bytes> {
    let (header, length) = header(bytes)?;
    let whole = header.checked_add(length).filter(|whole| bytes.len() >= *whole)?;
    Some(bytes.split_to(whole).freeze())
}

/// Length of a frame's header, and of what follows it.
fn header(bytes: &[u8]) -> Option<(usize, usize)> {
    match bytes.get(1)? & 0x7f {
        126 => Some((4, u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?).into())),
        127 => Some((
            10,
            usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?,
        )),
        length => Some((2, length.into())),
    }
}

/// What follows a frame's header.
pub(super) fn body(frame: &[u8]) -> &[u8] {
    header(frame)
        .and_then(|(header, _)| frame.get(header..))
        .unwrap_or_default()
}

/// What a frame of socketioxide is, as far as the wire has to know.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet<'f> {
    /// The first of all: what Engine.IO tells a client about itself.
    Open,
    /// CONNECT of a namespace.
    Connect(&'f str),
    /// DISCONNECT of a namespace, or its CONNECT_ERROR.
    Disconnect(&'f str),
    /// [`SWITCH_EVENT`] of a namespace.
    Switch(&'f str),
    /// A packet with attachments, which follow.
    Binary { attachments: usize },
    /// An attachment.
    Attachment,
    /// The answer to a probe: the client has not upgraded yet.
    Probe,
    /// A WebSocket Close.
    Close,
    /// Anything else: events, acknowledgements, heartbeats.
    Other,
}

impl<'f> Packet<'f> {
    pub(super) fn of(frame: &'f [u8]) -> Self {
        let body = body(frame);
        match frame.first() {
            Some(&CLOSE) => Packet::Close,
            Some(&BINARY) => Packet::Attachment,
            Some(&TEXT) => std::str::from_utf8(body).map_or(Packet::Other, Self::of_text),
            _ => Packet::Other,
        }
    }

    fn of_text(text: &'f str) -> Self {
        if text == "3probe" {
            return Packet::Probe;
        }
        if text.starts_with("0{") {
            return Packet::Open;
        }
        let Some(packet) = text.strip_prefix('4') else {
            return Packet::Other;
        };
        let (kind, rest) = packet.split_at_checked(1).unwrap_or_default();
        match kind {
            "0" => Packet::Connect(namespace(rest).0),
            "1" | "4" => Packet::Disconnect(namespace(rest).0),
            "2" => {
                let (name, rest) = namespace(rest);
                let is_switch = rest
                    .strip_prefix("[\"")
                    .is_some_and(|event| event.starts_with(SWITCH_EVENT));
                if is_switch { Packet::Switch(name) } else { Packet::Other }
            }
            "5" | "6" => match rest.split_once('-').and_then(|(count, _)| count.parse().ok()) {
                Some(0) | None => Packet::Other,
                Some(attachments) => Packet::Binary { attachments },
            },
            _ => Packet::Other,
        }
    }
}

/// The namespace at the beginning of a packet's rest, and what follows it.
fn namespace(rest: &str) -> (&str, &str) {
    if rest.starts_with('/') {
        rest.split_once(',').unwrap_or((rest, ""))
    } else {
        ("/", rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_all_lengths_are_split_where_they_end() {
        for length in [0, 1, 125, 126, 65_535, 65_536, 100_000] {
            let text = "x".repeat(length);
            let frame = text_frame(&text);
            let mut bytes = BytesMut::from(&frame[..]);
            bytes.extend_from_slice(b"\x81");
            assert_eq!(split_frame(&mut bytes).unwrap(), frame, "{length}");
            assert_eq!(split_frame(&mut bytes), None);
            let mut short = BytesMut::from(&frame[..frame.len() - 1]);
            assert_eq!(split_frame(&mut short), None);
        }
    }

    #[test]
    fn a_connect_error_gets_the_code_of_its_refusal() {
        let error = |namespace: &str, text: &str| format!("44{namespace}{}", serde_json::json!({ "message": text }));
        let refused = refusal_text("token_invalid", "a \"bad\" token");
        assert_eq!(
            error_with_code(&error("/orders,", &refused)).unwrap(),
            r#"44/orders,{"message":"a \"bad\" token","data":{"code":"token_invalid"}}"#
        );
        assert_eq!(
            with_code(text_frame(&error("", &refused))),
            text_frame(r#"44{"message":"a \"bad\" token","data":{"code":"token_invalid"}}"#)
        );
        assert_eq!(error_with_code(&error("/x,", "Invalid namespace")), None);
        assert_eq!(error_with_code("42[\"{\"message\":\"a\\u001fb\"}"), None);
    }

    #[test]
    fn an_open_packet_tells_another_number() {
        let told = open_with_max_payload(r#"0{"sid":"a","maxPayload":4503599627370496}"#, 1_000);
        assert_eq!(told.as_deref(), Some(r#"0{"sid":"a","maxPayload":1000}"#));
        assert_eq!(open_with_max_payload(r#"42["maxPayload":1}"#, 1), None);
        assert_eq!(open_with_max_payload("0{}", 1), None);
    }

    #[test]
    fn packets_are_told_apart() {
        let of = |text: &str| format!("{:?}", Packet::of(&text_frame(text)));
        assert_eq!(of("40{\"sid\":\"a\"}"), "Connect(\"/\")");
        assert_eq!(of("40/orders,{\"sid\":\"a\"}"), "Connect(\"/orders\")");
        assert_eq!(of("41/orders,"), "Disconnect(\"/orders\")");
        assert_eq!(of("44/orders,{\"message\":\"no\"}"), "Disconnect(\"/orders\")");
        assert_eq!(of("42/orders,[\"aldis:switch\"]"), "Switch(\"/orders\")");
        assert_eq!(of("42[\"aldis:switch\"]"), "Switch(\"/\")");
        assert_eq!(of("42[\"ev\",\"aldis:switch\"]"), "Other");
        assert_eq!(
            of("451-/orders,[\"ev\",{\"_placeholder\":true,\"num\":0}]"),
            "Binary { attachments: 1 }"
        );
        assert_eq!(of("3probe"), "Probe");
        assert_eq!(of("0{\"sid\":\"a\"}"), "Open");
        assert_eq!(of("2"), "Other");
        assert_eq!(Packet::of(b"\x88\x00"), Packet::Close);
        assert_eq!(Packet::of(b"\x82\x01x"), Packet::Attachment);
        assert_eq!(Packet::of(b""), Packet::Other);
    }
}
