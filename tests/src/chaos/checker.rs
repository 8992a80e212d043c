//! Decides from outside what went wrong for whom: a pure function of what was produced and what clients saw.
//!
//! A client's log is cut into sessions: one begins with the first `aldis:ready` and with each that says "not recovered"; what is
//! recovered goes on. A room counts in a session from where the client was told that it is in it: by the position where
//! numbers can be compared (one epoch), and in any case for what was produced after it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::history::{Client, History, Position, Record, Saw};

mod session;
#[cfg(test)]
mod tests;

use session::Session;

/// For how long a client that is connected may get nothing of what Kafka has, besides the time in which Kafka or Redis is down.
/// 40 s: a replica that is stopped for 8 s, a rebalance of 6 s, and a busy machine.
const SILENCE: Duration = Duration::from_secs(40);

/// Examples that are kept of each fault.
const EXAMPLES: usize = 5;

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) records: usize,
    pub(crate) deliveries: usize,
    pub(crate) reconnects: usize,
    /// Times a client was told that it was not recovered.
    pub(crate) not_recovered: usize,
    /// Longest time in which a channel's clients saw nothing, though records came.
    pub(crate) standstill: Duration,
    /// Deliveries that a session should have had.
    pub(crate) lost: usize,
    /// Deliveries that a session had again.
    pub(crate) duplicated: usize,
    /// Deliveries of a partition before an earlier one, or of a lower number after a higher one.
    pub(crate) reordered: usize,
    /// Deliveries of another channel, or of rooms that the client is not in; two records with one position.
    pub(crate) crossed: usize,
    /// "Recovered" where something or a room was missing, or where library and gateway disagree; an event before any word.
    pub(crate) falsely_recovered: usize,
    /// "Not recovered" though nothing was forgotten.
    pub(crate) needlessly_not: usize,
    /// Deliveries for which a connected client waited too long.
    pub(crate) silent: usize,
    /// Clients that were sent away for good.
    pub(crate) refused: usize,
    pub(crate) examples: Vec<String>,
}

impl Verdict {
    /// Whether all is as it should be.
    pub(crate) fn holds(&self) -> bool {
        let Self {
            lost,
            duplicated,
            reordered,
            crossed,
            falsely_recovered,
            needlessly_not,
            silent,
            refused,
            ..
        } = self;
        lost + duplicated + reordered + crossed + falsely_recovered + needlessly_not + silent + refused == 0
    }

    fn example(&mut self, count: fn(&mut Self) -> &mut usize, client: &Client, at: Duration, what: String) {
        let count = count(self);
        *count += 1;
        if *count <= EXAMPLES {
            self.examples.push(format!("{} at {at:.1?}: {what}", client.name));
        }
    }
}

/// The numbers that records have got, as far as anybody saw, by channel.
#[derive(Default)]
struct Numbers<'h> {
    of: BTreeMap<(&'h str, usize), BTreeMap<&'h str, u64>>,
    at: BTreeMap<(&'h str, &'h Position), usize>,
}

impl<'h> Numbers<'h> {
    /// Whether a record comes after a position, where that is known.
    fn is_after(&self, channel: &'h str, record: usize, position: &Position) -> Option<bool> {
        let seq = self.of.get(&(channel, record))?.get(position.epoch.as_str())?;
        Some(*seq > position.seq)
    }
}

/// Judges a run.
pub(crate) fn check(history: &History) -> Verdict {
    let mut verdict = Verdict {
        records: history.records.iter().filter(|record| record.acked.is_some()).count(),
        ..Verdict::default()
    };
    let mut numbers = Numbers::default();
    for client in &history.clients {
        for (at, saw) in &client.log {
            if let Saw::Event {
                record,
                position: Some(position),
                ..
            } = saw
            {
                let channel = client.channel.as_str();
                // Until what Redis has forgotten has come again, that is told in the epoch before: a record may have two numbers in it,
                // and who began between them may have it or not.
                let numbers_of = numbers.of.entry((channel, *record)).or_default();
                let first = numbers_of.entry(&position.epoch).or_insert(position.seq);
                *first = (*first).min(position.seq);
                let first = *numbers.at.entry((channel, position)).or_insert(*record);
                if first != *record {
                    let what = format!("{position:?} is record {first} and record {record}");
                    verdict.example(|verdict| &mut verdict.crossed, client, *at, what);
                }
            }
        }
    }
    for client in &history.clients {
        judge(client, history, &numbers, &mut verdict);
    }
    verdict.standstill = history
        .topics
        .keys()
        .map(|channel| standstill(channel, history))
        .max()
        .unwrap_or_default();
    verdict
}

fn judge<'h>(client: &'h Client, history: &'h History, numbers: &Numbers<'h>, verdict: &mut Verdict) {
    let mut session: Option<Session<'h>> = None;
    // What it got in sessions before: a Redis that was rolled back numbers it again, behind where the new session begins.
    let mut had = BTreeSet::new();
    let mut connected: Option<bool> = None;
    let mut is_ready = false;
    let mut connections = Vec::new();
    for (at, saw) in &client.log {
        let at = *at;
        match saw {
            Saw::Connected { recovered } => {
                verdict.reconnects += usize::from(!connections.is_empty());
                connections.push((at, Duration::MAX));
                (connected, is_ready) = (*recovered, false);
            }
            Saw::Ready {
                recovered,
                reason,
                rooms,
                position,
            } => {
                is_ready = true;
                if connected.is_some_and(|connected| connected != *recovered) {
                    let what = format!("the library and aldis:ready disagree, which says recovered: {recovered}");
                    verdict.example(|verdict| &mut verdict.falsely_recovered, client, at, what);
                }
                match &mut session {
                    Some(session) if *recovered => {
                        let gone: Vec<_> = session.rooms().filter(|room| !rooms.contains(*room)).collect();
                        if !gone.is_empty() {
                            let what = format!("recovered without the rooms {gone:?}");
                            verdict.example(|verdict| &mut verdict.falsely_recovered, client, at, what);
                        }
                        session.recovered.push(at);
                    }
                    Some(ended) => {
                        verdict.not_recovered += 1;
                        if !history.forgot {
                            let what = format!("not recovered ({reason:?}), though nothing was forgotten");
                            verdict.example(|verdict| &mut verdict.needlessly_not, client, at, what);
                        }
                        ended.settle(false, &had, client, history, numbers, verdict);
                        had.extend(ended.seen().map(|(record, _)| record));
                        session = None;
                    }
                    None => {}
                }
                // Of a room whose join was never acknowledged it is not known since when it is in it: from now on surely.
                let since = position.as_ref().filter(|_| session.is_none());
                let session = session.get_or_insert_with(Session::default);
                for room in rooms {
                    session.enter(room, at, since);
                }
            }
            Saw::Joined { room, position } => {
                if let Some(session) = &mut session {
                    session.enter(room, at, position.as_ref());
                }
            }
            Saw::Left { room } => {
                if let Some(session) = &mut session {
                    session.leave(room);
                }
            }
            Saw::Event {
                record,
                channel,
                position,
            } => {
                verdict.deliveries += 1;
                if !is_ready {
                    let what = format!("record {record} before aldis:ready");
                    verdict.example(|verdict| &mut verdict.falsely_recovered, client, at, what);
                }
                let of = history
                    .records
                    .get(*record)
                    .filter(|of| *channel == client.channel && history.topics.get(channel) == Some(&of.topic));
                let Some(of) = of else {
                    let what = format!("record {record} of {channel}");
                    verdict.example(|verdict| &mut verdict.crossed, client, at, what);
                    continue;
                };
                let session = session.get_or_insert_with(Session::default);
                session.take(at, *record, of, position.as_ref(), client, verdict);
            }
            Saw::Disconnected => {
                (connected, is_ready) = (None, false);
                if let Some((_, to)) = connections.last_mut() {
                    *to = at.min(*to);
                }
            }
            Saw::Refused(why) => verdict.example(|verdict| &mut verdict.refused, client, at, why.clone()),
        }
    }
    if let Some(session) = &session {
        session.settle(true, &had, client, history, numbers, verdict);
        silences(session, client, &connections, history, verdict);
    }
}

/// What a client that was connected waited for too long in its last session.
fn silences(
    session: &Session<'_>,
    client: &Client,
    connections: &[(Duration, Duration)],
    history: &History,
    verdict: &mut Verdict,
) {
    for (record, seen) in session.seen() {
        let Some(acked) = history.records[record].acked else {
            continue;
        };
        let waited = connections.iter().filter_map(|(from, to)| {
            let (from, to) = ((*from).max(acked), (*to).min(seen));
            let down = history.outages.iter().map(|outage| overlap((from, to), *outage));
            to.checked_sub(from)?.checked_sub(down.sum())
        });
        // One connection at a time: another one is another attempt.
        if let Some(waited) = waited.max().filter(|waited| *waited > SILENCE) {
            let what = format!("record {record} came after {waited:.1?} of an unbroken connection");
            verdict.example(|verdict| &mut verdict.silent, client, seen, what);
        }
    }
}

fn overlap(one: (Duration, Duration), other: (Duration, Duration)) -> Duration {
    one.1.min(other.1).saturating_sub(one.0.max(other.0))
}

/// Longest time between two deliveries of a channel, to whomever, while records came.
fn standstill(channel: &str, history: &History) -> Duration {
    let of = history.clients.iter().filter(|client| client.channel == channel);
    let log = of.flat_map(|client| &client.log);
    let mut times: Vec<_> = log
        .filter_map(|(at, saw)| matches!(saw, Saw::Event { .. }).then_some(*at))
        .collect();
    times.sort_unstable();
    let topic = &history.topics[channel];
    let records: Vec<&Record> = history.records.iter().filter(|record| record.topic == *topic).collect();
    let gaps = times.windows(2).filter_map(|gap| {
        let came = records.iter().filter_map(|record| record.acked);
        let first = came.filter(|acked| (gap[0]..gap[1]).contains(acked)).min()?;
        Some(gap[1] - first)
    });
    gaps.max().unwrap_or_default()
}
