//! What one client saw, and what is wrong with it.

use std::fmt;
use std::ops::AddAssign;

use crate::stamp::{Kind, PARTITIONS, Stamp};

/// Bits for all partitions.
pub const ALL_PARTITIONS: u32 = (1 << PARTITIONS) - 1;

/// The books of one client.
#[derive(Debug)]
pub struct Ledger {
    room: u64,
    rooms: u64,
    /// Records before this one are checked as all are, but their latency is not noted.
    noted_from: u64,
    /// One bit for each record of the room, by its number divided by the number of rooms.
    seen: Vec<u64>,
    /// Number of the last record, by partition.
    last: [Option<u64>; PARTITIONS as usize],
    epoch: String,
    seq: u64,
    faults: Faults,
    /// Partitions whose end was seen, as bits.
    ended: u32,
    /// Counted records that came.
    pub received: u64,
    /// Times from birth to receipt in µs.
    pub latencies: Vec<u32>,
    /// When the first counted record was handed to the producer, in ns since the start of the program.
    pub first_born: Option<u64>,
    /// When the last counted record came, in ns since the start of the program.
    pub last_at: u64,
}

/// Everything that must not be, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Records of the room that never came.
    pub lost: u64,
    /// Records that came again.
    pub doubled: u64,
    /// Records that came after a later one of their partition.
    pub out_of_order: u64,
    /// Records of another room.
    pub foreign: u64,
    /// Positions that did not grow, or changed their epoch.
    pub positions: u64,
    /// Events that could not be read at all.
    pub unreadable: u64,
    /// Connections that ended.
    pub disconnected: u64,
}

impl Ledger {
    /// Empty books of a client in one of `rooms` rooms, which notes latencies from record `noted_from` on.
    pub fn new(room: u64, rooms: u64, noted_from: u64) -> Self {
        Self {
            room,
            rooms,
            noted_from,
            seen: Vec::new(),
            last: [None; PARTITIONS as usize],
            epoch: String::new(),
            seq: 0,
            faults: Faults::default(),
            ended: 0,
            received: 0,
            latencies: Vec::new(),
            first_born: None,
            last_at: 0,
        }
    }

    /// Takes down an event that came at `now`. `None`: it could not be read.
    pub fn take(&mut self, text: &str, now: u64) -> Option<Stamp> {
        let Some(stamp) = Stamp::find(text).filter(|stamp| (0..PARTITIONS).contains(&stamp.partition)) else {
            self.faults.unreadable += 1;
            return None;
        };
        self.take_position(text);
        match stamp.kind {
            Kind::Counted => self.take_counted(&stamp, now),
            Kind::End => self.ended |= 1 << stamp.partition,
            Kind::Probe => {}
        }
        Some(stamp)
    }

    fn take_counted(&mut self, stamp: &Stamp, now: u64) {
        self.received += 1;
        if stamp.number >= self.noted_from {
            let micros = now.saturating_sub(stamp.born) / 1000;
            self.latencies.push(u32::try_from(micros).unwrap_or(u32::MAX));
        }
        self.first_born.get_or_insert(stamp.born);
        self.last_at = now;
        if Stamp::room_of(stamp.number, self.rooms) != self.room {
            self.faults.foreign += 1;
            return;
        }
        let place = stamp.number / self.rooms;
        let (word, bit) = (usize::try_from(place / 64).unwrap_or(usize::MAX), 1_u64 << (place % 64));
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        self.faults.doubled += u64::from(self.seen[word] & bit != 0);
        self.seen[word] |= bit;
        let last = &mut self.last[stamp.partition.unsigned_abs() as usize];
        self.faults.out_of_order += u64::from(last.is_some_and(|last| stamp.number < last));
        *last = Some(stamp.number);
    }

    /// The last argument, `"epoch:seq"`.
    fn take_position(&mut self, text: &str) {
        let position = text.rfind(",\"").and_then(|at| text[at + 2..].strip_suffix("\"]"));
        let read = position
            .and_then(|position| position.rsplit_once(':'))
            .and_then(|(epoch, seq)| Some((epoch, seq.parse().ok()?)));
        let Some((epoch, seq)) = read else {
            self.faults.unreadable += 1;
            return;
        };
        if self.epoch.is_empty() {
            epoch.clone_into(&mut self.epoch);
        }
        self.faults.positions += u64::from(epoch != self.epoch || seq <= self.seq);
        self.seq = seq;
    }

    /// Notes that the connection ended.
    pub fn disconnected(&mut self) {
        self.faults.disconnected += 1;
    }

    /// Whether the end of every partition was seen.
    pub fn has_ended(&self) -> bool {
        self.ended == ALL_PARTITIONS
    }

    /// What is wrong, given that `records` were produced.
    pub fn faults(&self, records: u64) -> Faults {
        let due = records / self.rooms + u64::from(self.room < records % self.rooms);
        let came: u64 = self.seen.iter().map(|word| u64::from(word.count_ones())).sum();
        Faults {
            lost: due.saturating_sub(came),
            ..self.faults
        }
    }
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.out_of_order += other.out_of_order;
        self.foreign += other.foreign;
        self.positions += other.positions;
        self.unreadable += other.unreadable;
        self.disconnected += other.disconnected;
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            lost,
            doubled,
            out_of_order,
            foreign,
            positions,
            unreadable,
            disconnected,
        } = self;
        write!(
            f,
            "{lost} lost, {doubled} doubled, {out_of_order} out of order, {foreign} of other rooms, "
        )?;
        write!(
            f,
            "{positions} positions that did not grow, {unreadable} unreadable, {disconnected} clients disconnected"
        )
    }
}
