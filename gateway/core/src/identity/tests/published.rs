//! Tokens whose issuers publish their keys.

use jsonwebtoken::Algorithm;
use jsonwebtoken::jwk::Jwk;
use serde_json::{Value as JsonValue, json};

use super::*;

const ISSUER: &str = "https://id.bistro.example";

fn pem(name: &str) -> Vec<u8> {
    let path = format!("{}/testdata/keys/{name}.pem", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).unwrap()
}

fn signing_key(name: &str) -> EncodingKey {
    let pem = pem(name);
    match name {
        "p256" | "p384" => EncodingKey::from_ec_pem(&pem),
        "ed25519" => EncodingKey::from_ed_pem(&pem),
        _ => EncodingKey::from_rsa_pem(&pem),
    }
    .unwrap()
}

/// The public half of a key, as its issuer publishes it, with these fields over it; null takes one away.
fn jwk(name: &str, fields: JsonValue) -> JsonValue {
    let algorithm = match name {
        "p256" => Algorithm::ES256,
        "p384" => Algorithm::ES384,
        "ed25519" => Algorithm::EdDSA,
        _ => Algorithm::RS256,
    };
    let mut jwk = json!(Jwk::from_encoding_key(&signing_key(name), algorithm).unwrap());
    let jwk_fields = jwk.as_object_mut().unwrap();
    jwk_fields.remove("alg");
    for (field, value) in fields.as_object().unwrap() {
        jwk_fields.remove(field);
        if !value.is_null() {
            jwk_fields.insert(field.clone(), value.clone());
        }
    }
    jwk
}

fn set(keys: &[JsonValue]) -> KeySet {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

/// A channel whose one method has its issuer's keys, with these fields over it.
fn published(mut method: JsonValue) -> Channel {
    let defaults = json!({"name": "staff", "issuer": ISSUER, "audiences": ["notify"],
        "jwksUri": "https://id.bistro.example/jwks.json", "identity": {"user": "claims.sub"}});
    for (key, value) in defaults.as_object().unwrap() {
        if method.get(key).is_none() {
            method[key] = value.clone();
        }
    }
    methods(json!({ "jwt": [method] }))
}

fn claims() -> JsonValue {
    json!({"iss": ISSUER, "aud": "notify", "sub": "ann", "exp": NOW.0 / 1000 + 60})
}

fn token_by(key: &str, algorithm: Algorithm, kid: Option<&str>, claims: &JsonValue) -> String {
    let mut header = Header::new(algorithm);
    header.kid = kid.map(str::to_owned);
    jsonwebtoken::encode(&header, claims, &signing_key(key)).unwrap()
}

/// `Ok` with the user, or the fault; `Err(Some)` where other keys may say otherwise.
fn verify(channel: &Channel, token: &str, keys: &KeySet) -> Result<String, (String, bool)> {
    let auth = json_of(json!({ "token": token }));
    let handshake = Handshake {
        query: &[],
        auth: Some(&auth),
    };
    let fault = |refusal| match refusal {
        Refusal::Token(fault) => fault.to_string(),
        other => panic!("{other:?}"),
    };
    match channel.methods.examine(&handshake, NOW) {
        Ok(Examined::Token(token)) => match token.verify(keys, NOW) {
            Verdict::Admitted(identity) => Ok(identity.user.unwrap()),
            Verdict::Refused(refusal) => Err((fault(refusal), false)),
            Verdict::Unknown(refusal) => Err((fault(refusal), true)),
        },
        Ok(Examined::Admitted(identity)) => panic!("{identity:?}"),
        Err(refusal) => Err((fault(refusal), false)),
    }
}

const NO_METHOD: &str = "no method takes its algorithm and issuer";
const UNKNOWN_KEY: &str = "staff: its issuer publishes no such key";
const BAD_SIGNATURE: &str = "staff: InvalidSignature";

#[test]
fn every_algorithm_lets_in_who_has_its_key() {
    let keys = set(&[
        jwk("rsa", json!({"kid": "rsa"})),
        jwk("p256", json!({"kid": "p256"})),
        jwk("p384", json!({"kid": "p384"})),
        jwk("ed25519", json!({"kid": "ed25519"})),
    ]);
    let channel = published(json!({}));
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    for (key, algorithm) in [
        ("rsa", RS256),
        ("rsa", RS384),
        ("rsa", RS512),
        ("rsa", PS256),
        ("rsa", PS384),
        ("rsa", PS512),
        ("p256", ES256),
        ("p384", ES384),
        ("ed25519", EdDSA),
    ] {
        let named = token_by(key, algorithm, Some(key), &claims());
        assert_eq!(verify(&channel, &named, &keys), Ok("ann".to_owned()), "{algorithm:?}");
        let nameless = token_by(key, algorithm, None, &claims());
        assert_eq!(
            verify(&channel, &nameless, &keys),
            Ok("ann".to_owned()),
            "{algorithm:?}"
        );
    }
}

#[test]
fn the_token_chooses_neither_algorithm_nor_kind_of_key() {
    let keys = set(&[jwk("rsa", json!({"kid": "k"}))]);
    let channel = published(json!({}));
    // The public key as the secret of an HMAC.
    let public = jwk("rsa", json!({}))["n"].as_str().unwrap().to_owned();
    let modulus = URL_SAFE_NO_PAD.decode(&public).unwrap();
    for secret in [public.into_bytes(), modulus, pem("rsa")] {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let mut header = Header::new(algorithm);
            header.kid = Some("k".to_owned());
            let forged = jsonwebtoken::encode(&header, &claims(), &EncodingKey::from_secret(&secret)).unwrap();
            assert_eq!(verify(&channel, &forged, &keys), Err((NO_METHOD.to_owned(), false)));
        }
    }
    // A header that says RS256 over an elliptic signature, and the other way round.
    let by_ec = token_by("p256", Algorithm::ES256, Some("k"), &claims());
    assert_eq!(verify(&channel, &by_ec, &keys), Err((UNKNOWN_KEY.to_owned(), true)));
    let only_ec = published(json!({"algorithms": ["ES256"]}));
    let by_rsa = token_by("rsa", Algorithm::RS256, Some("k"), &claims());
    assert_eq!(verify(&only_ec, &by_rsa, &keys), Err((NO_METHOD.to_owned(), false)));
    for header in [r#"{"alg":"none","kid":"k"}"#, r#"{"alg":"RS256x"}"#, r#"{"kid":"k"}"#] {
        assert!(verify(&channel, &token_of(header, &claims().to_string()), &keys).is_err());
    }
}

#[test]
fn keys_in_the_token_are_not_believed() {
    let keys = set(&[jwk("rsa", json!({"kid": "k"}))]);
    let mut header = Header::new(Algorithm::RS256);
    header.jwk = serde_json::from_value(jwk("rsa-other", json!({}))).unwrap();
    header.jku = Some("https://attacker.example/jwks.json".to_owned());
    header.x5u = Some("https://attacker.example/cert".to_owned());
    header.kid = Some("k".to_owned());
    let forged = jsonwebtoken::encode(&header, &claims(), &signing_key("rsa-other")).unwrap();
    assert_eq!(
        verify(&published(json!({})), &forged, &keys),
        Err((BAD_SIGNATURE.to_owned(), false))
    );
}

#[test]
fn a_key_id_names_one_key_and_is_nothing_but_a_name() {
    let keys = set(&[
        jwk("rsa", json!({"kid": "first"})),
        jwk("rsa-other", json!({"kid": "second"})),
    ]);
    let channel = published(json!({}));
    let by = |kid: Option<&str>| {
        verify(
            &channel,
            &token_by("rsa-other", Algorithm::RS256, kid, &claims()),
            &keys,
        )
    };
    assert_eq!(by(Some("second")), Ok("ann".to_owned()));
    assert_eq!(by(None), Ok("ann".to_owned()), "all keys that fit are tried");
    assert_eq!(by(Some("first")), Err((BAD_SIGNATURE.to_owned(), false)));
    for kid in [
        "third",
        "",
        "Second",
        "../second",
        "/dev/null",
        "second\0",
        "' OR '1'='1",
        "https://x/k",
        &"x".repeat(4096),
    ] {
        assert_eq!(by(Some(kid)), Err((UNKNOWN_KEY.to_owned(), true)), "{kid}");
    }
    // A key without a name is for tokens that name none.
    let nameless = set(&[jwk("rsa", json!({}))]);
    let token = |kid| token_by("rsa", Algorithm::RS256, kid, &claims());
    assert_eq!(verify(&channel, &token(None), &nameless), Ok("ann".to_owned()));
    assert_eq!(
        verify(&channel, &token(Some("k")), &nameless),
        Err((UNKNOWN_KEY.to_owned(), true))
    );
}

#[test]
fn without_key_id_few_keys_are_tried_and_other_keys_may_say_otherwise() {
    let channel = published(json!({}));
    let mut keys = vec![jwk("rsa-other", json!({})); 4];
    keys.push(jwk("rsa", json!({})));
    let token = token_by("rsa", Algorithm::RS256, None, &claims());
    assert_eq!(
        verify(&channel, &token, &set(&keys)),
        Err((BAD_SIGNATURE.to_owned(), true)),
        "the fifth is not tried"
    );
    keys.remove(0);
    assert_eq!(verify(&channel, &token, &set(&keys)), Ok("ann".to_owned()));
}

#[test]
fn two_keys_of_one_name_are_both_tried() {
    let keys = set(&[jwk("rsa-other", json!({"kid": "k"})), jwk("rsa", json!({"kid": "k"}))]);
    let token = token_by("rsa", Algorithm::RS256, Some("k"), &claims());
    assert_eq!(verify(&published(json!({})), &token, &keys), Ok("ann".to_owned()));
}

#[test]
fn a_key_is_for_what_it_says_it_is_for() {
    let channel = published(json!({}));
    let token = token_by("rsa", Algorithm::RS256, Some("k"), &claims());
    let with = |fields: JsonValue| {
        let mut all = json!({"kid": "k"});
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        // Beside it another, so that the set is one.
        set(&[jwk("rsa", all), jwk("p256", json!({"kid": "other"}))])
    };
    for fits in [
        json!({"use": "sig"}),
        json!({"alg": "RS256"}),
        json!({"key_ops": ["verify"]}),
        json!({"use": "sig", "alg": "RS256", "x5c": ["MII"], "x5t": "t", "more": {"a": 1}}),
    ] {
        assert!(verify(&channel, &token, &with(fits.clone())).is_ok(), "{fits}");
    }
    for other in [
        json!({"use": "enc"}),
        json!({"use": "x"}),
        json!({"use": 5}),
        json!({"alg": "RS512"}),
        json!({"alg": "PS256"}),
        json!({"alg": "RSA-OAEP"}),
        json!({"alg": "HS256"}),
        json!({"alg": "whatever"}),
        json!({"key_ops": ["sign"]}),
        json!({"key_ops": []}),
        json!({"kty": "oct"}),
        json!({"n": "AQAB"}),
        json!({"n": "not base64!"}),
        json!({"n": null}),
        json!({"kid": 7}),
    ] {
        assert_eq!(
            verify(&channel, &token, &with(other.clone())),
            Err((UNKNOWN_KEY.to_owned(), true)),
            "{other}"
        );
    }
}

#[test]
fn what_is_no_key_set_is_told() {
    let error = |text: &str| KeySet::parse(text.as_bytes()).unwrap_err().to_string();
    for text in ["", "keys", "{\"keys\":[", &"[".repeat(100_000), "\u{1}"] {
        assert_eq!(error(text), "it is no JSON");
    }
    for text in [
        "[]",
        "null",
        "{}",
        r#"{"keys":{}}"#,
        r#"{"Keys":[]}"#,
        r#"{"keys":null}"#,
    ] {
        assert_eq!(error(text), "it has no list `keys`", "{text}");
    }
    let many = |count: usize, key: &JsonValue| json!({"keys": vec![key.clone(); count]}).to_string();
    assert_eq!(error(&many(101, &json!(1))), "it has 101 keys, more than 100");
    let small = jwk("rsa", json!({"n": URL_SAFE_NO_PAD.encode([0xff; 128])}));
    let symmetric = json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"});
    let off_curve_size = jwk("p256", json!({"x": "AAAA"}));
    for useless in [
        json!(1),
        json!({}),
        small,
        symmetric,
        off_curve_size,
        jwk("p256", json!({"crv": "P-521"})),
    ] {
        assert_eq!(
            error(&many(3, &useless)),
            "none of its keys can check a signature",
            "{useless}"
        );
    }
    assert_eq!(error(r#"{"keys":[]}"#), "none of its keys can check a signature");
    assert_eq!(
        KeySet::parse(many(100, &jwk("p256", json!({}))).as_bytes())
            .unwrap()
            .len(),
        100
    );
}

#[test]
fn no_forged_foreign_or_expired_token_makes_anybody_fetch_keys() {
    let channel = published(json!({}));
    let token = |change: &dyn Fn(&mut JsonValue)| {
        let mut claims = claims();
        change(&mut claims);
        token_by("rsa", Algorithm::RS256, Some("k"), &claims)
    };
    let enters = |token: &str| by_token_needs_keys(&channel, token);
    assert!(enters(&token(&|_| {})).is_ok());
    let deep = format!(
        "{{\"iss\":\"{ISSUER}\",\"aud\":\"notify\",\"a\":{}{}}}",
        "[".repeat(5000),
        "]".repeat(5000)
    );
    assert!(
        enters(&token_of(r#"{"alg":"RS256"}"#, &deep)).is_ok(),
        "what nobody asks for is not looked at"
    );
    let audience = "staff: it is for another audience";
    for (change, why) in [
        (
            &|c: &mut JsonValue| c["iss"] = json!("https://id.other.example"),
            NO_METHOD,
        ),
        (
            &|c: &mut JsonValue| drop(c.as_object_mut().unwrap().remove("iss")),
            NO_METHOD,
        ),
        (&|c: &mut JsonValue| c["aud"] = json!("billing"), audience),
        (
            &|c: &mut JsonValue| c["aud"] = json!(["billing", {"notify": "notify"}]),
            audience,
        ),
        (
            &|c: &mut JsonValue| drop(c.as_object_mut().unwrap().remove("aud")),
            audience,
        ),
        (
            &|c: &mut JsonValue| c["exp"] = json!(NOW.0 / 1000 - 31),
            "staff: it has expired",
        ),
        (
            &|c: &mut JsonValue| c["nbf"] = json!(NOW.0 / 1000 + 31),
            "staff: it is not valid yet",
        ),
        (
            &|c: &mut JsonValue| c["exp"] = json!("soon"),
            "staff: exp or nbf is no number",
        ),
    ] as [(&dyn Fn(&mut JsonValue), &str); 8]
    {
        assert_eq!(enters(&token(change)).unwrap_err(), why);
    }
    let text = |claims: &str| token_of(r#"{"alg":"RS256","kid":"k"}"#, claims);
    for (token, why) in [
        (
            text(r#"{"iss":"a","iss":"https://id.bistro.example","aud":"notify"}"#),
            "a claim is in it twice",
        ),
        (text("[]"), "its claims are no object"),
        (text("7"), "its claims are no object"),
        (
            token_of(r#"{"alg":"RS256","crit":["exp"],"exp":1}"#, "{}"),
            "it has critical headers",
        ),
        (
            token_of(r#"{"alg":"RS256","alg":"none"}"#, "{}"),
            "its header or claims do not fit",
        ),
        ("a".repeat(MAX_TOKEN + 1), "it is too long"),
    ] {
        let fault = enters(&token).unwrap_err();
        assert!(fault.starts_with(why), "{fault} is not {why}");
    }
}

fn by_token_needs_keys(channel: &Channel, token: &str) -> Result<(), String> {
    let auth = json_of(json!({ "token": token }));
    let handshake = Handshake {
        query: &[],
        auth: Some(&auth),
    };
    match channel.methods.examine(&handshake, NOW) {
        Ok(Examined::Token(token)) => {
            assert_eq!(token.jwks_uri().as_str(), "https://id.bistro.example/jwks.json");
            Ok(())
        }
        Err(Refusal::Token(fault)) => Err(fault.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn time_passes_while_keys_are_fetched() {
    let channel = published(json!({}));
    let keys = set(&[jwk("rsa", json!({"kid": "k"}))]);
    let auth = json_of(json!({"token": token_by("rsa", Algorithm::RS256, Some("k"), &claims())}));
    let handshake = Handshake {
        query: &[],
        auth: Some(&auth),
    };
    let Ok(Examined::Token(token)) = channel.methods.examine(&handshake, NOW) else {
        panic!("its keys decide")
    };
    let later = |seconds: i64| token.verify(&keys, Millis(NOW.0 + seconds * 1000));
    let Verdict::Admitted(identity) = later(89) else {
        panic!("90 s with the skew")
    };
    assert_eq!(identity.expires, Some(Millis(NOW.0 / 1000 * 1000 + 60_000)));
    assert!(matches!(later(90), Verdict::Refused(refusal) if refusal.code() == "token_expired"));
    let printed = format!("{token:?} {keys:?}");
    assert_eq!(printed, "Token(staff, …) KeySet(1 keys)");
}

#[test]
fn methods_of_one_issuer_differ_by_audience() {
    let method = |name: &str, audience: &str| {
        json!({"name": name, "issuer": ISSUER, "audiences": [audience], "secretRef": {"name": "jwt", "key": "secret"},
            "identity": {"user": "claims.sub"}})
    };
    let channel = methods(json!({"jwt": [method("staff", "staff-app"), method("customers", "customer-app")]}));
    let enter = |audience: &str| by_token(&channel, &token_with(json!({"iss": ISSUER, "aud": audience})));
    assert_eq!(enter("staff-app").unwrap().method, "staff");
    assert_eq!(enter("customer-app").unwrap().method, "customers");
    assert_eq!(reason(enter("other-app")), "staff: it is for another audience");
}

#[test]
fn what_can_not_work_is_told_at_load() {
    let problems = |method: JsonValue| {
        let mut method = method;
        method["name"] = json!("m");
        method["identity"] = json!({"user": "claims.sub"});
        crate::fixtures::problems(json!({"authentication": {"jwt": [method]}}))
    };
    let field = "spec.authentication.jwt[0]";
    let either = format!("{field}: name either secretRef or jwksUri: the keys that tokens are checked with");
    assert_eq!(problems(json!({})), [either.as_str()]);
    let secret = json!({"name": "jwt", "key": "secret"});
    assert_eq!(
        problems(json!({"secretRef": secret, "jwksUri": "https://x"})),
        [either.as_str()]
    );
    assert_eq!(
        problems(json!({"jwksUri": "https://x", "issuer": "i"})),
        [format!(
            "{field}: jwksUri needs issuer and audiences: an issuer signs tokens for other services with the same keys"
        )]
    );
    let uri = |uri: &str| problems(json!({"jwksUri": uri, "issuer": "i", "audiences": ["a"]}));
    assert_eq!(uri("https://id.example:8443/keys?tenant=1"), [""; 0]);
    assert_eq!(
        uri("https://[::1"),
        [format!("{field}.jwksUri: it is no URL: invalid IPv6 address")]
    );
    assert_eq!(
        uri("file:///etc/passwd"),
        [format!("{field}.jwksUri: write an https URL with a host")]
    );
}
