//! Records are taken: in batches that one script numbers, keeps and publishes.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use aldis_core::route::Audience;
use tokio::time::Instant;

use super::answer::Answer;
use super::keys::{self, EVERYONE, Keys};
use super::scripts::{self, Call, outcome};
use super::{RETRY, RedisAdapter, first_seq, new_epoch, packed, room_ttl};
use crate::adapter::{AdapterError, Appended, ChannelRef, Publish, Source, Unit};

/// Deliveries, and bytes of them, that one script takes. 512 and 1 MiB: some ms, for which Redis does nothing else. One record
/// that makes more is taken whole.
const BATCH_DELIVERIES: usize = 512;
const BATCH_BYTES: usize = 1024 * 1024;

/// Longest that a batch waits for a node of a Cluster while others serve. 1 s; then the channel follows by itself, and the others
/// go on.
const NODE_PATIENCE: Duration = Duration::from_secs(1);
/// What this replica has been told is taken, by the base of the channel's keys, topic and partition.
pub(super) type Taken = HashMap<(String, Arc<str>, i32), i64>;

impl<P: Publish> RedisAdapter<P> {
    /// All of them, in scripts of which each takes what fits together.
    pub(super) async fn append_all(&self, channel: &ChannelRef<'_>, units: &[Unit]) -> Result<Appended, AdapterError> {
        let mut appended = Appended::default();
        let mut rest = units;
        while !rest.is_empty() {
            let (mut deliveries, mut bytes) = (0, 0);
            let fits = |unit: &&Unit| {
                let first = deliveries == 0 && bytes == 0;
                deliveries += unit.deliveries.len();
                bytes += bytes_of(unit);
                first || (deliveries <= BATCH_DELIVERIES && bytes <= BATCH_BYTES)
            };
            let (batch, later) = rest.split_at(rest.iter().take_while(fits).count());
            let taken = self.append_patiently(channel, batch).await?;
            appended.deliveries += taken.deliveries;
            appended.refused += taken.refused;
            rest = later;
        }
        Ok(appended)
    }

    /// One script: units that fit together.
    async fn append_batch(&self, channel: &ChannelRef<'_>, units: &[Unit]) -> Result<Appended, AdapterError> {
        let keys = self.keys(channel);
        let mut call = Call::new(scripts::append(), &keys)
            .arg(self.clock.now().0)
            .arg(channel.keep.size)
            .arg(channel.keep.ttl_ms)
            .arg(channel.keep.bytes)
            .arg(room_ttl(channel))
            .arg(new_epoch())
            .arg(first_seq(self.clock.now()));
        for unit in units {
            call = call
                .arg(mark_field(&unit.topic, unit.partition))
                .arg(unit.offset)
                .arg(self.reached(&keys, unit))
                .arg(unit.deliveries.len());
            for (index, delivery) in (0..).zip(&unit.deliveries) {
                let source = Source {
                    topic: Arc::clone(&unit.topic),
                    partition: unit.partition,
                    offset: unit.offset,
                    index,
                };
                let rooms = rooms_of(&delivery.audience);
                call = call.bytes(packed::pack(delivery, &source)).arg(rooms.len()).args(rooms);
            }
        }
        let answer = self.run(&keys, &call).await?;
        match outcome(&answer) {
            "ok" => {
                let answer = Answer(&answer);
                for unit in units {
                    self.take_note(&keys, &unit.topic, unit.partition, unit.offset);
                }
                Ok(Appended {
                    deliveries: answer.number(1) as usize,
                    refused: answer.number(2) as usize,
                })
            }
            "rewound" => {
                let answer = Answer(&answer);
                let (field, mark) = (answer.text(1), answer.number(2) as i64);
                let unit = units
                    .iter()
                    .find(|unit| mark_field(&unit.topic, unit.partition) == field);
                let Some(unit) = unit else {
                    return Err(AdapterError::Unavailable(format!(
                        "redis speaks of {field}, which was not asked"
                    )));
                };
                self.forget_beyond(&keys, &unit.topic, unit.partition, mark);
                Err(AdapterError::Rewound {
                    topic: Arc::clone(&unit.topic),
                    partition: unit.partition,
                    offset: mark + 1,
                })
            }
            "forgotten" => Err(AdapterError::Unavailable(format!(
                "redis has forgotten all that it had taken of {}, and nobody knows since when: clients are told, and it begins anew",
                Answer(&answer).text(1)
            ))),
            _ => Err(AdapterError::Unavailable(format!(
                "redis failed while it wrote, and began a new epoch: {}",
                Answer(&answer).text(1)
            ))),
        }
    }

    /// Where one node of several can not take it, that is the channel's own trouble: nothing else is to wait for it.
    async fn append_patiently(&self, channel: &ChannelRef<'_>, units: &[Unit]) -> Result<Appended, AdapterError> {
        let deadline = Instant::now() + NODE_PATIENCE;
        loop {
            match self.append_batch(channel, units).await {
                Err(AdapterError::Unavailable(reason)) if self.nodes.is_another_live(&self.keys(channel)) => {
                    if Instant::now() >= deadline {
                        return Err(AdapterError::Refused(reason));
                    }
                    tokio::time::sleep(RETRY).await;
                }
                taken => return taken,
            }
        }
    }

    /// What the mark must have reached before this unit: what this replica knows is taken.
    fn reached(&self, keys: &Keys, unit: &Unit) -> i64 {
        let taken = self.lock_taken();
        let known = taken.get(&(keys.base().to_owned(), Arc::clone(&unit.topic), unit.partition));
        known.map_or(-1, |known| (*known).min(unit.offset - 1))
    }

    pub(super) fn take_note(&self, keys: &Keys, topic: &Arc<str>, partition: i32, offset: i64) {
        let mut taken = self.lock_taken();
        let known = taken
            .entry((keys.base().to_owned(), Arc::clone(topic), partition))
            .or_insert(-1);
        *known = (*known).max(offset);
    }

    pub(super) fn forget_beyond(&self, keys: &Keys, topic: &Arc<str>, partition: i32, mark: i64) {
        let key = (keys.base().to_owned(), Arc::clone(topic), partition);
        self.lock_taken().insert(key, mark);
    }

    fn lock_taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn mark_field(topic: &str, partition: i32) -> String {
    format!("m|{topic}|{partition}")
}

/// Names of the rooms of a delivery, each once.
fn rooms_of(audience: &Audience) -> Vec<String> {
    match audience {
        Audience::Everyone => vec![EVERYONE.to_owned()],
        Audience::Rooms(rooms) => {
            let mut names: Vec<String> = Vec::with_capacity(rooms.len());
            for (room, _) in rooms {
                let name = keys::room(room);
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            names
        }
    }
}

/// Bytes of a unit's payloads.
fn bytes_of(unit: &Unit) -> usize {
    let payloads = unit.deliveries.iter().flat_map(|delivery| &delivery.payloads);
    payloads.map(|payload| payload.len()).sum()
}
