//! What a client sends: joins, leaves and events that are answered.

use std::sync::Arc;

use aldis_core::membership::{Answer, ClientEvent, Denial, Membership, denial_json};
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::AckSender;
use socketioxide::handler::{FromMessageParts, MessageHandler};
use socketioxide::socket::Socket;
use socketioxide_core::Value;

use super::args::{RawArgs, parse_event};
use super::{Direct, Guest, Namespace, client, rooms};
use crate::adapter::Adapter;
use crate::hub::{Changed, ClientId};
use crate::sessions::Joined;

/// The events of one client.
pub(super) struct Events<A> {
    pub(super) namespace: Namespace<A>,
    pub(super) guest: Arc<Guest>,
}

impl<A: Adapter> MessageHandler<LocalAdapter, Direct> for Events<A> {
    fn call(&self, socket: Arc<Socket>, mut event: Value, ack_id: Option<i64>) {
        let id = self.namespace.client(&socket, &self.guest);
        let args = self.answer(&socket, id, &event);
        if let (Some(_), Ok(ack)) = (
            ack_id,
            AckSender::<LocalAdapter>::from_message_parts(&socket, &mut event, &ack_id),
        ) && ack
            .send(&RawArgs::new(&args))
            .is_err_and(|error| client::is_full(&error))
        {
            self.namespace.close_slow(&socket);
        }
    }
}

impl<A: Adapter> Events<A> {
    /// Does what the event asks for, and gives the arguments of the acknowledgement: every packet with an id gets one.
    fn answer(&self, socket: &Arc<Socket>, id: ClientId, event: &Value) -> Vec<String> {
        let namespace = &self.namespace;
        let shared = &namespace.shared;
        let refuse = |denial: &Denial| {
            shared.metrics.client_event(&namespace.channel, denial.code);
            vec![denial_json(denial)]
        };
        let (name, args) = match parse_event(event) {
            Ok(event) => event,
            Err(denial) => return refuse(&denial),
        };
        let Some(channel) = namespace.channel() else {
            return refuse(&Denial {
                code: "unknown_event",
                message: "this channel is no longer served here".to_owned(),
            });
        };
        let event = ClientEvent {
            name: &name,
            args: &args,
            socket_id: socket.id.as_str(),
        };
        match channel.lobby.answer(&self.guest.identity, &event, shared.clock.now()) {
            Answer::Join(membership) => match rooms::asked(membership, &name, &args) {
                Ok(joined) => self.join(id, joined),
                Err(denial) => refuse(&denial),
            },
            Answer::Leave(membership) => self.leave(id, &membership),
            Answer::Reply { emit, ack } => {
                shared.metrics.client_event(&namespace.channel, "reply");
                if let Some((event, args)) = emit {
                    namespace.emit(socket, &self.guest, &event, args);
                }
                ack.unwrap_or_default()
            }
            Answer::Refuse(denial) => refuse(&denial),
        }
    }

    /// Into the room, then into the session, then the acknowledgement: one that the client has heard of is never forgotten.
    fn join(&self, id: ClientId, joined: Joined) -> Vec<String> {
        let (namespace, guest) = (&self.namespace, &self.guest);
        let (hub, channel) = (&namespace.shared.hub, &namespace.channel);
        let (room, shown) = (joined.room.clone(), joined.shown.clone());
        let mut changed = hub.join(channel, id, room.clone());
        if let Changed::Yes(position) = &changed {
            let joined = Joined {
                at: position.seq,
                ..joined
            };
            if !guest.session.joined(guest.generation, joined) {
                hub.leave(channel, id, &room);
                changed = Changed::Gone;
            }
        }
        self.changed(id, "join", &shown, &changed)
    }

    fn leave(&self, id: ClientId, membership: &Membership) -> Vec<String> {
        let (namespace, guest) = (&self.namespace, &self.guest);
        let changed = match guest.session.left(guest.generation, &membership.room) {
            true => namespace.shared.hub.leave(&namespace.channel, id, &membership.room),
            false => Changed::Gone,
        };
        self.changed(id, "leave", &membership.shown, &changed)
    }

    /// `{ok, room, position}`: joins and leaves are acknowledged with the place from which they count.
    fn changed(&self, id: ClientId, what: &'static str, shown: &str, changed: &Changed) -> Vec<String> {
        tracing::debug!(channel = %self.namespace.channel, client = id, room = shown, what, "client changed its rooms");
        self.namespace
            .shared
            .metrics
            .client_event(&self.namespace.channel, what);
        let denial = |code, message: &str| {
            vec![denial_json(&Denial {
                code,
                message: message.to_owned(),
            })]
        };
        let position = match changed {
            Changed::Yes(position) | Changed::No(position) => position,
            Changed::TooMany => return denial("too_many_rooms", "you are in 1,000 rooms: leave one first"),
            Changed::Gone => return denial("failed", "the connection is closing"),
        };
        vec![serde_json::json!({ "ok": true, "room": shown, "position": position.to_string() }).to_string()]
    }
}
