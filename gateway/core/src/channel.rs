//! A channel, compiled: everything that its spec says, checked once, ready to run.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use aldis_crds::channel::Room;
use aldis_crds::contract::{Attachment, ChannelConfig, Keys};
use aldis_crds::limits::ResolvedLimits;
use aldis_crds::names::ChannelName;
use serde_json::Value;

use crate::compiler::{Compiler, Problem};
use crate::decode::{Decoded, Source};
use crate::egress::Egress;
use crate::expression::work;
use crate::http::{self, Api, Endpoint};
use crate::identity::Methods;
use crate::membership::Lobby;
use crate::record::Record;
use crate::reject::{Reason, Rejected};
use crate::room::RoomPattern;
use crate::route::{Delivery, Made, Routes};
use crate::time::Millis;

/// A compiled channel.
#[derive(Debug)]
pub struct Channel {
    /// Tenant and name.
    pub name: ChannelName,
    /// What tells it from another of the same name, before or after it.
    pub uid: String,
    /// Where clients reach it.
    pub attachments: Vec<Attachment>,
    /// Where its records go that it can not process; `None`: the gateway's topic.
    pub dead_letter_topic: Option<String>,
    /// Deliveries that each room keeps for clients that come back; 0 for none.
    pub history_size: usize,
    /// For how long, in ms.
    pub history_ttl_ms: i64,
    /// What it may use.
    pub limits: ResolvedLimits,
    /// Who may connect.
    pub methods: Methods,
    /// What its requests may reach.
    pub egress: Egress,
    /// What clients may do.
    pub lobby: Lobby,
    /// What part of that was declared as.
    pub room_rules: RoomRules,
    /// Which records become events.
    pub sources: Vec<Source>,
    /// What goes where.
    pub routes: Routes,
    /// Its HTTP endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Who may use the built-in ones.
    pub api: Api,
}

impl Channel {
    /// Whether anybody can ask who is connected.
    pub fn tells_stats(&self) -> bool {
        self.api.is_there() || self.lobby.tells_stats() || self.endpoints.iter().any(|endpoint| endpoint.needs_stats)
    }
}

/// What says who may be in which room. Where it is another than before, every room of every client is asked for again.
#[derive(Debug, PartialEq)]
pub struct RoomRules {
    rooms: Vec<Room>,
    /// `allow` may look things up in them.
    tables: BTreeMap<String, BTreeMap<String, Value>>,
}

/// What a channel makes of a record.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    /// Deliveries; none where no route matched.
    Deliver(Vec<Delivery>),
    /// A source said that the record is not for this channel.
    NotForUs,
}

/// What a channel does with a record, for each source that reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Bytes became events, or were found to be none.
    Decoded,
    /// Events became deliveries, or could not.
    Routed,
}

impl Channel {
    /// Compiles a channel. Call it on a big stack ([`crate::expression::bounds::on_big_stack`]).
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(config: &ChannelConfig, keys: &Keys) -> Result<Self, Vec<Problem>> {
        let spec = &config.spec;
        let mut compiler = Compiler::new(&spec.tables);
        let mut patterns = HashMap::new();
        for (index, room) in spec.rooms.iter().enumerate() {
            let pattern = RoomPattern::compile(
                &format!("spec.rooms[{index}].key"),
                &room.name,
                &room.key,
                &mut compiler,
            );
            patterns.extend(pattern.map(|pattern| (room.name.clone(), Arc::new(pattern))));
        }
        let sources = spec.sources.iter().enumerate();
        // Last, so that the others keep their places.
        let over_http = spec.api.is_some() || spec.http.iter().any(|endpoint| endpoint.publish.is_some());
        let over_http = over_http.then(|| Source::ingress(&config.channel));
        let channel = Self {
            name: config.channel.clone(),
            uid: config.uid_or_name(),
            attachments: config.attachments.clone(),
            dead_letter_topic: spec.dead_letter.as_ref().map(|dead_letter| dead_letter.topic.clone()),
            history_size: spec.history.size as usize,
            history_ttl_ms: spec.history.ttl_ms().min(config.limits.history_ttl_ms),
            limits: config.limits.clone(),
            methods: Methods::compile(
                spec.authentication.as_ref(),
                &config.channel.namespace,
                keys,
                &mut compiler,
            ),
            egress: Egress::parse(&config.egress).unwrap_or_else(|(index, why)| {
                compiler.problem(format!("egress[{index}]"), why);
                Egress::default()
            }),
            lobby: Lobby::compile(
                &spec.rooms,
                &patterns,
                &spec.replies,
                spec.greeting.as_ref(),
                &mut compiler,
            ),
            room_rules: RoomRules {
                rooms: spec.rooms.clone(),
                tables: spec.tables.clone(),
            },
            sources: sources
                .map(|(i, source)| Source::compile(&format!("spec.sources[{i}]"), source, &mut compiler))
                .chain(over_http)
                .collect(),
            routes: Routes::compile(&spec.routes, &patterns, &mut compiler),
            endpoints: http::compile(config, &mut compiler),
            api: Api::compile(spec.api.as_ref(), &mut compiler),
        };
        if compiler.problems.is_empty() {
            Ok(channel)
        } else {
            Err(compiler.problems)
        }
    }

    /// decode → route: what this channel makes of a record that some of its sources (by index) read, all or nothing.
    ///
    /// # Errors
    /// Why the record must go to the dead letters of this channel.
    pub fn process(&self, sources: &[usize], record: &Record, now: Millis) -> Result<Outcome, Rejected> {
        self.process_telling(sources, record, now, &mut |_| ())
    }

    /// [`Channel::process`], which tells after each step that it is done.
    ///
    /// # Errors
    /// The same.
    pub fn process_telling(
        &self,
        sources: &[usize],
        record: &Record,
        now: Millis,
        done: &mut dyn FnMut(Step),
    ) -> Result<Outcome, Rejected> {
        work::bounded(|| {
            let outcome = self.process_bounded(sources, record, now, done);
            // Where nothing is left, what is read seems not to be there: no outcome of that counts.
            match work::is_exhausted() {
                true => {
                    let at = outcome.err().map_or_else(|| "spec".to_owned(), |rejected| rejected.at);
                    Err(Rejected::new(Reason::TooCostly, at, work::exhausted_message()))
                }
                false => outcome,
            }
        })
    }

    fn process_bounded(
        &self,
        sources: &[usize],
        record: &Record,
        now: Millis,
        done: &mut dyn FnMut(Step),
    ) -> Result<Outcome, Rejected> {
        let mut made = None;
        for source in sources {
            let decoded = self.sources[*source].decode(record);
            done(Step::Decoded);
            if let Decoded::Events(events) = decoded? {
                let made = made.get_or_insert_with(Made::default);
                let routed = events.iter().try_for_each(|event| self.routes.add(event, now, made));
                done(Step::Routed);
                routed?;
            }
        }
        Ok(made.map_or(Outcome::NotForUs, |made| Outcome::Deliver(made.deliveries)))
    }
}

#[cfg(test)]
mod tests;
