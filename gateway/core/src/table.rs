//! The table: all channels of a gateway, by what leads to them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use aldis_crds::contract::{Attachment, GatewayConfig, Keys};
use aldis_crds::limits::ResolvedLimits;
use aldis_crds::names::ChannelName;

use crate::channel::Channel;
use crate::compiler::Problem;
use crate::expression::bounds::on_big_stack;
use crate::http::{CHANNEL_HEADER, Routed, Routing};
use crate::record::Record;

/// All channels that are in force. Swapped whole when the configuration changes.
#[derive(Debug, Default)]
pub struct Table {
    channels: Vec<Arc<Channel>>,
    /// Channels by topic, each with those of its sources that read it.
    by_topic: HashMap<String, Vec<(usize, Vec<usize>)>>,
    by_attachment: HashMap<Attachment, usize>,
    /// By namespace.
    tenants: BTreeMap<String, ResolvedLimits>,
    /// Channels that read the ingress topic, by `namespace/name`: each of its records is for one.
    over_http: HashMap<String, (usize, Vec<usize>)>,
    ingress_topic: String,
    /// Endpoints by listener: which of which channel.
    endpoints: HashMap<String, Routing<(usize, usize)>>,
}

/// A channel that can not be served, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct BadChannel {
    /// Which.
    pub channel: ChannelName,
    /// Everything that is wrong with it.
    pub problems: Vec<Problem>,
}

impl Table {
    /// Compiles all channels of a configuration, each on its own: a bad one harms no other.
    pub fn compile(config: &GatewayConfig, keys: &Keys) -> (Self, Vec<BadChannel>) {
        let compiled = on_big_stack(|| {
            config
                .channels
                .iter()
                .map(|channel| Channel::compile(channel, keys))
                .collect::<Vec<_>>()
        });
        let mut table = Self {
            tenants: config.tenants.clone(),
            ingress_topic: config.kafka.ingress_topic.clone(),
            ..Self::default()
        };
        let mut bad = Vec::new();
        for (config, compiled) in config.channels.iter().zip(compiled) {
            match compiled {
                Ok(channel) => table.insert(Arc::new(channel)),
                Err(problems) => bad.push(BadChannel {
                    channel: config.channel.clone(),
                    problems,
                }),
            }
        }
        (table, bad)
    }

    /// Keeps channels as they were `before` that are bad now: a mistake costs nobody a channel that was served.
    pub fn keep(&mut self, before: &Self, bad: &[BadChannel]) {
        let is_bad = |channel: &&Arc<Channel>| bad.iter().any(|bad| bad.channel == channel.name);
        for channel in before.channels.iter().filter(is_bad) {
            self.insert(Arc::clone(channel));
        }
    }

    fn insert(&mut self, channel: Arc<Channel>) {
        let index = self.channels.len();
        for (position, source) in channel.sources.iter().enumerate() {
            if source.is_ingress() {
                self.over_http.insert(channel.name.to_string(), (index, vec![position]));
            }
            for topic in &source.topics {
                let readers = self.by_topic.entry(topic.clone()).or_default();
                match readers.last_mut() {
                    // A topic that is listed twice is still read once.
                    Some((last, sources)) if *last == index && sources.contains(&position) => {}
                    Some((last, sources)) if *last == index => sources.push(position),
                    _ => readers.push((index, vec![position])),
                }
            }
        }
        for attachment in &channel.attachments {
            self.by_attachment.entry(attachment.clone()).or_insert(index);
        }
        let listeners: BTreeSet<_> = channel.attachments.iter().map(|at| at.listener.as_str()).collect();
        for listener in listeners {
            let routing = self.endpoints.entry(listener.to_owned()).or_default();
            for (position, endpoint) in channel.endpoints.iter().enumerate() {
                routing.insert(endpoint.method, &endpoint.path, (index, position));
            }
        }
        self.channels.push(channel);
    }

    /// All channels.
    pub fn channels(&self) -> &[Arc<Channel>] {
        &self.channels
    }

    /// The topics that some channel reads.
    pub fn topics(&self) -> BTreeSet<String> {
        let ingress = (!self.over_http.is_empty()).then(|| self.ingress_topic.clone());
        self.by_topic.keys().cloned().chain(ingress).collect()
    }

    /// The channels that read a record, each with those of its sources that do, for [`Channel::process`].
    pub fn readers<'t>(&'t self, record: &Record) -> impl Iterator<Item = (&'t Arc<Channel>, &'t [usize])> + use<'t> {
        let topic = &*record.topic;
        let addressed = (topic == self.ingress_topic)
            .then(|| record.header(CHANNEL_HEADER))
            .flatten();
        let addressed = addressed.and_then(|channel| self.over_http.get(channel));
        let readers = self.by_topic.get(topic).map(Vec::as_slice).unwrap_or_default();
        readers
            .iter()
            .chain(addressed)
            .map(|(channel, sources)| (&self.channels[*channel], sources.as_slice()))
    }

    /// Whether a topic is that of what comes over HTTP, and some channel takes that.
    pub fn is_ingress(&self, topic: &str) -> bool {
        topic == self.ingress_topic && !self.over_http.is_empty()
    }

    /// The channels that read a topic, and whether each is given all of its records: of what comes over HTTP only its own.
    pub fn readers_of<'t>(&'t self, topic: &str) -> impl Iterator<Item = (&'t Arc<Channel>, bool)> + use<'t> {
        let all = self.by_topic.get(topic).map(Vec::as_slice).unwrap_or_default();
        let own = (topic == self.ingress_topic).then(|| self.over_http.values());
        let all = all.iter().map(|(channel, _)| (*channel, true));
        let own = own.into_iter().flatten().map(|(channel, _)| (*channel, false));
        all.chain(own)
            .map(|(channel, is_given_all)| (&self.channels[channel], is_given_all))
    }

    /// The channel at a Socket.IO namespace of a listener.
    pub fn at(&self, attachment: &Attachment) -> Option<&Arc<Channel>> {
        self.by_attachment.get(attachment).map(|index| &self.channels[*index])
    }

    /// What the channels of a namespace may use together.
    pub fn tenant(&self, namespace: &str) -> ResolvedLimits {
        self.tenants.get(namespace).cloned().unwrap_or_default()
    }

    /// The endpoint that a request to a listener is for, by its method and decoded path ([`crate::http::decode_path`]).
    pub fn endpoint(&self, listener: &str, method: &str, path: &str) -> Routed<'_, (usize, usize)> {
        let routing = self.endpoints.get(listener);
        routing.map_or(Routed::Nowhere, |routing| routing.route(method, path))
    }

    /// The channel with an index that [`Table::endpoint`] gave.
    pub fn channel(&self, index: usize) -> &Arc<Channel> {
        &self.channels[index]
    }

    /// The channels that were served `before` by other rules about who may be in which room.
    pub fn with_other_room_rules(&self, before: &Self) -> Vec<Arc<Channel>> {
        let before: HashMap<_, _> = before.channels.iter().map(|channel| (&channel.name, channel)).collect();
        let differs = |channel: &&Arc<Channel>| {
            let was = before.get(&channel.name);
            was.is_some_and(|was| was.room_rules != channel.room_rules)
        };
        self.channels.iter().filter(differs).cloned().collect()
    }

    /// The channel of this name.
    pub fn named(&self, namespace: &str, name: &str) -> Option<&Arc<Channel>> {
        let mut channels = self.channels.iter();
        channels.find(|channel| channel.name.namespace == namespace && channel.name.name == name)
    }

    /// Where clients can connect.
    pub fn attachments(&self) -> impl Iterator<Item = &Attachment> {
        self.by_attachment.keys()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixtures::{channel, compile};

    fn table(channels: Vec<Channel>) -> Table {
        let mut table = Table::default();
        channels.into_iter().for_each(|channel| table.insert(Arc::new(channel)));
        table
    }

    fn readers(table: &Table, topic: &str) -> Vec<String> {
        let mut record = crate::fixtures::record("{}");
        record.topic = topic.into();
        let readers = table.readers(&record);
        readers
            .flat_map(|(channel, sources)| sources.iter().map(|source| channel.sources[*source].name.clone()))
            .collect()
    }

    #[test]
    fn each_source_reads_a_topic_once_however_often_it_lists_it() {
        let channel = channel(json!({"sources": [
            {"name": "a", "kafka": {"topics": ["orders", "orders", "payments"]}},
            {"name": "b", "kafka": {"topics": ["orders"]}}]}));
        let table = table(vec![channel]);
        assert_eq!(readers(&table, "orders"), ["a", "b"]);
        assert_eq!(readers(&table, "payments"), ["a"]);
        assert_eq!(readers(&table, "other"), [""; 0]);
        assert_eq!(table.topics().into_iter().collect::<Vec<_>>(), ["orders", "payments"]);
    }

    #[test]
    fn the_first_channel_keeps_an_attachment() {
        let named = |name: &str| {
            let mut channel = compile(json!({})).unwrap();
            channel.name.name = name.to_owned();
            channel
        };
        let table = table(vec![named("first"), named("second")]);
        let attachment = table.channels()[1].attachments[0].clone();
        assert_eq!(table.at(&attachment).unwrap().name.name, "first");
        assert_eq!(table.attachments().count(), 1);
    }

    #[test]
    fn rules_of_rooms_are_compared_with_those_that_are_served() {
        let served = |spec| table(vec![compile(spec).unwrap()]);
        let rooms = |allow: &str| json!([{"name": "r", "key": "r:{id}", "join": {"event": "j", "with": {"id": "arg"}}, "allow": allow}]);
        let first = served(json!({"rooms": rooms("tables.t.a")  , "tables": {"t": {"a": true}}}));
        let others = |now: &Table, before: &Table| now.with_other_room_rules(before).len();
        assert_eq!(others(&first, &first), 0);
        assert_eq!(others(&first, &Table::default()), 0, "nobody is in its rooms yet");
        let other_table = served(json!({"rooms": rooms("tables.t.a"), "tables": {"t": {"a": false}}}));
        assert_eq!(others(&other_table, &first), 1);

        // In between it could not be served: what is compared is what clients were let in by.
        let mut kept = Table::default();
        let bad = BadChannel {
            channel: first.channels()[0].name.clone(),
            problems: Vec::new(),
        };
        kept.keep(&first, &[bad]);
        assert_eq!(others(&kept, &first), 0);
        assert_eq!(others(&other_table, &kept), 1);
    }

    #[test]
    fn a_bad_channel_harms_no_other() {
        let good = crate::fixtures::config(json!({}));
        let mut bad = crate::fixtures::config(
            json!({"routes": [{"types": ["*"], "when": "x", "emit": [{"event": "e", "everyone": true}]}]}),
        );
        bad.channel.name = "bad".to_owned();
        let config = GatewayConfig {
            version: aldis_crds::contract::CONTRACT_VERSION,
            kafka: aldis_crds::contract::KafkaConfig {
                bootstrap_servers: Vec::new(),
                group_id: String::new(),
                dead_letter_topic: String::new(),
                ingress_topic: String::new(),
                tls: false,
                sasl: None,
            },
            redis: None,
            listeners: Vec::new(),
            channels: vec![bad, good],
            tenants: Default::default(),
        };
        let (table, problems) = Table::compile(&config, &Keys::default());
        assert_eq!(table.channels().len(), 1);
        assert_eq!(problems.len(), 1);
        assert_eq!(
            (
                problems[0].channel.name.as_str(),
                problems[0].problems[0].field.as_str()
            ),
            ("bad", "spec.routes[0].when")
        );
    }
}
