//! Rules of exact delivery that are kept here, each shown to matter: docs/delivery.md.

use super::*;

/// Runs a scenario with the rule, where it must hold, and without, where it must not.
async fn shows(rule: Rule, scenario: impl AsyncFn() -> bool) {
    assert!(scenario().await, "{rule:?} is kept");
    rule.switch_off();
    assert!(!scenario().await, "a {rule:?} that is off is noticed");
}

#[tokio::test]
async fn rule_08_two_reconnects_at_once_leave_one_client_and_forget_no_room() {
    shows(Rule::Generation, async || {
        let house = House::keeping(100);
        let first = house.come(&ann(), json!({})).await;
        house.join(&first, "a");
        let auth = json!({"pid": first.pid(), "offset": "e:0"});
        // Both are on their way at once; CONNECT goes out to the later one first, and that joins a room.
        let earlier = house.arrive(&ann(), auth.clone()).await;
        let later = house.arrive(&ann(), auth.clone()).await;
        let Some(later) = house.connect(&ann(), later) else {
            return false;
        };
        let joined = house.join(&later, "b");
        let earlier = house.connect(&ann(), earlier);
        house.deliver(&["b"]).await;
        // What it is told is acknowledged is never forgotten: it comes back and is in both rooms.
        house.part(&later);
        let again = house.come(&ann(), auth).await;
        joined && earlier.is_none() && again.probe.ready()["rooms"] == json!(["desk:ann", "room:a", "room:b"])
    })
    .await;
}

#[tokio::test]
async fn rule_08_what_a_former_connection_still_writes_is_refused() {
    shows(Rule::Generation, async || {
        let house = House::keeping(100);
        let first = house.come(&ann(), json!({})).await;
        house.join(&first, "a");
        let auth = json!({"pid": first.pid(), "offset": "e:0"});
        let second = house.come(&ann(), auth).await;
        let Arrival {
            session, generation, ..
        } = &first.arrival;
        let left = session.left(*generation, &house.join_of("a").room);
        house.part(&first);
        house.shared.sessions.end(&house.channel.name, session, *generation);
        house.deliver(&["a"]).await;
        house.part(&second);
        let third = house.come(&ann(), json!({"pid": second.pid(), "offset": "e:0"})).await;
        let closed = *first.probe.1.lock().unwrap() == Some(CloseReason::TakenOver);
        closed && !left && third.probe.seqs() == [1]
    })
    .await;
}

#[tokio::test]
async fn rule_09_never_recovered_where_something_is_missing() {
    shows(Rule::CompleteOrTold, async || {
        let house = House::keeping(2);
        let first = house.come(&ann(), json!({})).await;
        house.join(&first, "a");
        house.part(&first);
        house.deliver(&["a", "a", "a"]).await;
        let second = house.come(&ann(), json!({"pid": first.pid(), "offset": "e:0"})).await;
        second.probe.ready()["recovered"] == false || second.probe.seqs() == [1, 2, 3]
    })
    .await;
}

#[tokio::test]
async fn rule_10_nothing_of_a_session_for_another_identity() {
    shows(Rule::Identity, async || {
        let house = House::keeping(100);
        let first = house.come(&ann(), json!({})).await;
        house.join(&first, "a");
        house.deliver(&["a"]).await;
        let thief = house
            .come(&identity("eve", "staff"), json!({"pid": first.pid(), "offset": "e:0"}))
            .await;
        thief.probe.seqs().is_empty() && thief.probe.ready()["rooms"] == json!(["desk:eve"])
    })
    .await;
}

#[tokio::test]
async fn rule_10_rooms_are_asked_for_again_by_todays_claims() {
    shows(Rule::Identity, async || {
        let house = House::keeping(100);
        let first = house.come(&ann(), json!({})).await;
        house.join(&first, "a");
        house.part(&first);
        house.deliver(&["a"]).await;
        let demoted = identity("ann", "guest");
        let second = house.come(&demoted, json!({"pid": first.pid(), "offset": "e:0"})).await;
        house.deliver(&["a"]).await;
        let ready = second.probe.ready();
        second.probe.seqs().is_empty() && ready["denied"] == json!(["desk:ann", "room:a"])
    })
    .await;
}
