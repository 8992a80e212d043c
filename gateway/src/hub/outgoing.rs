//! What goes to the clients of one delivery: encoded once for all of them.

use std::cell::RefCell;
use std::sync::Arc;

use aldis_core::json::write_string;
use bytes::Bytes;
use serde_json::value::RawValue;

use crate::adapter::Numbered;
use crate::wire::text_frame;

/// A delivery on its way out.
pub(super) struct Frames<'n> {
    numbered: &'n Numbered,
    position: String,
    /// WebSocket frames by Socket.IO namespace and payload, made when the first client needs them: there are a few.
    encoded: RefCell<Vec<(String, usize, Bytes)>>,
}

/// An event for one client.
pub struct Outgoing<'f> {
    frames: &'f Frames<'f>,
    payload: usize,
}

impl<'n> Frames<'n> {
    pub(super) fn of(numbered: &'n Numbered) -> Self {
        Self {
            numbered,
            position: numbered.position.to_string(),
            encoded: RefCell::default(),
        }
    }

    pub(super) fn seq(&self) -> u64 {
        self.numbered.position.seq
    }

    pub(super) fn outgoing(&'n self, payload: usize) -> Outgoing<'n> {
        Outgoing { frames: self, payload }
    }

    fn payload(&self, payload: usize) -> &Arc<str> {
        &self.numbered.delivery.payloads[payload]
    }

    /// `42/ns,["event",payload,"position"]`: Engine.IO message, Socket.IO EVENT.
    fn encode(&self, namespace: &str, payload: usize) -> Bytes {
        let payload = self.payload(payload);
        let mut text = String::with_capacity(payload.len() + self.numbered.delivery.event.len() + namespace.len() + 48);
        text.push_str("42");
        if namespace != "/" {
            text.push_str(namespace);
            text.push(',');
        }
        text.push('[');
        write_string(&mut text, &self.numbered.delivery.event);
        text.push(',');
        text.push_str(payload);
        text.push_str(",\"");
        text.push_str(&self.position);
        text.push_str("\"]");
        text_frame(&text)
    }
}

impl Outgoing<'_> {
    /// Name of the event.
    pub fn event(&self) -> &str {
        &self.frames.numbered.delivery.event
    }

    /// Its first argument.
    ///
    /// # Panics
    /// Never: payloads are rendered as JSON.
    pub fn payload(&self) -> &RawValue {
        serde_json::from_str(self.frames.payload(self.payload)).expect("payloads are rendered as JSON")
    }

    /// Its last argument.
    pub fn position(&self) -> &str {
        &self.frames.position
    }

    /// About how many bytes it is.
    pub fn bytes(&self) -> usize {
        self.event().len() + self.frames.payload(self.payload).len() + self.position().len()
    }

    /// The whole event as a WebSocket frame, shared by all clients of this namespace that get this payload.
    pub fn frame(&self, namespace: &str) -> Bytes {
        let mut encoded = self.frames.encoded.borrow_mut();
        if let Some((.., frame)) = encoded
            .iter()
            .find(|(ns, payload, _)| *payload == self.payload && ns == namespace)
        {
            return frame.clone();
        }
        let frame = self.frames.encode(namespace, self.payload);
        encoded.push((namespace.to_owned(), self.payload, frame.clone()));
        frame
    }
}
