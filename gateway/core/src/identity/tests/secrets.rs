//! What must not print, and whose keys are whose.

use serde_json::json;

use super::*;

#[test]
fn secrets_and_tokens_do_not_print() {
    let channel = methods(
        json!({"jwt": [jwt(json!({})), jwt(json!({"name": "n", "secretRef": {"name": "jwt", "key": "other"}}))]}),
    );
    let keys = keys();
    let token = token_with(json!({"sub": "u"}));
    let query = [("sid".to_owned(), "transport-secret".to_owned())];
    let auth = json_of(json!({"token": token}));
    let handshake = Handshake {
        query: &query,
        auth: Some(&auth),
    };
    let reference = aldis_crds::channel::SecretKeyRef {
        name: "jwt".to_owned(),
        key: "secret".to_owned(),
    };
    let identity = channel.methods.examine(&handshake, NOW).unwrap();
    let printed = format!(
        "{keys:?} {:?} {channel:?} {:?} {handshake:?} {identity:?} {keys:#?} {channel:#?}",
        keys.get("bistro", &reference).unwrap(),
        channel.methods
    );
    assert!(printed.contains("jwt"), "it does print names");
    let bytes = |secret: &str| format!("{:?}", secret.as_bytes());
    for secret in [SECRET, OTHER_SECRET, &token, "transport-secret"] {
        assert!(!printed.contains(secret), "{secret}");
        assert!(
            !printed.contains(bytes(secret).trim_matches(['[', ']'])),
            "{secret}, as bytes"
        );
        assert!(
            !printed.contains(&URL_SAFE_NO_PAD.encode(secret)),
            "{secret}, as base64"
        );
    }
}

#[test]
fn keys_belong_to_their_namespace() {
    let reference = aldis_crds::channel::SecretKeyRef {
        name: "jwt".to_owned(),
        key: "secret".to_owned(),
    };
    assert!(keys().get("bistro", &reference).is_some());
    assert!(keys().get("other-tenant", &reference).is_none());
    let mut config = crate::fixtures::config(json!({"authentication": {"jwt": [jwt(json!({}))]}}));
    config.channel.namespace = "other-tenant".to_owned();
    let problems = Channel::compile(&config, &keys()).unwrap_err();
    assert_eq!(problems[0].field, "spec.authentication.jwt[0].secretRef");
}
