//! Why a record can not be delivered: the reason goes to the dead letter, the log and the counter.

use std::fmt;

/// Closed set, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The value is no JSON.
    NotJson,
    /// The event has no type.
    NoType,
    /// A required field is not there.
    Required,
    /// A room's parameter is null, empty or unfit, and the room is not optional.
    Room,
    /// An expression failed.
    Expression,
    /// An emitted event's name is empty, reserved or too long.
    EventName,
    /// It would make too much: more deliveries or longer payloads than one record may.
    TooLarge,
    /// Its expressions took more than one record may.
    TooCostly,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 8] = [
        Reason::NotJson,
        Reason::NoType,
        Reason::Required,
        Reason::Room,
        Reason::Expression,
        Reason::EventName,
        Reason::TooLarge,
        Reason::TooCostly,
    ];

    /// As metrics, logs and dead letters name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::NotJson => "not_json",
            Reason::NoType => "no_type",
            Reason::Required => "required_field",
            Reason::Room => "room_unrenderable",
            Reason::Expression => "expression",
            Reason::EventName => "event_name",
            Reason::TooLarge => "too_large",
            Reason::TooCostly => "too_costly",
        }
    }
}

/// A record that a channel can not process.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejected {
    /// Why, as a closed reason.
    pub reason: Reason,
    /// Which field of the channel said so: `routes[2].emit[0].payload.data`.
    pub at: String,
    /// Why, in words. Names and types, not the data.
    pub detail: String,
}

impl Rejected {
    pub(crate) fn new(reason: Reason, at: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            reason,
            at: at.into(),
            detail: detail.into(),
        }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.reason.as_str(), self.at, self.detail)
    }
}
