//! What a client sends: joins, leaves and events that are answered.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use aldis_core::channel::Channel;
use aldis_core::json::Json;
use aldis_core::membership::{Answer, Arguments, ClientEvent, Denial, Membership, denial_json};
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::AckSender;
use socketioxide::handler::{FromMessageParts, MessageHandler};
use socketioxide::socket::Socket;
use socketioxide_core::Value;

use super::args::{Args, Event};
use super::{Direct, Guest, Namespace, Shared, args, client, rooms};
use crate::adapter::{Adapter, AdapterError, ChannelRef, SessionChange};
use crate::hub::{Changed, ClientId, RoomLimits, RoomsFull};
use crate::limits::TENANT_EVENTS_PER_SECOND;
use crate::sessions::Joined;
use crate::sessions::shared::write;

/// The events of one client.
pub(super) struct Events<A> {
    pub(super) namespace: Namespace<A>,
    pub(super) guest: Arc<Guest>,
}

/// Handles them one after the other.
pub(super) struct Handler<A>(Arc<Events<A>>);

impl<A> Handler<A> {
    pub(super) fn of(events: Events<A>) -> Self {
        Self(Arc::new(events))
    }
}

impl<A: Adapter> MessageHandler<LocalAdapter, Direct> for Handler<A> {
    fn call(&self, socket: Arc<Socket>, event: Value, ack_id: Option<i64>) {
        let (namespace, guest) = (&self.0.namespace, &self.0.guest);
        let id = namespace.client(&socket, guest);
        if let Err(denial) = self.0.admit(&event) {
            let refused = self.0.refuse(&denial);
            return self.0.acknowledge(&socket, ack_id, &Args::of([refused.as_str()]));
        }
        let (events, on) = (Arc::clone(&self.0), Arc::clone(&socket));
        let work = async move { events.handle(&on, id, event, ack_id).await };
        if guest.turns.take(Box::pin(work)).is_err() {
            namespace.close_slow(&socket);
        }
    }
}

impl<A: Adapter> Events<A> {
    async fn handle(&self, socket: &Arc<Socket>, id: ClientId, event: Value, ack_id: Option<i64>) {
        let acknowledge = |args: Args<'_>| self.acknowledge(socket, ack_id, &args);
        match Event::parse(&event) {
            Ok(event) => match self.answer(socket, id, &event).await {
                Some(arguments) => acknowledge(event.reply(&arguments)),
                None => acknowledge(Args::of([])),
            },
            Err(denial) => acknowledge(Args::of([self.refuse(&denial).as_str()])),
        }
    }

    /// Acknowledges a packet that carries an id: each gets one acknowledgement, whatever became of it.
    fn acknowledge(&self, socket: &Arc<Socket>, ack_id: Option<i64>, args: &Args<'_>) {
        if ack_id.is_none() {
            return;
        }
        let mut unused = Value::Str(Default::default(), None);
        let Ok(ack) = AckSender::<LocalAdapter>::from_message_parts(socket, &mut unused, &ack_id);
        if self.guest.makes_room(args.bytes()).is_err() || ack.send(args).is_err_and(|error| client::is_full(&error)) {
            self.namespace.close_slow(socket);
        }
    }

    /// Whether an event is within what its client may send. It is asked when it comes, before anything of it is read.
    fn admit(&self, event: &Value) -> Result<(), Denial> {
        let (namespace, now) = (&self.namespace, Instant::now());
        let denied = |code, message| Err(Denial { code, message });
        let Some(channel) = namespace.channel() else {
            return Ok(());
        };
        let limits = &channel.limits;
        if !self.guest.may_send(limits.client_events_per_second, now) {
            let message = format!("you may send {} events each second", limits.client_events_per_second);
            return denied("too_many_events", message);
        }
        let tenant = &namespace.channel.namespace;
        if !namespace
            .shared
            .rates
            .tenant_events
            .take(tenant, TENANT_EVENTS_PER_SECOND, now)
        {
            let message = "the clients of this channel's tenant send too much together: try again".to_owned();
            return denied("too_many_events", message);
        }
        if args::bytes(event) as u64 > limits.max_payload {
            return denied(
                "too_large",
                format!("an event has at most {} bytes", limits.max_payload),
            );
        }
        Ok(())
    }

    /// Counts a refusal, and gives the acknowledgement that tells it.
    fn refuse(&self, denial: &Denial) -> String {
        let namespace = &self.namespace;
        namespace.shared.metrics.client_event(&namespace.channel, denial.code);
        denial_json(denial)
    }

    /// Does what the event asks for, and gives what acknowledges it; `None` for an acknowledgement without arguments.
    async fn answer(&self, socket: &Arc<Socket>, id: ClientId, event: &Event) -> Option<Arguments> {
        let namespace = &self.namespace;
        let shared = &namespace.shared;
        let refuse = |denial: &Denial| Some(Arguments::One(self.refuse(denial)));
        let Some(channel) = namespace.channel() else {
            return refuse(&Denial {
                code: "unknown_event",
                message: "this channel is no longer served here".to_owned(),
            });
        };
        let asked = ClientEvent {
            name: &event.name,
            args: event.args(),
            binary: event.is_binary(),
            socket_id: socket.id.as_str(),
        };
        let counted = match channel.lobby.needs_stats(asked.name) {
            true => Some(shared.counted(&channel).await),
            false => None,
        };
        let nobody = Json::null();
        let stats = counted.as_ref().map_or(&nobody, |counted| &counted.json);
        match channel
            .lobby
            .answer_with(&self.guest.identity, &asked, shared.clock.now(), stats)
        {
            Answer::Join(membership) => match rooms::asked(membership, asked.name, asked.args) {
                Ok(joined) => Some(self.join(id, &channel, joined).await),
                Err(denial) => refuse(&denial),
            },
            Answer::Leave(membership) => Some(self.leave(id, &channel, &membership).await),
            Answer::Reply { emit, ack } => {
                shared.metrics.client_event(&namespace.channel, "reply");
                if let Some((name, arguments)) = emit {
                    namespace.emit(socket, &self.guest, &name, event.reply(&arguments));
                }
                ack
            }
            Answer::Refuse(denial) => refuse(&denial),
        }
    }

    /// Into the room, then into the session, then the acknowledgement: one that the client has heard of is never forgotten.
    async fn join(&self, id: ClientId, by: &Arc<Channel>, joined: Joined) -> Arguments {
        let (namespace, guest) = (&self.namespace, &self.guest);
        let (hub, channel) = (&namespace.shared.hub, &namespace.channel);
        let (room, shown) = (joined.room.clone(), joined.shown.clone());
        let adapter = &namespace.shared.adapter;
        let hosted = match adapter.host(ChannelRef::of(by), std::slice::from_ref(&room)).await {
            Ok(hosted) => hosted,
            Err(error) => return self.not_now("join", &shown, &error),
        };
        hub.reach(channel, &hosted.at);
        let limits = namespace.shared.room_limits(by);
        let mut changed = hub.join(channel, id, room.clone(), limits);
        if let Changed::Yes(position) = &changed {
            let joined = Joined {
                at: position.seq,
                ..joined
            };
            let written = self.write_session(by, SessionChange::Joined(&joined)).await;
            if !matches!(written, Ok(true)) || !guest.session.joined(guest.generation, joined) {
                hub.leave(channel, id, &room);
                changed = Changed::Gone;
            }
            if let Err(error) = written {
                return self.not_now("join", &shown, &error);
            }
            guest.lock_hosted().insert(room, hosted);
            if guest.may_come_back {
                hub.beacon(channel, id);
            }
            namespace.recheck_if_changed(by, guest);
        }
        self.changed(id, "join", &shown, &changed, limits)
    }

    async fn leave(&self, id: ClientId, by: &Channel, membership: &Membership) -> Arguments {
        let (namespace, guest) = (&self.namespace, &self.guest);
        if let Err(error) = self.write_session(by, SessionChange::Left(&membership.room)).await {
            return self.not_now("leave", &membership.shown, &error);
        }
        guest.lock_hosted().remove(&membership.room);
        let changed = match guest.session.left(guest.generation, &membership.room) {
            true => namespace.shared.hub.leave(&namespace.channel, id, &membership.room),
            false => Changed::Gone,
        };
        self.changed(id, "leave", &membership.shown, &changed, RoomLimits::NONE)
    }

    /// Where replicas share it, the session is written before the acknowledgement.
    async fn write_session(&self, channel: &Channel, change: SessionChange<'_>) -> Result<bool, AdapterError> {
        let (adapter, guest) = (&self.namespace.shared.adapter, &self.guest);
        if !guest.may_come_back {
            return Ok(true);
        }
        write(
            adapter,
            ChannelRef::of(channel),
            &guest.session,
            guest.generation,
            change,
        )
        .await
    }

    /// Nothing has changed, and the client may ask again.
    fn not_now(&self, what: &'static str, shown: &str, error: &AdapterError) -> Arguments {
        // Counted as `unavailable`; as often as clients ask, so not for the log.
        tracing::debug!(channel = %self.namespace.channel, room = shown, what, %error, "a client can not change its rooms now");
        let message = "this is not possible for a moment: try again".to_owned();
        let code = "unavailable";
        Arguments::One(self.refuse(&Denial { code, message }))
    }

    /// `{ok, room, position}`: joins and leaves are acknowledged with the place from which they count.
    fn changed(
        &self,
        id: ClientId,
        what: &'static str,
        shown: &str,
        changed: &Changed,
        limits: RoomLimits,
    ) -> Arguments {
        let denial = |code, message: String| Arguments::One(self.refuse(&Denial { code, message }));
        let position = match changed {
            Changed::Yes(position) | Changed::No(position) => position,
            Changed::TooMany => {
                let message = format!("you may be in {} rooms: leave one first", limits.of_client);
                return denial("too_many_rooms", message);
            }
            Changed::Full => return denial("rooms_full", RoomsFull.to_string()),
            Changed::Gone => return denial("failed", "the connection is closing".to_owned()),
        };
        let (shared, channel) = (&self.namespace.shared, &self.namespace.channel);
        tracing::debug!(%channel, client = id, room = shown, what, "client changed its rooms");
        shared.metrics.client_event(channel, what);
        let joined = serde_json::json!({ "ok": true, "room": shown, "position": position.to_string() });
        Arguments::One(joined.to_string())
    }
}

impl Guest {
    /// Whether it may send one more event now.
    fn may_send(&self, per_second: u32, now: Instant) -> bool {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.take(per_second, now)
    }
}

impl<A> Shared<A> {
    /// How many rooms there may be for the clients of a channel.
    pub(super) fn room_limits(&self, channel: &Channel) -> RoomLimits {
        let tenant = self.table.load().tenant(&channel.name.namespace);
        RoomLimits {
            of_client: channel.limits.rooms_per_connection as usize,
            of_channel: channel.limits.rooms as usize,
            of_tenant: tenant.rooms as usize,
        }
    }
}
