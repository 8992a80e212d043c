//! What runs on the gateways: two tenants, three channels, two topics, and rooms that overlap.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::random::Random;
use crate::manifests::Manifests;

/// Rooms of each kind.
pub(crate) const DESKS: usize = 3;
pub(crate) const TABLES: usize = 4;

/// A channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    /// Two of one tenant that read one topic, and one of another tenant with a topic of its own. Rooms have the same names.
    News,
    Alerts,
    Other,
}

impl Channel {
    pub(crate) const ALL: [Channel; 3] = [Channel::News, Channel::Alerts, Channel::Other];

    /// `namespace/name`
    pub(crate) fn name(self) -> &'static str {
        ["press/news", "press/alerts", "other/news"][self as usize]
    }

    pub(crate) fn path(self) -> &'static str {
        ["/news", "/alerts", "/other"][self as usize]
    }

    pub(crate) fn topic(self, manifests: &Manifests) -> String {
        match self {
            Channel::Other => format!("{}.other", manifests.topic),
            _ => manifests.topic.clone(),
        }
    }
}

/// A room, by the event that joins it and its parameter.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    pub(crate) event: &'static str,
    pub(crate) value: String,
}

impl Room {
    pub(crate) fn argument(&self) -> Value {
        json!({ self.event: self.value })
    }

    pub(crate) fn name(&self) -> String {
        format!("{}:{}", self.event, self.value)
    }
}

/// A client to be.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) channel: Channel,
    pub(crate) address: SocketAddr,
    pub(crate) rooms: Vec<Room>,
}

impl Client {
    /// So many at each channel, each in a desk and a table or more.
    pub(crate) fn draw(random: &mut Random, each: usize, addresses: &[SocketAddr]) -> Vec<Self> {
        let channels = Channel::ALL
            .into_iter()
            .flat_map(|channel| std::iter::repeat_n(channel, each));
        let mut some = |event, of: usize| {
            let first = random.below(of);
            let count = 1 + usize::from(random.percent(30));
            (0..count).map(move |n| Room {
                event,
                value: ((first + n) % of).to_string(),
            })
        };
        channels
            .enumerate()
            .map(|(number, channel)| Self {
                channel,
                address: addresses[number % addresses.len()],
                rooms: some("desk", DESKS)
                    .collect::<Vec<_>>()
                    .into_iter()
                    .chain(some("table", TABLES))
                    .collect(),
            })
            .collect()
    }

    pub(crate) fn wants(&self) -> BTreeSet<String> {
        self.rooms.iter().map(Room::name).collect()
    }
}

/// The topics of the channels.
pub(crate) fn topics(manifests: &Manifests) -> BTreeMap<String, String> {
    let of = |channel: &Channel| (channel.name().to_owned(), channel.topic(manifests));
    Channel::ALL.iter().map(of).collect()
}

/// Heartbeats: short enough that a connection that froze is noticed within a run.
const LISTENERS: &str = "[{name: web, port: 3000, heartbeat: {interval: 3s, timeout: 3s}}]";

/// Writes all of it, with so many deliveries of history for each room.
pub(crate) fn manifests(history: usize) -> Manifests {
    let manifests = Manifests::gateway();
    manifests.listeners(LISTENERS);
    manifests.limit("{}");
    for channel in Channel::ALL {
        write(&manifests, channel, 0, history);
    }
    manifests
}

/// Writes a channel, in a form of its own for each version, which says the same.
pub(crate) fn write(manifests: &Manifests, channel: Channel, version: usize, history: usize) {
    let (namespace, name) = channel.name().split_once('/').unwrap();
    let (path, topic) = (channel.path(), channel.topic(manifests));
    let text = format!(
        "apiVersion: aldis.dev/v1alpha1
kind: NotificationChannel
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  parentRefs: [{{name: shared, namespace: press}}]
  paths: [{path}]
  authentication: {{anonymous: {{}}}}
  sources: [{{name: news, kafka: {{topics: [{topic}]}}, type: news}}]
  rooms:
  - {{name: desk, key: \"desk:{{desk}}\", join: {{event: desk, with: {{desk: args.desk}}}}, allow: \"{version} == {version}\"}}
  - {{name: table, key: \"table:{{table}}\", join: {{event: table, with: {{table: args.table}}}}, allow: \"true\"}}
  routes:
  - types: [news]
    emit:
    - event: news
      payload: {{id: \"{{event.data.id}}\", channel: {namespace}/{name}, version: {version}}}
      to:
      - {{room: desk, with: {{desk: event.data.desk}}}}
      - {{room: table, with: {{table: event.data.table}}}}
  replies: [{{event: hello, emit: {{event: hello, payload: \"2026-11-21\"}}, ack: {{ok: true}}, allow: \"true\"}}]
  history: {{size: {history}, ttl: 10m}}
"
    );
    manifests.write(&format!("{namespace}-{name}.yaml"), &text);
}
