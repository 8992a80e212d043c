//! What a malicious client can do with pid, offset and position: nothing crosses, and it pays itself.

use super::*;

/// Ann, in room a, who has seen one delivery.
async fn anns(house: &House) -> Connected {
    let ann = house.come(&ann(), json!({})).await;
    house.join(&ann, "a");
    house.deliver(&["a"]).await;
    ann
}

#[tokio::test]
async fn a_stolen_pid_gives_nothing_and_takes_nothing_from_its_owner() {
    let house = House::keeping(100);
    let owner = anns(&house).await;
    let thief = identity("eve", "guest");
    for offset in ["e:0", "e:1", "x"] {
        let stolen = house.come(&thief, json!({"pid": owner.pid(), "offset": offset})).await;
        assert_eq!(
            stolen.probe.ready(),
            json!({"recovered": false, "rooms": [], "reason": "identity"})
        );
        assert_ne!(stolen.pid(), owner.pid());
        assert!(stolen.probe.seqs().is_empty());
    }
    // The owner has not noticed.
    house.deliver(&["a"]).await;
    assert_eq!((owner.probe.seqs(), *owner.probe.1.lock().unwrap()), (vec![1, 2], None));
}

#[tokio::test]
async fn a_forged_offset_gives_no_more_than_the_session_had_and_skips_only_its_own() {
    let house = House::keeping(100);
    house.deliver(&["a", "b"]).await;
    let owner = anns(&house).await;
    let mut pid = owner.pid().to_owned();
    let mut outcomes = Vec::new();
    let mut last = None;
    for offset in ["e:0", "other:3", "e:3", "e:4", "e:18446744073709551615", "e:-1", ""] {
        let again = house.come(&ann(), json!({"pid": pid, "offset": offset})).await;
        let ready = again.probe.ready();
        assert!(
            again.probe.seqs().iter().all(|seq| *seq == 3),
            "{offset}: nothing from before its join"
        );
        outcomes.push(ready["reason"].as_str().unwrap_or("recovered").to_owned());
        pid = again.pid().to_owned();
        if ready["recovered"] == false {
            // A new session: have it miss the same.
            house.join(&again, "a");
        }
        // Until the next has taken over.
        last = Some(again);
    }
    assert!(last.is_some());
    assert_eq!(outcomes[..4], ["recovered", "recovered", "recovered", "epoch"]);
    assert_eq!(
        house.shared.hub.connections(&house.channel.name),
        1,
        "each ended the one before"
    );
}

#[tokio::test]
async fn reconnects_without_end_cost_one_session_and_one_place() {
    let house = House::keeping(100);
    let owner = anns(&house).await;
    let pid = owner.pid().to_owned();
    for _ in 0..1_000 {
        // Half of them never connect.
        drop(house.arrive(&ann(), json!({"pid": pid, "offset": "e:0"})).await);
        house.come(&ann(), json!({"pid": pid, "offset": "e:0"})).await;
    }
    let name = &house.channel.name;
    assert_eq!(
        (house.shared.sessions.count(name), house.shared.hub.connections(name)),
        (1, 0)
    );
    assert_eq!(house.shared.hub.rooms(name), 0);
}

#[tokio::test]
async fn sessions_that_nobody_comes_back_to_are_bounded_and_end() {
    let house = House::keeping(100);
    for _ in 0..100 {
        drop(house.arrive(&ann(), json!({"pid": "forged"})).await);
    }
    let (sessions, name) = (&house.shared.sessions, &house.channel.name);
    assert_eq!(sessions.count(name), 100);
    sessions.drop_old(name, house.channel.history_ttl_ms, Millis(60_001));
    assert_eq!(sessions.count(name), 0);
}
