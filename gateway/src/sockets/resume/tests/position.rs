//! `auth: {position, joins}`: for clients that do not know how to say `pid`.

use super::*;

const JOIN_A: &str = r#"["join",{"room":"a"}]"#;

fn joins(position: &str, joins: &[&str]) -> Value {
    let joins: Vec<Value> = joins.iter().map(|join| serde_json::from_str(join).unwrap()).collect();
    json!({"position": position, "joins": joins})
}

#[tokio::test]
async fn a_client_without_a_session_goes_on_from_the_position_that_it_names() {
    let house = House::keeping(100);
    house.deliver(&["a", "b", "a", "a"]).await;
    let client = house.come(&ann(), joins("e:1", &[JOIN_A])).await;
    let ready = json!({"recovered": true, "rooms": ["desk:ann", "room:a"], "joins": [{"ok": true, "room": "room:a"}]});
    assert_eq!(client.probe.ready(), ready);
    assert!(client.probe.seen()[0].ends_with(" e:1"), "{:?}", client.probe.seen());
    house.deliver(&["a"]).await;
    assert_eq!(client.probe.seqs(), [3, 4, 5]);

    // From then on it has a session like any other.
    house.part(&client);
    let again = house.come(&ann(), json!({"pid": client.pid(), "offset": "e:4"})).await;
    assert_eq!(
        (again.probe.ready()["recovered"].as_bool(), again.probe.seqs()),
        (Some(true), vec![5])
    );
}

#[tokio::test]
async fn without_a_position_the_joins_count_from_now_on() {
    let house = House::keeping(100);
    house.deliver(&["a"]).await;
    let client = house.come(&ann(), json!({"joins": [["join", {"room": "a"}]]})).await;
    let ready = client.probe.ready();
    assert_eq!((&ready["recovered"], &ready["reason"]), (&json!(false), &Value::Null));
    house.deliver(&["a"]).await;
    assert_eq!(client.probe.seqs(), [2]);
}

#[tokio::test]
async fn what_is_gone_or_was_never_there_is_told_and_the_rooms_are_joined_from_now_on() {
    let house = House::keeping(2);
    house.deliver(&["a", "a", "a"]).await;
    for (position, reason) in [
        ("e:0", "history"),
        ("old:1", "epoch"),
        ("e:99", "epoch"),
        ("x", "offset"),
    ] {
        let client = house.come(&ann(), joins(position, &[JOIN_A])).await;
        let ready = client.probe.ready();
        assert_eq!(
            (&ready["recovered"], &ready["reason"]),
            (&json!(false), &json!(reason)),
            "{position}"
        );
        assert_eq!(ready["rooms"], json!(["desk:ann", "room:a"]));
        assert!(client.probe.seqs().is_empty());
    }
}

#[tokio::test]
async fn each_join_has_its_answer_by_todays_rules() {
    let house = House::keeping(100);
    house.deliver(&["a"]).await;
    let guest = identity("gus", "guest");
    let asked = joins("e:0", &[JOIN_A, r#"["leave",{"room":"a"}]"#, r#"["nothing"]"#, "7"]);
    let client = house.come(&guest, asked).await;
    let ready = client.probe.ready();
    let codes: Vec<_> = ready["joins"]
        .as_array()
        .unwrap()
        .iter()
        .map(|answer| &answer["code"])
        .collect();
    assert_eq!(codes, ["denied", "no_join", "unknown_event", "unknown_event"]);
    assert!(client.probe.seqs().is_empty(), "nothing of a room that it may not join");
}

#[tokio::test]
async fn a_usable_session_counts_and_a_position_beside_it_does_not() {
    let house = House::keeping(100);
    let first = house.come(&ann(), json!({})).await;
    house.join(&first, "a");
    house.deliver(&["a", "a"]).await;
    house.part(&first);
    let both = json!({"pid": first.pid(), "offset": "e:2", "position": "e:0", "joins": [["join", {"room": "b"}]]});
    let second = house.come(&ann(), both).await;
    assert_eq!(
        second.probe.ready(),
        json!({"recovered": true, "rooms": ["desk:ann", "room:a"]})
    );
    assert!(second.probe.seqs().is_empty());
    let unusable = json!({"pid": "unknown", "offset": "e:2", "position": "e:1", "joins": [["join", {"room": "a"}]]});
    let third = house.come(&ann(), unusable).await;
    assert_eq!(
        (third.probe.ready()["recovered"].as_bool(), third.probe.seqs()),
        (Some(true), vec![2])
    );
}
