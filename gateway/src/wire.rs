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

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::hub::Pace;
use crate::sabotage::Rule;

mod frame;
mod ping;
mod state;

use frame::split_frame;
pub use frame::text_frame;
pub(crate) use frame::{connect_namespace, connect_with_pid, error_with_code, open_with_max_payload, refusal_text};
use ping::PONG;
use state::{OpensAt, State};

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
pub struct Wire<S: AsyncWrite + Unpin + Send + 'static> {
    line: Arc<Line<S>>,
    /// Bytes that came with the upgrade request.
    prefix: Bytes,
    /// Dropped when socketioxide lets go of the stream.
    kept: Option<Box<dyn Send + Sync>>,
}

impl<S: AsyncWrite + Unpin + Send + 'static> Wire<S> {
    /// Has the open packet tell how many bytes a client may send at once.
    #[must_use]
    pub fn announcing(self, max_payload: usize) -> Self {
        self.line.lock().max_payload = Some(max_payload);
        self
    }

    /// Drops `value` when socketioxide lets go of the stream.
    #[must_use]
    pub fn keeping(mut self, value: Box<dyn Send + Sync>) -> Self {
        self.kept = Some(value);
        self
    }
}

impl<S: AsyncWrite + Unpin + Send + 'static> Drop for Wire<S> {
    /// The stream goes with socketioxide's end, whoever still has the hub's: else the client of a session that was closed
    /// would wait for the end of its connection.
    fn drop(&mut self) {
        self.line.lock().let_go();
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

    /// Closes the connection behind what is queued: Engine.IO's close and a WebSocket Close. Nothing more goes out.
    fn close(&self);

    /// Whether a frame of socketioxide that is no probe has passed: a client that upgrades has done so.
    fn is_upgraded(&self) -> bool;

    /// Whether socketioxide has taken the connection up as that of a session.
    fn is_taken_up(&self) -> bool;

    /// Whether the client has ended the connection, or it broke: who is let go otherwise has sent what is no WebSocket.
    fn has_ended(&self) -> bool;
}

struct Line<S> {
    state: Mutex<State<S>>,
    /// [`STALL`], but in tests.
    stall: Duration,
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
    let state = State::over(stream);
    let line = Arc::new(Line {
        state: Mutex::new(state),
        stall,
    });
    (
        Wire {
            line: Arc::clone(&line),
            prefix,
            kept: None,
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
        if state.draining {
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
            if done.is_err() && state.written == before && Rule::Stall.is_on() {
                state.fail();
            }
            // Something may have come after the last write, and was left to this task.
            if state.failed || (done.is_ok() && state.queue.is_empty()) {
                state.draining = false;
                if state.let_go {
                    state.stream = None;
                }
                if let Some(waker) = state.flushing.take() {
                    waker.wake();
                }
                return;
            }
        }
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
        let opens_at = match Rule::Upgrade.is_on() {
            true => OpensAt::Switch,
            false => OpensAt::Open,
        };
        self.0.lock().set_gate(namespace, opens_at);
    }

    fn send(&self, namespace: &str, frame: &Bytes, pace: Pace) -> Result<(), LinkError> {
        let mut state = self.0.lock();
        state.deliver(namespace, frame, pace)?;
        self.0.write(&mut state);
        Ok(())
    }

    fn close(&self) {
        let mut state = self.0.lock();
        state.close();
        self.0.write(&mut state);
    }

    fn is_upgraded(&self) -> bool {
        self.0.lock().upgraded
    }

    fn is_taken_up(&self) -> bool {
        self.0.lock().read
    }

    fn has_ended(&self) -> bool {
        let state = self.0.lock();
        state.ended || state.failed
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.prefix.has_remaining() {
            let length = self.prefix.len().min(buf.remaining());
            let bytes = self.prefix.split_to(length);
            self.line.lock().first_ping.read(&bytes);
            buf.put_slice(&bytes);
            return Poll::Ready(Ok(()));
        }
        let mut state = self.line.lock();
        state.read = true;
        if state.failed {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if buf.remaining() >= PONG.len() && state.first_ping.answers() {
            buf.put_slice(&PONG);
            return Poll::Ready(Ok(()));
        }
        state.reading = Some(cx.waker().clone());
        let before = buf.filled().len();
        let Some(stream) = &mut state.stream else {
            return Poll::Ready(Ok(()));
        };
        let read = Pin::new(stream).poll_read(cx, buf);
        state.first_ping.read(&buf.filled()[before..]);
        state.ended |= match &read {
            Poll::Ready(Ok(())) => buf.filled().len() == before && buf.remaining() > 0,
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        };
        read
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

    /// Writes what can be written, and does not wait for the rest: socketioxide would let it pile up in its own queue, which
    /// is bounded in packets, not in bytes. Only behind a Close frame, after which it drops the stream, it waits for the end.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.line.lock();
        self.line.write(&mut state);
        if state.failed {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if state.draining && state.closed {
            state.flushing = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.line.lock();
        state.closed = true;
        match &mut state.stream {
            Some(stream) => Pin::new(stream).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests;
