//! The checker sees each kind of mistake, and none where there is none.

use super::*;

/// A channel press/news that reads the topic `news`, one client that is in `desk:1` from `e:0` on, and what comes.
struct Story(History);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn position(epoch: &str, seq: u64) -> Option<Position> {
    let epoch = epoch.to_owned();
    Some(Position { epoch, seq })
}

impl Story {
    /// Records 0 to 9 of two partitions, one a second from 10 s on, all for `desk:1`.
    fn new() -> Self {
        let record = |id: u64| Record {
            topic: "news".to_owned(),
            partition: (id % 2) as i32,
            rooms: ["desk:1".to_owned(), "table:1".to_owned()].into(),
            sent: at(10 + id),
            acked: Some(at(10 + id)),
        };
        let mut story = Self(History {
            topics: [("press/news".to_owned(), "news".to_owned())].into(),
            records: (0..10).map(record).collect(),
            ..History::default()
        });
        story.client();
        story
    }

    fn client(&mut self) -> &mut Self {
        self.0.clients.push(Client {
            name: "client".to_owned(),
            channel: "press/news".to_owned(),
            wants: ["desk:1".to_owned()].into(),
            log: Vec::new(),
        });
        self.connected(1, false).ready(1, false, &["desk:1"], position("e", 0))
    }

    fn saw(&mut self, seconds: u64, saw: Saw) -> &mut Self {
        self.0.clients.last_mut().unwrap().log.push((at(seconds), saw));
        self
    }

    fn connected(&mut self, seconds: u64, recovered: bool) -> &mut Self {
        let recovered = Some(recovered);
        self.saw(seconds, Saw::Connected { recovered })
    }

    fn ready(&mut self, seconds: u64, recovered: bool, rooms: &[&str], position: Option<Position>) -> &mut Self {
        let rooms = rooms.iter().map(|room| (*room).to_owned()).collect();
        let reason = None;
        self.saw(
            seconds,
            Saw::Ready {
                recovered,
                reason,
                rooms,
                position,
            },
        )
    }

    /// Records as they come, numbered as they are, a second after each other's production.
    fn events(&mut self, records: impl IntoIterator<Item = usize>) -> &mut Self {
        for record in records {
            self.event(record, position("e", record as u64 + 1));
        }
        self
    }

    fn event(&mut self, record: usize, position: Option<Position>) -> &mut Self {
        let channel = "press/news".to_owned();
        let saw = Saw::Event {
            record,
            channel,
            position,
        };
        self.saw(11 + record as u64, saw)
    }

    fn away(&mut self, from: u64, to: u64, recovered: bool, rooms: &[&str], position: Option<Position>) -> &mut Self {
        self.saw(from, Saw::Disconnected);
        self.connected(to, recovered).ready(to, recovered, rooms, position)
    }

    /// The faults that are found: lost, duplicated, reordered, crossed, falsely recovered, needlessly not.
    fn faults(&self) -> [usize; 6] {
        let verdict = check(&self.0);
        println!("{:#?}", verdict.examples);
        assert_eq!((verdict.silent, verdict.refused), (0, 0));
        [
            verdict.lost,
            verdict.duplicated,
            verdict.reordered,
            verdict.crossed,
            verdict.falsely_recovered,
            verdict.needlessly_not,
        ]
    }
}

#[test]
fn nothing_is_found_where_all_is_well() {
    let mut story = Story::new();
    story
        .events(0..5)
        .away(16, 17, true, &["desk:1"], position("e", 5))
        .events(5..10);
    let verdict = check(&story.0);
    assert!(verdict.holds(), "{:?}", verdict.examples);
    assert_eq!((verdict.records, verdict.deliveries, verdict.reconnects), (10, 10, 1));
    assert_eq!(verdict.standstill, at(1));
}

#[test]
fn what_does_not_come_is_lost_in_the_middle_and_at_the_end() {
    assert_eq!(
        Story::new().events([0, 1, 2, 4, 5, 6, 7, 8, 9]).faults(),
        [1, 0, 0, 0, 0, 0]
    );
    assert_eq!(Story::new().events(0..7).faults(), [3, 0, 0, 0, 0, 0]);
}

#[test]
fn what_kafka_did_not_acknowledge_may_come_or_not() {
    let mut story = Story::new();
    for record in [3, 4] {
        story.0.records[record].acked = None;
    }
    assert_eq!(story.events([0, 1, 2, 3, 5, 6, 7, 8, 9]).faults(), [0; 6]);
}

#[test]
fn what_comes_again_is_found_also_behind_a_recovery() {
    let again = |story: &mut Story| story.event(4, position("e", 11)).faults();
    assert_eq!(again(Story::new().events(0..10)), [0, 1, 0, 0, 0, 0]);
    let mut story = Story::new();
    story.events(0..10).away(21, 22, true, &["desk:1"], position("e", 10));
    assert_eq!(again(&mut story), [0, 1, 0, 0, 0, 0]);
}

#[test]
fn a_partition_that_goes_back_and_a_number_that_goes_back_are_found() {
    let mut story = Story::new();
    story.events([0, 1]);
    // Record 4 before record 2, of one partition.
    story.event(4, position("e", 3)).event(2, position("e", 4));
    for record in [3, 5, 6, 7, 8, 9] {
        story.event(record, position("e", 10 + record as u64));
    }
    assert_eq!(story.faults(), [0, 0, 1, 0, 0, 0]);
    // Those of two partitions may come in any order, but numbers only grow.
    let mut story = Story::new();
    story.events([0, 2, 1, 3]).events(4..10);
    assert_eq!(story.faults(), [0, 0, 1, 0, 0, 0]);
}

#[test]
fn another_channel_another_room_and_another_record_at_one_position_are_found() {
    let mut story = Story::new();
    story.events(0..10);
    let channel = "press/alerts".to_owned();
    story.saw(
        30,
        Saw::Event {
            record: 3,
            channel,
            position: None,
        },
    );
    assert_eq!(story.faults(), [0, 0, 0, 1, 0, 0]);

    let mut story = Story::new();
    story.0.records[5].rooms = ["desk:2".to_owned()].into();
    assert_eq!(story.events(0..10).faults(), [0, 0, 0, 1, 0, 0]);

    let mut story = Story::new();
    story.events(0..10).client();
    story.events(0..9).event(9, position("e", 9));
    // Which is where the one before was, too.
    assert_eq!(story.faults(), [0, 0, 1, 1, 0, 0]);
}

#[test]
fn recovered_is_false_where_something_or_a_room_is_missing_or_nobody_said_so() {
    let mut story = Story::new();
    story
        .events(0..4)
        .away(15, 17, true, &["desk:1"], position("e", 4))
        .events(6..10);
    assert_eq!(story.faults(), [2, 0, 0, 0, 1, 0]);

    let mut story = Story::new();
    story
        .events(0..4)
        .away(15, 15, true, &[], position("e", 4))
        .events(4..10);
    assert_eq!(story.faults(), [0, 0, 0, 0, 1, 0]);

    let mut story = Story::new();
    story
        .events(0..4)
        .saw(15, Saw::Disconnected)
        .connected(15, true)
        .events([4]);
    story.ready(15, true, &["desk:1"], position("e", 5)).events(5..10);
    assert_eq!(story.faults(), [0, 0, 0, 0, 1, 0]);

    let mut story = Story::new();
    story.events(0..4).saw(15, Saw::Disconnected).connected(15, false);
    story.ready(15, true, &["desk:1"], position("e", 4)).events(4..10);
    assert_eq!(story.faults(), [0, 0, 0, 0, 1, 0]);
}

#[test]
fn who_is_told_misses_only_what_lies_before() {
    // What it had not got before it went away it need not get, and it may get again what it had.
    let told = |epoch| {
        let mut story = Story::new();
        story.0.forgot = true;
        story.events(0..4).away(15, 16, false, &["desk:1"], position(epoch, 6));
        story
    };
    assert_eq!(told("e").events(6..10).faults(), [0; 6]);
    assert_eq!(told("e").events([6, 8, 9]).faults(), [1, 0, 0, 0, 0, 0]);
    // What it had before may be numbered again behind where it stands, and need not come again.
    let mut story = told("f");
    for record in [2, 3, 4, 5, 6, 7, 8, 9] {
        story.event(record, position("f", record as u64 + 10));
    }
    story.0.clients[0].log.retain(
        |(_, saw)| !matches!(saw, Saw::Event { record: 2 | 3, position: Some(position), .. } if position.epoch == "f"),
    );
    assert_eq!(story.faults(), [0; 6]);
    // Numbers of two epochs can not be compared: what was produced after it was told has to come.
    let mut story = told("f");
    for record in [3, 7, 8, 9] {
        story.event(record, position("f", record as u64 + 4));
    }
    assert_eq!(story.faults(), [0; 6]);
    let mut story = told("f");
    for record in [3, 8, 9] {
        story.event(record, position("f", record as u64 + 4));
    }
    assert_eq!(story.faults(), [1, 0, 0, 0, 0, 0]);
}

#[test]
fn a_hole_before_it_is_told_is_a_hole() {
    let mut story = Story::new();
    story.0.forgot = true;
    story
        .events([0, 1, 3, 4, 5])
        .away(17, 18, false, &["desk:1"], position("e", 8))
        .events(8..10);
    assert_eq!(story.faults(), [1, 0, 0, 0, 0, 0]);
}

#[test]
fn not_recovered_needs_a_reason() {
    let mut story = Story::new();
    story
        .events(0..4)
        .away(15, 16, false, &["desk:1"], position("e", 4))
        .events(4..10);
    assert_eq!(story.faults(), [0, 0, 0, 0, 0, 1]);
}

#[test]
fn a_room_that_was_joined_later_counts_from_there() {
    let mut story = Story::new();
    story.0.clients[0].log.clear();
    story.connected(1, false).ready(1, false, &[], position("e", 0));
    let room = "desk:1".to_owned();
    story.saw(
        14,
        Saw::Joined {
            room,
            position: position("e", 3),
        },
    );
    // Whether it is before or behind the join shows by its number.
    assert_eq!(story.events(3..10).faults(), [0; 6]);
    let mut story = Story(story.0);
    story.0.clients[0].log.remove(3);
    story.client().events(0..10);
    assert_eq!(story.faults(), [1, 0, 0, 0, 0, 0]);
}

#[test]
fn a_record_that_came_before_a_client_began_is_not_due_though_it_came_again_after_that() {
    let mut story = Story::new();
    story.events(0..10).client();
    for record in 0..10 {
        story.event(record, position("e", 20 + record as u64));
    }
    story.client().away(14, 16, false, &["desk:1"], position("e", 10));
    for record in 7..10 {
        story.event(record, position("e", 20 + record as u64));
    }
    assert_eq!(story.faults()[0], 0);
}

#[test]
fn a_room_whose_join_was_not_acknowledged_counts_from_when_it_is_told() {
    let mut story = Story::new();
    story.0.clients[0].log.clear();
    story.connected(1, false).ready(1, false, &[], position("e", 0));
    story.away(14, 15, true, &["desk:1"], position("e", 0));
    let unknown = Story(story.0.clone());
    assert_eq!(story.events(3..10).faults(), [0; 6]);
    let mut story = unknown;
    assert_eq!(
        story.events([3, 4, 5, 6, 8, 9]).faults()[0],
        1,
        "after that it has to come"
    );
}

#[test]
fn silence_and_refusals_are_found_and_an_outage_is_none() {
    let mut story = Story::new();
    story.events(0..9).saw(
        70,
        Saw::Event {
            record: 9,
            channel: "press/news".to_owned(),
            position: position("e", 10),
        },
    );
    assert_eq!(check(&story.0).silent, 1);
    story.0.outages = vec![(at(20), at(40))];
    assert!(check(&story.0).holds());
    story.saw(71, Saw::Refused("io server disconnect".to_owned()));
    assert_eq!(check(&story.0).refused, 1);
}
