//! What waits on a wire, in which order it goes out, and what keeps it back.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::AsyncWrite;

use super::frame::{CLOSE_FRAME, ENGINE_CLOSE, Packet, body, text_frame, with_code, with_max_payload, with_pid};
use super::ping::FirstPing;
use super::{FRAME_BYTES, FRAMES_PER_WRITE, LinkError, QUEUE_BYTES};
use crate::hub::Pace;
use crate::sabotage::Rule;

/// Everything between socketioxide, the hub and the stream of one client.
pub(super) struct State<S> {
    /// `None` once it is done with.
    pub(super) stream: Option<S>,
    /// socketioxide has let go of it: it ends when everything is written.
    pub(super) let_go: bool,
    /// The beginning of a frame of socketioxide.
    pub(super) partial: BytesMut,
    pub(super) queue: VecDeque<Bytes>,
    queued: usize,
    /// How much of that is what the client has missed: it was bounded when it was read.
    backlog: usize,
    gates: Vec<Gate>,
    /// Session names for CONNECTs that no gate waits for, by namespace.
    pub(super) names: Vec<(String, String)>,
    /// Attachments of a binary packet that are still to come.
    attachments: usize,
    /// A Close frame has passed, or the stream has failed.
    pub(super) closed: bool,
    pub(super) failed: bool,
    /// Somebody has read: socketioxide has taken the session up.
    pub(super) read: bool,
    /// The client has ended the stream, or it broke.
    pub(super) ended: bool,
    pub(super) reading: Option<Waker>,
    /// Bytes that the client's TCP has taken.
    pub(super) written: u64,
    pub(super) upgraded: bool,
    /// What the open packet is to tell, until it has passed.
    pub(super) max_payload: Option<usize>,
    pub(super) first_ping: FirstPing,
    /// Somebody waits for the stream to become writable, and will write everything.
    pub(super) draining: bool,
    /// Whom to wake when everything is written.
    pub(super) flushing: Option<Waker>,
}

/// What keeps deliveries of a namespace back.
pub(super) struct Gate {
    namespace: String,
    opens_at: OpensAt,
    /// What CONNECT tells the client its session is called.
    pub(super) pid: Option<String>,
    waiting: Vec<Bytes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpensAt {
    Connect,
    Switch,
    Open,
}

impl<S: AsyncWrite + Unpin> State<S> {
    /// Ready when everything is with the kernel or the stream has failed.
    pub(super) fn poll_write_queue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.queue.is_empty() {
            let slices: Vec<_> = self
                .queue
                .iter()
                .take(FRAMES_PER_WRITE)
                .map(|frame| io::IoSlice::new(frame))
                .collect();
            let Some(stream) = &mut self.stream else {
                self.fail();
                break;
            };
            match Pin::new(stream).poll_write_vectored(cx, &slices) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(written)) if written > 0 => self.advance(written),
                Poll::Ready(_) => self.fail(),
            }
        }
        // TLS has a buffer of its own.
        match self.stream.as_mut().map(|stream| Pin::new(stream).poll_flush(cx)) {
            Some(Poll::Pending) => return Poll::Pending,
            Some(Poll::Ready(Err(_))) => self.fail(),
            Some(Poll::Ready(Ok(()))) | None => {}
        }
        Poll::Ready(())
    }

    fn advance(&mut self, mut written: usize) {
        self.queued -= written;
        self.written += written as u64;
        self.backlog = self.backlog.saturating_sub(written);
        while let Some(first) = self.queue.front_mut().filter(|_| written > 0) {
            let length = first.len();
            if written < length {
                first.advance(written);
                return;
            }
            written -= length;
            self.queue.pop_front();
        }
    }
}

impl<S> State<S> {
    pub(super) fn over(stream: S) -> Self {
        Self {
            stream: Some(stream),
            let_go: false,
            partial: BytesMut::new(),
            queue: VecDeque::new(),
            queued: 0,
            backlog: 0,
            gates: Vec::new(),
            names: Vec::new(),
            attachments: 0,
            closed: false,
            failed: false,
            read: false,
            ended: false,
            reading: None,
            written: 0,
            upgraded: false,
            max_payload: None,
            first_ping: FirstPing::default(),
            draining: false,
            flushing: None,
        }
    }

    /// Ends the connection: its reader is told, and what is queued is dropped.
    pub(super) fn fail(&mut self) {
        if let Some(waker) = self.reading.take() {
            waker.wake();
        }
        self.closed = true;
        self.failed = true;
        self.queue.clear();
        self.queued = 0;
        self.backlog = 0;
        self.gates.clear();
    }

    /// Engine.IO's close and a WebSocket Close, behind what is queued.
    pub(super) fn close(&mut self) {
        if self.closed {
            return;
        }
        self.push(text_frame(ENGINE_CLOSE));
        self.push(Bytes::from_static(&CLOSE_FRAME));
        self.close_gates(|_| true);
        self.closed = true;
    }

    /// Nobody writes any more. The stream ends now, or once what is queued is written.
    pub(super) fn let_go(&mut self) {
        self.closed = true;
        self.let_go = true;
        self.close_gates(|_| true);
        if !self.draining {
            self.stream = None;
        }
    }

    /// Bytes that wait besides what the client has missed.
    fn live(&self) -> usize {
        self.queued - self.backlog
    }

    /// Queues a frame of socketioxide; a client that lets these pile up too is closed.
    fn push(&mut self, frame: Bytes) {
        if self.live() > QUEUE_BYTES + FRAME_BYTES {
            return self.fail();
        }
        self.queued += frame.len();
        self.queue.push_back(frame);
    }

    /// A whole frame of socketioxide.
    pub(super) fn pass(&mut self, frame: Bytes) {
        if self.first_ping.takes(body(&frame)) {
            if let Some(waker) = self.reading.take() {
                waker.wake();
            }
            return;
        }
        match Packet::of(&frame) {
            Packet::Probe => self.push(frame),
            Packet::Open => {
                let told = self
                    .max_payload
                    .take()
                    .and_then(|bytes| with_max_payload(&frame, bytes));
                self.upgraded = true;
                self.push(told.unwrap_or(frame));
            }
            Packet::Close => {
                self.push(frame);
                self.close_gates(|_| true);
                self.closed = true;
            }
            Packet::Connect(namespace) => {
                let at = self.gate(namespace, OpensAt::Connect);
                let pid = match at {
                    Some(at) => self.gates[at].pid.take(),
                    None => self.take_name(namespace),
                };
                self.upgraded = true;
                self.push(pid.and_then(|pid| with_pid(&frame, &pid)).unwrap_or(frame));
                self.open_gate(at);
            }
            Packet::Disconnect(namespace) => {
                self.close_gates(|gate| gate.namespace == namespace);
                self.push(with_code(frame));
            }
            Packet::Switch(namespace) => {
                let at = self.gate(namespace, OpensAt::Switch);
                self.open_gate(at);
            }
            Packet::Binary { attachments } => {
                self.upgraded = true;
                self.attachments = attachments;
                self.push(frame);
            }
            Packet::Attachment => {
                self.push(frame);
                self.attachments = self.attachments.saturating_sub(1);
                if self.attachments == 0 {
                    self.open_held();
                }
            }
            Packet::Other => {
                self.upgraded = true;
                self.push(frame);
            }
        }
    }

    fn gate(&self, namespace: &str, opens_at: OpensAt) -> Option<usize> {
        self.gates
            .iter()
            .position(|gate| gate.namespace == namespace && gate.opens_at == opens_at)
    }

    fn take_name(&mut self, namespace: &str) -> Option<String> {
        let at = self.names.iter().position(|(known, _)| known == namespace)?;
        Some(self.names.swap_remove(at).1)
    }

    fn open_gate(&mut self, at: Option<usize>) {
        if let Some(at) = at {
            self.gates[at].opens_at = OpensAt::Open;
            self.release(at);
        }
    }

    /// Deliveries that came between a binary packet and its last attachment.
    fn open_held(&mut self) {
        for at in 0..self.gates.len() {
            if self.gates[at].opens_at == OpensAt::Open {
                self.release(at);
            }
        }
    }

    fn release(&mut self, at: usize) {
        // Bytes that wait at a gate count already.
        self.queue.extend(self.gates[at].waiting.drain(..));
    }

    /// Closes gates for good; what waited at them is dropped.
    fn close_gates(&mut self, which: impl Fn(&Gate) -> bool) {
        for gate in self.gates.extract_if(.., |gate| which(gate)) {
            self.queued -= gate.waiting.iter().map(Bytes::len).sum::<usize>();
            self.backlog = self.backlog.min(self.queued);
        }
    }

    pub(super) fn set_gate(&mut self, namespace: &str, opens_at: OpensAt) -> &mut Gate {
        let at = self
            .gates
            .iter()
            .position(|gate| gate.namespace == namespace)
            .unwrap_or_else(|| {
                self.gates.push(Gate {
                    namespace: namespace.to_owned(),
                    opens_at,
                    pid: None,
                    waiting: Vec::new(),
                });
                self.gates.len() - 1
            });
        self.gates[at].opens_at = opens_at;
        &mut self.gates[at]
    }

    pub(super) fn deliver(&mut self, namespace: &str, frame: &Bytes, pace: Pace) -> Result<(), LinkError> {
        if self.closed {
            return Err(LinkError::Closed);
        }
        let live = self.live();
        let gate = self
            .gates
            .iter_mut()
            .find(|gate| gate.namespace == namespace)
            .ok_or(LinkError::Closed)?;
        match pace {
            // One frame goes through however long it is: it would not be shorter next time.
            Pace::Live if live > 0 && live + frame.len() > QUEUE_BYTES => return Err(LinkError::Full),
            Pace::Live => {}
            Pace::Backlog => self.backlog += frame.len(),
        }
        self.queued += frame.len();
        let open = gate.opens_at == OpensAt::Open || !Rule::Gate.is_on();
        let torn = self.attachments > 0 && Rule::Stall.is_on();
        if open && !torn {
            self.queue.push_back(frame.clone());
        } else {
            gate.waiting.push(frame.clone());
        }
        Ok(())
    }
}
