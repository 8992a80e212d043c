//! Who gets in, who does not, and what they are told.

mod published;
mod query;
mod secrets;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value as JsonValue, json};

use super::*;
use crate::channel::Channel;
use crate::fixtures::{NOW, OTHER_SECRET, SECRET, channel, json_of, keys};

fn methods(authentication: JsonValue) -> Channel {
    channel(json!({"authentication": authentication}))
}

fn jwt(mut method: JsonValue) -> JsonValue {
    let defaults = json!({
        "name": "m", "secretRef": {"name": "jwt", "key": "secret"}, "algorithms": ["HS256"], "identity": {"user": "claims.sub"}
    });
    for (key, value) in defaults.as_object().unwrap() {
        if method.get(key).is_none() {
            method[key] = value.clone();
        }
    }
    method
}

fn signed(algorithm: jsonwebtoken::Algorithm, secret: &str, claims: &JsonValue) -> String {
    jsonwebtoken::encode(
        &Header::new(algorithm),
        claims,
        &EncodingKey::from_secret(secret.as_bytes()),
    )
    .unwrap()
}

fn token_with(claims: JsonValue) -> String {
    signed(jsonwebtoken::Algorithm::HS256, SECRET, &claims)
}

/// A token of this header and these claims, as texts, with a signature that is right where the algorithm is HS256.
fn token_of(header: &str, claims: &str) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = jsonwebtoken::crypto::sign(
        message.as_bytes(),
        &EncodingKey::from_secret(SECRET.as_bytes()),
        jsonwebtoken::Algorithm::HS256,
    );
    format!("{message}.{}", signature.unwrap())
}

fn enter(channel: &Channel, query: &[(&str, &str)], auth: Option<JsonValue>) -> Result<Identity, Refusal> {
    let query: Vec<_> = query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let auth = auth.map(json_of);
    let handshake = Handshake {
        query: &query,
        auth: auth.as_ref(),
    };
    match channel.methods.examine(&handshake, NOW)? {
        Examined::Admitted(identity) => Ok(identity),
        Examined::Token(token) => panic!("{token:?} needs the keys of {}", token.jwks_uri()),
    }
}

fn by_token(channel: &Channel, token: &str) -> Result<Identity, Refusal> {
    enter(channel, &[], Some(json!({"token": token})))
}

fn fault(reason: FaultReason) -> Refusal {
    Refusal::Token(Fault {
        reason,
        method: None,
        detail: "the detail".to_owned(),
    })
}

fn reason(result: Result<Identity, Refusal>) -> String {
    match result.expect_err("the token is refused") {
        Refusal::Token(fault) => fault.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn refusals_have_stable_codes_and_texts() {
    for (refusal, code, message) in [
        (
            Refusal::TokenRequired,
            "token_required",
            "Authentication token required",
        ),
        (
            fault(FaultReason::Signature),
            "token_invalid",
            "Invalid authentication token",
        ),
        (
            fault(FaultReason::Expired),
            "token_expired",
            "Invalid authentication token",
        ),
        (
            Refusal::QueryFieldRequired("user_id".to_owned()),
            "query_field_required",
            "Query field user_id required",
        ),
        (
            Refusal::NobodyMayConnect,
            "nobody_may_connect",
            "Connections are not allowed",
        ),
    ] {
        assert_eq!((refusal.code(), refusal.message().as_str()), (code, message));
    }
}

#[test]
fn without_authentication_nobody_gets_in() {
    for authentication in [json!(null), json!({})] {
        let channel = methods(authentication);
        assert_eq!(enter(&channel, &[], None).unwrap_err(), Refusal::NobodyMayConnect);
        assert_eq!(
            by_token(&channel, &token_with(json!({"sub": "u"}))).unwrap_err(),
            Refusal::NobodyMayConnect
        );
        assert_eq!(
            enter(&channel, &[("user", "u")], None).unwrap_err(),
            Refusal::NobodyMayConnect
        );
    }
}

#[test]
fn a_token_is_required_and_what_javascript_makes_of_none_counts_as_none() {
    let channel = methods(json!({"jwt": [jwt(json!({}))]}));
    for auth in [
        None,
        Some(json!(null)),
        Some(json!({})),
        Some(json!({"token": null})),
        Some(json!({"token": ""})),
        Some(json!({"token": "undefined"})),
        Some(json!({"token": "null"})),
        Some(json!("token")),
        Some(json!([{"token": "x"}])),
    ] {
        assert_eq!(
            enter(&channel, &[], auth.clone()).unwrap_err(),
            Refusal::TokenRequired,
            "{auth:?}"
        );
    }
    assert_eq!(
        enter(&channel, &[("token", &token_with(json!({"sub": "u"})))], None).unwrap_err(),
        Refusal::TokenRequired,
        "only auth.token counts: a query ends up in logs"
    );
}

#[test]
fn a_good_token_makes_an_identity() {
    let channel = methods(json!({"jwt": [jwt(json!({
        "identity": {"user": "claims.userId", "attributes": {
            "tenant": "claims.tenant.id", "gone": "claims.gone", "failing": "1 / claims.zero", "roles": "claims.roles",
            "staff": "'staff' in claims.roles", "odd name": "claims.userId + 1"}}
    }))]}));
    let claims = json!({"userId": 42, "tenant": {"id": "t1"}, "zero": 0, "roles": ["staff"]});
    let identity = by_token(&channel, &token_with(claims)).unwrap();
    assert_eq!(
        identity.user.as_deref(),
        Some("42"),
        "a number is the user's id as text"
    );
    assert_eq!(identity.method, "m");
    assert_eq!(
        identity.json.text(),
        r#"{"user":42,"failing":null,"gone":null,"odd name":43,"roles":["staff"],"staff":true,"tenant":"t1"}"#,
        "missing claims and failing expressions are null"
    );
    let nobody = by_token(&channel, &token_with(json!({}))).unwrap();
    assert_eq!(nobody.user, None);
    assert!(nobody.json.get("user").unwrap().is_null());
}

#[test]
fn ids_beyond_64_bits_stay_what_they_are() {
    let channel = methods(json!({"jwt": [jwt(json!({}))]}));
    for id in [
        "12345678901234567890123",
        "12345678901234567890124",
        "18446744073709551616",
        "1.10",
    ] {
        let token = token_of(r#"{"alg":"HS256"}"#, &format!(r#"{{"sub": {id}}}"#));
        // `sub` is a text by the standard; the library must not mind.
        let identity = by_token(&channel, &token).unwrap();
        assert_eq!(identity.user.as_deref(), Some(id));
        assert_eq!(identity.json.text(), format!(r#"{{"user":{id}}}"#));
    }
}

#[test]
fn forged_tokens_are_refused() {
    let channel = methods(json!({"jwt": [jwt(json!({}))]}));
    let claims = json!({"sub": "u"});
    let good = token_with(claims.clone());
    assert!(by_token(&channel, &good).is_ok());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let other_claims = token_with(json!({"sub": "admin"}));
    let other_message = other_claims.rsplit_once('.').unwrap().0;
    for (token, why) in [
        (
            signed(jsonwebtoken::Algorithm::HS256, "wrong", &claims),
            "m: InvalidSignature",
        ),
        (
            signed(jsonwebtoken::Algorithm::HS256, "", &claims),
            "m: InvalidSignature",
        ),
        (
            signed(jsonwebtoken::Algorithm::HS512, SECRET, &claims),
            "no method takes its algorithm and issuer",
        ),
        (format!("{message}."), "m: InvalidSignature"),
        (format!("{other_message}.{signature}"), "m: InvalidSignature"),
        (format!("{good}A"), "m: "),
        (message.to_owned(), ""),
        ("x".to_owned(), "InvalidToken"),
        ("..".to_owned(), ""),
        (format!("Bearer {good}"), ""),
        ("é.é.é".to_owned(), ""),
        (format!("{good}.x"), ""),
        ("x".repeat(MAX_TOKEN + 1), "it is too long"),
    ] {
        let reason = reason(by_token(&channel, &token));
        assert!(reason.starts_with(why) && !reason.is_empty(), "{token}: {reason}");
    }
    for number in [json!(5), json!(true), json!({"a": 1}), json!([good])] {
        assert_eq!(
            enter(&channel, &[], Some(json!({"token": number}))).unwrap_err().code(),
            "token_invalid"
        );
    }
}

#[test]
fn the_token_does_not_choose_its_algorithm() {
    let channel = methods(json!({"jwt": [jwt(json!({}))]}));
    let claims = r#"{"sub":"admin"}"#;
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"None"}"#,
        r#"{"alg":"NONE","typ":"JWT"}"#,
        r#"{"alg":""}"#,
        r#"{"alg":"RS256"}"#,
        r#"{"alg":"HS384"}"#,
        r#"{"alg":"ES256"}"#,
        r#"{"typ":"JWT"}"#,
        r#"{"alg":"hs256"}"#,
        "{}",
        "[]",
        "none",
    ] {
        let token = token_of(header, claims);
        let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
        for token in [token, unsigned] {
            assert_eq!(
                by_token(&channel, &token).unwrap_err().code(),
                "token_invalid",
                "{header}"
            );
        }
    }
    assert!(by_token(&channel, &token_of(r#"{"alg":"HS256"}"#, claims)).is_ok());
}

#[test]
fn the_reason_does_not_quote_the_token() {
    let channel = methods(json!({"jwt": [jwt(json!({}))]}));
    let attack = format!("LOGME{}", "\n".repeat(500));
    let header = json!({ "alg": attack }).to_string();
    for token in [
        token_of(&header, "{}"),
        token_of(r#"{"alg":"HS256"}"#, "\"LOGME\""),
        token_of(r#"{"alg":"HS256"}"#, "LOGME"),
        "LOGME.LOGME.LOGME".to_owned(),
    ] {
        let result = by_token(&channel, &token);
        if let Err(refusal) = result {
            let shown = format!("{refusal:?}");
            assert!(!shown.contains("LOGME") && shown.len() < 150, "{shown}");
        }
    }
}

#[test]
fn issuer_and_audience_must_fit_where_they_are_named() {
    let channel = methods(json!({"jwt": [jwt(json!({"issuer": "https://id", "audiences": ["notify", "other"]}))]}));
    let result = |claims: JsonValue| by_token(&channel, &token_with(claims));
    assert!(result(json!({"iss": "https://id", "aud": "notify"})).is_ok());
    assert!(result(json!({"iss": "https://id", "aud": ["x", "other"]})).is_ok());
    let no_method = "no method takes its algorithm and issuer";
    let no_audience = "m: it is for another audience";
    for (claims, why) in [
        (json!({"aud": "notify"}), no_method),
        (json!({"iss": "https://id/", "aud": "notify"}), no_method),
        (json!({"iss": ["https://id"], "aud": "notify"}), no_method),
        (json!({"iss": null, "aud": "notify"}), no_method),
        (json!({"iss": "https://id", "aud": "x"}), no_audience),
        (json!({"iss": "https://id", "aud": ["x"]}), no_audience),
        (json!({"iss": "https://id", "aud": []}), no_audience),
        (json!({"iss": "https://id"}), no_audience),
        (json!({"iss": "https://id", "aud": 7}), no_audience),
        (json!({"iss": "https://id", "aud": {"notify": 1}}), no_audience),
        (json!({"iss": "https://id", "aud": [["notify"]]}), no_audience),
    ] {
        assert_eq!(reason(result(claims.clone())), why, "{claims}");
    }
    let any = methods(json!({"jwt": [jwt(json!({}))]}));
    assert!(
        by_token(&any, &token_with(json!({"iss": "whoever", "aud": "whatever"}))).is_ok(),
        "what a method does not name is not checked"
    );
}

#[test]
fn times_are_checked_against_our_clock_with_half_a_minute_of_skew() {
    let channel = methods(json!({"jwt": [jwt(json!({}))]}));
    let now = NOW.0 as f64 / 1000.0;
    let result = |claims: JsonValue| by_token(&channel, &token_with(claims));
    for good in [
        json!({}),
        json!({"exp": now + 1.0}),
        json!({"exp": now - 29.9}),
        json!({"nbf": now + 29.9}),
        json!({"exp": now.ceil() as i64, "nbf": now.floor() as i64}),
        json!({"exp": 1e300, "nbf": -1e300}),
        json!({"exp": null, "nbf": null}),
    ] {
        assert!(result(good.clone()).is_ok(), "{good}");
    }
    for (bad, why) in [
        (json!({"exp": now - 30.0}), "it has expired"),
        (json!({"exp": 0}), "it has expired"),
        (json!({"exp": -1e300}), "it has expired"),
        (json!({"nbf": now + 30.1}), "it is not valid yet"),
        (json!({"nbf": 1e300}), "it is not valid yet"),
        (json!({"exp": now - 30.0, "nbf": now + 31.0}), "it has expired"),
        (json!({"exp": "soon"}), "exp or nbf is no number"),
        (json!({"exp": (now + 60.0).to_string()}), "exp or nbf is no number"),
        (json!({"exp": now + 60.0, "nbf": {}}), "exp or nbf is no number"),
        (json!({"exp": true}), "exp or nbf is no number"),
    ] {
        let refusal = result(bad.clone());
        let code = refusal.as_ref().unwrap_err().code();
        assert_eq!(code == "token_expired", why == "it has expired", "{bad}");
        assert_eq!(reason(refusal), format!("m: {why}"), "{bad}");
    }
}

#[test]
fn where_nothing_but_a_token_counts_no_other_method_lets_anybody_in() {
    let examined = |authentication, token: &str| {
        let channel = methods(authentication);
        let examined = channel.methods.examine_token(token.to_owned(), NOW);
        examined.map(|examined| matches!(examined, Examined::Admitted(_)))
    };
    let malformed = |outcome| matches!(outcome, Err(Refusal::Token(fault)) if fault.reason == FaultReason::Malformed);
    let with_anonymous = || json!({"jwt": [jwt(json!({}))], "anonymous": {}});
    for absent in ["", "null", "undefined"] {
        assert!(malformed(examined(with_anonymous(), absent)), "{absent:?}");
        assert_eq!(
            examined(json!({"anonymous": {}}), absent),
            Err(Refusal::NobodyMayConnect)
        );
    }
    let token = token_with(json!({"sub": "ann"}));
    assert_eq!(
        examined(json!({"anonymous": {}}), &token),
        Err(Refusal::NobodyMayConnect)
    );
    assert_eq!(examined(with_anonymous(), &token), Ok(true));
}

#[test]
fn methods_are_chosen_by_algorithm_and_issuer_and_never_fall_through() {
    let channel = methods(json!({"jwt": [
        jwt(json!({"name": "staff", "issuer": "staff-id"})),
        jwt(json!({"name": "guests", "issuer": "guest-id", "secretRef": {"name": "jwt", "key": "other"}})),
        jwt(json!({"name": "machines", "algorithms": ["HS512", "HS384"], "secretRef": {"name": "jwt", "key": "other"}})),
        jwt(json!({"name": "rest", "algorithms": ["HS256", "HS384"]}))
    ], "anonymous": {}}));
    use jsonwebtoken::Algorithm::{HS256, HS384, HS512};
    let enter = |algorithm, secret, claims: JsonValue| by_token(&channel, &signed(algorithm, secret, &claims));
    for (algorithm, secret, claims, method) in [
        (HS256, SECRET, json!({"iss": "staff-id"}), "staff"),
        (HS256, OTHER_SECRET, json!({"iss": "guest-id"}), "guests"),
        (HS512, OTHER_SECRET, json!({"iss": "staff-id"}), "machines"),
        (HS384, OTHER_SECRET, json!({}), "machines"),
        (HS256, SECRET, json!({"iss": "unheard of"}), "rest"),
        (HS256, SECRET, json!({}), "rest"),
    ] {
        assert_eq!(enter(algorithm, secret, claims).unwrap().method, method);
    }
    // Each of these would hold for a later method.
    for (algorithm, secret, claims, why) in [
        (
            HS256,
            OTHER_SECRET,
            json!({"iss": "staff-id"}),
            "staff: InvalidSignature",
        ),
        (HS256, SECRET, json!({"iss": "guest-id"}), "guests: InvalidSignature"),
        (HS384, SECRET, json!({}), "machines: InvalidSignature"),
        (
            HS256,
            SECRET,
            json!({"iss": "staff-id", "exp": 1}),
            "staff: it has expired",
        ),
    ] {
        assert_eq!(reason(enter(algorithm, secret, claims)), why, "not even anonymous");
    }
    assert_eq!(by_token(&channel, "").unwrap().method, "anonymous");
}
