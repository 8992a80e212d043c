use clap::Parser;
use jsonwebtoken::{DecodingKey, TokenData, Validation};
use serde_json::json;

use super::*;
use crate::args::{Cli, Command};

const NOW: i64 = 1_700_000_000;

fn args(args: &[&str]) -> TokenArgs {
    match Cli::try_parse_from([&["aldis", "token"], args].concat()) {
        Ok(Cli {
            command: Command::Token(args),
        }) => args,
        other => panic!("{other:?}"),
    }
}

fn issue_with(given: &[&str], from_env: Option<&str>) -> Result<String, TokenError> {
    issue(
        &args(given),
        from_env.map(Secret::new),
        Timestamp::from_second(NOW).unwrap(),
    )
}

fn decode(token: &str, algorithm: Algorithm, secret: &str) -> TokenData<Value> {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    jsonwebtoken::decode(token, &DecodingKey::from_secret(secret.as_bytes()), &validation).unwrap()
}

#[test]
fn a_token_verifies_and_has_the_claims() {
    let given = [
        "--secret",
        "s",
        "--claim",
        "id=42",
        "--claim",
        "name=Ann",
        "--claim",
        "roles=[\"a\"]",
    ];
    let token = issue_with(&given, None).unwrap();
    let claims = decode(&token, Algorithm::HS256, "s").claims;
    assert_eq!(
        claims,
        json!({"id": 42, "name": "Ann", "roles": ["a"], "iat": NOW, "exp": NOW + 3600})
    );
}

#[test]
fn algorithm_and_key_id_are_in_the_header() {
    let token = issue_with(&["--secret", "s", "--algorithm", "HS512", "--kid", "k1"], None).unwrap();
    let header = decode(&token, Algorithm::HS512, "s").header;
    assert_eq!((header.alg, header.kid.as_deref()), (Algorithm::HS512, Some("k1")));
}

#[test]
fn expires_none_gives_no_exp_and_a_given_exp_wins() {
    let token = issue_with(&["--secret", "s", "--expires", "none"], None).unwrap();
    assert_eq!(decode(&token, Algorithm::HS256, "s").claims, json!({"iat": NOW}));
    let token = issue_with(&["--secret", "s", "--claim", "exp=7", "--claim", "iat=5"], None).unwrap();
    assert_eq!(
        decode(&token, Algorithm::HS256, "s").claims,
        json!({"iat": 5, "exp": 7})
    );
}

#[test]
fn the_secret_comes_from_file_option_or_environment_in_this_order() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, b"from-file\r\n").unwrap();
    let path = file.path().to_str().unwrap();
    let token = issue_with(&["--secret-file", path], Some("from-env")).unwrap();
    decode(&token, Algorithm::HS256, "from-file");
    let token = issue_with(&["--secret", "given"], Some("from-env")).unwrap();
    decode(&token, Algorithm::HS256, "given");
    let token = issue_with(&[], Some("from-env")).unwrap();
    decode(&token, Algorithm::HS256, "from-env");
}

#[test]
fn each_way_to_have_no_usable_secret_is_refused() {
    assert!(matches!(issue_with(&[], None), Err(TokenError::NoSecret)));
    assert!(matches!(
        issue_with(&["--secret", ""], None),
        Err(TokenError::EmptySecret)
    ));
    assert!(matches!(
        issue_with(&["--secret-file", "/nonexistent"], None),
        Err(TokenError::Unreadable { .. })
    ));
}

#[test]
fn a_claim_given_twice_is_refused() {
    let result = issue_with(&["--secret", "s", "--claim", "a=1", "--claim", "a=2"], None);
    assert!(matches!(result, Err(TokenError::TwiceClaimed(name)) if name == "a"));
}

#[test]
fn an_unfit_key_is_refused_without_showing_it() {
    for algorithm in ["RS256", "PS256", "ES256", "EdDSA"] {
        let error = issue_with(&["--secret", "hunter2", "--algorithm", algorithm], None).unwrap_err();
        let shown = crate::report::Failure::from(error).to_string();
        assert!(shown.contains("PEM") && !shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn wrong_options_are_usage_errors() {
    for wrong in [["--algorithm", "none"], ["--expires", "soon"], ["--claim", "x"]] {
        assert!(
            Cli::try_parse_from(["aldis", "token", wrong[0], wrong[1]]).is_err(),
            "{wrong:?}"
        );
    }
}
