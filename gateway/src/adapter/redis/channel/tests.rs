//! What a replica does with what it hears and reads, after Redis has forgotten something.

use std::sync::Mutex;

use aldis_core::route::Delivery;

use super::*;
use crate::adapter::Source;

/// What clients here were given: offsets.
#[derive(Default)]
struct Given(Mutex<Vec<i64>>);

impl Publish for Given {
    fn publish(&self, _: &ChannelName, numbered: &Arc<Numbered>) {
        self.0.lock().unwrap().push(numbered.source.as_ref().unwrap().offset);
    }

    fn broken(&self, _: &ChannelName, _: Option<&[RoomKey]>) {
        panic!("nobody is to be told anything");
    }
}

const ROOM: &str = "desk";

/// What a record makes, as Redis has it.
fn delivery(offset: i64) -> Vec<u8> {
    let room = RoomKey {
        name: ROOM.into(),
        values: [].into(),
    };
    let delivery = Delivery {
        event: "news".into(),
        payloads: vec!["1".into()],
        audience: Audience::Rooms([(room, 0)].into()),
    };
    let source = Source {
        topic: "records".into(),
        partition: 0,
        offset,
        index: 0,
    };
    packed::pack(&delivery, &source)
}

/// A channel that hosts the room, after seq 10 of epoch a.
fn followed() -> (Followed, Vec<Arc<Guard>>) {
    let name = ChannelName {
        namespace: "press".into(),
        name: "news".into(),
    };
    let mut followed = Followed::new(name, Keys::of("gateway", "uid"), 60_000, 0);
    let room = RoomKey {
        name: ROOM.into(),
        values: [].into(),
    };
    let (guards, rooms) = followed.host(&[room]);
    let _passed = followed.expect_fence(1, rooms);
    assert_eq!(followed.pushed_fence(b"1 a 10 10 10"), Pushed::Fine);
    (followed, guards)
}

/// It catches up with a Redis that goes on in another epoch, from `good`, and has these since.
fn roll_back(followed: &mut Followed, epoch: &str, good: u64, since: &[(u64, i64)], given: &Given) {
    let mut from = u64::MAX;
    for token in [7, 8] {
        let mut behind = followed.fall_behind(token).unwrap();
        behind
            .rooms
            .iter_mut()
            .for_each(|(_, after)| *after = (*after).min(from));
        let beyond = (0..).zip(&behind.rooms).filter(|(_, (_, after))| *after > good);
        let read = ReadBack::Read {
            epoch: epoch.into(),
            seq: since.last().map_or(good, |(seq, _)| *seq),
            good,
            beyond: beyond.map(|(at, _)| at).collect(),
            broken: Vec::new(),
            deliveries: since.iter().map(|(seq, offset)| (*seq, delivery(*offset))).collect(),
        };
        assert_eq!(
            followed.pushed_fence(format!("{token} {epoch} {good}").as_bytes()),
            Pushed::Fine
        );
        match followed.caught_up(&behind, read, given) {
            CaughtUp::Yes => return,
            CaughtUp::From(good) => from = good,
            CaughtUp::Again => unreachable!("its fence has passed"),
        }
    }
    panic!("it does not catch up");
}

#[test]
fn what_redis_forgets_twice_is_given_once() {
    let (given, (mut followed, _guards)) = (Given::default(), followed());
    let room = followed.room_names().find(|name| name.contains(ROOM)).unwrap().clone();
    let pushed = [b"a 11 10 ", &delivery(1)[..]].concat();
    assert_eq!(followed.pushed(&room, &pushed, &given), Pushed::Fine);
    roll_back(&mut followed, "b", 10, &[], &given);
    assert!(followed.is_forked());
    let pushed = [b"b 21 10 ", &delivery(1)[..]].concat();
    assert_eq!(followed.pushed(&room, &pushed, &given), Pushed::Fine);
    assert!(!followed.is_forked(), "it has come again");
    roll_back(&mut followed, "c", 20, &[(31, 1), (32, 2)], &given);
    assert!(!followed.is_forked(), "it has come again");
    assert_eq!(*given.0.lock().unwrap(), [1, 2]);
}
