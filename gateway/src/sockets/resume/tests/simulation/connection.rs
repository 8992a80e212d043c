//! A connection, as client and gateway see it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::super::*;

/// Frames that a client has not taken, beyond which it is slow.
const QUEUE: usize = 12;

/// What is on its way to a client.
pub(super) enum Frame {
    /// CONNECT, with the pid.
    Connect(String),
    /// Name, first argument and position of an event.
    Event(String, String, Position),
}

/// A connection.
#[derive(Default)]
pub(super) struct Connection {
    pub(super) frames: Arc<Mutex<Frames>>,
    /// It is of no use any more, which the gateway may not know yet.
    pub(super) is_cut: Cell<bool>,
    pub(super) arrival: RefCell<Option<Rc<Arrival>>>,
    pub(super) is_welcome: Cell<bool>,
    /// Whether something that its client has asked for is under way: one thing after the other.
    is_asking: Rc<Cell<bool>>,
}

#[derive(Default)]
pub(super) struct Frames {
    pub(super) queue: VecDeque<Frame>,
    /// The gateway has closed it.
    pub(super) is_closed: bool,
}

/// The gateway's side of a connection.
pub(super) struct Pipe(pub(super) Arc<Mutex<Frames>>);

impl Client for Pipe {
    fn send(&self, outgoing: &Outgoing<'_>, pace: Pace) -> Result<(), SendError> {
        let mut frames = self.0.lock().unwrap();
        if frames.is_closed {
            return Err(SendError::Gone);
        }
        if pace == Pace::Live && frames.queue.len() >= QUEUE {
            return Err(SendError::Full);
        }
        let position = Position::parse(outgoing.position()).unwrap();
        let (event, payload) = (outgoing.event().to_owned(), outgoing.payload().to_string());
        frames.queue.push_back(Frame::Event(event, payload, position));
        Ok(())
    }

    fn close(&self, _: CloseReason) {
        let mut frames = self.0.lock().unwrap();
        frames.is_closed = true;
        frames.queue.clear();
    }
}

/// Given back when what a client has asked for is done.
pub(super) struct Turn(Rc<Cell<bool>>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl Connection {
    /// Where nothing that its client has asked for is under way.
    pub(super) fn take_turn(&self) -> Option<(Rc<Arrival>, Turn)> {
        let arrival = self.arrival.borrow().clone()?;
        (!self.is_asking.replace(true)).then(|| (arrival, Turn(Rc::clone(&self.is_asking))))
    }

    pub(super) fn close(&self) {
        Pipe(Arc::clone(&self.frames)).close(CloseReason::SlowConsumer);
    }

    pub(super) fn waits(&self) -> bool {
        self.arrival.borrow().is_some() && !self.is_welcome.get() && !self.frames.lock().unwrap().is_closed
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_cut.get() || self.frames.lock().unwrap().is_closed
    }
}
