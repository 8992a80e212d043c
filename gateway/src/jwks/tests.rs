//! When keys are fetched, by whom, and who waits: time is simulated, and what is answered is scripted. What comes over the
//! network is tested with egress and with whole gateways.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use aldis_core::identity::{Examined, Handshake};
use aldis_core::json::Json;
use aldis_core::time::Millis;
use aldis_crds::contract::Keys;
use futures_util::future::join_all;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::task::yield_now;

use super::*;

const NOW: Millis = Millis(1_795_253_400_000);

/// What a server does when it is asked.
#[derive(Clone)]
enum Answer {
    Keys(&'static [&'static str]),
    Garbage,
    Refuses,
    /// Answers after so long.
    Slow(Duration),
    Panics,
}

/// Gives its answers one after the other, the last for ever; time passes when nothing else can happen.
struct Script {
    began: Instant,
    passed: watch::Sender<Duration>,
    /// When somebody wakes.
    wakes: Mutex<Vec<Instant>>,
    answers: Mutex<VecDeque<Answer>>,
    asked: AtomicUsize,
    at_a_time: AtomicUsize,
    most_at_a_time: AtomicUsize,
}

impl Script {
    fn of(answers: impl IntoIterator<Item = Answer>) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            passed: watch::Sender::default(),
            wakes: Mutex::default(),
            answers: Mutex::new(answers.into_iter().collect()),
            asked: AtomicUsize::new(0),
            at_a_time: AtomicUsize::new(0),
            most_at_a_time: AtomicUsize::new(0),
        })
    }

    /// So long passes at once.
    fn advance(&self, time: Duration) {
        self.passed.send_modify(|passed| *passed += time);
    }

    /// Lets everything happen that does within `time`.
    async fn sleep(&self, time: Duration) {
        self.run(self.sleep_until(self.now() + time)).await;
    }

    /// Runs what is begun until `future` is done. Where everybody waits, time goes on to when the next one wakes.
    async fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        loop {
            for _ in 0..100 {
                if let Poll::Ready(done) = futures_util::poll!(&mut future) {
                    return done;
                }
                yield_now().await;
            }
            let now = self.now();
            let next = {
                let mut wakes = self.wakes.lock().unwrap();
                wakes.retain(|wake| *wake > now);
                wakes.iter().min().copied()
            };
            self.advance(next.expect("somebody waits for a time") - now);
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Outside for Script {
    async fn fetch(&self, _: &Url, _: &Egress, _: Place) -> Result<Vec<u8>, RequestError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let at_a_time = self.at_a_time.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_a_time.fetch_max(at_a_time, Ordering::SeqCst);
        let answer = {
            let mut answers = self.answers.lock().unwrap();
            match answers.len() {
                1 => answers[0].clone(),
                _ => answers.pop_front().unwrap(),
            }
        };
        let took = match answer {
            Answer::Slow(took) => took,
            _ => Duration::from_millis(100),
        };
        self.sleep_until(self.now() + took).await;
        self.at_a_time.fetch_sub(1, Ordering::SeqCst);
        match answer {
            Answer::Keys(names) => {
                let keys: Vec<_> = names.iter().map(|name| jwk(name)).collect();
                Ok(json!({ "keys": keys }).to_string().into_bytes())
            }
            Answer::Slow(_) => Err(RequestError::Timeout),
            Answer::Garbage => Ok(b"<html>".to_vec()),
            Answer::Refuses => Err(RequestError::Status(503)),
            Answer::Panics => panic!("a request breaks off"),
        }
    }

    fn now(&self) -> Instant {
        self.began + *self.passed.borrow()
    }

    async fn sleep_until(&self, at: Instant) {
        self.wakes.lock().unwrap().push(at);
        let mut passed = self.passed.subscribe();
        passed.wait_for(|passed| self.began + *passed >= at).await.unwrap();
    }
}

/// One key for all: what differs is its name.
fn key() -> EncodingKey {
    let path = format!("{}/core/testdata/keys/p256.pem", env!("CARGO_MANIFEST_DIR"));
    EncodingKey::from_ec_pem(&std::fs::read(path).unwrap()).unwrap()
}

fn jwk(name: &str) -> Value {
    let mut jwk = json!(Jwk::from_encoding_key(&key(), Algorithm::ES256).unwrap());
    jwk["kid"] = name.into();
    jwk
}

fn token(kid: &str) -> String {
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some(kid.to_owned());
    let claims = json!({"iss": "https://id", "aud": "notify", "sub": "ann", "exp": NOW.0 / 1000 + 7 * 24 * 3600});
    jsonwebtoken::encode(&header, &claims, &key()).unwrap()
}

fn channel_of(namespace: &str, url: &str) -> Channel {
    let method = json!({"name": "staff", "issuer": "https://id", "audiences": ["notify"], "jwksUri": url,
        "identity": {"user": "claims.sub"}});
    let config = json!({
        "channel": {"namespace": namespace, "name": "orders"},
        "attachments": [],
        "spec": {"parentRefs": [{"name": "shared"}], "authentication": {"jwt": [method]}},
    });
    let config = serde_json::from_value(config).unwrap();
    Channel::compile(&config, &Keys::default()).unwrap()
}

fn channel() -> Channel {
    channel_of("bistro", "https://id/keys")
}

fn jwks(script: &Arc<Script>) -> Arc<Jwks<Script>> {
    Arc::new(Jwks::new(
        Arc::clone(script),
        Arc::new(Metrics::new()),
        Clock::fixed(NOW),
    ))
}

/// The user; or why not.
async fn show(jwks: &Jwks<Script>, channel: &Channel, token: &str) -> Result<String, &'static str> {
    let auth = Json::parse(json!({ "token": token }).to_string()).unwrap();
    let handshake = Handshake {
        query: &[],
        auth: Some(&auth),
    };
    let Ok(Examined::Token(token)) = channel.methods.examine(&handshake, NOW) else {
        panic!("its keys decide")
    };
    match jwks.verify(channel, &token).await {
        Ok(identity) => Ok(identity.user.unwrap()),
        Err(NotVerified::Refused(Refusal::Token(fault))) => Err(fault.reason.as_str()),
        Err(NotVerified::Refused(other)) => panic!("{other:?}"),
        Err(NotVerified::Unavailable) => Err("unavailable"),
    }
}

/// The same, with time passing until it is decided.
async fn decide(jwks: &Jwks<Script>, channel: &Channel, token: &str) -> Result<String, &'static str> {
    jwks.outside.run(show(jwks, channel, token)).await
}

const UNKNOWN: Result<String, &str> = Err("unknown_key");

fn ann() -> Result<String, &'static str> {
    Ok("ann".to_owned())
}

#[tokio::test]
async fn a_herd_causes_one_fetch_and_is_let_in_together() {
    let script = Script::of([Answer::Keys(&["k"])]);
    let (jwks, channel) = (jwks(&script), Arc::new(channel()));
    let herd: Vec<_> = (0..500)
        .map(|_| {
            let (jwks, channel) = (Arc::clone(&jwks), Arc::clone(&channel));
            tokio::spawn(async move { show(&jwks, &channel, &token("k")).await })
        })
        .collect();
    for client in script.run(join_all(herd)).await {
        assert_eq!(client.unwrap(), ann());
    }
    assert_eq!(script.asked(), 1);
    let text = jwks.metrics.text();
    assert!(
        text.contains(r#"aldis_jwks_fetches_total{namespace="bistro",result="ok"} 1"#),
        "{text}"
    );
    assert!(
        text.contains(r#"aldis_jwks_fetched_timestamp_seconds{namespace="bistro",url="https://id/keys"} 1795253400"#),
        "{text}"
    );
}

#[tokio::test]
async fn random_key_ids_cause_one_fetch_per_cooldown_and_hurt_nobody() {
    let script = Script::of([Answer::Keys(&["k"])]);
    let (jwks, channel) = (jwks(&script), Arc::new(channel()));
    assert_eq!(decide(&jwks, &channel, &token("k")).await, ann());
    let began = script.now();
    let attack: Vec<_> = (0..200)
        .map(|number| {
            let (jwks, channel) = (Arc::clone(&jwks), Arc::clone(&channel));
            tokio::spawn(async move { show(&jwks, &channel, &token(&format!("random-{number}"))).await })
        })
        .collect();
    let before = script.now();
    assert_eq!(decide(&jwks, &channel, &token("k")).await, ann());
    assert_eq!(
        script.now() - before,
        Duration::ZERO,
        "who has a known key waits for nothing"
    );
    for refused in script.run(join_all(attack)).await {
        assert_eq!(refused.unwrap(), UNKNOWN);
    }
    assert!(
        script.now() - began >= COOLDOWN && script.now() - began < HOLD,
        "{:?}",
        script.now() - began
    );
    assert_eq!(script.asked(), 2, "one for them all");
}

#[tokio::test]
async fn a_rotated_key_counts_even_right_after_a_fetch() {
    let script = Script::of([
        Answer::Keys(&["old"]),
        Answer::Keys(&["old", "new"]),
        Answer::Keys(&["new"]),
    ]);
    let (jwks, channel) = (jwks(&script), channel());
    assert_eq!(decide(&jwks, &channel, &token("old")).await, ann());
    assert_eq!(
        decide(&jwks, &channel, &token("new")).await,
        ann(),
        "held over the cooldown, then let in"
    );
    script.advance(COOLDOWN);
    assert_eq!(decide(&jwks, &channel, &token("gone")).await, UNKNOWN);
    assert_eq!(decide(&jwks, &channel, &token("new")).await, ann());
    assert_eq!(script.asked(), 3);
    script.advance(COOLDOWN);
    assert_eq!(decide(&jwks, &channel, &token("old")).await, UNKNOWN, "withdrawn");
}

#[tokio::test]
async fn old_keys_serve_while_they_are_fetched_again_and_not_for_ever() {
    let script = Script::of([Answer::Keys(&["k"]), Answer::Keys(&["k"]), Answer::Refuses]);
    let (jwks, channel) = (jwks(&script), channel());
    let at_once = async || {
        let before = script.now();
        let shown = decide(&jwks, &channel, &token("k")).await;
        assert_eq!(script.now() - before, Duration::ZERO);
        shown
    };
    assert_eq!(decide(&jwks, &channel, &token("k")).await, ann());
    script.advance(FRESH - Duration::from_secs(1));
    assert_eq!(at_once().await, ann());
    assert_eq!(script.asked(), 1, "fresh");
    script.advance(Duration::from_secs(1));
    assert_eq!(at_once().await, ann());
    script.sleep(Duration::from_secs(1)).await;
    assert_eq!(script.asked(), 2, "fetched again beside it");
    // From here on the server is away.
    script.advance(FRESH);
    assert_eq!(at_once().await, ann());
    script.sleep(Duration::from_secs(1)).await;
    assert_eq!(script.asked(), 3);
    script.advance(MAX_STALE - FRESH - Duration::from_secs(10));
    assert_eq!(at_once().await, ann(), "an hour less some seconds");
    script.advance(Duration::from_secs(60));
    assert_eq!(decide(&jwks, &channel, &token("k")).await, Err("unavailable"));
}

#[tokio::test]
async fn a_server_that_comes_back_lets_in_who_is_held_and_one_that_does_not_holds_nobody_for_long() {
    for bad in [
        Answer::Refuses,
        Answer::Garbage,
        Answer::Slow(Duration::from_secs(5)),
        Answer::Panics,
    ] {
        let script = Script::of([bad.clone(), bad.clone(), Answer::Keys(&["k"])]);
        let (jwks, channel) = (jwks(&script), channel());
        assert_eq!(decide(&jwks, &channel, &token("k")).await, ann());
        assert_eq!(script.asked(), 3);

        let script = Script::of([bad]);
        let jwks = self::jwks(&script);
        let began = script.now();
        assert_eq!(decide(&jwks, &channel, &token("k")).await, Err("unavailable"));
        assert_eq!(script.now() - began, HOLD);
        assert!(
            (3..=10).contains(&script.asked()),
            "{}: a pause between attempts",
            script.asked()
        );
    }
}

#[tokio::test]
async fn a_tenant_has_so_many_requests_and_held_clients_and_others_feel_nothing_of_it() {
    let script = Script::of([Answer::Slow(Duration::from_secs(3600))]);
    let jwks = jwks(&script);
    let channels: Vec<_> = (0..10)
        .map(|n| channel_of("hostile", &format!("https://id/{n}")))
        .collect();
    let channels = Arc::new(channels);
    for number in 0..MAX_HELD {
        let (jwks, channels) = (Arc::clone(&jwks), Arc::clone(&channels));
        tokio::spawn(async move { show(&jwks, &channels[number % 10], &token("k")).await });
    }
    script.sleep(Duration::from_secs(1)).await;
    assert_eq!(script.most_at_a_time.load(Ordering::SeqCst), MAX_REQUESTS);
    let before = script.now();
    assert_eq!(decide(&jwks, &channels[0], &token("k")).await, Err("unavailable"));
    assert_eq!(script.now() - before, Duration::ZERO, "one too many is not held");

    *script.answers.lock().unwrap() = [Answer::Keys(&["k"])].into();
    let other = channel_of("bistro", "https://id/0");
    assert_eq!(decide(&jwks, &other, &token("k")).await, ann());
    assert!(script.now() - before < Duration::from_secs(1));
}

#[tokio::test]
async fn so_many_sets_are_kept_for_a_tenant_and_none_that_nobody_needs() {
    let script = Script::of([Answer::Keys(&["k"])]);
    let jwks = jwks(&script);
    let channel = |number: usize| channel_of("bistro", &format!("https://id/{number}"));
    for number in 0..=MAX_SETS {
        assert_eq!(decide(&jwks, &channel(number), &token("k")).await, ann());
        script.advance(Duration::from_millis(1));
    }
    let kept = || {
        jwks.tenants
            .lock()
            .unwrap()
            .get("bistro")
            .map(|tenant| tenant.sets.lock().unwrap().len())
    };
    let measured = || {
        jwks.metrics
            .text()
            .matches("aldis_jwks_fetched_timestamp_seconds{")
            .count()
    };
    assert_eq!((kept(), measured()), (Some(MAX_SETS), MAX_SETS));
    assert_eq!(script.asked(), MAX_SETS + 1);
    assert_eq!(decide(&jwks, &channel(1), &token("k")).await, ann());
    assert_eq!(script.asked(), MAX_SETS + 1, "it was kept");
    assert_eq!(decide(&jwks, &channel(0), &token("k")).await, ann());
    assert_eq!(script.asked(), MAX_SETS + 2, "it was not");
    jwks.follow(&Table::default());
    assert_eq!((kept(), measured()), (None, 0));
}
