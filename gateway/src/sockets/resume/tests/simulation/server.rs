//! The gateway of a history: the real adapter, hub and sessions, stopped between their steps.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;

use aldis_core::room::RoomKey;
use futures_util::task::noop_waker_ref;

use super::super::*;
use super::adapter::{Interrupted, Log, Published, Witness, let_others_go_first};
use super::connection::{Connection, Frame, Pipe};

pub(super) const ROOMS: [&str; 3] = ["a", "b", "c"];

/// A time in a room: what is after `from` and not after `to` is for the client. It has asked to leave when it had come to `asked`.
#[derive(Clone, Debug)]
pub(super) struct Stay {
    pub(super) room: RoomKey,
    pub(super) from: u64,
    pub(super) asked: u64,
    pub(super) to: u64,
}

impl Stay {
    fn from(room: RoomKey, from: u64) -> Self {
        let (asked, to) = (u64::MAX, u64::MAX);
        Self { room, from, asked, to }
    }
}

/// A session, as it is meant to be.
#[derive(Default)]
pub(super) struct Meant {
    /// Where it began.
    pub(super) begin: u64,
    pub(super) stays: Vec<Stay>,
}

/// What all histories of a run have in common: making it takes longer than a history.
struct Gateway {
    shared: Shared<Interrupted>,
    published: Arc<Mutex<Log>>,
}

thread_local! {
    static GATEWAY: Rc<Gateway> = Rc::new(Gateway::new());
}

impl Gateway {
    fn new() -> Self {
        let metrics = Arc::new(Metrics::new());
        let hub = Arc::new(Hub::new("e".into(), Arc::clone(&metrics)));
        let clock = Clock::fixed(Millis(0));
        let published = Arc::<Mutex<Log>>::default();
        let witness = Witness {
            hub: Arc::clone(&hub),
            published: Arc::clone(&published),
        };
        let shared = Shared {
            table: Default::default(),
            adapter: Interrupted(MemoryAdapter::new("e".into(), Arc::new(witness), clock)),
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
        Self { shared, published }
    }
}

/// What the steps of a history share.
struct Inside {
    gateway: Rc<Gateway>,
    channel: Arc<Channel>,
    sessions: RefCell<HashMap<String, Meant>>,
}

impl Inside {
    fn joined(&self, room: &str) -> Joined {
        let args = Json::parse(format!(r#"[{{"room":"{room}"}}]"#)).unwrap();
        let event = aldis_core::membership::ClientEvent {
            name: "join",
            args: &args,
            binary: false,
            socket_id: "",
        };
        rooms::join(&self.channel, &ann(), &event, Millis(0)).unwrap()
    }
}

type Step = Pin<Box<dyn Future<Output = ()>>>;

/// Reads one partition. Another one may do so as well: a group that has given the partition to somebody else, whom it has not told yet.
#[derive(Default)]
struct Consumer {
    next: Cell<usize>,
    is_busy: Cell<bool>,
}

#[derive(Default)]
struct Partition {
    log: Vec<Unit>,
    committed: Rc<Cell<usize>>,
    consumers: [Rc<Consumer>; 2],
}

pub(super) struct Server {
    inside: Rc<Inside>,
    /// What is under way.
    steps: Vec<Step>,
    connections: Vec<Rc<Connection>>,
    partitions: [Partition; 2],
    records: u64,
}

impl Server {
    /// A gateway whose rooms keep so many deliveries.
    pub(super) fn keeping(seed: u64, deliveries: usize) -> Self {
        let mut channel = channel(deliveries, "true", "room:{room}");
        Arc::get_mut(&mut channel).unwrap().name.name = format!("news-{seed}");
        let inside = Inside {
            gateway: GATEWAY.with(Rc::clone),
            channel,
            sessions: RefCell::default(),
        };
        Self {
            inside: Rc::new(inside),
            steps: Vec::new(),
            connections: Vec::new(),
            partitions: Default::default(),
            records: 0,
        }
    }

    /// A record of a partition, which makes one delivery.
    pub(super) fn produce(&mut self, partition: usize, rooms: &[&str]) {
        self.records += 1;
        let rooms: Vec<_> = rooms.iter().map(|room| (self.inside.joined(room).room, 0)).collect();
        let delivery = Delivery {
            event: "news".into(),
            payloads: vec![self.records.to_string().into()],
            audience: match rooms.is_empty() {
                true => Audience::Everyone,
                false => Audience::Rooms(rooms),
            },
        };
        let log = &mut self.partitions[partition].log;
        log.push(Unit {
            topic: "news".into(),
            partition: i32::try_from(partition).unwrap(),
            offset: log.len() as i64,
            deliveries: vec![delivery],
        });
    }

    /// A consumer takes the next records, and commits when that is done.
    pub(super) fn consume(&mut self, partition: usize, consumer: usize, most: usize) {
        let Partition {
            log,
            committed,
            consumers,
        } = &self.partitions[partition];
        let (inside, committed) = (Rc::clone(&self.inside), Rc::clone(committed));
        let consumer = Rc::clone(&consumers[consumer]);
        let to = log.len().min(consumer.next.get() + most);
        if consumer.is_busy.replace(true) {
            return;
        }
        let units = log[consumer.next.get()..to].to_vec();
        self.steps.push(Box::pin(async move {
            let (adapter, channel) = (&inside.gateway.shared.adapter, ChannelRef::of(&inside.channel));
            adapter.append(channel, units).await.unwrap();
            consumer.next.set(to);
            consumer.is_busy.set(false);
            committed.set(committed.get().max(to));
        }));
    }

    /// A consumer gets the partition: it begins where the group has come to, or before.
    pub(super) fn assign(&mut self, partition: usize, consumer: usize, before: usize) {
        let Partition {
            committed, consumers, ..
        } = &self.partitions[partition];
        if !consumers[consumer].is_busy.get() {
            consumers[consumer].next.set(committed.get().saturating_sub(before));
        }
    }

    /// One of the things that are under way goes on.
    pub(super) fn go_on(&mut self, which: usize) {
        if self.steps.is_empty() {
            return;
        }
        let which = which % self.steps.len();
        let done = self.steps[which]
            .as_mut()
            .poll(&mut Context::from_waker(noop_waker_ref()));
        if done.is_ready() {
            drop(self.steps.swap_remove(which));
        }
    }

    /// Nothing is under way any more, and everything is consumed.
    pub(super) fn finish(&mut self) {
        self.finish_steps();
        for partition in 0..self.partitions.len() {
            self.assign(partition, 0, 0);
            self.consume(partition, 0, self.partitions[partition].log.len());
        }
        self.finish_steps();
    }

    fn finish_steps(&mut self) {
        while !self.steps.is_empty() {
            self.go_on(0);
        }
        while self.connections.iter().any(|connection| connection.waits()) {
            self.welcome(0);
        }
    }

    /// A client wants in.
    pub(super) fn connect(&mut self, auth: &Value) -> Rc<Connection> {
        let connection = Rc::<Connection>::default();
        self.connections.push(Rc::clone(&connection));
        let (inside, admitted) = (Rc::clone(&self.inside), Rc::clone(&connection));
        let offer = Offer::of(Some(&Json::parse(auth.to_string()).unwrap()));
        self.steps.push(Box::pin(async move {
            let (shared, channel) = (&inside.gateway.shared, &inside.channel);
            let claim = claim(shared, channel, &ann(), &offer).await.unwrap();
            let_others_go_first().await;
            match resume(shared, channel, &ann(), &offer, claim.as_ref()).await {
                Ok(arrival) => {
                    inside.means(&arrival);
                    *admitted.arrival.borrow_mut() = Some(Rc::new(arrival));
                }
                Err(_) => admitted.close(),
            }
        }));
        connection
    }

    /// CONNECT goes out to one that was let in.
    pub(super) fn welcome(&mut self, which: usize) {
        let waiting: Vec<_> = self
            .connections
            .iter()
            .filter(|connection| connection.waits())
            .collect();
        if waiting.is_empty() {
            return;
        }
        let connection = waiting[which % waiting.len()];
        let arrival = connection.arrival.borrow().clone().unwrap();
        connection.is_welcome.set(true);
        let connect = Frame::Connect(arrival.session.pid.reveal().to_owned());
        connection.frames.lock().unwrap().queue.push_back(connect);
        let pipe = Box::new(Pipe(Arc::clone(&connection.frames)));
        match arrival.welcome(&self.inside.gateway.shared, &ann(), pipe) {
            true => arrival.release(&self.inside.gateway.shared),
            false => connection.close(),
        }
    }

    /// The gateway notices that a connection is of no use any more.
    pub(super) fn notice(&mut self, which: usize) {
        let over: Vec<_> = (0..self.connections.len())
            .filter(|at| self.connections[*at].is_over() && self.connections[*at].arrival.borrow().is_some())
            .collect();
        if over.is_empty() {
            return;
        }
        let connection = self.connections.swap_remove(over[which % over.len()]);
        connection.close();
        let arrival = connection.arrival.borrow_mut().take().unwrap();
        if connection.is_welcome.get() {
            let parted = arrival.seat.leave().unwrap_or(Parted::UNKNOWN);
            arrival.session.parted(arrival.generation, parted, Millis(0));
        }
    }

    /// A client says goodbye: its session ends.
    pub(super) fn goodbye(&mut self, connection: &Rc<Connection>) {
        let Some(arrival) = connection.arrival.borrow_mut().take() else {
            return;
        };
        connection.close();
        self.connections.retain(|known| !Rc::ptr_eq(known, connection));
        arrival.seat.leave();
        let sessions = &self.inside.gateway.shared.sessions;
        sessions.end(&self.inside.channel.name, &arrival.session, arrival.generation);
    }

    /// A client asks for a room, as `sockets::events` does it.
    pub(super) fn join(&mut self, connection: &Rc<Connection>, room: &str) {
        let (inside, joined) = (Rc::clone(&self.inside), self.inside.joined(room));
        let Some((arrival, turn)) = connection.take_turn() else {
            return;
        };
        self.steps.push(Box::pin(async move {
            let (shared, name) = (&inside.gateway.shared, &inside.channel.name);
            let (adapter, hub) = (&shared.adapter, &shared.hub);
            let channel = ChannelRef::of(&inside.channel);
            let _turn = turn;
            let hosted = adapter.host(channel, std::slice::from_ref(&joined.room)).await.unwrap();
            hub.reach(name, &hosted.at);
            let Changed::Yes(at) = hub.join(name, arrival.seat.id, joined.room.clone(), RoomLimits::NONE) else {
                return;
            };
            let joined = Joined { at: at.seq, ..joined };
            let change = SessionChange::Joined(&joined);
            let pid = &arrival.session.pid;
            adapter
                .write_session(channel, pid, arrival.generation, change)
                .await
                .unwrap();
            let room = joined.room.clone();
            if arrival.session.joined(arrival.generation, joined) {
                let mut sessions = inside.sessions.borrow_mut();
                sessions
                    .get_mut(pid.reveal())
                    .unwrap()
                    .stays
                    .push(Stay::from(room, at.seq));
                hub.beacon(name, arrival.seat.id);
            } else {
                hub.leave(name, arrival.seat.id, &room);
            }
        }));
    }

    /// A client that has come to `seq` asks to leave a room.
    pub(super) fn leave(&mut self, connection: &Rc<Connection>, room: &str, seq: u64) {
        let (inside, room) = (Rc::clone(&self.inside), self.inside.joined(room).room);
        let Some((arrival, turn)) = connection.take_turn() else {
            return;
        };
        self.steps.push(Box::pin(async move {
            let (shared, name) = (&inside.gateway.shared, &inside.channel.name);
            let (pid, channel) = (&arrival.session.pid, ChannelRef::of(&inside.channel));
            let _turn = turn;
            let change = SessionChange::Left(&room);
            let written = shared.adapter.write_session(channel, pid, arrival.generation, change);
            written.await.unwrap();
            if !arrival.session.left(arrival.generation, &room) {
                return;
            }
            let to = match shared.hub.leave(name, arrival.seat.id, &room) {
                Changed::Yes(at) | Changed::No(at) => at.seq,
                // Its connection is over: it hears nothing more of the room when it comes back.
                _ => inside.last_seq(),
            };
            let mut sessions = inside.sessions.borrow_mut();
            let stays = sessions.get_mut(pid.reveal()).unwrap().stays.iter_mut();
            for stay in stays.filter(|stay| stay.room == room && stay.to == u64::MAX) {
                (stay.asked, stay.to) = (seq, to);
            }
        }));
    }

    pub(super) fn beacon(&mut self) {
        let hub = &self.inside.gateway.shared.hub;
        hub.beacons(&self.inside.channel.name, 0, Millis(0));
    }

    pub(super) fn published(&self) -> Vec<Published> {
        self.inside.published()
    }

    /// How a session is meant to be.
    pub(super) fn meant<T>(&self, pid: &str, ask: impl FnOnce(&Meant) -> T) -> T {
        ask(&self.inside.sessions.borrow()[pid])
    }

    /// Each record is published once, and those of a partition in their order.
    pub(super) fn published_each_once(&self) -> Result<(), String> {
        let published: Vec<_> = self.published().into_iter().map(|(_, number, _)| number).collect();
        for partition in &self.partitions {
            let payload = |unit: &Unit| unit.deliveries[0].payloads[0].parse().unwrap();
            let produced: Vec<u64> = partition.log.iter().map(payload).collect();
            let of_it = published.iter().filter(|number| produced.contains(number));
            if !of_it.eq(&produced) {
                return Err(format!("of {produced:?} were published {published:?}"));
            }
        }
        Ok(())
    }
}

impl Drop for Server {
    /// The next history finds the gateway without it.
    fn drop(&mut self) {
        self.steps.clear();
        self.connections.clear();
        let Inside { gateway, channel, .. } = &*self.inside;
        gateway.shared.sessions.forget(&channel.name);
        gateway.published.lock().unwrap().remove(&channel.name);
    }
}

impl Inside {
    fn published(&self) -> Vec<Published> {
        let published = self.gateway.published.lock().unwrap();
        published.get(&self.channel.name).cloned().unwrap_or_default()
    }

    fn last_seq(&self) -> u64 {
        self.published().last().map_or(0, |(seq, ..)| *seq)
    }

    /// A session that begins is meant to have what its client is told.
    fn means(&self, arrival: &Arrival) {
        let mut sessions = self.sessions.borrow_mut();
        let meant = sessions
            .entry(arrival.session.pid.reveal().to_owned())
            .or_insert_with(|| Meant {
                begin: arrival.begin.seq,
                stays: Vec::new(),
            });
        for joined in &arrival.rooms {
            let is_in = |stay: &Stay| stay.room == joined.room && stay.to == u64::MAX;
            if !meant.stays.iter().any(is_in) {
                meant.stays.push(Stay::from(joined.room.clone(), joined.at));
            }
        }
    }
}
