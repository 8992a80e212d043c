//! A stock client of a history: it remembers the last position, comes back with it, and writes down what it saw.

use std::rc::Rc;

use serde_json::{Value, json};

use super::super::READY_EVENT;
use super::Tally;
use super::connection::{Connection, Frame};
use super::server::{Server, Stay};
use crate::adapter::Position;

/// How often it comes back at the end before that is called endless.
const ATTEMPTS: usize = 20;

#[derive(Default)]
pub(super) struct StockClient {
    /// What Socket.IO's client remembers: it never forgets either.
    pid: Option<String>,
    offset: Option<Position>,
    connection: Option<Rc<Connection>>,
    /// What it has received of its session: seq and number of the record.
    received: Vec<(u64, u64)>,
    /// Whether the CONNECT just before said that it is recovered.
    connected: Option<bool>,
}

impl StockClient {
    pub(super) fn is_cut(&self) -> bool {
        self.connection.is_none()
    }

    pub(super) fn connect(&mut self, server: &mut Server) {
        let auth = match (&self.pid, &self.offset) {
            (Some(pid), Some(offset)) => json!({"pid": pid, "offset": offset.to_string()}),
            (Some(pid), None) => json!({"pid": pid}),
            (None, _) => json!({}),
        };
        self.connection = Some(server.connect(&auth));
    }

    /// Its connection is gone, which the gateway may notice later.
    pub(super) fn cut(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.is_cut.set(true);
        }
        self.connected = None;
    }

    /// It joins a room, or leaves it.
    pub(super) fn asks(&mut self, server: &mut Server, room: &str, join: bool) {
        let seq = self.offset.as_ref().map_or(0, |offset| offset.seq);
        let is_connected = self.connected.is_some();
        match self.connection.as_ref().filter(|_| is_connected) {
            Some(connection) if join => server.join(connection, room),
            Some(connection) => server.leave(connection, room, seq),
            None => {}
        }
    }

    pub(super) fn say_goodbye(&mut self, server: &mut Server) {
        if self.connected.is_some()
            && let Some(connection) = self.connection.take()
        {
            server.goodbye(&connection);
            self.connected = None;
        }
    }

    pub(super) fn receive_up_to(&mut self, frames: usize, tally: &mut Tally) -> Result<(), String> {
        (0..frames).try_for_each(|_| self.receive(tally))
    }

    /// Takes what comes next.
    fn receive(&mut self, tally: &mut Tally) -> Result<(), String> {
        let Some(connection) = &self.connection else {
            return Ok(());
        };
        let (frame, is_closed) = {
            let mut frames = connection.frames.lock().unwrap();
            (frames.queue.pop_front(), frames.is_closed)
        };
        match frame {
            Some(Frame::Connect(pid)) => {
                let recovered = self.pid.as_ref() == Some(&pid);
                tally.count(match (recovered, &self.pid) {
                    (true, _) => "recovered",
                    (false, Some(_)) => "not recovered",
                    (false, None) => "new",
                });
                if !recovered {
                    self.received.clear();
                }
                (self.pid, self.connected) = (Some(pid), Some(recovered));
                Ok(())
            }
            Some(Frame::Event(name, payload, position)) => self.event(&name, &payload, position, tally),
            None if is_closed => {
                tally.count("closed by the gateway");
                self.cut();
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn event(&mut self, name: &str, payload: &str, position: Position, tally: &mut Tally) -> Result<(), String> {
        if name == READY_EVENT {
            let info: Value = serde_json::from_str(payload).unwrap();
            if self.connected != info["recovered"].as_bool() {
                return Err(format!(
                    "after CONNECT with recovered {:?} came {payload}",
                    self.connected
                ));
            }
        }
        if name == "news" {
            tally.count("received");
            let last = self.received.last().map_or(0, |(seq, _)| *seq);
            if position.seq <= last {
                return Err(format!("{position} came after {last}"));
            }
            self.received.push((position.seq, payload.parse().unwrap()));
        }
        self.offset = Some(position);
        Ok(())
    }

    /// Comes back as often as it takes, and receives all there is.
    pub(super) fn settle(&mut self, server: &mut Server, tally: &mut Tally) -> Result<(), String> {
        for _ in 0..ATTEMPTS {
            if self.is_cut() {
                self.connect(server);
            }
            server.finish();
            while self.waits_for_something() {
                self.receive(tally)?;
            }
            if !self.is_cut() && self.connected.is_some() {
                return Ok(());
            }
        }
        Err(format!("it came back {ATTEMPTS} times"))
    }

    fn waits_for_something(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| {
            let frames = connection.frames.lock().unwrap();
            frames.is_closed || !frames.queue.is_empty()
        })
    }

    /// Everything that its session was meant to have since it began, and nothing else.
    pub(super) fn has_everything(&self, server: &Server) -> Result<(), String> {
        let pid = self.pid.as_deref().ok_or("it never connected")?;
        let mut received = self.received.iter().peekable();
        for (seq, number, rooms) in server.published() {
            let (must, may) = server.meant(pid, |meant| {
                let of_rooms = |stay: &&Stay| rooms.contains(&stay.room) && stay.from < seq;
                let stays: Vec<_> = meant.stays.iter().filter(of_rooms).collect();
                let everyone = rooms.is_empty() && meant.begin < seq;
                (
                    everyone || stays.iter().any(|stay| seq <= stay.asked.min(stay.to)),
                    everyone || stays.iter().any(|stay| seq <= stay.to),
                )
            });
            match received.next_if(|(got, _)| *got == seq) {
                Some(_) if !may => return Err(format!("{seq} came, which is for others")),
                Some((_, got)) if *got != number => return Err(format!("{seq} is {number}, and came as {got}")),
                None if must => {
                    let stays = server.meant(pid, |meant| format!("{:?}", meant.stays));
                    return Err(format!(
                        "{seq} for {rooms:?} is lost; it was in {stays} and received {:?}",
                        self.received
                    ));
                }
                _ => {}
            }
        }
        match received.next() {
            Some((seq, _)) => Err(format!("{seq} came, and was never published")),
            None => Ok(()),
        }
    }
}
