//! The table: all channels of a gateway, by what leads to them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use aldis_crds::contract::{Attachment, GatewayConfig, Keys};
use aldis_crds::names::ChannelName;

use crate::channel::Channel;
use crate::compiler::Problem;
use crate::decode::Source;
use crate::expression::bounds::on_big_stack;

/// All channels that are in force. Swapped whole when the configuration changes.
#[derive(Debug, Default)]
pub struct Table {
    channels: Vec<Arc<Channel>>,
    /// (channel, source) by topic.
    by_topic: HashMap<String, Vec<(usize, usize)>>,
    by_attachment: HashMap<Attachment, usize>,
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
        let mut table = Self::default();
        let mut bad = Vec::new();
        for (config, compiled) in config.channels.iter().zip(compiled) {
            match compiled {
                Ok(channel) => table.insert(channel),
                Err(problems) => bad.push(BadChannel {
                    channel: config.channel.clone(),
                    problems,
                }),
            }
        }
        (table, bad)
    }

    fn insert(&mut self, channel: Channel) {
        let index = self.channels.len();
        for (position, source) in channel.sources.iter().enumerate() {
            for topic in &source.topics {
                let readers = self.by_topic.entry(topic.clone()).or_default();
                // A topic that is listed twice is still read once.
                if !readers.contains(&(index, position)) {
                    readers.push((index, position));
                }
            }
        }
        for attachment in &channel.attachments {
            self.by_attachment.entry(attachment.clone()).or_insert(index);
        }
        self.channels.push(Arc::new(channel));
    }

    /// All channels.
    pub fn channels(&self) -> &[Arc<Channel>] {
        &self.channels
    }

    /// The topics that some channel reads.
    pub fn topics(&self) -> BTreeSet<String> {
        self.by_topic.keys().cloned().collect()
    }

    /// The channels that read a topic, each with the source that does.
    pub fn readers<'t>(&'t self, topic: &str) -> impl Iterator<Item = (&'t Arc<Channel>, &'t Source)> + use<'t> {
        let readers = self.by_topic.get(topic).map(Vec::as_slice).unwrap_or_default();
        readers
            .iter()
            .map(|(channel, source)| (&self.channels[*channel], &self.channels[*channel].sources[*source]))
    }

    /// The channel at a Socket.IO namespace of a listener.
    pub fn at(&self, attachment: &Attachment) -> Option<&Arc<Channel>> {
        self.by_attachment.get(attachment).map(|index| &self.channels[*index])
    }

    /// Where clients can connect.
    pub fn attachments(&self) -> impl Iterator<Item = &Attachment> {
        self.by_attachment.keys()
    }
}
