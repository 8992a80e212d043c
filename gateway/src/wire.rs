//! The wire: the bytes between socketioxide and a client's WebSocket, where the gateway writes deliveries itself.
//!
//! ```text
//! socketioxide ─ frames ─→ Wire (AsyncWrite) ─┐
//!                                             ├─ one queue ─→ TCP
//! hub ─ a frame encoded once for a room ─→ Link ┘
//! ```
//! Every frame of socketioxide passes here at a frame boundary, so a delivery's frame, which was encoded once for all clients
//! of a room, can be put between two of them. A [`Gate`] per namespace keeps deliveries back until that namespace's CONNECT has
//! passed. Nothing is put between a binary packet and its attachments, or behind a Close frame.
//!
//! The queue is bounded in bytes: a client that does not read is not waited for, it is closed.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::hub::Pace;

mod frame;

pub use frame::text_frame;
use frame::{Packet, split_frame, with_pid};
pub(crate) use frame::{connect_namespace, connect_with_pid};

/// Bytes that may wait for one client. 1 MiB, as Centrifugo's: seconds of a busy room; more means that it does not read.
pub const QUEUE_BYTES: usize = 1024 * 1024;
/// Bytes of one frame from socketioxide: what it may write without us seeing a frame's end. 4 MiB, over any reply.
pub const FRAME_BYTES: usize = 4 * 1024 * 1024;
/// How long a client may take nothing at all while something waits for it. 25 s, as a heartbeat.
pub const STALL: Duration = Duration::from_secs(25);
/// Frames that go out in one system call.
const FRAMES_PER_WRITE: usize = 64;

/// The event that marks, in socketioxide's own queue, where deliveries begin to be written here. It never leaves the gateway.
pub const SWITCH_EVENT: &str = "aldis:switch";

/// Why a delivery could not be queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// [`QUEUE_BYTES`] wait already.
    Full,
    /// The connection is closed, or closing.
    Closed,
}

/// socketioxide's end: a stream like any other.
pub struct Wire<S> {
    line: Arc<Line<S>>,
    /// Bytes that came with the upgrade request.
    prefix: Bytes,
    /// Dropped when socketioxide lets go of the stream.
    _kept: Option<Box<dyn Send + Sync>>,
}

impl<S> Wire<S> {
    /// Drops `value` when socketioxide lets go of the stream.
    #[must_use]
    pub fn keeping(self, value: Box<dyn Send + Sync>) -> Self {
        Self {
            _kept: Some(value),
            ..self
        }
    }
}

/// The hub's end.
pub trait Link: Send + Sync {
    /// Lets deliveries of a namespace wait until its CONNECT passes, into which `pid` is put.
    fn open(&self, namespace: &str, pid: Option<&str>);

    /// Has the CONNECT of a namespace carry `pid`, if it passes here: a client that is upgrading may get it either way.
    fn name(&self, namespace: &str, pid: &str);

    /// Lets deliveries of a namespace wait until the switch event of that namespace passes: for a client that has come over
    /// from polling, whose earlier deliveries are still in socketioxide's queue.
    fn switch(&self, namespace: &str);

    /// Queues a frame of a namespace, and writes what can be written.
    ///
    /// # Errors
    /// [`LinkError`]; nothing was queued.
    fn send(&self, namespace: &str, frame: &Bytes, pace: Pace) -> Result<(), LinkError>;

    /// Whether a frame of socketioxide that is no probe has passed: a client that upgrades has done so.
    fn is_upgraded(&self) -> bool;

    /// Whether socketioxide has taken the connection up as that of a session.
    fn is_taken_up(&self) -> bool;
}

struct Line<S> {
    state: Mutex<State<S>>,
    /// [`STALL`], but in tests.
    stall: Duration,
}

struct State<S> {
    stream: S,
    /// The beginning of a frame of socketioxide.
    partial: BytesMut,
    queue: VecDeque<Bytes>,
    queued: usize,
    /// How much of that is what the client has missed: it was bounded when it was read.
    backlog: usize,
    gates: Vec<Gate>,
    /// Session names for CONNECTs that no gate waits for, by namespace.
    names: Vec<(String, String)>,
    /// Attachments of a binary packet that are still to come.
    attachments: usize,
    /// A Close frame has passed, or the stream has failed.
    closed: bool,
    failed: bool,
    /// Somebody has read: socketioxide has taken the session up.
    read: bool,
    reading: Option<Waker>,
    /// Bytes that the client's TCP has taken.
    written: u64,
    upgraded: bool,
    /// Somebody waits for the stream to become writable, and will write everything.
    draining: bool,
    /// Whom to wake when everything is written.
    flushing: Option<Waker>,
}

/// What keeps deliveries of a namespace back.
struct Gate {
    namespace: String,
    opens_at: OpensAt,
    /// What CONNECT tells the client its session is called.
    pid: Option<String>,
    waiting: Vec<Bytes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OpensAt {
    Connect,
    Switch,
    Open,
}

/// A wire over `stream`, and the hub's end of it.
pub fn wire<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, prefix: Bytes) -> (Wire<S>, Arc<dyn Link>) {
    wire_that_stalls(stream, prefix, STALL)
}

fn wire_that_stalls<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    prefix: Bytes,
    stall: Duration,
) -> (Wire<S>, Arc<dyn Link>) {
    let state = State {
        stream,
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
        reading: None,
        written: 0,
        upgraded: false,
        draining: false,
        flushing: None,
    };
    let line = Arc::new(Line {
        state: Mutex::new(state),
        stall,
    });
    (
        Wire {
            line: Arc::clone(&line),
            prefix,
            _kept: None,
        },
        Arc::new(LineLink(line)),
    )
}

impl<S> Line<S> {
    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncWrite + Unpin + Send + 'static> Line<S> {
    /// Writes what can be written now; what can not is left to a task that waits.
    fn write(self: &Arc<Self>, state: &mut State<S>) {
        if state.draining || state.queue.is_empty() {
            return;
        }
        if state
            .poll_write_queue(&mut Context::from_waker(Waker::noop()))
            .is_pending()
        {
            state.draining = true;
            tokio::spawn(Arc::clone(self).drain());
        }
    }

    /// Waits until everything is written, or the client has taken nothing for [`STALL`].
    async fn drain(self: Arc<Self>) {
        loop {
            let before = self.lock().written;
            let drained = std::future::poll_fn(|cx| self.lock().poll_write_queue(cx));
            let done = tokio::time::timeout(self.stall, drained).await;
            let mut state = self.lock();
            if done.is_err() && state.written == before {
                state.fail();
            }
            // Something may have come after the last write, and was left to this task.
            if state.queue.is_empty() {
                state.draining = false;
                if let Some(waker) = state.flushing.take() {
                    waker.wake();
                }
                return;
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> State<S> {
    /// Ready when everything is written or the stream has failed.
    fn poll_write_queue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.queue.is_empty() {
            let slices: Vec<_> = self
                .queue
                .iter()
                .take(FRAMES_PER_WRITE)
                .map(|frame| io::IoSlice::new(frame))
                .collect();
            match Pin::new(&mut self.stream).poll_write_vectored(cx, &slices) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(written)) if written > 0 => self.advance(written),
                Poll::Ready(_) => self.fail(),
            }
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
    /// Ends the connection: its reader is told, and what is queued is dropped.
    fn fail(&mut self) {
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
    fn pass(&mut self, frame: Bytes) {
        match Packet::of(&frame) {
            Packet::Probe => self.push(frame),
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
                self.push(frame);
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

    fn set_gate(&mut self, namespace: &str, opens_at: OpensAt) -> &mut Gate {
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

    fn deliver(&mut self, namespace: &str, frame: &Bytes, pace: Pace) -> Result<(), LinkError> {
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
        if gate.opens_at == OpensAt::Open && self.attachments == 0 {
            self.queue.push_back(frame.clone());
        } else {
            gate.waiting.push(frame.clone());
        }
        Ok(())
    }
}

struct LineLink<S>(Arc<Line<S>>);

impl<S: AsyncWrite + Unpin + Send + 'static> Link for LineLink<S> {
    fn open(&self, namespace: &str, pid: Option<&str>) {
        self.0.lock().set_gate(namespace, OpensAt::Connect).pid = pid.map(str::to_owned);
    }

    fn name(&self, namespace: &str, pid: &str) {
        self.0.lock().names.push((namespace.to_owned(), pid.to_owned()));
    }

    fn switch(&self, namespace: &str) {
        self.0.lock().set_gate(namespace, OpensAt::Switch);
    }

    fn send(&self, namespace: &str, frame: &Bytes, pace: Pace) -> Result<(), LinkError> {
        let mut state = self.0.lock();
        state.deliver(namespace, frame, pace)?;
        self.0.write(&mut state);
        Ok(())
    }

    fn is_upgraded(&self) -> bool {
        self.0.lock().upgraded
    }

    fn is_taken_up(&self) -> bool {
        self.0.lock().read
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.prefix.has_remaining() {
            let length = self.prefix.len().min(buf.remaining());
            buf.put_slice(&self.prefix.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let mut state = self.line.lock();
        state.read = true;
        if state.failed {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        state.reading = Some(cx.waker().clone());
        Pin::new(&mut state.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin + Send + 'static> AsyncWrite for Wire<S> {
    /// Takes everything: tungstenite's own buffer is bounded by the packets that socketioxide queues for a client.
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.line.lock();
        if state.closed {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        state.partial.extend_from_slice(buf);
        loop {
            let state = &mut *state;
            match split_frame(&mut state.partial) {
                Some(frame) => state.pass(frame),
                None if state.partial.len() > FRAME_BYTES => {
                    state.fail();
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "a frame is longer than 4 MiB",
                    )));
                }
                None => return Poll::Ready(Ok(buf.len())),
            }
        }
    }

    /// Ready when everything that was queued, deliveries too, is with the kernel.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.line.lock();
        self.line.write(&mut state);
        if state.draining {
            state.flushing = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if state.failed {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut state.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.line.lock();
        state.closed = true;
        Pin::new(&mut state.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
