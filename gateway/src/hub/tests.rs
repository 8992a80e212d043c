use std::sync::atomic::AtomicUsize;

use aldis_core::route::Delivery;

use super::*;

/// A client that keeps what it gets, and is full after `capacity` events.
#[derive(Clone, Default)]
struct Probe {
    seen: Arc<Mutex<Vec<String>>>,
    capacity: Option<usize>,
    closed: Arc<AtomicUsize>,
}

impl Client for Probe {
    fn send(&self, outgoing: &Outgoing<'_>, _: Pace) -> Result<(), SendError> {
        let mut seen = self.seen.lock().unwrap();
        if self.capacity.is_some_and(|capacity| seen.len() >= capacity) {
            return Err(SendError::Full);
        }
        seen.push(format!(
            "{} {} {}",
            outgoing.event(),
            outgoing.payload().get(),
            outgoing.position()
        ));
        Ok(())
    }

    fn close(&self, _: CloseReason) {
        self.closed.fetch_add(1, Ordering::SeqCst);
    }
}

impl Probe {
    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn channel(name: &str) -> ChannelName {
    ChannelName {
        namespace: "bistro".to_owned(),
        name: name.to_owned(),
    }
}

fn room(value: &str) -> RoomKey {
    RoomKey {
        name: "orders".into(),
        values: [Box::from(value)].into(),
    }
}

fn delivery(seq: u64, audience: Audience) -> Arc<Numbered> {
    let payloads = vec!["\"first\"".into(), "\"second\"".into()];
    let position = Position { epoch: "e".into(), seq };
    Arc::new(Numbered {
        position,
        delivery: Delivery {
            event: "ev".into(),
            payloads,
            audience,
        },
        source: None,
    })
}

/// A client that is connected, and has not been told yet what it has missed.
fn arrive<O: Observe>(hub: &Hub<O>, channel: &ChannelName, rooms: &[RoomKey], probe: &Probe) -> ClientId {
    let (id, _) = hub.enter(channel, rooms, RoomLimits::NONE).unwrap();
    assert!(hub.attach(channel, id, Box::new(probe.clone())));
    id
}

/// Connects a client that has missed nothing.
fn connect<O: Observe>(hub: &Hub<O>, channel: &ChannelName, probe: &Probe) -> ClientId {
    let id = arrive(hub, channel, &[], probe);
    hub.release(channel, id, &[], &Since::default());
    id
}

fn to(rooms: &[(&str, usize)]) -> Audience {
    Audience::Rooms(rooms.iter().map(|(value, payload)| (room(value), *payload)).collect())
}

#[test]
fn a_client_in_several_rooms_gets_a_delivery_once_by_the_first_listed() {
    let hub = Hub::new("e".into(), NoObserve);
    let (orders, probe) = (channel("orders"), Probe::default());
    let id = connect(&hub, &orders, &probe);
    hub.join(&orders, id, room("a"), RoomLimits::NONE);
    hub.join(&orders, id, room("b"), RoomLimits::NONE);
    hub.publish(&orders, &delivery(1, to(&[("none", 0), ("b", 1), ("a", 0)])));
    hub.publish(&orders, &delivery(2, to(&[("a", 0), ("b", 1)])));
    assert_eq!(probe.seen(), ["ev \"second\" e:1", "ev \"first\" e:2"]);
}

#[test]
fn only_members_and_only_of_this_channel_get_it() {
    let hub = Hub::new("e".into(), NoObserve);
    let probes = [Probe::default(), Probe::default(), Probe::default()];
    let other = connect(&hub, &channel("kitchen"), &probes[0]);
    hub.join(&channel("kitchen"), other, room("a"), RoomLimits::NONE);
    connect(&hub, &channel("orders"), &probes[1]);
    let member = connect(&hub, &channel("orders"), &probes[2]);
    hub.join(&channel("orders"), member, room("a"), RoomLimits::NONE);
    hub.publish(&channel("orders"), &delivery(1, to(&[("a", 0)])));
    assert_eq!(probes.map(|probe| probe.seen().len()), [0, 0, 1]);
}

#[test]
fn everyone_means_all_clients_of_the_channel() {
    let hub = Hub::new("e".into(), NoObserve);
    let probes = [Probe::default(), Probe::default(), Probe::default()];
    connect(&hub, &channel("orders"), &probes[0]);
    connect(&hub, &channel("orders"), &probes[1]);
    connect(&hub, &channel("kitchen"), &probes[2]);
    hub.publish(&channel("orders"), &delivery(1, Audience::Everyone));
    assert_eq!(probes.map(|probe| probe.seen().len()), [1, 1, 0]);
}

#[test]
fn a_join_tells_the_place_from_which_it_counts() {
    let hub = Hub::new("e".into(), NoObserve);
    let (orders, probe) = (channel("orders"), Probe::default());
    let id = connect(&hub, &orders, &probe);
    assert_eq!(
        hub.join(&orders, id, room("a"), RoomLimits::NONE),
        Changed::Yes(Position {
            epoch: "e".into(),
            seq: 0
        })
    );
    hub.publish(&orders, &delivery(7, to(&[("zzz", 0)])));
    let place = Position {
        epoch: "e".into(),
        seq: 7,
    };
    assert_eq!(
        hub.join(&orders, id, room("b"), RoomLimits::NONE),
        Changed::Yes(place.clone())
    );
    assert_eq!(
        hub.join(&orders, id, room("b"), RoomLimits::NONE),
        Changed::No(place.clone())
    );
    assert_eq!(hub.leave(&orders, id, &room("b")), Changed::Yes(place.clone()));
    assert_eq!(hub.leave(&orders, id, &room("b")), Changed::No(place));
    hub.publish(&orders, &delivery(8, to(&[("b", 0)])));
    assert!(probe.seen().is_empty());
}

#[test]
fn a_client_that_is_full_is_closed_and_gets_nothing_more() {
    let hub = Hub::new("e".into(), NoObserve);
    let orders = channel("orders");
    let slow = Probe {
        capacity: Some(1),
        ..Probe::default()
    };
    let quick = Probe::default();
    for probe in [&slow, &quick] {
        let id = connect(&hub, &orders, probe);
        hub.join(&orders, id, room("a"), RoomLimits::NONE);
    }
    for seq in 1..=3 {
        hub.publish(&orders, &delivery(seq, to(&[("a", 0)])));
    }
    assert_eq!((slow.seen().len(), slow.closed.load(Ordering::SeqCst)), (1, 1));
    assert_eq!(quick.seen().len(), 3);
    assert_eq!(hub.connections(&orders), 1);
}

#[test]
fn rooms_without_clients_are_forgotten() {
    let hub = Hub::new("e".into(), NoObserve);
    let orders = channel("orders");
    let id = connect(&hub, &orders, &Probe::default());
    for i in 0..100 {
        hub.join(&orders, id, room(&i.to_string()), RoomLimits::NONE);
    }
    assert_eq!(hub.rooms(&orders), 100);
    hub.leave(&orders, id, &room("5"));
    assert_eq!(hub.rooms(&orders), 99);
    hub.disconnect(&orders, id);
    assert_eq!((hub.rooms(&orders), hub.connections(&orders)), (0, 0));
    assert_eq!(hub.join(&orders, id, room("a"), RoomLimits::NONE), Changed::Gone);
}

#[test]
fn rooms_are_bounded_for_a_client_a_channel_and_a_tenant_and_given_back() {
    let hub = Hub::new("e".into(), NoObserve);
    let (orders, kitchen) = (channel("orders"), channel("kitchen"));
    let cafe = ChannelName {
        namespace: "cafe".to_owned(),
        ..channel("orders")
    };
    let limits = RoomLimits {
        of_client: 2,
        of_channel: 3,
        of_tenant: 4,
    };
    let [ann, bob] = [(); 2].map(|()| connect(&hub, &orders, &Probe::default()));
    let cid = connect(&hub, &kitchen, &Probe::default());
    let joins = |channel: &ChannelName, id, value: &str| match hub.join(channel, id, room(value), limits) {
        Changed::Yes(_) => "yes",
        Changed::No(_) => "no",
        Changed::TooMany => "too many",
        Changed::Full => "full",
        Changed::Gone => "gone",
    };
    assert_eq!(
        ["a", "b", "c", "a"].map(|room| joins(&orders, ann, room)),
        ["yes", "yes", "too many", "no"]
    );
    assert_eq!([joins(&orders, bob, "a"), joins(&orders, bob, "c")], ["yes", "yes"]);
    let enter = |rooms: &[&str]| {
        let rooms: Vec<_> = rooms.iter().map(|value| room(value)).collect();
        hub.enter(&orders, &rooms, limits).map(|(id, _)| id)
    };
    assert_eq!(enter(&["a", "d"]).err(), Some(RoomsFull), "of the channel");
    assert_eq!([joins(&kitchen, cid, "a"), joins(&kitchen, cid, "b")], ["yes", "full"]);
    let dora = enter(&["a", "b"]).unwrap();
    let other = connect(&hub, &cafe, &Probe::default());
    assert_eq!(joins(&cafe, other, "a"), "yes", "another tenant has rooms of its own");
    hub.disconnect(&orders, ann);
    assert_eq!(joins(&kitchen, cid, "b"), "full", "one is in each still");
    hub.disconnect(&orders, dora);
    assert_eq!(joins(&kitchen, cid, "b"), "yes");
    for (channel, id) in [(&orders, bob), (&kitchen, cid), (&cafe, other)] {
        hub.disconnect(channel, id);
    }
    assert!(enter(&["a", "b", "c"]).is_ok(), "all are given back");
}

#[test]
fn a_delivery_is_encoded_once_for_each_namespace_and_payload() {
    let numbered = delivery(5, to(&[]));
    let frames = Frames::of(&numbered);
    let frame = frames.outgoing(1).frame("/orders");
    assert_eq!(&frame[2..], b"42/orders,[\"ev\",\"second\",\"e:5\"]");
    assert_eq!(frames.outgoing(1).frame("/orders").as_ptr(), frame.as_ptr());
    assert_eq!(&frames.outgoing(0).frame("/")[2..], b"42[\"ev\",\"first\",\"e:5\"]");
}

#[test]
fn what_was_missed_comes_first_then_what_was_held_each_once_and_in_order() {
    let hub = Hub::new("e".into(), NoObserve);
    let (orders, probe) = (channel("orders"), Probe::default());
    let missed = [
        delivery(3, to(&[("a", 0)])),
        delivery(4, to(&[("b", 0), ("a", 1)])),
        delivery(5, Audience::Everyone),
    ];
    for numbered in &missed[..2] {
        hub.publish(&orders, numbered);
    }
    let (id, position) = hub.enter(&orders, &[room("a")], RoomLimits::NONE).unwrap();
    assert_eq!(position.seq, 4);
    hub.publish(&orders, &missed[2]);
    assert!(hub.attach(&orders, id, Box::new(probe.clone())));
    hub.publish(&orders, &delivery(6, to(&[("a", 0), ("a", 1)])));
    assert!(probe.seen().is_empty());
    let since = Since {
        rooms: [(room("a"), 2)].into(),
        everyone: 2,
    };
    hub.release(&orders, id, &missed, &since);
    hub.publish(&orders, &delivery(7, to(&[("a", 0)])));
    let expected = [
        "\"first\" e:3",
        "\"second\" e:4",
        "\"first\" e:5",
        "\"first\" e:6",
        "\"first\" e:7",
    ];
    assert_eq!(probe.seen(), expected.map(|text| format!("ev {text}")));
}

#[test]
fn of_a_room_only_what_came_after_the_join_is_sent_again() {
    let hub = Hub::new("e".into(), NoObserve);
    let (orders, probe) = (channel("orders"), Probe::default());
    let id = arrive(&hub, &orders, &[], &probe);
    let missed = [
        delivery(3, to(&[("a", 0)])),
        delivery(4, to(&[("b", 0)])),
        delivery(9, to(&[("b", 1)])),
    ];
    let since = Since {
        rooms: [(room("a"), 2), (room("b"), 8)].into(),
        everyone: 2,
    };
    hub.release(&orders, id, &missed, &since);
    assert_eq!(probe.seen(), ["ev \"first\" e:3", "ev \"second\" e:9"]);
}

fn parted(at: u64, last_sent: u64) -> Parted {
    let at = Some(Position {
        epoch: "e".into(),
        seq: at,
    });
    Parted { at, last_sent }
}

#[test]
fn a_client_that_goes_tells_how_far_it_had_come() {
    let hub = Hub::new("e".into(), NoObserve);
    let (orders, probe) = (channel("orders"), Probe::default());
    let id = connect(&hub, &orders, &probe);
    hub.join(&orders, id, room("a"), RoomLimits::NONE);
    hub.publish(&orders, &delivery(3, to(&[("a", 0)])));
    hub.publish(&orders, &delivery(9, to(&[("b", 0)])));
    assert_eq!(hub.kick(&orders, id, CloseReason::TakenOver), Some(parted(9, 3)));
    assert_eq!(probe.closed.load(Ordering::SeqCst), 1);
    assert_eq!(hub.disconnect(&orders, id), None);
}

#[test]
fn a_client_that_goes_before_it_has_had_what_it_missed_has_not_come_that_far() {
    let hub = Hub::new("e".into(), NoObserve);
    let (orders, probe) = (channel("orders"), Probe::default());
    let id = arrive(&hub, &orders, &[], &probe);
    hub.publish(&orders, &delivery(3, Audience::Everyone));
    assert_eq!(hub.disconnect(&orders, id), Some(Parted::UNKNOWN));
}

#[test]
fn what_was_held_of_a_room_that_was_joined_meanwhile_keeps_its_place() {
    let hub = Hub::new("e".into(), NoObserve);
    let (orders, probe) = (channel("orders"), Probe::default());
    let id = arrive(&hub, &orders, &[room("a"), room("new")], &probe);
    hub.publish(&orders, &delivery(101, to(&[("new", 0)])));
    let missed = delivery(102, to(&[("a", 0)]));
    hub.publish(&orders, &missed);
    let since = Since {
        rooms: [(room("a"), 100)].into(),
        everyone: 100,
    };
    hub.release(&orders, id, &[missed], &since);
    assert_eq!(probe.seen(), ["ev \"first\" e:101", "ev \"first\" e:102"]);
}

#[test]
fn a_client_that_never_connects_leaves_nothing_behind() {
    let hub = Hub::new("e".into(), NoObserve);
    let orders = channel("orders");
    let (id, _) = hub.enter(&orders, &[room("a")], RoomLimits::NONE).unwrap();
    assert_eq!((hub.rooms(&orders), hub.connections(&orders)), (1, 1));
    hub.disconnect(&orders, id);
    assert_eq!((hub.rooms(&orders), hub.connections(&orders)), (0, 0));
    assert!(!hub.attach(&orders, id, Box::new(Probe::default())));
}

#[test]
fn one_for_whom_more_comes_than_is_held_does_not_get_in() {
    let hub = Hub::new("e".into(), NoObserve);
    let (orders, probe) = (channel("orders"), Probe::default());
    let (id, _) = hub.enter(&orders, &[room("a")], RoomLimits::NONE).unwrap();
    for seq in 1..=4_097 {
        assert_eq!(hub.connections(&orders), 1, "{seq}");
        hub.publish(&orders, &delivery(seq, to(&[("a", 0)])));
    }
    assert!(!hub.attach(&orders, id, Box::new(probe.clone())));
    hub.release(&orders, id, &[], &Since::default());
    assert!(probe.seen().is_empty());
}

#[test]
fn what_was_read_and_held_comes_once_in_the_form_of_now() {
    let hub = Hub::new("e".into(), NoObserve);
    let (orders, probe) = (channel("orders"), Probe::default());
    let id = arrive(&hub, &orders, &[room("old"), room("new")], &probe);
    let both = delivery(5, to(&[("new", 1), ("old", 0)]));
    hub.publish(&orders, &both);
    let since = Since {
        rooms: [(room("old"), 3)].into(),
        everyone: 3,
    };
    hub.release(&orders, id, &[delivery(4, to(&[("new", 1), ("old", 0)])), both], &since);
    assert_eq!(probe.seen(), ["ev \"first\" e:4", "ev \"second\" e:5"]);
}

#[test]
fn silent_clients_hear_where_the_channel_stands_and_others_do_not() {
    let hub = Hub::new("e".into(), NoObserve);
    let orders = channel("orders");
    let probes = [(); 4].map(|()| Probe::default());
    let silent = connect(&hub, &orders, &probes[0]);
    let busy = connect(&hub, &orders, &probes[1]);
    hub.join(&orders, busy, room("a"), RoomLimits::NONE);
    let held = arrive(&hub, &orders, &[room("a")], &probes[2]);
    hub.enter(&orders, &[room("a")], RoomLimits::NONE).unwrap();
    connect(&hub, &channel("kitchen"), &probes[3]);
    hub.publish(&orders, &delivery(7, to(&[("a", 0)])));

    assert_eq!(hub.beacons(&orders, 1_000, Millis(5_000)), 1);
    assert_eq!(probes[0].seen(), ["aldis:position null e:7"]);
    assert_eq!(probes.clone().map(|probe| probe.seen().len()), [1, 1, 0, 0]);
    // Its last position counts like that of a delivery.
    assert_eq!(hub.disconnect(&orders, silent), Some(parted(7, 7)));

    hub.publish(&orders, &delivery(8, to(&[("b", 0)])));
    assert_eq!(hub.beacons(&orders, 1_000, Millis(5_999)), 0, "not before it is time");
    assert_eq!(hub.beacons(&orders, 1_000, Millis(6_000)), 1);
    assert_eq!(hub.beacons(&orders, 1_000, Millis(7_000)), 0, "nothing has moved");
    assert_eq!(probes[1].seen()[1], "aldis:position null e:8");

    // One that has not been told yet what it has missed is not said to have it.
    hub.beacon(&orders, held);
    assert!(probes[2].seen().is_empty());
    hub.release(&orders, held, &[], &Since::default());
    hub.beacon(&orders, held);
    assert_eq!(probes[2].seen(), ["ev \"first\" e:7", "aldis:position null e:8"]);
}

#[test]
fn one_that_is_taken_out_of_a_room_hears_it_and_gets_nothing_more_of_it() {
    let hub = Hub::new("e".into(), NoObserve);
    let (orders, probe) = (channel("orders"), Probe::default());
    let id = arrive(&hub, &orders, &[room("a"), room("b")], &probe);
    let expel = |value: &str| hub.expel(&orders, id, &room(value), "left", "{}".into());
    assert!(!expel("a"), "not before it has been told what it has missed");
    hub.release(&orders, id, &[], &Since::default());
    hub.publish(&orders, &delivery(1, to(&[("a", 0)])));
    assert!(expel("a"));
    assert!(!expel("a"), "it hears it once");
    hub.publish(&orders, &delivery(2, to(&[("a", 0)])));
    hub.publish(&orders, &delivery(3, to(&[("b", 0)])));
    assert_eq!(probe.seen(), ["ev \"first\" e:1", "left {} e:1", "ev \"first\" e:3"]);
}

#[test]
fn one_that_can_not_even_hear_that_it_is_taken_out_is_closed() {
    let hub = Hub::new("e".into(), NoObserve);
    let orders = channel("orders");
    let slow = Probe {
        capacity: Some(0),
        ..Probe::default()
    };
    let id = connect(&hub, &orders, &slow);
    hub.join(&orders, id, room("a"), RoomLimits::NONE);
    assert!(hub.expel(&orders, id, &room("a"), "left", "{}".into()));
    assert_eq!((slow.closed.load(Ordering::SeqCst), hub.connections(&orders)), (1, 0));
}

#[cfg(feature = "sabotage")]
#[test]
fn rule_01_on_one_clients_wire_seq_only_grows() {
    let seqs = || {
        let hub = Hub::new("e".into(), NoObserve);
        let (orders, probe) = (channel("orders"), Probe::default());
        // It comes back, and has missed 1 and 2; while it is told so, 3 comes, to both of its rooms.
        let id = arrive(&hub, &orders, &[room("a"), room("b")], &probe);
        hub.publish(&orders, &delivery(3, to(&[("a", 0), ("b", 1)])));
        let since = Since {
            rooms: [(room("a"), 0), (room("b"), 0)].into(),
            everyone: 0,
        };
        let missed = [delivery(1, to(&[("a", 0)])), delivery(2, to(&[("b", 0)]))];
        hub.release(&orders, id, &missed, &since);
        hub.publish(&orders, &delivery(4, to(&[("b", 0), ("a", 1)])));
        let seen = probe.seen();
        let seqs = seen.iter().map(|event| event.rsplit_once(':').unwrap().1.to_owned());
        seqs.collect::<Vec<_>>()
    };
    assert_eq!(seqs(), ["1", "2", "3", "4"]);
    crate::sabotage::Rule::OneOrder.switch_off();
    assert_eq!(seqs(), ["3", "3", "1", "2", "4", "4"], "another order is noticed");
}
