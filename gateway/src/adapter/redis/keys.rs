//! Names in Redis. All of a channel begin with `aldis:{gateway uid|channel uid}:`: the braces put them into one hash slot of a
//! Redis Cluster, and the uids keep what a channel of the same name left behind from one that is made anew.
//!
//! | name | what |
//! |---|---|
//! | `c` | hash: `epoch`, `seq`, `redis` (which server it was), `old` (former epochs), `m\|topic\|partition` (marks) |
//! | `d` | hash: deliveries by seq, each once; `r<seq>` how many rooms keep it; `bytes` of all |
//! | `o` | sorted set: their seqs by time |
//! | `l:<room>` | seq of the room's last delivery, for as long as somebody may come back to it |
//! | `h:<room>` | list of `seq:prev`, or `seq:prev:m` where several rooms keep it |
//! | `s:<pid>` | hash: a session |
//! | `w:<replica>` | who is connected there, for those who ask; it expires |
//! | `x` | hash: users and rooms that were sent away, each with the number of that in `c`, `dismissed` |
//! | `p:<room>` | publish/subscribe: what goes to the room |
//! | `f:<replica>` | publish/subscribe: fences of one replica |
//!
//! Beside the channels, under the uid that none has, the empty one: `c`, a hash of partitions and the replicas that read them; `r`, the
//! set of replicas; `a:<replica>`, which expires when it is dead; `z`, the set of those that say that they are there, and
//! `b:<replica>`, which tells by its expiry when it last did; `w:<replica>`, what it wants of the rates; `o`, the stream of orders to
//! all replicas; `k:<order>`, a hash of what each answered; `x`, publish/subscribe: there is an order; `t:<mark>`, where the replica
//! of this mark is reached by others; `g`, a hash of channels' uids and when each was last said to be in force.
//!
//! Under `@<namespace>`, what is a tenant's: `n:<replica>`, a hash of what that one has of its clients; `t:<replica>`, the set of
//! those that others have taken over; `r`, the set of these replicas. All of it expires.

use std::fmt::Write as _;

use aldis_core::room::RoomKey;

/// How the room of everyone in a channel is named. No room's name begins so.
pub(super) const EVERYONE: &str = "*";

/// Names of one channel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Keys {
    base: String,
}

impl Keys {
    pub(super) fn of(gateway: &str, channel: &str) -> Self {
        // A brace within would end the part that decides the slot.
        let clean = |uid: &str| uid.replace(['{', '}'], "_");
        Self {
            base: format!("aldis:{{{}|{}}}:", clean(gateway), clean(channel)),
        }
    }

    /// What all begin with.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    pub(super) fn channel(&self) -> String {
        format!("{}c", self.base)
    }

    /// Where what goes to a room is published.
    pub(super) fn published(&self, room: &str) -> String {
        format!("{}p:{room}", self.base)
    }

    /// Where it is published that there is an order for all replicas.
    pub(super) fn orders(&self) -> String {
        format!("{}x", self.base)
    }

    /// Where fences of one replica are published.
    pub(super) fn fences(&self, replica: &str) -> String {
        format!("{}f:{replica}", self.base)
    }
}

/// Splits what is subscribed into the base of its channel and the rest: `p:<room>` or `f:<replica>`.
pub(super) fn split(name: &str) -> Option<(&str, &str)> {
    let end = name.find("}:")? + 2;
    Some(name.split_at(end))
}

/// A room as a name: two rooms never have the same, whatever their values hold.
pub(super) fn room(room: &RoomKey) -> String {
    let mut name = room.name.to_string();
    for value in &room.values {
        write!(name, "/{}:{value}", value.len()).expect("a string takes all");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, values: &[&str]) -> RoomKey {
        RoomKey {
            name: name.into(),
            values: values.iter().map(|value| Box::from(*value)).collect(),
        }
    }

    #[test]
    fn rooms_that_differ_have_names_that_differ() {
        let rooms = [
            key("a", &[]),
            key("a", &[""]),
            key("a", &["", ""]),
            key("a", &["b"]),
            key("a", &["b/1:c"]),
            key("a", &["b", "c"]),
            key("a", &["*"]),
        ];
        let names: std::collections::HashSet<_> = rooms.iter().map(room).collect();
        assert_eq!(names.len(), rooms.len(), "{names:?}");
        assert!(!names.contains(EVERYONE));
    }

    #[test]
    fn what_is_subscribed_leads_back_to_its_channel() {
        let keys = Keys::of("g}1", "bistro/orders");
        assert_eq!(keys.channel(), "aldis:{g_1|bistro/orders}:c");
        assert_eq!(split(&keys.published("r/2:}:")), Some((keys.base(), "p:r/2:}:")));
        assert_eq!(split("other"), None);
    }
}
