//! Connections of a tenant, a user and an address, and what passes.

use super::*;

/// Two clients where one may be connected: the second is held, turned away, and in by itself when the first has gone.
async fn who_finds_no_room_gets_in_later(gateway: &Gateway, transport: &str) -> Result<(), String> {
    let (node, url) = (Node::start(), gateway.url("/news"));
    let first = node.connect_as("4.8", &url, &by(transport)).await.unwrap();
    let second = node.begin("4.8", &url, &by(transport)).await;
    let seen = second
        .until("turned away", |seen| {
            !seen.disconnects.is_empty() || is_refused(&seen.connect_errors)
        })
        .await;
    if is_refused(&seen.connect_errors) {
        return Err(format!(
            "{transport}: told connect_error for good: {:?}",
            seen.connect_errors
        ));
    }
    assert!(seen.connects.is_empty(), "{transport}: there was no room");
    first.disconnect().await;
    let seen = second
        .until("in, or refused", |seen| {
            !seen.connects.is_empty() || is_refused(&seen.connect_errors)
        })
        .await;
    second.disconnect().await;
    // Nobody is left behind, and only now may the process end that has the clients.
    gateway
        .wait_for_metric("aldis_connections{channel=\"press/news\"}", 0.0)
        .await;
    match is_refused(&seen.connect_errors) {
        true => Err(format!(
            "{transport}: told connect_error for good: {:?}",
            seen.connect_errors
        )),
        false => Ok(()),
    }
}

/// A connect_error after which the client does not try again.
fn is_refused(connect_errors: &[Value]) -> bool {
    connect_errors.iter().any(|error| error["active"] == false)
}

#[tokio::test]
async fn rule_07_who_finds_no_room_is_not_refused_for_good() {
    let manifests = Manifests::news();
    manifests.limit("{connections: 1}");
    let gateway = Gateway::start(&manifests.path(), None).await;
    for transport in ["websocket", "polling"] {
        who_finds_no_room_gets_in_later(&gateway, transport).await.unwrap();
    }
    gateway
        .wait_for_metric("aldis_connections{channel=\"press/news\"}", 0.0)
        .await;
    let metrics = gateway.metrics().await;
    let turned_away = metrics.value("aldis_connects_total{channel=\"press/news\",outcome=\"tenant_connections\"}");
    assert!(turned_away >= 2.0, "{turned_away}");
    drop(gateway);
    let sabotaged = Gateway::start_without(&manifests.path(), Some(Rule::OnlyPermanentRefusals)).await;
    for transport in ["websocket", "polling"] {
        let refused = who_finds_no_room_gets_in_later(&sabotaged, transport).await;
        assert!(refused.is_err(), "{transport}");
    }
}
