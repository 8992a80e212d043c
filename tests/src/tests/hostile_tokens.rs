//! Tokens: through the real handshake, whatever is not the token that was issued lets nobody in, and each refusal is counted.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::deadline::within;
use crate::gateway::{Gateway, aldis};
use crate::hostile::{Random, Witness, seeds};
use crate::manifests::Manifests;
use crate::raw::Raw;

/// Connections at a time, and tokens that each of them tries.
const AT_ONCE: usize = 32;
const TRIES: usize = 20;

const SECRET: &str = "a secret that the tests may know";

const TOKENS: [&str; 16] = [
    ".",
    "..",
    "=",
    "==",
    "-",
    "_",
    "+",
    "/",
    "A",
    "eyJhbGciOiJub25lIn0",
    "eyJ",
    "%00",
    "\u{0}",
    "é",
    " ",
    "Bearer ",
];

/// A channel press/vault on /vault that asks for a token of `staff`.
fn vault(manifests: &Manifests) {
    manifests.channel("vault", "opened");
    let channel = std::fs::read_to_string(manifests.path().join("vault.yaml")).unwrap();
    let jwt = "authentication: {jwt: [{name: staff, secretRef: {name: vault, key: secret}, algorithms: [HS256], \
               issuer: \"https://id.example\", audiences: [vault], identity: {user: claims.sub}}]}";
    manifests.write("vault.yaml", &channel.replace("authentication: {anonymous: {}}", jwt));
    manifests.write(
        "secret.yaml",
        &format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: vault, namespace: press, labels: {{aldis.dev/use: channel}}}}\n\
             stringData: {{secret: \"{SECRET}\"}}\n"
        ),
    );
}

fn token(secret: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(aldis());
    command
        .args(["token", "--claim", "iss=https://id.example"])
        .args(arguments)
        .env("ALDIS_SECRET", secret);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The token that is good, and some that are not by one thing each.
fn issued() -> Vec<String> {
    let good = ["--claim", "sub=ann", "--claim", "aud=vault"];
    let with = |more: &[&str]| token(SECRET, &[&good[..], more].concat());
    vec![
        with(&[]),
        token("another secret, that is nobody's", &good),
        with(&["--algorithm", "HS512"]),
        with(&["--claim", "exp=1"]),
        with(&["--claim", "nbf=99999999999"]),
        with(&["--claim", "exp=\"never\""]),
        token(SECRET, &["--claim", "sub=ann", "--claim", "aud=elsewhere"]),
        token(SECRET, &["--claim", "sub=ann"]),
    ]
}

fn auth(random: &mut Random, issued: &[String]) -> Value {
    let good = &issued[0];
    let parts: Vec<_> = good.split('.').collect();
    match random.below(16) {
        0 => random
            .of(&[
                &json!(null),
                &json!(7),
                &json!([]),
                &json!({}),
                &json!([good]),
                &json!(true),
            ])
            .clone(),
        1 => json!({"token": [good]}),
        2 => json!({"token": {"token": good}}),
        3 => json!({"Token": good, "tokens": good}),
        4 => json!({"token": issued[1 + random.below(issued.len() - 1)]}),
        5 => json!({"token": format!("eyJhbGciOiJub25lIn0.{}.", parts[1])}),
        6 => json!({"token": format!("{}.{}.{}", parts[0], parts[2], parts[1])}),
        7 => json!({"token": "x".repeat(random.below(20_000))}),
        8 => {
            json!({"token": good, "pid": "x".repeat(random.below(5_000)), "offset": random.of(&[&json!(7), &json!("e:-1"), &json!("\u{0}")])})
        }
        _ => json!({"token": random.mutated_text(good, &TOKENS)}),
    }
}

/// Tries some tokens on one connection; gives how many were let in and how many refused.
async fn attempt(address: Arc<str>, issued: Arc<[String]>, seeds: Vec<u64>) -> (f64, f64) {
    let (mut let_in, mut refused) = (0.0, 0.0);
    let mut raw = Raw::open(&address).await;
    for seed in seeds {
        let auth = auth(&mut Random::new(seed), &issued);
        raw.text(&format!("40/vault,{auth}")).await.unwrap();
        let answer = within("the handshake is answered", raw.until("4")).await;
        let answer = answer.unwrap_or_else(|| panic!("ALDIS_SEED={seed}: the connection was closed"));
        if answer.starts_with("44/vault,") {
            let known = ["Authentication token required", "Invalid authentication token"];
            assert!(
                known.iter().any(|message| answer.contains(message)),
                "ALDIS_SEED={seed}: {answer}"
            );
            refused += 1.0;
        } else {
            assert!(answer.starts_with("40/vault,{"), "ALDIS_SEED={seed}: {answer}");
            assert_eq!(
                auth["token"],
                json!(issued[0]),
                "ALDIS_SEED={seed}: only the token that was issued lets in"
            );
            let_in += 1.0;
            raw.close().await;
            raw = Raw::open(&address).await;
        }
    }
    raw.close().await;
    (let_in, refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_bad_tokens_let_nobody_in_and_each_refusal_is_counted() {
    let manifests = Manifests::news();
    // Who is refused has no namespace, and is closed for that after a while: here not before it has shown all of its tokens,
    // however slow the machine is.
    manifests.listeners("[{name: web, port: 3000, connectTimeout: 5m}]");
    vault(&manifests);
    let gateway = Gateway::start_logging(&manifests.path(), None, Some("error")).await;
    let witness = Witness::start(&gateway, &manifests.topic).await;
    let address: Arc<str> = gateway.url("").trim_start_matches("http://").into();
    let issued: Arc<[String]> = issued().into();

    let all: Vec<_> = seeds("tokens").collect();
    let chunks: Vec<_> = all.chunks(TRIES).map(<[u64]>::to_vec).collect();
    let attempts =
        stream::iter(chunks).map(|seeds| tokio::spawn(attempt(Arc::clone(&address), Arc::clone(&issued), seeds)));
    let (mut let_in, mut refused) = (0.0, 0.0);
    let mut attempts = attempts.buffer_unordered(AT_ONCE);
    while let Some(attempt) = attempts.next().await {
        let (more_in, more_refused) = attempt.unwrap();
        let_in += more_in;
        refused += more_refused;
    }
    let metrics = gateway.metrics().await;
    let by_reason = |name: &str| -> BTreeMap<String, f64> {
        let all = metrics.all(name).into_iter();
        let of_vault = all.filter(|(series, _)| series.contains("press/vault"));
        of_vault
            .map(|(series, value)| (series.split('"').nth(3).unwrap().to_owned(), value))
            .collect()
    };
    let (mut outcomes, faults) = (
        by_reason("aldis_connects_total"),
        by_reason("aldis_tokens_refused_total"),
    );
    println!("{let_in} let in, {refused} refused: {outcomes:?}, tokens {faults:?}");
    assert_eq!(outcomes.remove("accepted").unwrap_or(0.0), let_in);
    assert_eq!(outcomes.values().sum::<f64>(), refused, "each refusal has its code");
    let shown = refused - outcomes.get("token_required").copied().unwrap_or(0.0);
    assert_eq!(faults.values().sum::<f64>(), shown, "each token its reason");
    assert!(all.len() == 1 || refused > all.len() as f64 / 2.0);
    witness.has_noticed_nothing(&gateway, 150.0).await;
}
