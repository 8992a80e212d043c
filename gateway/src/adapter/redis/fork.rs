//! What clients here have had and Redis has forgotten, until it has come again.
//!
//! A Redis that came back without its last writes goes on in a new epoch, and the records that it has forgotten are read from
//! Kafka again. Clients of this replica have had what was made of them: what comes again is dropped here. No other replica knows that.
//! So until all of it has come again
//! - positions are told in the epoch that is over: who takes one elsewhere is told that it is not recovered, because it is of
//!   after the fork;
//! - nobody is recovered here: what is dropped for the others would be missing to it. It waits.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use aldis_core::room::RoomKey;
use aldis_core::route::Audience;

use crate::adapter::{Numbered, Source};

/// Deliveries of a channel whose sources are remembered, for the case that Redis forgets them. 4,096: what one second of a busy
/// channel makes, which is what Redis' own persistence may lose. Where Redis forgets more than that, clients are told.
const RECENT: usize = 4_096;
/// Probes, one a second, after which what has not come again never will: 30. Its clients are told.
const PATIENCE: u32 = 30;

/// What clients here were given lately: source and rooms by seq.
#[derive(Default)]
pub(super) struct Recent {
    given: BTreeMap<u64, (Source, Rooms)>,
    /// Up to here not everything is remembered.
    forgotten: u64,
}

/// To which rooms a delivery went, as hashes of their names; none for everyone.
type Rooms = Box<[u64]>;

fn hash(room: &RoomKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    room.hash(&mut hasher);
    hasher.finish()
}

impl Recent {
    pub(super) fn push(&mut self, given: &Numbered) {
        let Some(source) = given.source.clone() else { return };
        let rooms = match &given.delivery.audience {
            Audience::Everyone => Rooms::default(),
            Audience::Rooms(rooms) => rooms.iter().map(|(room, _)| hash(room)).collect(),
        };
        self.given.insert(given.position.seq, (source, rooms));
        if self.given.len() > RECENT
            && let Some((oldest, _)) = self.given.pop_first()
        {
            self.forgotten = self.forgotten.max(oldest);
        }
    }

    /// Nothing of it is anybody's any more.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Redis goes on without something that clients here were given.
pub(super) struct Fork {
    /// The epoch that is over.
    pub(super) told: Arc<str>,
    /// What is to come again.
    owed: HashMap<Source, Rooms>,
    patience: u32,
}

/// More is missing than is remembered.
#[derive(Debug)]
pub(super) struct TooMuch;

impl Fork {
    /// Everything after `good` is forgotten, in the middle of another fork perhaps. `None` where nothing was given after that.
    pub(super) fn at(
        good: u64,
        recent: &mut Recent,
        former: Option<Self>,
        epoch: Arc<str>,
    ) -> Result<Option<Self>, TooMuch> {
        if recent.forgotten > good {
            return Err(TooMuch);
        }
        let lost = recent.given.split_off(&(good + 1)).into_values();
        let (told, mut owed) = match former {
            Some(former) => (former.told, former.owed),
            None => (epoch, HashMap::new()),
        };
        owed.extend(lost);
        Ok((!owed.is_empty()).then_some(Self {
            told,
            owed,
            patience: PATIENCE,
        }))
    }

    /// Whether a delivery has come again that clients here have had.
    pub(super) fn comes_again(&mut self, source: &Source) -> bool {
        self.owed.remove(source).is_some()
    }

    pub(super) fn is_over(&self) -> bool {
        self.owed.is_empty()
    }

    /// A second has passed. What goes to rooms that nobody here is in any more does not come again. Gives whether there is patience
    /// left for the rest.
    pub(super) fn waits<'r>(&mut self, hosted: impl Iterator<Item = &'r RoomKey>) -> bool {
        let hosted: Vec<_> = hosted.map(hash).collect();
        self.owed
            .retain(|_, rooms| rooms.is_empty() || rooms.iter().any(|room| hosted.contains(room)));
        self.patience = self.patience.saturating_sub(1);
        self.patience > 0
    }
}

#[cfg(test)]
mod tests {
    use aldis_core::route::Delivery;

    use super::*;
    use crate::adapter::Position;

    fn room(name: &str) -> RoomKey {
        RoomKey {
            name: name.into(),
            values: [].into(),
        }
    }

    fn given(seq: u64, to: &str) -> Numbered {
        Numbered {
            position: Position {
                epoch: "before".into(),
                seq,
            },
            delivery: Delivery {
                event: "news".into(),
                payloads: Vec::new(),
                audience: Audience::Rooms([(room(to), 0)].into()),
            },
            source: Some(source(seq)),
        }
    }

    fn source(offset: u64) -> Source {
        Source {
            topic: "news".into(),
            partition: 0,
            offset: offset as i64,
            index: 0,
        }
    }

    fn recent(seqs: std::ops::RangeInclusive<u64>) -> Recent {
        let mut recent = Recent::default();
        seqs.for_each(|seq| recent.push(&given(seq, "a")));
        recent
    }

    fn at(good: u64, recent: &mut Recent, former: Option<Fork>) -> Result<Option<Fork>, TooMuch> {
        Fork::at(good, recent, former, "before".into())
    }

    #[test]
    fn what_redis_has_forgotten_comes_again_once_and_then_the_fork_is_over() {
        let mut recent = recent(1..=5);
        let mut fork = at(3, &mut recent, None).unwrap().unwrap();
        assert!(!fork.comes_again(&source(3)), "it is still there");
        assert!(fork.comes_again(&source(5)));
        assert!(!fork.comes_again(&source(5)), "it came again already");
        assert!(!fork.is_over());
        assert!(fork.comes_again(&source(4)));
        assert!(fork.is_over());
    }

    #[test]
    fn nothing_is_waited_for_where_nothing_was_given_that_is_forgotten() {
        assert!(at(5, &mut recent(1..=5), None).unwrap().is_none());
    }

    #[test]
    fn a_second_fork_waits_for_what_both_have_forgotten_and_tells_the_epoch_of_the_first() {
        let mut recent = recent(1..=4);
        let first = at(3, &mut recent, None).unwrap();
        recent.push(&given(10, "a"));
        let mut second = Fork::at(2, &mut recent, first, "between".into()).unwrap().unwrap();
        assert_eq!(&*second.told, "before");
        assert!([3, 4, 10].iter().all(|offset| second.comes_again(&source(*offset))));
        assert!(second.is_over());
    }

    #[test]
    fn more_than_is_remembered_is_too_much() {
        let all = RECENT as u64;
        assert!(at(0, &mut recent(1..=all), None).is_ok());
        assert!(at(0, &mut recent(1..=all + 1), None).is_err());
        assert!(at(1, &mut recent(1..=all + 1), None).is_ok());
    }

    #[test]
    fn what_goes_to_rooms_that_nobody_is_in_is_not_waited_for_and_the_rest_not_for_ever() {
        let mut recent = Recent::default();
        recent.push(&given(1, "a"));
        recent.push(&given(2, "b"));
        let mut fork = at(0, &mut recent, None).unwrap().unwrap();
        let hosted = [room("a")];
        let waited = (0..).take_while(|_| fork.waits(hosted.iter())).count();
        assert_eq!(waited, PATIENCE as usize - 1);
        assert!(!fork.comes_again(&source(2)));
        assert!(fork.comes_again(&source(1)));
    }
}
