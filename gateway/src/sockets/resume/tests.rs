use std::sync::Mutex;

use aldis_core::expression::bounds::on_big_stack;
use aldis_core::json::Json;
use aldis_core::route::{Audience, Delivery};
use aldis_core::time::Millis;
use aldis_crds::contract::Keys;

use super::*;
use crate::adapter::memory::MemoryAdapter;
use crate::adapter::{ChannelRef, Unit};
use crate::clock::Clock;
use crate::egress::Http;
use crate::hub::{Changed, Hub, Outgoing, Pace, RoomLimits, SendError};
use crate::jwks::Jwks;
use crate::metrics::Metrics;

mod hostile;
mod position;
mod recheck;
#[cfg(feature = "sabotage")]
mod rules;
mod simulation;

type Memory = MemoryAdapter<Hub<Arc<Metrics>>>;

/// A channel with its adapter and hub, whose rooms `room` staff may join.
struct House {
    shared: Shared<Memory>,
    channel: Arc<Channel>,
    offset: Mutex<i64>,
}

/// What a client has received: `event payload position`.
#[derive(Clone, Default)]
struct Probe(Arc<Mutex<Vec<String>>>, Arc<Mutex<Option<CloseReason>>>);

impl Client for Probe {
    fn send(&self, outgoing: &Outgoing<'_>, _: Pace) -> Result<(), SendError> {
        let seen = format!("{} {} {}", outgoing.event(), outgoing.payload(), outgoing.position());
        self.0.lock().unwrap().push(seen);
        Ok(())
    }

    fn close(&self, reason: CloseReason) {
        *self.1.lock().unwrap() = Some(reason);
    }
}

impl Probe {
    fn seen(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Seqs of the deliveries.
    fn seqs(&self) -> Vec<u64> {
        let seen = self.seen();
        let news = seen.iter().filter(|event| event.starts_with("news "));
        news.map(|event| event.rsplit_once(':').unwrap().1.parse().unwrap())
            .collect()
    }

    /// What `aldis:ready` said.
    fn ready(&self) -> Value {
        let seen = self.seen();
        let (event, rest) = seen[0].split_once(' ').unwrap();
        assert_eq!(event, READY_EVENT, "it comes first");
        serde_json::from_str(rest.rsplit_once(' ').unwrap().0).unwrap()
    }
}

/// A client that is connected.
struct Connected {
    probe: Probe,
    arrival: Arrival,
}

fn identity(user: &str, role: &str) -> Arc<Identity> {
    Arc::new(Identity {
        user: Some(user.to_owned()),
        method: "staff".to_owned(),
        expires: None,
        json: Json::parse(format!(r#"{{"user":"{user}","role":"{role}"}}"#)).unwrap(),
    })
}

fn ann() -> Arc<Identity> {
    identity("ann", "staff")
}

/// press/news: who may join rooms, and what these are.
fn channel(history: usize, allow: &str, key: &str) -> Arc<Channel> {
    let config = json!({
        "channel": {"namespace": "press", "name": "news"},
        "attachments": [{"listener": "web", "path": "/news"}],
        "spec": {
            "parentRefs": [{"name": "shared"}],
            "authentication": {"anonymous": {}},
            "rooms": [
                {"name": "room", "key": key, "allow": allow,
                 "join": {"event": "join", "leave": "leave", "with": {"room": "args.room"}}},
                {"name": "desk", "key": "desk:{user}",
                 "join": {"auto": {"when": "identity.role == 'staff'", "with": {"user": "identity.user"}}}},
            ],
            "history": {"size": history, "ttl": "1m"},
        },
    });
    let config = serde_json::from_value(config).unwrap();
    Arc::new(on_big_stack(|| Channel::compile(&config, &Keys::default())).unwrap())
}

impl House {
    fn keeping(size: usize) -> Self {
        let channel = channel(size, "identity.role == 'staff'", "room:{room}");
        let metrics = Arc::new(Metrics::new());
        let hub = Arc::new(Hub::new("e".into(), Arc::clone(&metrics)));
        let clock = Clock::fixed(Millis(0));
        let shared = Shared {
            table: Default::default(),
            adapter: MemoryAdapter::new("e".into(), Arc::clone(&hub), clock),
            hub,
            sessions: Default::default(),
            jwks: Jwks::new(Http::new().unwrap(), Arc::clone(&metrics), clock),
            entrance: Default::default(),
            permits: Default::default(),
            rates: Default::default(),
            replicas: Default::default(),
            expiries: Default::default(),
            counts: Default::default(),
            metrics,
            clock,
        };
        Self {
            shared,
            channel,
            offset: Mutex::new(0),
        }
    }
    /// Delivers `news` to rooms `room`, one delivery each.
    async fn deliver(&self, rooms: &[&str]) {
        for room in rooms {
            let asked = self.join_of(room);
            let delivery = Delivery {
                event: "news".into(),
                payloads: vec!["{}".into()],
                audience: Audience::Rooms([(asked.room, 0)].into()),
            };
            let offset = {
                let mut offset = self.offset.lock().unwrap();
                *offset += 1;
                *offset
            };
            let unit = Unit {
                topic: "news".into(),
                partition: 0,
                offset,
                deliveries: vec![delivery],
            };
            let adapter = &self.shared.adapter;
            adapter.append(ChannelRef::of(&self.channel), vec![unit]).await.unwrap();
        }
    }

    fn join_of(&self, room: &str) -> Joined {
        let args = Json::parse(format!(r#"[{{"room":"{room}"}}]"#)).unwrap();
        let event = aldis_core::membership::ClientEvent {
            name: "join",
            args: &args,
            binary: false,
            socket_id: "",
        };
        rooms::join(&self.channel, &ann(), &event, Millis(0)).unwrap()
    }

    async fn arrive(&self, identity: &Arc<Identity>, auth: Value) -> Arrival {
        let auth = Json::parse(auth.to_string()).unwrap();
        let offer = Offer::of(Some(&auth));
        let claim = claim(&self.shared, &self.channel, identity, &offer).await.unwrap();
        let arrival = resume(&self.shared, &self.channel, identity, &offer, claim.as_ref()).await;
        arrival.unwrap()
    }

    /// CONNECT goes out to a client that was let in; `None` where it is to come back.
    fn connect(&self, identity: &Arc<Identity>, arrival: Arrival) -> Option<Connected> {
        let probe = Probe::default();
        let welcome = arrival.welcome(&self.shared, identity, Box::new(probe.clone()));
        arrival.release(&self.shared);
        welcome.then_some(Connected { probe, arrival })
    }

    async fn come(&self, identity: &Arc<Identity>, auth: Value) -> Connected {
        let arrival = self.arrive(identity, auth).await;
        self.connect(identity, arrival).expect("it is let in")
    }

    /// As the event handler does it.
    fn join(&self, client: &Connected, room: &str) -> bool {
        let Arrival {
            seat,
            session,
            generation,
            ..
        } = &client.arrival;
        let joined = self.join_of(room);
        match self
            .shared
            .hub
            .join(&seat.channel, seat.id, joined.room.clone(), RoomLimits::NONE)
        {
            Changed::Yes(position) => {
                let at = position.seq;
                session.joined(*generation, Joined { at, ..joined })
            }
            _ => false,
        }
    }

    /// Its connection ends.
    fn part(&self, client: &Connected) {
        let Arrival {
            seat,
            session,
            generation,
            ..
        } = &client.arrival;
        let parted = seat.leave().unwrap_or(Parted::UNKNOWN);
        session.parted(*generation, parted, Millis(0));
    }
}

impl Connected {
    fn pid(&self) -> &str {
        self.arrival.session.pid.reveal()
    }
}

#[test]
fn who_has_the_last_position_has_everything_up_to_where_it_parted() {
    let at = |epoch: &str, seq| Position {
        epoch: epoch.into(),
        seq,
    };
    for epoch in ["e", "f"] {
        // Where an epoch has begun since the last position was sent, that where it parted is of it.
        let parted = Parted {
            at: Some(at(epoch, 100)),
            last_sent: 60,
        };
        assert_eq!(reached(&at("e", 60), Some(&parted)), at(epoch, 100));
        assert_eq!(reached(&at("e", 59), Some(&parted)), at("e", 59));
        assert_eq!(reached(&at("e", 120), Some(&parted)), at("e", 120));
    }
    assert_eq!(reached(&at("e", 60), None), at("e", 60));
    assert_eq!(reached(&at("e", 60), Some(&Parted::UNKNOWN)), at("e", 60));
}

#[tokio::test]
async fn a_client_that_comes_back_gets_what_it_missed_once_and_in_order() {
    let house = House::keeping(100);
    let first = house.come(&ann(), json!({})).await;
    assert_eq!(first.probe.ready(), json!({"recovered": false, "rooms": ["desk:ann"]}));
    assert!(house.join(&first, "a"));
    house.deliver(&["a", "b", "a"]).await;
    assert_eq!(first.probe.seqs(), [1, 3]);
    house.part(&first);
    house.deliver(&["a", "b"]).await;

    // It had not received the last one.
    let second = house.come(&ann(), json!({"pid": first.pid(), "offset": "e:1"})).await;
    assert_eq!(second.pid(), first.pid());
    assert_eq!(
        second.probe.ready(),
        json!({"recovered": true, "rooms": ["desk:ann", "room:a"]})
    );
    house.deliver(&["a"]).await;
    assert_eq!(second.probe.seqs(), [3, 4, 6]);
}

#[tokio::test]
async fn what_comes_while_it_connects_is_neither_lost_nor_doubled() {
    let house = House::keeping(100);
    let first = house.come(&ann(), json!({})).await;
    house.join(&first, "a");
    house.part(&first);
    house.deliver(&["a"]).await;
    let arrival = house.arrive(&ann(), json!({"pid": first.pid(), "offset": "e:0"})).await;
    // CONNECT, which says "recovered", has not gone out yet; the history that was read is dropped meanwhile.
    house.deliver(&["a", "a"]).await;
    house.shared.adapter.forget(ChannelRef::of(&house.channel)).await;
    let second = house.connect(&ann(), arrival).unwrap();
    assert_eq!(second.probe.ready()["recovered"], true);
    assert_eq!(second.probe.seqs(), [1, 2, 3]);
}

#[tokio::test]
async fn one_that_never_connects_leaves_no_trace_in_the_hub() {
    let house = House::keeping(100);
    drop(house.arrive(&ann(), json!({})).await);
    assert_eq!(house.shared.hub.connections(&house.channel.name), 0);
    assert_eq!(house.shared.hub.rooms(&house.channel.name), 0);
}

#[tokio::test]
async fn where_something_is_gone_the_client_is_told_and_is_in_its_rooms_from_now_on() {
    let house = House::keeping(2);
    let first = house.come(&ann(), json!({})).await;
    house.join(&first, "a");
    house.part(&first);
    house.deliver(&["a", "a", "a"]).await;
    let second = house.come(&ann(), json!({"pid": first.pid(), "offset": "e:0"})).await;
    assert_ne!(second.pid(), first.pid());
    let told = json!({"recovered": false, "rooms": ["desk:ann", "room:a"], "reason": "history"});
    assert_eq!(second.probe.ready(), told);
    house.deliver(&["a"]).await;
    assert_eq!(second.probe.seqs(), [4]);

    // With its old offset it has not heard that yet: it is told again. Once it has, it is recovered like any other.
    house.part(&second);
    let third = house.come(&ann(), json!({"pid": second.pid(), "offset": "e:0"})).await;
    assert_eq!(third.probe.ready(), told);
    house.part(&third);
    house.deliver(&["a"]).await;
    let fourth = house.come(&ann(), json!({"pid": third.pid(), "offset": "e:4"})).await;
    assert_eq!(
        (fourth.probe.ready()["recovered"].as_bool(), fourth.probe.seqs()),
        (Some(true), vec![5])
    );
}

#[tokio::test]
async fn who_is_cut_off_before_it_hears_its_new_name_comes_back_to_its_rooms() {
    let house = House::keeping(2);
    let first = house.come(&ann(), json!({})).await;
    house.join(&first, "a");
    house.part(&first);
    house.deliver(&["a", "a", "a"]).await;
    let auth = json!({"pid": first.pid(), "offset": "e:0"});
    // Once its CONNECT never goes out, once it goes out and is lost.
    let unheard = house.arrive(&ann(), auth.clone()).await.session.pid.reveal().to_owned();
    house.part(&house.come(&ann(), auth.clone()).await);
    let told = json!({"recovered": false, "rooms": ["desk:ann", "room:a"], "reason": "history"});
    assert_eq!(house.come(&ann(), auth).await.probe.ready(), told);
    // Once it hears the name, and nothing else.
    let auth = json!({"pid": unheard, "offset": "e:0"});
    assert_eq!(house.come(&ann(), auth).await.probe.ready(), told);
}

#[tokio::test]
async fn an_unreadable_offset_falls_back_to_the_session_only_where_that_is_exact() {
    let house = House::keeping(100);
    let quiet = house.come(&ann(), json!({})).await;
    house.join(&quiet, "a");
    house.deliver(&["b"]).await;
    house.part(&quiet);
    house.deliver(&["a"]).await;
    let again = house
        .come(&ann(), json!({"pid": quiet.pid(), "offset": "2026-11-21"}))
        .await;
    assert_eq!(
        (again.probe.ready()["recovered"].as_bool(), again.probe.seqs()),
        (Some(true), vec![2])
    );
    // Now it has been sent something: whether it has that, nobody knows.
    house.part(&again);
    let told = house
        .come(&ann(), json!({"pid": again.pid(), "offset": "2026-11-21"}))
        .await;
    assert_eq!(told.probe.ready()["reason"], "offset");
}

#[tokio::test]
async fn a_beacon_lets_an_idle_client_come_back_though_nobody_knows_how_it_went() {
    let house = House::keeping(100);
    let name = &house.channel.name;
    let [idle, deaf] = [
        house.come(&ann(), json!({})).await,
        house.come(&identity("bob", "staff"), json!({})).await,
    ];
    house.deliver(&["a", "a", "a"]).await;
    assert_eq!(house.shared.hub.beacons(name, 30_000, Millis(30_000)), 2);
    let beacon = idle.probe.seen().pop().unwrap();
    assert_eq!(beacon, "aldis:position null e:3");
    // What is kept begins there, and the process that had the clients has died.
    house.shared.adapter.forget(ChannelRef::of(&house.channel)).await;
    for client in [&idle, &deaf] {
        client.arrival.seat.leave();
        client
            .arrival
            .session
            .parted(client.arrival.generation, Parted::UNKNOWN, Millis(0));
    }
    house.deliver(&["b"]).await;
    let again = house.come(&ann(), json!({"pid": idle.pid(), "offset": "e:3"})).await;
    assert_eq!(again.probe.ready()["recovered"], true);
    let deaf = house
        .come(&identity("bob", "staff"), json!({"pid": deaf.pid(), "offset": "e:0"}))
        .await;
    assert_eq!(
        deaf.probe.ready()["reason"],
        "history",
        "without the beacon it would not be"
    );
}
