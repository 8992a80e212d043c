//! sabotage: switches that turn one rule of exact delivery off, so that the rule's test can show that it would notice.
//!
//! They exist with the feature `sabotage` alone, which only the tests ask for; without it every rule is on, and the compiler
//! removes the question. A process has one switchboard: `ALDIS_SABOTAGE=3,12` in its environment, or
//! [`Rule::switch_off`].

/// The rules of exact delivery that can be switched off. docs/delivery.md says what each demands; the number is its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Rule {
    /// 1: on one client's wire seq only grows.
    OneOrder = 1,
    /// 2: nothing but a position is the string at the end of an event.
    OnlyPositionsAreStrings = 2,
    /// 3: no delivery passes before its namespace's CONNECT.
    Gate = 3,
    /// 4: a client that upgrades gets its deliveries over its wire, from the upgrade on.
    Upgrade = 4,
    /// 5: a connection that takes nothing is noticed, and a binary packet is never torn.
    Stall = 5,
    /// 6: a poll that is asked again is answered again, and never with a close behind events.
    Polling = 6,
    /// 7: CONNECT_ERROR only for what stays so.
    OnlyPermanentRefusals = 7,
    /// 8: a session belongs to one generation of its client.
    Generation = 8,
    /// 9: never "recovered" before all of it is certain.
    CompleteOrTold = 9,
    /// 10: nothing of a session without its identity and today's rules.
    Identity = 10,
    /// 11: a channel's numbers belong to its uid.
    ChannelState = 11,
    /// 12: every entry names the one before it in its room.
    Prev = 12,
    /// 13: scripts check before they write.
    CheckFirst = 13,
    /// 14: a payload is stored once, however many rooms.
    PayloadOnce = 14,
    /// 15: a Redis that forgot gets a new epoch.
    Epoch = 15,
    /// 16: a lost subscription is noticed.
    Subscription = 16,
    /// 17: marks know one incarnation of a topic.
    Marks = 17,
    /// 18: a channel begins where it says, once.
    StartAt = 18,
    /// 19: a channel that is behind holds up no other.
    Behind = 19,
    /// 20: the partitions of a dead replica are read on at once.
    Lease = 20,
    /// 21: what came over HTTP is in Kafka before it is answered.
    PublishThroughKafka = 21,
    /// 22: a herd is let in by the bucket.
    Herd = 22,
}

#[cfg(feature = "sabotage")]
mod switchboard {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Rule;

    static OFF: AtomicU32 = AtomicU32::new(0);
    static ENVIRONMENT: OnceLock<()> = OnceLock::new();

    impl Rule {
        /// Switches the rule off, for the rest of this process.
        pub fn switch_off(self) {
            OFF.fetch_or(1 << self as u8, Ordering::SeqCst);
        }

        /// Switches the rule on again.
        pub fn switch_on(self) {
            OFF.fetch_and(!(1 << self as u8), Ordering::SeqCst);
        }

        /// Whether the rule is kept.
        pub fn is_on(self) -> bool {
            ENVIRONMENT.get_or_init(|| {
                let listed = std::env::var("ALDIS_SABOTAGE").unwrap_or_default();
                for number in listed.split(',').filter_map(|number| number.trim().parse::<u32>().ok()) {
                    OFF.fetch_or(1_u32.checked_shl(number).unwrap_or(0), Ordering::SeqCst);
                }
            });
            OFF.load(Ordering::SeqCst) & (1 << self as u8) == 0
        }
    }
}

#[cfg(not(feature = "sabotage"))]
impl Rule {
    /// Whether the rule is kept: always.
    #[inline(always)]
    pub const fn is_on(self) -> bool {
        true
    }
}
