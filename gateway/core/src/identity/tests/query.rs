//! Identity from the query, and from nothing.

use serde_json::json;

use super::*;

#[test]
fn query_fields_are_required_and_absent_in_all_of_javascripts_ways() {
    let channel = methods(json!({"query": {"required": ["user_id", "tenant_id"], "identity": {
        "user": "query.user_id", "attributes": {"tenant": "query.tenant_id", "type": "query.type"}}}}));
    let identity = enter(&channel, &[("tenant_id", "t1"), ("user_id", "a.b+c@example.com")], None).unwrap();
    assert_eq!(identity.user.as_deref(), Some("a.b+c@example.com"));
    assert_eq!(identity.method, "query");
    assert_eq!(
        identity.json.text(),
        r#"{"user":"a.b+c@example.com","tenant":"t1","type":null}"#
    );
    for absent in ["", "undefined", "null"] {
        assert_eq!(
            enter(&channel, &[("user_id", absent), ("tenant_id", "t1")], None).unwrap_err(),
            Refusal::QueryFieldRequired("user_id".to_owned())
        );
        let identity = enter(
            &channel,
            &[("user_id", "u"), ("tenant_id", "t1"), ("type", absent)],
            None,
        )
        .unwrap();
        assert!(identity.json.get("type").unwrap().is_null(), "an optional field, too");
    }
    assert_eq!(
        enter(&channel, &[("user_id", "u")], None).unwrap_err().message(),
        "Query field tenant_id required"
    );
    assert_eq!(
        enter(&channel, &[("USER_ID", "u"), ("tenant_id", "t")], None).unwrap_err(),
        Refusal::QueryFieldRequired("user_id".to_owned())
    );
    assert!(
        by_token_and_query(&channel, "anything", &[("user_id", "u"), ("tenant_id", "t")]).is_ok(),
        "a token that no method asks for is not looked at"
    );
}

fn by_token_and_query(channel: &Channel, token: &str, query: &[(&str, &str)]) -> Result<Identity, Refusal> {
    enter(channel, query, Some(json!({"token": token})))
}

#[test]
fn the_transports_own_query_fields_are_never_visible() {
    let channel = methods(json!({"query": {"identity": {
        "user": "string(size(query))", "attributes": {"all": "query", "sid": "query.sid", "transport": "query.transport"}}}}));
    let query = [
        ("EIO", "4"),
        ("transport", "polling"),
        ("sid", "a secret of the transport"),
        ("t", "Pq1"),
        ("b64", "1"),
        ("j", "0"),
        ("name", "n"),
    ];
    let identity = enter(&channel, &query, None).unwrap();
    assert_eq!(
        identity.json.text(),
        r#"{"user":"1","all":{"name":"n"},"sid":null,"transport":null}"#
    );
}

#[test]
fn a_presented_token_decides_and_the_query_is_for_those_without() {
    let channel = methods(json!({
        "jwt": [jwt(json!({}))], "query": {"required": ["user"], "identity": {"user": "query.user"}}}));
    let good = token_with(json!({"sub": "by-token"}));
    assert_eq!(
        by_token_and_query(&channel, &good, &[("user", "by-query")])
            .unwrap()
            .user
            .as_deref(),
        Some("by-token")
    );
    assert_eq!(
        by_token_and_query(&channel, "x.y.z", &[("user", "by-query")])
            .unwrap_err()
            .code(),
        "token_invalid"
    );
    assert_eq!(
        by_token_and_query(&channel, "undefined", &[("user", "by-query")])
            .unwrap()
            .method,
        "query"
    );
    assert_eq!(enter(&channel, &[], None).unwrap_err(), Refusal::TokenRequired);
}

#[test]
fn anonymous_clients_have_no_identity() {
    let channel =
        methods(json!({"anonymous": {}, "query": {"required": ["user"], "identity": {"user": "query.user"}}}));
    let identity = enter(&channel, &[], None).unwrap();
    assert_eq!(
        (identity.user, identity.method.as_str(), identity.json.text()),
        (None, "anonymous", r#"{"user":null}"#)
    );
    assert_eq!(enter(&channel, &[("user", "u")], None).unwrap().method, "query");
}
