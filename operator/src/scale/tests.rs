use serde_json::json;

use super::*;

const TARGET: u32 = 1000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

/// Between 2 and 10 pods of 1,000 clients.
fn autoscaling() -> Autoscaling {
    serde_json::from_value(json!({ "minReplicas": 2, "maxReplicas": 10, "targetConnectionsPerReplica": TARGET }))
        .unwrap()
}

/// Pods that all take clients and have all said how many they have, one second after the other.
fn load(connections: &[u64]) -> Load {
    let report = |(index, connections): (usize, &u64)| Report {
        connections: *connections,
        at: at(index as i64),
    };
    let pods = u32::try_from(connections.len()).unwrap();
    Load {
        current: pods,
        ready: pods,
        reports: connections.iter().enumerate().map(report).collect(),
    }
}

/// One look at so many clients on so many pods.
fn look(wanted: &mut Wanted, pods: usize, connections: u64, second: i64) -> Decision {
    let mut each = vec![0; pods];
    if let Some(first) = each.first_mut() {
        *first = connections;
    }
    decide(&autoscaling(), &load(&each), wanted, at(second)).unwrap()
}

#[test]
fn it_is_as_many_pods_as_the_clients_ask_for_within_bounds_and_near_enough_is_enough() {
    // Pods, clients, what is wanted in the end, and whether that is less than they ask for.
    for (pods, connections, expected, limited) in [
        (2, 0, 2, false),
        (2, 2000, 2, false),
        (2, 2200, 2, false),
        (2, 2201, 3, false),
        (2, 3000, 3, false),
        (2, 3001, 4, false),
        (2, 9999, 10, false),
        (2, 10_001, 10, true),
        (2, u64::MAX, 10, true),
        (10, 11_000, 10, false),
        (10, 11_001, 10, true),
        (5, 4500, 5, false),
        (5, 4499, 5, false),
        (5, 4000, 4, false),
        (5, 1, 2, false),
        // Fewer or more than there may be.
        (0, 0, 2, false),
        (1, 1000, 2, false),
        (12, 12_000, 10, true),
        (12, 0, 10, false),
    ] {
        let mut wanted = Wanted::default();
        let what = format!("{connections} on {pods}");
        let first = look(&mut wanted, pods, connections, 0);
        let settled = look(&mut wanted, pods, connections, 300);
        let is_less = expected < u32::try_from(pods).unwrap();
        if !is_less {
            assert_eq!(first.replicas, expected, "{what}: at once");
        }
        if pods <= 10 {
            assert_eq!(settled.replicas, expected, "{what}: in the end");
        }
        let expected = limited.then_some(Limited::TooManyConnections);
        assert_eq!((first.limited, first.connections), (expected, connections), "{what}");
    }
}

#[test]
fn more_are_there_at_once_and_fewer_when_the_most_that_was_wanted_is_long_ago() {
    let mut wanted = Wanted::default();
    // Second, pods, clients, what is to be.
    for (second, pods, connections, expected) in [
        (0, 4, 4000, 4),
        (10, 4, 7000, 7),
        (20, 7, 2000, 7),
        (100, 7, 5000, 7),
        (309, 7, 2000, 7),
        // 7 were wanted at 10, 5 at 100.
        (310, 7, 2000, 5),
        (399, 5, 2000, 5),
        (400, 5, 2000, 2),
        (410, 2, 2900, 3),
    ] {
        let decision = look(&mut wanted, pods, connections, second);
        assert_eq!(decision.replicas, expected, "at {second} s");
    }
}

#[test]
fn who_begins_to_look_takes_no_pod_away_before_it_has_looked_for_a_while() {
    let mut wanted = Wanted::default();
    assert_eq!(look(&mut wanted, 8, 0, 0).replicas, 8);
    assert_eq!(look(&mut wanted, 8, 0, 299).replicas, 8);
    assert_eq!(look(&mut wanted, 8, 0, 300).replicas, 2);
}

#[test]
fn what_is_not_known_makes_more_pods_where_the_rest_asks_for_them_and_never_fewer() {
    let mut missing = load(&[100, 100, 100, 100]);
    missing.reports.pop();
    let nothing = Load {
        reports: Vec::new(),
        ..load(&[0; 4])
    };
    // None takes clients: all of them may be on their way back.
    let none_ready = Load {
        ready: 0,
        ..load(&[100; 4])
    };
    for (name, load) in [
        ("one is missing", missing),
        ("all are", nothing),
        ("none is ready", none_ready),
    ] {
        let mut wanted = Wanted::default();
        for second in [0, 10, 299] {
            let decision = decide(&autoscaling(), &load, &mut wanted, at(second)).unwrap();
            assert_eq!(
                (decision.replicas, decision.limited),
                (4, None),
                "{name}, at {second} s"
            );
        }
        let decision = decide(&autoscaling(), &load, &mut wanted, at(100_000)).unwrap();
        assert_eq!(
            (decision.replicas, decision.limited),
            (4, Some(Limited::ConnectionsUnknown)),
            "{name}"
        );
        // All of them say again how many they have: the time before does not count for fewer.
        assert_eq!(look(&mut wanted, 4, 100, 100_010).limited, None);
        assert_eq!(look(&mut wanted, 4, 100, 100_010).replicas, 4, "{name}");
        assert_eq!(look(&mut wanted, 4, 100, 100_310).replicas, 2, "{name}");
    }
    let mut busy = load(&[3000, 3000, 3000, 0]);
    busy.reports.pop();
    let decision = decide(&autoscaling(), &busy, &mut Wanted::default(), at(0)).unwrap();
    assert_eq!(decision.replicas, 9, "three say enough");
}

#[test]
fn clients_are_not_counted_twice_while_the_last_word_of_a_dead_pod_counts() {
    let mut moved = load(&[1500, 1500, 3000]);
    // The first was killed, and its clients are on the third already.
    moved.current = 3;
    moved.ready = 2;
    let decision = decide(&autoscaling(), &moved, &mut Wanted::default(), at(0)).unwrap();
    assert_eq!((decision.connections, decision.replicas), (4500, 5));
}

#[test]
fn without_connections_to_aim_at_nothing_is_decided() {
    let mut autoscaling = autoscaling();
    autoscaling.target_connections_per_replica = None;
    assert_eq!(
        decide(&autoscaling, &load(&[9000]), &mut Wanted::default(), at(0)),
        None
    );
}

#[test]
fn what_is_remembered_is_bounded_however_often_it_is_looked() {
    let mut wanted = Wanted::default();
    for look_number in 0..30_000_i64 {
        let clients = 2000 + u64::try_from(look_number * 7919 % 8000).unwrap();
        let decision = decide(&autoscaling(), &load(&[clients, 0]), &mut wanted, at(look_number / 100)).unwrap();
        assert!((2..=10).contains(&decision.replicas));
    }
    assert!(wanted.most.len() <= 10, "{}", wanted.most.len());
}
