//! What rooms can be read back from, in memory: payloads once, rooms hold references.
//!
//! It is all or nothing: what was dropped is known by its seq, so a read either gives everything after a place, or says that
//! it can not.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use aldis_core::room::RoomKey;
use aldis_core::route::Audience;
use aldis_core::time::Millis;

use crate::adapter::{Incomplete, Keep, Missed, Numbered, Since};

/// Bytes of payloads that one channel keeps. 64 MiB; the oldest go first, and who was before them is told so.
pub const CHANNEL_BYTES: usize = 64 * 1024 * 1024;

/// The history of one channel.
#[derive(Default)]
pub(super) struct History {
    log: VecDeque<Entry>,
    bytes: usize,
    /// Seq of the last delivery that was dropped from the whole log; 0 for none.
    floor: u64,
    rooms: HashMap<RoomKey, RoomLog>,
    everyone: RoomLog,
}

struct Entry {
    numbered: Arc<Numbered>,
    at: Millis,
    bytes: usize,
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
        match &numbered.delivery.audience {
            Audience::Everyone => self.everyone.push(numbered, keep.size),
            Audience::Rooms(rooms) => {
                for (room, _) in rooms {
                    self.rooms.entry(room.clone()).or_default().push(numbered, keep.size);
                }
            }
        }
        let bytes = numbered
            .delivery
            .payloads
            .iter()
            .map(|payload| payload.len())
            .sum::<usize>()
            + ENTRY_BYTES;
        self.bytes += bytes;
        self.log.push_back(Entry {
            numbered: Arc::clone(numbered),
            at: now,
            bytes,
        });
        self.drop_old(keep, now);
    }

    /// Drops what is older than the channel keeps, or more.
    pub(super) fn drop_old(&mut self, keep: Keep, now: Millis) {
        let oldest = now.0.saturating_sub(keep.ttl_ms);
        while let Some(entry) = self
            .log
            .pop_front_if(|entry| entry.at.0 < oldest || self.bytes > CHANNEL_BYTES)
        {
            let seq = entry.numbered.position.seq;
            self.bytes -= entry.bytes;
            self.floor = seq;
            match &entry.numbered.delivery.audience {
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
    }

    /// Everything after a place, of some rooms, in the order of seq.
    pub(super) fn read(&self, since: &Since) -> Result<Missed, Incomplete> {
        let mut missed = Vec::new();
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
            let begin = log
                .deliveries
                .partition_point(|delivery| delivery.position.seq <= after);
            missed.extend(log.deliveries.range(begin..).cloned());
        }
        missed.sort_unstable_by_key(|delivery| delivery.position.seq);
        missed.dedup_by_key(|delivery| delivery.position.seq);
        Ok(Missed(missed))
    }
}

/// What a delivery costs besides its payloads, roughly, in bytes.
const ENTRY_BYTES: usize = 256;

impl RoomLog {
    fn push(&mut self, numbered: &Arc<Numbered>, size: usize) {
        self.deliveries.push_back(Arc::clone(numbered));
        while self.deliveries.len() > size {
            if let Some(dropped) = self.deliveries.pop_front() {
                self.dropped = dropped.position.seq;
            }
        }
    }

    fn drop_up_to(&mut self, seq: u64) {
        while self
            .deliveries
            .pop_front_if(|delivery| delivery.position.seq <= seq)
            .is_some()
        {}
    }
}
