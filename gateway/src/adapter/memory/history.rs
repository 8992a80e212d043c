//! What rooms can be read back from, in memory: payloads once, rooms hold references.
//!
//! It is all or nothing: what was dropped is known by its seq, so a read either gives everything after a place, or says that
//! it can not.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Weak};

use aldis_core::room::RoomKey;
use aldis_core::route::Audience;
use aldis_core::time::Millis;

use crate::adapter::{Bound, Incomplete, Keep, Missed, Numbered, Since};

/// The history of one channel. Rooms keep their deliveries alive; the log only knows their order.
#[derive(Default)]
pub(super) struct History {
    log: VecDeque<Entry>,
    /// Deliveries that some room keeps, and their bytes.
    kept: usize,
    bytes: usize,
    /// Seq of the last delivery that was dropped for its age, or because the channel keeps too much; 0 for none.
    floor: u64,
    /// Deliveries that were dropped because the channel keeps too much, since somebody asked.
    forgot: usize,
    rooms: HashMap<RoomKey, RoomLog>,
    everyone: RoomLog,
}

struct Entry {
    numbered: Weak<Numbered>,
    at: Millis,
}

/// Deliveries of one room, oldest first.
#[derive(Default)]
struct RoomLog {
    deliveries: VecDeque<Arc<Numbered>>,
    /// Seq of the last delivery that was dropped from this room alone.
    dropped: u64,
}

impl History {
    /// Everything up to `seq` can not be read back.
    pub(super) fn forget_up_to(&mut self, seq: u64) {
        self.floor = self.floor.max(seq);
    }

    pub(super) fn push(&mut self, numbered: &Arc<Numbered>, keep: Keep, now: Millis) {
        if keep.size == 0 {
            self.forget_up_to(numbered.position.seq);
            return;
        }
        self.log.push_back(Entry {
            numbered: Arc::downgrade(numbered),
            at: now,
        });
        self.kept += 1;
        self.bytes += bytes(numbered);
        let mut dropped = Vec::new();
        match &numbered.delivery.audience {
            Audience::Everyone => dropped.extend(self.everyone.push(numbered, keep.size)),
            Audience::Rooms(rooms) => {
                for (room, _) in rooms {
                    dropped.extend(self.rooms.entry(room.clone()).or_default().push(numbered, keep.size));
                }
            }
        }
        self.let_go(dropped);
        self.drop_old(keep, now);
    }

    /// Drops what is older than the channel keeps, or more.
    pub(super) fn drop_old(&mut self, keep: Keep, now: Millis) {
        let oldest = now.0.saturating_sub(keep.ttl_ms);
        while let Some(entry) = self.log.front() {
            match entry.numbered.upgrade() {
                None => {}
                Some(numbered) if !self.keeps(&numbered) => {}
                Some(numbered) if entry.at.0 < oldest => self.drop_oldest(&numbered),
                Some(numbered) if self.bytes > keep.bytes => {
                    self.drop_oldest(&numbered);
                    self.forgot += 1;
                }
                Some(_) => break,
            }
            self.log.pop_front();
        }
        // Rooms drop deliveries by themselves: their entries are cleared away before they are the greater part.
        if self.log.len() > 2 * self.kept + SPARE_ENTRIES {
            self.log.retain(|entry| entry.numbered.strong_count() > 0);
        }
    }

    /// Drops the oldest delivery from all its rooms.
    fn drop_oldest(&mut self, numbered: &Arc<Numbered>) {
        let seq = numbered.position.seq;
        self.forget_up_to(seq);
        self.kept -= 1;
        self.bytes -= bytes(numbered);
        match &numbered.delivery.audience {
            Audience::Everyone => self.everyone.drop_up_to(seq),
            Audience::Rooms(rooms) => {
                for (room, _) in rooms {
                    if let Some(log) = self.rooms.get_mut(room) {
                        log.drop_up_to(seq);
                        // What it had dropped is below the floor.
                        if log.deliveries.is_empty() {
                            self.rooms.remove(room);
                        }
                    }
                }
            }
        }
    }

    /// Counts no longer what no room keeps any more, whoever else still has it: clients that read it back, or are held.
    fn let_go(&mut self, mut dropped: Vec<Arc<Numbered>>) {
        dropped.sort_unstable_by_key(|numbered| numbered.position.seq);
        dropped.dedup_by_key(|numbered| numbered.position.seq);
        for numbered in dropped {
            if !self.keeps(&numbered) {
                self.kept -= 1;
                self.bytes -= bytes(&numbered);
            }
        }
    }

    /// Whether some room keeps a delivery.
    fn keeps(&self, numbered: &Numbered) -> bool {
        let seq = numbered.position.seq;
        match &numbered.delivery.audience {
            Audience::Everyone => self.everyone.has(seq),
            Audience::Rooms(rooms) => {
                let logs = rooms.iter().filter_map(|(room, _)| self.rooms.get(room));
                logs.into_iter().any(|log| log.has(seq))
            }
        }
    }

    /// How many were dropped since this was last asked because the channel keeps too much.
    pub(super) fn take_forgot(&mut self) -> usize {
        std::mem::take(&mut self.forgot)
    }

    /// Bytes that are kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the oldest delivery that is kept came.
    pub(super) fn oldest(&mut self) -> Option<Millis> {
        loop {
            let entry = self.log.front()?;
            if entry.numbered.upgrade().is_some_and(|numbered| self.keeps(&numbered)) {
                return Some(entry.at);
            }
            self.log.pop_front();
        }
    }

    /// Drops the oldest delivery that is kept, if there is one.
    pub(super) fn drop_one(&mut self) {
        self.oldest();
        if let Some(numbered) = self.log.pop_front().and_then(|entry| entry.numbered.upgrade()) {
            self.drop_oldest(&numbered);
        }
    }

    /// Deliveries that are kept, their bytes, and entries of the log.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize, usize) {
        (self.kept, self.bytes, self.log.len())
    }

    /// Everything after a place, of some rooms, in the order of seq.
    pub(super) fn read(&self, since: &Since, bound: Bound) -> Result<Missed, Incomplete> {
        let mut missed = BTreeMap::new();
        let mut read = 0;
        let everyone = std::iter::once((Some(&self.everyone), since.everyone));
        let rooms = since.rooms.iter().map(|(room, after)| (self.rooms.get(room), *after));
        for (log, after) in everyone.chain(rooms) {
            if after < self.floor {
                return Err(Incomplete::History);
            }
            let Some(log) = log else { continue };
            if after < log.dropped {
                return Err(Incomplete::History);
            }
            for delivery in log.after(after) {
                // A delivery to several of the rooms comes once.
                if missed.insert(delivery.position.seq, Arc::clone(delivery)).is_none() {
                    read += delivery.bytes();
                }
                if missed.len() > bound.deliveries || read > bound.bytes {
                    return Err(Incomplete::TooMuch);
                }
            }
        }
        Ok(Missed(missed.into_values().collect()))
    }
}

/// What a delivery costs besides its payloads, roughly, in bytes.
const ENTRY_BYTES: usize = 512;

/// Entries of the log that are not worth clearing away.
const SPARE_ENTRIES: usize = 1_024;

/// What a delivery counts.
fn bytes(numbered: &Numbered) -> usize {
    numbered.bytes() + ENTRY_BYTES
}

impl RoomLog {
    /// Adds a delivery; gives those that the room no longer keeps.
    fn push(&mut self, numbered: &Arc<Numbered>, size: usize) -> Vec<Arc<Numbered>> {
        self.deliveries.push_back(Arc::clone(numbered));
        let too_many = self.deliveries.len().saturating_sub(size);
        let dropped: Vec<_> = self.deliveries.drain(..too_many).collect();
        if let Some(last) = dropped.last() {
            self.dropped = last.position.seq;
        }
        dropped
    }

    fn has(&self, seq: u64) -> bool {
        self.after(seq.saturating_sub(1))
            .next()
            .is_some_and(|delivery| delivery.position.seq == seq)
    }

    /// Its deliveries after a place.
    fn after(&self, seq: u64) -> impl Iterator<Item = &Arc<Numbered>> {
        let begin = self.deliveries.partition_point(|delivery| delivery.position.seq <= seq);
        self.deliveries.range(begin..)
    }

    fn drop_up_to(&mut self, seq: u64) {
        while self
            .deliveries
            .pop_front_if(|delivery| delivery.position.seq <= seq)
            .is_some()
        {}
    }
}
