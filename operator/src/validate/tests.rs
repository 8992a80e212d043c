use std::collections::BTreeSet;

use aldis_crds::channel::SecretKeyRef;
use k8s_openapi::ByteString;
use serde_json::json;

use super::*;

fn gateway(name: &str) -> NotificationGateway {
    let value = json!({
        "apiVersion": "aldis.dev/v1alpha1", "kind": "NotificationGateway",
        "metadata": { "name": name, "namespace": "realtime" },
        "spec": { "kafka": { "bootstrapServers": ["kafka:9092"] }, "listeners": [{ "name": "web", "port": 3000 }] }
    });
    serde_json::from_value(value).unwrap()
}

/// A channel at gateway `shared` that takes tokens signed with key `secret` of Secret `jwt`.
fn channel(namespace: &str, name: &str) -> NotificationChannel {
    let value = json!({
        "apiVersion": "aldis.dev/v1alpha1", "kind": "NotificationChannel",
        "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "parentRefs": [{ "name": "shared", "namespace": "realtime" }],
            "authentication": { "jwt": [{
                "name": "staff", "secretRef": { "name": "jwt", "key": "secret" }, "algorithms": ["HS256"],
                "identity": { "user": "claims.sub" }
            }] }
        }
    });
    serde_json::from_value(value).unwrap()
}

fn secret(namespace: &str) -> Secret {
    let value = json!({
        "metadata": { "name": "jwt", "namespace": namespace, "labels": { "aldis.dev/use": "channel" } }
    });
    let mut secret: Secret = serde_json::from_value(value).unwrap();
    secret
        .data
        .get_or_insert_default()
        .insert("secret".to_owned(), ByteString(namespace.as_bytes().to_vec()));
    secret
}

fn reference() -> SecretKeyRef {
    SecretKeyRef {
        name: "jwt".to_owned(),
        key: "secret".to_owned(),
    }
}

fn served(outcome: &Outcome) -> Vec<String> {
    let channels = outcome.gateways.iter().flat_map(|validated| &validated.channels);
    channels.map(|config| config.channel.to_string()).collect()
}

#[test]
fn a_gateway_gets_the_keys_of_the_channels_that_it_serves_and_no_others() {
    let (shared, other) = (gateway("shared"), gateway("other"));
    let (good, mut bad) = (channel("bistro", "good"), channel("cafe", "bad"));
    bad.spec.paths = Some(vec!["/a#b".to_owned()]);
    let secrets = [secret("bistro"), secret("cafe")];
    let outcome = validate(&Objects {
        gateways: vec![&shared, &other],
        channels: vec![&good, &bad],
        secrets: secrets.iter().collect(),
        grants: Grants::Everything,
        ..Objects::default()
    });
    assert_eq!(served(&outcome), ["bistro/good"]);
    let [other, shared] = &outcome.gateways[..] else {
        panic!("{outcome:?}")
    };
    let key = |validated: &Validated, namespace: &str| {
        validated
            .keys
            .get(namespace, &reference())
            .map(|key| key.expose().to_vec())
    };
    assert_eq!(key(shared, "bistro"), Some(b"bistro".to_vec()));
    assert_eq!(key(shared, "cafe"), None);
    assert_eq!(key(other, "bistro"), None);
}

#[test]
fn string_data_wins_over_data_as_it_does_in_a_cluster() {
    let (shared, orders, mut jwt) = (gateway("shared"), channel("bistro", "orders"), secret("bistro"));
    jwt.string_data
        .get_or_insert_default()
        .insert("secret".to_owned(), "newer".to_owned());
    let outcome = validate(&Objects {
        gateways: vec![&shared],
        channels: vec![&orders],
        secrets: vec![&jwt],
        grants: Grants::Everything,
        ..Objects::default()
    });
    let key = outcome.gateways[0].keys.get("bistro", &reference()).unwrap();
    assert_eq!(key.expose(), b"newer");
}

#[test]
fn a_gateway_that_is_elsewhere_is_no_problem() {
    let (orders, jwt) = (channel("bistro", "orders"), secret("bistro"));
    let with = |other_gateways: Others| {
        let objects = Objects {
            channels: vec![&orders],
            secrets: vec![&jwt],
            other_gateways,
            grants: Grants::Everything,
            ..Objects::default()
        };
        validate(&objects).problems.len()
    };
    let named = |name: &str| Others::Named(BTreeSet::from([ObjectName::new("realtime", name)]));
    assert_eq!(with(Others::None), 1);
    assert_eq!(with(named("other")), 1);
    assert_eq!(with(named("shared")), 0);
    assert_eq!(with(Others::Any), 0);
}

#[test]
fn a_channel_whose_secret_is_elsewhere_is_checked_but_not_served() {
    let (shared, mut orders) = (gateway("shared"), channel("bistro", "orders"));
    let check = |orders: &NotificationChannel| {
        validate(&Objects {
            gateways: vec![&shared],
            channels: vec![orders],
            other_secrets: Others::Any,
            grants: Grants::Everything,
            ..Objects::default()
        })
    };
    let outcome = check(&orders);
    assert_eq!(outcome.problems, []);
    assert_eq!(served(&outcome), [""; 0]);
    orders.spec.authentication.as_mut().unwrap().jwt[0].identity.user = "clams.sub".to_owned();
    let problems = check(&orders).problems;
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].field, "spec.authentication.jwt[0].identity.user");
}

#[test]
fn the_order_of_the_input_does_not_matter() {
    let gateways = [gateway("shared"), gateway("other")];
    let secrets = [secret("a"), secret("b"), secret("c")];
    let mut channels = [
        channel("c", "x"),
        channel("a", "x"),
        channel("b", "y"),
        channel("b", "x"),
    ];
    for channel in &mut channels[..3] {
        channel.spec.paths = Some(vec!["/contested".to_owned()]);
    }
    let run = |reverse: bool| {
        let mut objects = Objects {
            gateways: gateways.iter().collect(),
            channels: channels.iter().collect(),
            secrets: secrets.iter().collect(),
            grants: Grants::Everything,
            ..Objects::default()
        };
        if reverse {
            objects.gateways.reverse();
            objects.channels.reverse();
            objects.secrets.reverse();
        }
        let outcome = validate(&objects);
        let mut refused: Vec<_> = outcome
            .problems
            .iter()
            .map(|problem| match problem.object {
                Object::Channel(index) => ObjectName::of(&objects.channels[index].metadata).to_string(),
                other => panic!("{other:?}"),
            })
            .collect();
        refused.sort();
        (served(&outcome), refused)
    };
    let expected = (
        vec!["a/x".to_owned(), "b/x".to_owned()],
        vec!["b/y".to_owned(), "c/x".to_owned()],
    );
    assert_eq!(run(false), expected);
    assert_eq!(run(true), expected);
}

#[test]
fn hostile_input_is_reported_and_harms_no_other() {
    let (shared, good, jwt) = (gateway("shared"), channel("bistro", "good"), secret("bistro"));
    let mut hostile = channel("bistro", "hostile");
    hostile.spec.greeting = Some(aldis_crds::channel::Greeting {
        event: "hello".to_owned(),
        payload: json!({ "deep": format!("{{{}1{}}}", "(".repeat(100_000), ")".repeat(100_000)) }),
    });
    hostile.spec.paths = Some((0..10_000).map(|i| format!("/{i}\u{1b}[31m#")).collect());
    let outcome = validate(&Objects {
        gateways: vec![&shared],
        channels: vec![&hostile, &good],
        secrets: vec![&jwt],
        grants: Grants::Everything,
        ..Objects::default()
    });
    assert_eq!(served(&outcome), ["bistro/good"]);
    assert!(outcome.problems.len() > 10_000);
    assert!(
        outcome
            .problems
            .iter()
            .all(|problem| !problem.message.contains('\u{1b}'))
    );
}

#[test]
fn long_lists_are_cut() {
    assert_eq!(listed(["a"]), "a");
    assert_eq!(listed(1..=8), "1, 2, 3, 4, 5, 6, 7, 8");
    assert_eq!(listed(1..=10), "1, 2, 3, 4, 5, 6, 7, 8 and 2 more");
}

#[test]
fn without_tenants_a_gateway_grants_nothing_in_a_cluster_and_everything_in_a_directory() {
    let (shared, orders, jwt) = (gateway("shared"), channel("bistro", "orders"), secret("bistro"));
    let with = |grants: Grants| {
        validate(&Objects {
            gateways: vec![&shared],
            channels: vec![&orders],
            secrets: vec![&jwt],
            grants,
            ..Objects::default()
        })
    };
    assert_eq!(served(&with(Grants::Everything)), ["bistro/orders"]);
    let outcome = with(Grants::default());
    assert_eq!(served(&outcome), [""; 0]);
    assert_eq!(outcome.problems[0].reason, Reason::TenantNotAllowed);
    assert!(outcome.gateways[0].keys.get("bistro", &reference()).is_none());
}

#[test]
fn a_channel_that_is_too_large_is_refused_and_harms_no_other() {
    let (shared, good, jwt) = (gateway("shared"), channel("bistro", "good"), secret("bistro"));
    let mut large = channel("bistro", "large");
    large.spec.greeting = Some(aldis_crds::channel::Greeting {
        event: "hello".to_owned(),
        payload: json!("x".repeat(200 << 10)),
    });
    let outcome = validate(&Objects {
        gateways: vec![&shared],
        channels: vec![&large, &good],
        secrets: vec![&jwt],
        grants: Grants::Everything,
        ..Objects::default()
    });
    assert_eq!(served(&outcome), ["bistro/good"]);
    assert!(
        outcome
            .problems
            .iter()
            .any(|problem| problem.reason == Reason::TooLarge)
    );
}

/// Fields and first words of what is wrong with the given channels, which all have one endpoint list each.
fn endpoint_problems(endpoints: [serde_json::Value; 2]) -> Vec<String> {
    let shared = gateway("shared");
    let mut channels = [channel("bistro", "orders"), channel("cafe", "drinks")];
    for (channel, endpoints) in channels.iter_mut().zip(endpoints) {
        channel.spec.http = serde_json::from_value(endpoints).unwrap();
    }
    let secrets = [secret("bistro"), secret("cafe")];
    let outcome = validate(&Objects {
        gateways: vec![&shared],
        channels: channels.iter().collect(),
        secrets: secrets.iter().collect(),
        grants: Grants::Everything,
        ..Objects::default()
    });
    let problems = outcome.problems.iter();
    problems
        .map(|problem| format!("{:?} {}: {}", problem.reason, problem.field, problem.message))
        .collect()
}

#[test]
fn an_endpoint_belongs_to_the_older_channel_whatever_its_parameters_are_called() {
    let get = |path: &str| json!([{ "method": "GET", "path": path, "allow": "true", "respond": {} }]);
    assert_eq!(
        endpoint_problems([get("/a/{x}"), get("/a/{y}")]),
        [
            "Conflicted spec.http[0].path: conflicted: GET /a/{y} of listener web belongs to bistro/orders already; choose another path"
        ]
    );
    assert_eq!(endpoint_problems([get("/a/{x}"), get("/a/b")]), [""; 0]);
}

#[test]
fn paths_that_are_aldis_own_and_paths_that_would_take_all_are_refused() {
    let endpoint = |path: &str| json!({ "method": "GET", "path": path, "allow": "true", "respond": {} });
    let paths = ["/socket.io/x", "/aldis", "/{all}", "/aldis-menu", "/aldis-menu"];
    let problems = endpoint_problems([paths.map(endpoint).into(), json!([])]);
    assert_eq!(
        problems,
        [
            "Invalid spec.http[0].path: path /socket.io/x is below /socket.io, which is Aldis' own: choose another",
            "Invalid spec.http[1].path: path /aldis is below /aldis, which is Aldis' own: choose another",
            "Invalid spec.http[2].path: path /{all} begins with a parameter and would take every path: begin with a segment of your own",
            "Invalid spec.http[4].path: GET /aldis-menu is spec.http[3] already: remove one of them",
        ]
    );
}

#[test]
fn the_topic_for_what_comes_over_http_is_the_gateways_alone() {
    let shared = gateway("shared");
    let mut orders = channel("bistro", "orders");
    orders.spec.sources =
        serde_json::from_value(json!([{ "name": "s", "kafka": { "topics": ["aldis.ingress"] } }])).unwrap();
    let mut drinks = channel("cafe", "drinks");
    drinks.spec.dead_letter = serde_json::from_value(json!({ "topic": "aldis.ingress" })).unwrap();
    let secrets = [secret("bistro"), secret("cafe")];
    let outcome = validate(&Objects {
        gateways: vec![&shared],
        channels: vec![&orders, &drinks],
        secrets: secrets.iter().collect(),
        grants: Grants::Everything,
        ..Objects::default()
    });
    let problems: Vec<_> = outcome
        .problems
        .iter()
        .map(|problem| (problem.reason, problem.field.as_str()))
        .collect();
    assert!(
        problems.contains(&(Reason::TopicNotAllowed, "spec.sources[0].kafka.topics[0]")),
        "{problems:?}"
    );
    assert!(
        problems.contains(&(Reason::TopicNotAllowed, "spec.deadLetter.topic")),
        "{problems:?}"
    );
}
