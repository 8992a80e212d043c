use serde_json::{Value, json};

use super::*;

fn channel(conditions: Value) -> NotificationChannel {
    let value = json!({
        "apiVersion": "aldis.dev/v1alpha1", "kind": "NotificationChannel",
        "metadata": { "name": "orders", "namespace": "bistro", "generation": 2 },
        "spec": {
            "parentRefs": [{ "name": "shared", "namespace": "realtime" }],
            "sources": [{ "name": "orders", "kafka": { "topics": ["orders"] } }]
        },
        "status": { "parents": [{
            "parentRef": { "name": "shared", "namespace": "realtime" },
            "controllerName": CONTROLLER_NAME,
            "conditions": conditions
        }] }
    });
    serde_json::from_value(value).unwrap()
}

fn condition(type_: &str, reason: &str) -> Value {
    let status = if type_ == reason { "True" } else { "False" };
    json!({
        "type": type_, "status": status, "reason": reason, "message": format!("because of {reason}"),
        "observedGeneration": 2, "lastTransitionTime": "2026-01-01T00:00:00Z"
    })
}

fn all_well() -> Value {
    json!([
        condition("Accepted", "Accepted"),
        condition("ResolvedRefs", "ResolvedRefs"),
        condition("Programmed", "Programmed")
    ])
}

fn gateway(conditions: Value) -> Seen<NotificationGateway> {
    let value = json!({
        "apiVersion": "aldis.dev/v1alpha1", "kind": "NotificationGateway",
        "metadata": { "name": "shared", "namespace": "realtime" },
        "spec": { "kafka": { "bootstrapServers": ["kafka:9092"] }, "listeners": [{ "name": "web", "port": 3000 }] },
        "status": { "conditions": conditions }
    });
    Seen::There(serde_json::from_value(value).unwrap())
}

fn pod(health: Value) -> GatewayPod {
    GatewayPod {
        name: "aldis-shared-a".to_owned(),
        ready: true,
        waiting: None,
        health: Some(health),
    }
}

fn healthy() -> Value {
    json!({ "kafka": { "connected": true, "missingTopics": ["another"], "deadLettersWaiting": 0 } })
}

fn parent(gateway: Seen<NotificationGateway>, pods: Seen<Vec<GatewayPod>>) -> Parent {
    let reference = channel(json!([])).spec.parent_refs[0].clone();
    let name = "realtime/shared".to_owned();
    Parent {
        reference,
        name,
        gateway,
        pods,
    }
}

/// What is well, and what is wrong.
fn why(channel: Seen<NotificationChannel>, parent: Parent) -> (Vec<String>, String) {
    let mut well = Vec::new();
    let said = match follow("bistro/orders", &channel, &[parent], &mut well) {
        Ok(()) => String::new(),
        Err(error) => format!("{error} → {}", error.hint().unwrap()),
    };
    (well, said)
}

#[test]
fn where_nothing_is_wrong_it_says_what_was_looked_at() {
    let pods = Seen::There(vec![pod(healthy())]);
    let (well, wrong) = why(Seen::There(channel(all_well())), parent(gateway(json!([])), pods));
    assert_eq!(wrong, "");
    assert_eq!(
        well,
        [
            "channel bistro/orders is there, in generation 2",
            "gateway realtime/shared grants what it claims",
            "its Secrets are there",
            "gateway realtime/shared is accepted",
            "1 of 1 pods of gateway realtime/shared take clients",
            "Kafka is reached, and its topics are there",
            "every pod of realtime/shared serves this generation",
            "no dead letter waits",
            "it keeps up with its topics",
        ]
    );
    // A tenant, who may not see the platform team's namespace.
    let (well, wrong) = why(
        Seen::There(channel(all_well())),
        parent(Seen::Forbidden, Seen::Forbidden),
    );
    assert_eq!(wrong, "");
    assert_eq!(
        well.last().unwrap(),
        "its pods may not be asked; the rest is for the platform team to see"
    );
}

#[test]
fn the_first_thing_that_is_wrong_is_told_with_what_mends_it() {
    let first = |channel, gateway, pods| why(channel, parent(gateway, pods)).1;
    let there = |conditions| Seen::There(channel(conditions));
    let well = || there(all_well());
    let at = |index: usize, type_: &str, reason: &str| {
        let mut conditions = all_well();
        conditions[index] = condition(type_, reason);
        there(conditions)
    };
    let one = |health: Value| Seen::There(vec![pod(health)]);
    let accepted = || gateway(json!([]));
    let waiting = GatewayPod {
        name: "aldis-shared-a".to_owned(),
        waiting: Some("ImagePullBackOff: no such image".to_owned()),
        ..GatewayPod::default()
    };
    let cases = [
        (
            first(Seen::Absent, accepted(), one(healthy())),
            "there is no NotificationChannel bistro/orders → apply it",
        ),
        (
            first(Seen::Forbidden, accepted(), one(healthy())),
            "you may not read NotificationChannel bistro/orders → ask",
        ),
        (
            first(well(), Seen::Absent, Seen::Forbidden),
            "there is no NotificationGateway realtime/shared → correct",
        ),
        (
            first(there(json!([])), accepted(), one(healthy())),
            "the operator has not looked at it yet for gateway realtime/shared → is",
        ),
        (
            first(at(0, "Accepted", "PathNotAllowed"), accepted(), one(healthy())),
            "PathNotAllowed at gateway realtime/shared: because of PathNotAllowed → claim what is granted",
        ),
        (
            first(at(1, "ResolvedRefs", "SecretNotFound"), accepted(), one(healthy())),
            "SecretNotFound at gateway realtime/shared: because of SecretNotFound → create the Secret",
        ),
        (
            first(
                well(),
                gateway(json!([condition("Accepted", "Invalid")])),
                one(healthy()),
            ),
            "gateway realtime/shared: Invalid: because of Invalid → correct the field",
        ),
        (
            first(
                at(2, "Programmed", "NoReplicas"),
                accepted(),
                Seen::There(vec![waiting]),
            ),
            "no pod of gateway realtime/shared takes clients; aldis-shared-a: ImagePullBackOff: no such image → look at the pods",
        ),
        (
            first(well(), accepted(), one(json!({ "kafka": { "connected": false } }))),
            "pod aldis-shared-a cannot reach Kafka → check spec.kafka.bootstrapServers",
        ),
        (
            first(
                well(),
                accepted(),
                one(json!({ "kafka": { "connected": false, "refused": "check Secret realtime/kafka" } })),
            ),
            "pod aldis-shared-a is not let into Kafka: check Secret realtime/kafka → mend the Secret",
        ),
        (
            first(
                well(),
                accepted(),
                one(json!({ "kafka": { "connected": true, "missingTopics": ["orders"] } })),
            ),
            "there is no topic orders in Kafka → create it",
        ),
        (
            first(at(2, "Programmed", "Rejected"), accepted(), one(healthy())),
            "Rejected at gateway realtime/shared: because of Rejected → give the gateway the image",
        ),
        (
            first(
                well(),
                accepted(),
                one(json!({ "kafka": { "connected": true, "deadLettersWaiting": 3 } })),
            ),
            "pod aldis-shared-a: dead letters wait, and hold their partitions → make the dead letter topic",
        ),
        (
            first(
                well(),
                accepted(),
                one(json!({ "kafka": { "connected": true }, "problems": ["redis"] })),
            ),
            "pod aldis-shared-a does not hear its Redis: its clients are held → check spec.redis of gateway realtime/shared",
        ),
        (
            first(
                well(),
                with_listener(condition("ResolvedRefs", "SecretNotFound")),
                one(healthy()),
            ),
            "listener web of gateway realtime/shared: SecretNotFound: because of SecretNotFound → the platform team creates the Secret",
        ),
    ];
    for (said, expected) in cases {
        assert!(said.starts_with(expected), "{said}\nis not: {expected}");
    }
}

/// A gateway that is accepted, with a condition of its listener.
fn with_listener(condition: Value) -> Seen<NotificationGateway> {
    let Seen::There(gateway) = gateway(json!([])) else {
        unreachable!()
    };
    let mut value = json!(gateway);
    value["status"]["listeners"] = json!([{ "name": "web", "conditions": [condition] }]);
    Seen::There(serde_json::from_value(value).unwrap())
}

#[test]
fn a_channel_that_is_far_behind_says_by_how_many_records_and_since_when() {
    let partition = |topic: &str, partition: i32, records: u32, until: Option<&str>| json!({ "topic": topic, "partition": partition, "records": records, "takenUntil": until });
    let said = |behind: [Vec<Value>; 2]| {
        let pods = behind.map(|behind| pod(json!({ "kafka": { "connected": true, "behind": behind } })));
        why(
            Seen::There(channel(all_well())),
            parent(gateway(json!([])), Seen::There(pods.into())),
        )
    };
    let (noon, later) = (Some("2026-11-21T12:00:00.000Z"), Some("2026-11-21T12:05:00.000Z"));
    let many = [
        vec![
            partition("orders", 0, 600, later),
            partition("others", 0, 9_000_000, None),
        ],
        vec![partition("orders", 1, 400, noon)],
    ];
    let (_, wrong) = said(many);
    assert!(
        wrong.starts_with(
            "topic orders: behind by 1000 records in 2 partitions; what was published until 2026-11-21T12:00:00.000Z has been taken everywhere → if it grows"
        ),
        "{wrong}"
    );
    let (_, wrong) = said([vec![partition("orders", 0, 2000, None)], Vec::new()]);
    assert!(
        wrong.starts_with("topic orders: behind by 2000 records in 1 partitions; none of them has been taken"),
        "{wrong}"
    );
    let (well, wrong) = said([vec![partition("orders", 0, 999, noon)], Vec::new()]);
    assert_eq!(wrong, "");
    assert_eq!(
        well[well.len() - 2..],
        [
            "topic orders: 999 records wait, which is few",
            "it keeps up with its topics"
        ]
    );
}

#[test]
fn what_was_told_of_an_older_generation_is_not_believed() {
    let mut old = channel(all_well());
    old.metadata.generation = Some(3);
    let pods = Seen::There(vec![pod(healthy())]);
    let (_, wrong) = why(Seen::There(old), parent(gateway(json!([])), pods));
    assert!(wrong.starts_with("the operator has not looked at it yet"), "{wrong}");
}
