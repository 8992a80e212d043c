//! What goes wrong when: drawn from a seed before anything runs, so that the seed says it all.

use std::collections::BTreeMap;
use std::time::Duration;

use super::random::Random;
use crate::proxy::Cut;

#[cfg(test)]
mod tests;

/// How many gateways there are.
pub(crate) const GATEWAYS: usize = 3;
/// How many addresses clients have; each leads to some gateway.
pub(crate) const PROXIES: usize = 6;

/// Something that goes wrong, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// SIGKILL, and started again.
    Kill { gateway: usize, down: Duration },
    /// SIGSTOP and SIGCONT. Its clients may be led elsewhere meanwhile.
    Pause {
        gateway: usize,
        down: Duration,
        leads_away: bool,
    },
    /// SIGTERM, and started again.
    Drain { gateway: usize, down: Duration },
    /// CLIENT KILL of all connections of this type.
    CutRedis { kind: &'static str },
    /// SIGKILL, and started again with all that it had.
    RestartRedis { down: Duration },
    /// The same with what it had so long before.
    RollRedisBack { down: Duration, by: Duration },
    /// The same with nothing.
    EmptyRedis { down: Duration },
    /// SIGKILL, and started again.
    RestartKafka { down: Duration },
    /// One connection between a client and a gateway.
    CutOne { proxy: usize, nth: usize, how: Cut },
    /// All connections of one address.
    CutAll { proxy: usize, how: Cut },
    /// Another configuration, which changes nothing for clients.
    Configure,
    /// A gateway is stopped, and all its clients come back at another one, where they are cut off with something on its way, just
    /// before it goes on and notices that it has no clients any more.
    Overtake { gateway: usize },
    /// All clients are cut off, and for a while there are places for so few rooms that most do not get in.
    FewRooms { lasts: Duration },
    /// All clients are away for a while, at whose end Redis forgets what was delivered meanwhile.
    ForgetUnseen { lasts: Duration },
}

/// Faults that come one after the other; those of different lanes come at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    Gateway(usize),
    Redis,
    Kafka,
    Network,
    Configuration,
}

impl Fault {
    pub(crate) fn lane(&self) -> Lane {
        match self {
            Fault::Kill { gateway, .. }
            | Fault::Pause { gateway, .. }
            | Fault::Drain { gateway, .. }
            | Fault::Overtake { gateway } => Lane::Gateway(*gateway),
            Fault::CutRedis { .. }
            | Fault::RestartRedis { .. }
            | Fault::RollRedisBack { .. }
            | Fault::EmptyRedis { .. }
            | Fault::ForgetUnseen { .. } => Lane::Redis,
            Fault::RestartKafka { .. } => Lane::Kafka,
            Fault::CutOne { .. } | Fault::CutAll { .. } => Lane::Network,
            Fault::Configure | Fault::FewRooms { .. } => Lane::Configuration,
        }
    }

    /// What it is called in counts.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Fault::Kill { .. } => "kill",
            Fault::Pause { .. } => "pause",
            Fault::Drain { .. } => "drain",
            Fault::CutRedis { .. } => "redis-cut",
            Fault::RestartRedis { .. } => "redis-restart",
            Fault::RollRedisBack { .. } => "redis-rollback",
            Fault::EmptyRedis { .. } => "redis-empty",
            Fault::RestartKafka { .. } => "kafka-restart",
            Fault::CutOne { .. } => "cut",
            Fault::CutAll { .. } => "cut-all",
            Fault::Configure => "configure",
            Fault::Overtake { .. } => "overtake",
            Fault::FewRooms { .. } => "few-rooms",
            Fault::ForgetUnseen { .. } => "forget-unseen",
        }
    }
}

/// What a drill may name: what seeds draw from, `redis-deaf` (the connections for subscriptions alone are cut), and what chance
/// would hardly ever bring about.
pub(crate) const NAMES: [&str; 15] = [
    "kill",
    "pause",
    "drain",
    "redis-cut",
    "redis-deaf",
    "redis-restart",
    "redis-rollback",
    "redis-empty",
    "kafka-restart",
    "cut",
    "cut-all",
    "configure",
    "overtake",
    "few-rooms",
    "forget-unseen",
];

/// Faults by lane, each with the time at which it begins, or when the one before in its lane has ended.
pub(crate) type Schedule = BTreeMap<Lane, Vec<(Duration, Fault)>>;

/// What goes wrong in a run of this length.
pub(crate) fn draw(seed: u64, length: Duration) -> Schedule {
    let mut schedule = Schedule::new();
    // Half of the seeds leave Redis its memory: in those nobody may be told that it was not recovered.
    let forgets = Random::of(seed, "forgets").percent(50);
    let mut lane = |name: &str, first: (u64, u64), pause: (u64, u64), fault: &dyn Fn(&mut Random) -> Fault| {
        let mut random = Random::of(seed, name);
        let mut at = random.millis(first.0, first.1);
        while at < length {
            let fault = fault(&mut random);
            schedule.entry(fault.lane()).or_default().push((at, fault));
            at += random.millis(pause.0, pause.1);
        }
    };
    for gateway in 0..GATEWAYS {
        lane(
            &format!("gateway {gateway}"),
            (1_000, 9_000),
            (5_000, 16_000),
            &|random| {
                let down = random.millis(100, 4_000);
                match random.below(10) {
                    0..4 => Fault::Kill { gateway, down },
                    4..8 => Fault::Pause {
                        gateway,
                        down: down * 2,
                        leads_away: random.percent(50),
                    },
                    _ => Fault::Drain { gateway, down },
                }
            },
        );
    }
    lane("redis", (2_000, 6_000), (3_000, 12_000), &|random| {
        let (down, by) = (random.millis(50, 2_500), random.millis(500, 6_000));
        match random.below(20) {
            0..9 => Fault::CutRedis {
                kind: ["normal", "pubsub"][random.below(2)],
            },
            9..13 => Fault::RestartRedis { down },
            13..19 if forgets => Fault::RollRedisBack { down, by },
            19 if forgets => Fault::EmptyRedis { down },
            _ => Fault::RestartRedis { down },
        }
    });
    lane("kafka", (4_000, 25_000), (20_000, 45_000), &|random| {
        Fault::RestartKafka {
            down: random.millis(50, 2_000),
        }
    });
    lane("network", (500, 1_500), (200, 2_500), &|random| {
        let (proxy, nth) = (random.below(PROXIES), random.below(1_000));
        let ways = [Cut::Fin, Cut::Reset, Cut::Stall, Cut::MidFrame, Cut::Freeze];
        let how = ways[random.below(ways.len())];
        match random.percent(10) {
            true => Fault::CutAll { proxy, how },
            false => Fault::CutOne { proxy, nth, how },
        }
    });
    lane("configuration", (2_000, 6_000), (4_000, 10_000), &|_| Fault::Configure);
    schedule
}

/// These kinds of faults alone, close together: each kind again and again, all of them at the same time.
pub(crate) fn drill(seed: u64, length: Duration, names: &[String]) -> Schedule {
    let mut schedule = Schedule::new();
    for name in names {
        let mut random = Random::of(seed, name);
        let pause = match &**name {
            "cut" => (100, 600),
            "cut-all" => (500, 2_500),
            "kafka-restart" => (6_000, 10_000),
            _ => (2_000, 5_000),
        };
        let mut at = random.millis(500, 3_000);
        while at < length {
            let fault = one(name, &mut random);
            schedule.entry(fault.lane()).or_default().push((at, fault));
            at += random.millis(pause.0, pause.1);
        }
    }
    for faults in schedule.values_mut() {
        faults.sort_by_key(|(at, _)| *at);
    }
    schedule
}

/// One of a kind. Half of a second to three: long enough to be noticed, and often.
fn one(name: &str, random: &mut Random) -> Fault {
    let (down, gateway, proxy) = (random.millis(500, 3_000), random.below(GATEWAYS), random.below(PROXIES));
    let how = Cut::ALL[random.below(Cut::ALL.len())];
    match name {
        "kill" => Fault::Kill { gateway, down },
        "pause" => Fault::Pause {
            gateway,
            down,
            leads_away: random.percent(50),
        },
        "drain" => Fault::Drain { gateway, down },
        "redis-cut" => Fault::CutRedis { kind: "normal" },
        "redis-deaf" => Fault::CutRedis { kind: "pubsub" },
        "redis-restart" => Fault::RestartRedis { down },
        "redis-rollback" => Fault::RollRedisBack {
            down: down / 4,
            by: random.millis(1_000, 4_000),
        },
        "redis-empty" => Fault::EmptyRedis { down },
        "kafka-restart" => Fault::RestartKafka { down },
        "cut" => Fault::CutOne {
            proxy,
            nth: random.below(1_000),
            how,
        },
        "cut-all" => Fault::CutAll { proxy, how },
        "configure" => Fault::Configure,
        "overtake" => Fault::Overtake { gateway },
        "few-rooms" => Fault::FewRooms { lasts: down },
        "forget-unseen" => Fault::ForgetUnseen { lasts: down },
        other => panic!("a fault is one of {NAMES:?}, not {other}"),
    }
}
