//! The rules change while clients are in rooms.

use super::*;
use crate::sockets::recheck;

#[tokio::test]
async fn who_may_no_longer_be_in_a_room_leaves_it_hears_so_and_stays_connected() {
    let house = House::keeping(100);
    let client = house.come(&ann(), json!({})).await;
    house.join(&client, "a");
    house.join(&client, "b");
    house.deliver(&["a"]).await;
    let stricter = channel(100, "args.room != 'a'", "room:{room}");
    recheck::channel(&house.shared, &stricter);
    recheck::channel(&house.shared, &stricter);
    house.deliver(&["a", "b"]).await;
    let seen = client.probe.seen();
    let told = r#"aldis:left {"reason":"denied","room":"room:a"} e:1"#;
    assert_eq!(seen[1..], ["news {} e:1", told, "news {} e:3"]);
    assert_eq!(*client.probe.1.lock().unwrap(), None);

    // Its session has heard of it too.
    house.part(&client);
    let again = house.come(&ann(), json!({"pid": client.pid(), "offset": "e:3"})).await;
    assert_eq!(
        again.probe.ready(),
        json!({"recovered": true, "rooms": ["desk:ann", "room:b"]})
    );
}

#[tokio::test]
async fn a_room_that_the_same_words_no_longer_make_is_lost() {
    let house = House::keeping(100);
    let client = house.come(&ann(), json!({})).await;
    house.join(&client, "a");
    let config = json!({
        "channel": {"namespace": "press", "name": "news"},
        "attachments": [],
        "spec": {
            "parentRefs": [{"name": "shared"}],
            "rooms": [{"name": "room", "key": "room:{room}", "allow": "true",
                       "join": {"event": "join", "with": {"room": "args.room + '!'"}}}],
        },
    });
    let config = serde_json::from_value(config).unwrap();
    let other = on_big_stack(|| Channel::compile(&config, &Keys::default())).unwrap();
    recheck::channel(&house.shared, &other);
    let seen = client.probe.seen();
    let left = [
        r#"aldis:left {"reason":"denied","room":"desk:ann"} e:0"#,
        r#"aldis:left {"reason":"changed","room":"room:a"} e:0"#,
    ];
    assert_eq!(seen[1..], left);
}

#[tokio::test]
async fn another_way_to_show_a_room_changes_nothing() {
    let house = House::keeping(100);
    let client = house.come(&ann(), json!({})).await;
    house.join(&client, "a");
    recheck::channel(&house.shared, &channel(100, "true", "chat:{room}"));
    house.deliver(&["a"]).await;
    assert_eq!(client.probe.seqs(), [1]);
    assert_eq!(client.probe.seen().len(), 2);
}

#[tokio::test]
async fn one_that_has_not_heard_yet_what_it_missed_is_asked_afterwards() {
    let house = House::keeping(100);
    let first = house.come(&ann(), json!({})).await;
    house.join(&first, "a");
    house.part(&first);
    house.deliver(&["a"]).await;
    let arrival = house.arrive(&ann(), json!({"pid": first.pid(), "offset": "e:0"})).await;
    let probe = Probe::default();
    assert!(arrival.welcome(&house.shared, &ann(), Box::new(probe.clone())));
    let stricter = channel(100, "false", "room:{room}");
    recheck::channel(&house.shared, &stricter);
    arrival.release(&house.shared);
    assert_eq!(probe.seqs(), [1], "it was in the room when that came");
    recheck::client(&house.shared, &stricter, &arrival.session);
    house.deliver(&["a"]).await;
    assert_eq!(probe.seqs(), [1]);
    assert!(probe.seen().last().unwrap().starts_with("aldis:left "));
}

#[cfg(feature = "sabotage")]
#[tokio::test]
async fn rule_10_live_members_are_asked_for_again_when_the_rules_change() {
    let gets_it = async || {
        let house = House::keeping(100);
        let client = house.come(&ann(), json!({})).await;
        house.join(&client, "a");
        recheck::channel(&house.shared, &channel(100, "false", "room:{room}"));
        house.deliver(&["a"]).await;
        client.probe.seqs().len() == 1
    };
    assert!(!gets_it().await);
    Rule::Identity.switch_off();
    assert!(gets_it().await, "a member that is not asked for again is noticed");
}
