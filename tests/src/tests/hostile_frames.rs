//! WebSocket frames and Socket.IO packets that are none: who sends them is closed and counted, nobody else notices.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};

use crate::deadline::until;
use crate::gateway::Gateway;
use crate::hostile::{Random, Witness, seeds};
use crate::manifests::Manifests;
use crate::raw::{FIN, Raw, TEXT, frame};

/// Clients at a time.
const AT_ONCE: usize = 48;

/// How long a client that gets no answer waits: its frame was never whole, or it is in no namespace any more. 1 s.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// What became of a client that sent something bad and then asked something good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    /// The gateway closed the connection.
    Refused,
    /// It was answered.
    Served,
    /// Neither.
    Unanswered,
}

/// One client in namespace /target that sends `input`.
async fn send(address: Arc<str>, input: Vec<u8>) -> Fate {
    let mut raw = Raw::connect(&address, "/target").await;
    let asked = async {
        // What can not be written any more has been refused already; what there is to read says so.
        raw.bytes(&input).await.ok();
        raw.text("42/target,4711[\"anything\"]").await.ok();
        raw.until("43/target,4711").await?;
        // What is being closed still answers what came with it, and nothing that comes later.
        raw.text("42/target,4712[\"anything\"]").await.ok();
        raw.until("43/target,4712").await
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Some(_)) => {
            raw.close().await;
            Fate::Served
        }
        Ok(None) => {
            raw.hang_up().await;
            Fate::Refused
        }
        Err(_) => {
            raw.hang_up().await;
            Fate::Unanswered
        }
    }
}

/// Sends each seed's input from a client of its own in namespace /target, and checks what the gateway counted.
pub(super) async fn storm<S>(surface: &str, input: fn(&mut Random) -> Vec<u8>, send: fn(Arc<str>, Vec<u8>) -> S)
where
    S: Future<Output = Fate> + Send + 'static,
{
    let manifests = Manifests::news();
    manifests.channel("target", "hit");
    let gateway = Gateway::start_logging(&manifests.path(), None, Some("error")).await;
    let witness = Witness::start(&gateway, &manifests.topic).await;
    let address: Arc<str> = gateway.url("").trim_start_matches("http://").into();

    let fates = stream::iter(seeds(surface)).map(|seed| {
        let address = Arc::clone(&address);
        tokio::spawn(async move { send(address, input(&mut Random::new(seed))).await })
    });
    let mut counts = BTreeMap::new();
    let mut fates = fates.buffer_unordered(AT_ONCE);
    while let Some(fate) = fates.next().await {
        *counts.entry(fate.unwrap()).or_insert(0.0) += 1.0;
    }
    let inputs: f64 = counts.values().sum();
    let (reasons, accepted) = until("every client is counted", async || {
        let metrics = gateway.metrics().await;
        let of_target = |series: &str| series.contains("press/target");
        let reasons: BTreeMap<_, _> = metrics
            .all("aldis_disconnects_total")
            .into_iter()
            .filter(|(series, _)| of_target(series))
            .map(|(series, value)| (series.split('"').nth(3).unwrap().to_owned(), value))
            .collect();
        let accepted = metrics.value("aldis_connects_total{channel=\"press/target\",outcome=\"accepted\"}");
        (reasons.values().sum::<f64>() >= accepted.max(inputs)).then_some((reasons, accepted))
    })
    .await;
    println!("{surface}: {counts:?}, counted as {reasons:?}");
    assert_eq!(reasons.values().sum::<f64>(), accepted, "each client went once");
    // An input may leave the namespace and connect again.
    let again = accepted - inputs;
    let count = |fate| counts.get(&fate).copied().unwrap_or(0.0);
    let bad: f64 = ["bad_frame", "bad_packet"]
        .iter()
        .filter_map(|reason| reasons.get(*reason))
        .sum();
    // Some inputs are a goodbye. One that got no answer in time may have been refused the moment it hung up.
    let goodbyes: f64 = ["closed", "left"]
        .iter()
        .filter_map(|reason| reasons.get(*reason))
        .sum();
    let went = count(Fate::Refused) + count(Fate::Served);
    assert!(
        (went..=went + count(Fate::Unanswered) + again).contains(&(bad + goodbyes)),
        "{bad} refused"
    );
    assert!(
        goodbyes >= count(Fate::Served),
        "who is served is not counted as refused"
    );
    assert!(inputs == 1.0 || count(Fate::Refused) > inputs / 20.0);
    witness.has_noticed_nothing(&gateway, 150.0).await;
}

fn bad_frame(random: &mut Random) -> Vec<u8> {
    let text: Vec<u8> = b"42/target,[\"join\",{\"room\":\"a\"}]".repeat(1 + random.below(3));
    let opcode = random.below(16) as u8;
    match random.below(14) {
        // Reserved bits, reserved opcodes, control frames in parts, continuations of nothing.
        0 => frame(FIN | (1 + random.below(7) as u8) << 4 | TEXT, &text, true),
        1 => frame(FIN | opcode, &text, true),
        2 => frame(opcode, &text, true),
        3 => frame(0x08 | opcode, &text, true),
        4 => frame(FIN | TEXT, &text, false),
        5 => frame(FIN | TEXT, b"\xff\xfe42/target,", true),
        // A control frame that is too long, a close with half a code or one that is none.
        6 => frame(FIN | 9, &vec![b'x'; 126 + random.below(1_000)], true),
        7 => frame(
            FIN | 8,
            random.of(&[&b"\x03"[..], b"\x00\x00", b"\x03\xed", b"\x03\xe8\xff\xff"]),
            true,
        ),
        // More than a message may have, whole or promised.
        8 => frame(FIN | TEXT, &vec![b'4'; 100_001 + random.below(1_000)], true),
        9 => {
            let mut promised = vec![FIN | TEXT, 0xff];
            promised.extend((1_u64 << (17 + random.below(47))).to_be_bytes());
            promised
        }
        // A message in parts that another one breaks into.
        10 => [frame(TEXT, b"42/target,[", true), frame(FIN | TEXT, &text, true)].concat(),
        11 => (0..2 + random.below(200)).flat_map(|_| frame(0, b"x", true)).collect(),
        12 => (0..random.below(64)).map(|_| random.next() as u8).collect(),
        _ => {
            let good = frame(FIN | TEXT, &text, true);
            random.mutated(
                &good,
                &[b"\x81", b"\x80", b"\xff\xff", b"\x00\x00\x00\x00", b"\x88\x80"],
            )
        }
    }
}

pub(super) const PACKETS: [&str; 12] = [
    "42/target,7[\"join\",{\"room\":\"a\"}]",
    "42/target,[\"leave\",{\"room\":\"a\"}]",
    "40/target,{\"token\":\"x\",\"pid\":\"p\",\"offset\":\"e:1\"}",
    "41/target,",
    "43/target,7[{\"ok\":true}]",
    "44/target,{\"message\":\"x\"}",
    "451-/target,[\"join\",{\"_placeholder\":true,\"num\":0}]",
    "461-/target,7[{\"_placeholder\":true,\"num\":0}]",
    "2",
    "3probe",
    "5",
    "1",
];

pub(super) const TOKENS: [&str; 20] = [
    "4",
    "2",
    "0",
    "/target,",
    "/",
    ",",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "99999999999999999999",
    "-1",
    "9007199254740993-",
    "1e9",
    "\u{1e}",
    "b",
    "\"_placeholder\":true,\"num\":-1",
    "\\ud800",
    "aldis:switch",
];

fn bad_packet(random: &mut Random) -> Vec<u8> {
    let deep = 1 + random.below(30_000);
    let packet = match random.below(12) {
        0 => format!("42/target,[\"join\",{}", "[".repeat(deep)),
        1 => format!("42/target,[\"join\",{}{}]", "[".repeat(deep), "]".repeat(deep)),
        2 => format!("42/target,{}[\"join\"]", "9".repeat(1 + random.below(60))),
        3 => format!("45{}-/target,[\"join\"]", "9".repeat(1 + random.below(30))),
        4 => format!("40/{},", "x".repeat(deep)),
        _ => {
            let packet = random.of(&PACKETS);
            random.mutated_text(packet, &TOKENS)
        }
    };
    let mut bytes = frame(FIN | TEXT, packet.as_bytes(), true);
    // Attachments that nobody announced, or that somebody did.
    for _ in 0..random.below(3) * usize::from(random.one_in(3)) {
        bytes.extend(frame(FIN | 2, &vec![7; random.below(2_000)], true));
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_bad_frames_are_refused_and_counted_and_the_others_are_served() {
    storm("frames", bad_frame, send).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_bad_packets_are_refused_or_answered_and_the_others_are_served() {
    storm("packets", bad_packet, send).await;
}
