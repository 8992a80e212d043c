//! Payloads of polling clients that are none: who sends them is refused and counted, nobody else notices.

use std::sync::Arc;

use crate::hostile::Random;
use crate::request::KeepAlive;
use crate::tests::hostile_frames::{Fate, PACKETS, PATIENCE, TOKENS, storm};

/// What separates the packets of a payload.
const SEPARATOR: &[u8] = b"\x1e";

/// A client that polls, in namespace /target.
struct Session {
    path: String,
    connection: KeepAlive,
}

impl Session {
    async fn connect(address: &str) -> Self {
        let mut connection = KeepAlive::to(address).await;
        let open = connection.ask("GET", "/socket.io/?EIO=4&transport=polling", b"").await;
        let (_, open) = open.expect("a session opens");
        let sid = open.split('"').nth(3).expect("the open packet has a sid");
        let path = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
        let mut session = Self { path, connection };
        assert!(session.push(b"40/target,").await);
        assert!(session.poll().await.expect("it is let in").contains("40/target,"));
        session
    }

    /// Whether the gateway takes it.
    async fn push(&mut self, payload: &[u8]) -> bool {
        let answer = self.connection.ask("POST", &self.path, payload).await;
        answer.is_some_and(|(status, _)| status == 200)
    }

    /// What has come; `None` where the session is gone.
    async fn poll(&mut self) -> Option<String> {
        let (status, packets) = self.connection.ask("GET", &self.path, b"").await?;
        (status == 200).then_some(packets)
    }
}

/// One client that sends `input`, then asks something good.
async fn send(address: Arc<str>, input: Vec<u8>) -> Fate {
    let mut session = Session::connect(&address).await;
    let asked = async {
        if !(session.push(&input).await && session.push(b"42/target,4711[\"anything\"]").await) {
            return false;
        }
        while let Some(packets) = session.poll().await {
            if packets.contains("43/target,4711") {
                return true;
            }
        }
        false
    };
    let fate = match tokio::time::timeout(PATIENCE, asked).await {
        Ok(true) => Fate::Served,
        Ok(false) => Fate::Refused,
        Err(_) => Fate::Unanswered,
    };
    // Ends the session where it is still there: it would be for two heartbeats. On another connection, where a poll may wait.
    KeepAlive::to(&address).await.ask("POST", &session.path, b"1").await;
    fate
}

fn bad_payload(random: &mut Random) -> Vec<u8> {
    let many = 1 + random.below(2_000);
    let packets = |count: usize, packet: &[u8]| vec![packet; count].join(SEPARATOR);
    match random.below(14) {
        // Nothing, and nothing many times.
        0 => SEPARATOR.repeat(random.below(3)),
        1 => SEPARATOR.repeat(many),
        // No text, no packet, no base64.
        2 => (0..random.below(64)).map(|_| random.next() as u8).collect(),
        3 => random
            .of(&[&b"abc"[..], b"9", b"6", b"0{}", b"\xff\xfe", b"4\xc3"])
            .to_vec(),
        4 => format!("b{}", random.of(&["!", "AQI", "====", "\u{e9}"])).into_bytes(),
        // Attachments that are missing, too many, or of nobody.
        5 => [
            &b"452-/target,[\"join\",{\"_placeholder\":true,\"num\":0}]"[..],
            b"bAQID",
        ]
        .join(SEPARATOR),
        6 => packets(1 + random.below(20), b"bAQIDBA=="),
        // Close, upgrade and heartbeats among others, and again.
        7 => packets(1 + random.below(50), random.of(&[&b"2"[..], b"3", b"5", b"2probe"])),
        8 => [&b"1"[..], b"42/target,7[\"join\",{\"room\":\"a\"}]"].join(SEPARATOR),
        // More than a payload may have.
        9 => vec![b'4'; 100_001 + random.below(1_000)],
        10 => format!("42/target,[\"join\",{}", "[".repeat(15 * many)).into_bytes(),
        _ => {
            let payload: Vec<_> = (0..1 + random.below(4)).map(|_| random.of(&PACKETS)).collect();
            let tokens: Vec<_> = TOKENS.iter().map(|token| token.as_bytes()).collect();
            random.mutated(payload.join("\u{1e}").as_bytes(), &tokens)
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_bad_payloads_are_refused_or_answered_and_the_others_are_served() {
    storm("payloads", bad_payload, send).await;
}
