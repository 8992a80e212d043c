use std::collections::BTreeMap;

use aldis_crds::configuration::Configuration;
use aldis_crds::status::ChannelStatus;
use aldis_crds::{NotificationChannel, NotificationGateway};
use serde_json::{Value, json};

use super::*;
use crate::translate;
use crate::validate::{Grants, ObjectName, Objects, Others, Outcome, validate};

fn time(second: i64) -> Time {
    Time(jiff::Timestamp::from_second(second).unwrap())
}

fn gateway(extra: Value) -> NotificationGateway {
    let mut value = json!({
        "apiVersion": "aldis.dev/v1alpha1", "kind": "NotificationGateway",
        "metadata": { "name": "shared", "namespace": "realtime", "generation": 3 },
        "spec": { "kafka": { "bootstrapServers": ["kafka:9092"] }, "listeners": [{ "name": "web", "port": 3000 }] }
    });
    for (key, field) in extra.as_object().into_iter().flatten() {
        value["spec"][key] = field.clone();
    }
    serde_json::from_value(value).unwrap()
}

fn channel(name: &str, parents: Value) -> NotificationChannel {
    let value = json!({
        "apiVersion": "aldis.dev/v1alpha1", "kind": "NotificationChannel",
        "metadata": { "name": name, "namespace": "bistro", "generation": 2 },
        "spec": { "parentRefs": parents }
    });
    serde_json::from_value(value).unwrap()
}

fn shared() -> Value {
    json!([{ "name": "shared", "namespace": "realtime" }])
}

/// What the operator would do with these objects.
struct Place<'a> {
    objects: Objects<'a>,
    outcome: Outcome,
    configurations: BTreeMap<ObjectName, Configuration>,
}

impl<'a> Place<'a> {
    fn new(gateways: Vec<&'a NotificationGateway>, channels: Vec<&'a NotificationChannel>) -> Self {
        let objects = Objects {
            gateways,
            channels,
            grants: Grants::Everything,
            ..Objects::default()
        };
        Self::of(objects)
    }

    fn of(objects: Objects<'a>) -> Self {
        let outcome = validate(&objects);
        let configurations = outcome.gateways.iter();
        let configurations = configurations.map(|validated| {
            (
                validated.gateway.name.clone(),
                Configuration::new(&translate(validated), &validated.keys),
            )
        });
        let configurations = configurations.collect();
        Self {
            objects,
            outcome,
            configurations,
        }
    }

    fn channel(&self, position: usize, observed: &Observed, now: i64) -> Option<ChannelStatus> {
        let gateways = self.configurations.iter();
        let gateways = gateways
            .map(|(name, configuration)| (name.clone(), (configuration, observed)))
            .collect();
        channel_status(position, &self.objects, &self.outcome, &gateways, &time(now))
    }

    /// Pods that serve everything that is wanted.
    fn serving(&self, pods: u32) -> Observed {
        let hashes = self.configurations.values();
        let hashes = hashes
            .flat_map(|c| c.parts.keys().chain([&c.index.hash]))
            .cloned()
            .collect();
        let hashes = Arc::new(hashes);
        let pod = || Serving {
            has: Arc::clone(&hashes),
            cannot: BTreeMap::new(),
        };
        let serving = (0..pods).map(|_| pod()).collect();
        Observed {
            desired: pods,
            ready: pods,
            serving,
            failed: None,
            limited: None,
        }
    }
}

fn said(conditions: &[Condition]) -> Vec<String> {
    let said = conditions.iter();
    said.map(|c| {
        format!(
            "{}={} {} @{}",
            c.type_,
            c.status,
            c.reason,
            c.observed_generation.unwrap_or(-1)
        )
    })
    .collect()
}

#[test]
fn a_channel_is_programmed_once_every_ready_pod_serves_it_and_no_more_when_one_falls_behind() {
    let (gateway, orders) = (gateway(json!({})), channel("orders", shared()));
    let place = Place::new(vec![&gateway], vec![&orders]);
    let programmed = |observed: &Observed| {
        let status = place.channel(0, observed, 1).unwrap();
        assert_eq!(said(&status.conditions), said(&status.parents[0].conditions));
        assert_eq!(
            said(&status.conditions)[..2],
            ["Accepted=True Accepted @2", "ResolvedRefs=True ResolvedRefs @2"]
        );
        said(&status.conditions)[2].clone()
    };
    assert_eq!(programmed(&Observed::default()), "Programmed=False NoReplicas @2");
    let mut observed = place.serving(2);
    assert_eq!(programmed(&observed), "Programmed=True Programmed @2");
    observed.serving[1] = Serving::default();
    assert_eq!(programmed(&observed), "Programmed=False Pending @2");
    observed.ready = 1;
    assert_eq!(programmed(&observed), "Programmed=True Programmed @2");
    observed.failed = Some(("ApplyFailed", "quota".to_owned()));
    assert_eq!(programmed(&observed), "Programmed=False ApplyFailed @2");
}

#[test]
fn what_a_pod_can_not_serve_is_not_programmed_and_the_others_are() {
    let gateway = gateway(json!({}));
    let (orders, tables) = (channel("orders", shared()), channel("tables", shared()));
    let place = Place::new(vec![&gateway], vec![&orders, &tables]);
    let mut observed = place.serving(2);
    let configuration = &place.configurations[&ObjectName::new("realtime", "shared")];
    let name = |name: &str| serde_json::from_value(json!({ "namespace": "bistro", "name": name })).unwrap();
    let part = configuration.part_of(&name("orders")).unwrap().to_owned();
    observed.serving[1].cannot = [(part, "spec.routes[0]: too deep".to_owned())].into();
    let conditions = place.channel(0, &observed, 1).unwrap().conditions;
    assert_eq!(said(&conditions)[2], "Programmed=False Rejected @2");
    assert!(
        conditions[2].message.contains("spec.routes[0]: too deep"),
        "{conditions:?}"
    );
    let conditions = place.channel(1, &observed, 1).unwrap().conditions;
    assert_eq!(said(&conditions)[2], "Programmed=True Programmed @2");
    // What it said of an older configuration counts for that alone.
    observed.serving[1].has = Arc::default();
    let conditions = place.channel(0, &observed, 1).unwrap().conditions;
    assert_eq!(said(&conditions)[2], "Programmed=False Pending @2");
}

#[test]
fn what_stays_the_same_is_not_written_and_a_change_keeps_the_times_of_the_rest() {
    let (gateway, mut orders) = (gateway(json!({})), channel("orders", shared()));
    let place = Place::new(vec![&gateway], vec![&orders]);
    let first = place.channel(0, &Observed::default(), 1).unwrap();
    orders.status = Some(first.clone());
    let place = Place::new(vec![&gateway], vec![&orders]);
    assert_eq!(place.channel(0, &Observed::default(), 2), None);
    let second = place.channel(0, &place.serving(1), 3).unwrap();
    let times: Vec<_> = second
        .conditions
        .iter()
        .map(|c| c.last_transition_time.clone())
        .collect();
    assert_eq!(times, [time(1), time(1), time(3)]);
}

#[test]
fn a_status_never_goes_backwards() {
    let (gateway, mut orders) = (gateway(json!({})), channel("orders", shared()));
    let newer = Place::new(vec![&gateway], vec![&orders]).channel(0, &Observed::default(), 1);
    orders.status = newer;
    orders.metadata.generation = Some(1);
    let place = Place::new(vec![&gateway], vec![&orders]);
    assert_eq!(place.channel(0, &place.serving(1), 2), None);
}

#[test]
fn each_parent_has_conditions_of_its_own_and_those_of_other_controllers_stay() {
    let gateway = gateway(json!({}));
    let parents = json!([{ "name": "shared", "namespace": "realtime" }, { "name": "gone" }]);
    let mut orders = channel("orders", parents);
    let theirs = ParentStatusOf("example.com/other").status();
    orders.status = Some(ChannelStatus {
        conditions: Vec::new(),
        parents: vec![theirs.clone()],
    });
    let place = Place::new(vec![&gateway], vec![&orders]);
    let status = place.channel(0, &place.serving(1), 1).unwrap();
    assert_eq!(status.parents[0], theirs);
    assert_eq!(said(&status.parents[1].conditions)[2], "Programmed=True Programmed @2");
    assert_eq!(
        said(&status.parents[2].conditions)[0],
        "Accepted=False GatewayNotFound @2"
    );
    assert_eq!(said(&status.conditions)[0], "Accepted=False GatewayNotFound @2");
}

struct ParentStatusOf(&'static str);

impl ParentStatusOf {
    fn status(&self) -> aldis_crds::status::ParentStatus {
        let value = json!({ "parentRef": { "name": "theirs" }, "controllerName": self.0, "conditions": [] });
        serde_json::from_value(value).unwrap()
    }
}

#[test]
fn a_gateway_that_cannot_be_read_changes_nothing_for_its_channels() {
    let mut orders = channel("orders", shared());
    let gateway = gateway(json!({}));
    let place = Place::new(vec![&gateway], vec![&orders]);
    let programmed = place.channel(0, &place.serving(1), 1);
    orders.status = programmed;
    let unreadable = Objects {
        channels: vec![&orders],
        other_gateways: Others::Named([ObjectName::new("realtime", "shared")].into()),
        grants: Grants::Everything,
        ..Objects::default()
    };
    assert_eq!(Place::of(unreadable).channel(0, &Observed::default(), 2), None);
}

#[test]
fn a_gateway_says_what_is_wrong_with_its_grants_while_it_serves_the_rest() {
    let tenants = json!([{ "name": "a", "namespaces": {}, "listeners": ["web"], "paths": ["/a*"] }]);
    let gateway = gateway(json!({ "tenants": tenants }));
    let place = Place::new(vec![&gateway], Vec::new());
    let configuration = place.configurations.values().next();
    let observed = place.serving(2);
    let status = gateway_status(0, &place.objects, &place.outcome, configuration, &observed, &time(1)).unwrap();
    assert_eq!(
        said(&status.conditions),
        [
            "Accepted=True Accepted @3",
            "ResolvedRefs=True ResolvedRefs @3",
            "Programmed=True Programmed @3",
            "Degraded=True InvalidGrant @3"
        ]
    );
    assert_eq!(
        (status.replicas.ready, status.replicas.serving, status.attached_channels),
        (2, 2, 0)
    );
    assert_eq!(status.addresses[0].value, "aldis-shared.realtime.svc");
}

#[test]
fn a_gateway_that_is_invalid_takes_its_channels_out_of_service_and_both_say_so() {
    let gateway = gateway(json!({ "listeners": [] }));
    let orders = channel("orders", shared());
    let place = Place::new(vec![&gateway], vec![&orders]);
    let status = gateway_status(0, &place.objects, &place.outcome, None, &Observed::default(), &time(1)).unwrap();
    assert_eq!(said(&status.conditions)[0], "Accepted=False Invalid @3");
    let status = place.channel(0, &Observed::default(), 1).unwrap();
    assert_eq!(said(&status.conditions)[2], "Programmed=False GatewayNotAccepted @2");
}

#[test]
fn messages_are_bounded_however_much_is_wrong() {
    let paths: Vec<_> = (0..1000).map(|i| format!("/{}#{i}", "x".repeat(500))).collect();
    let (gateway, mut orders) = (gateway(json!({})), channel("orders", shared()));
    orders.spec.paths = Some(paths);
    let place = Place::new(vec![&gateway], vec![&orders]);
    let message = &place.channel(0, &Observed::default(), 1).unwrap().conditions[0].message;
    assert!(message.len() < 5000 && message.ends_with(" more"), "{}", message.len());
}

#[test]
fn each_listener_says_what_is_wrong_with_it_alone_and_how_many_channels_it_has() {
    let listeners = json!([
        { "name": "web", "port": 3000 },
        { "name": "secure", "port": 3001, "tls": { "secretRef": { "name": "gone" } } }
    ]);
    let mut gateway = gateway(json!({ "listeners": listeners }));
    let mut on_web = shared();
    on_web[0]["sectionName"] = json!("web");
    let (orders, tables) = (channel("orders", on_web), channel("tables", shared()));
    let mut place = Place::new(vec![&gateway], vec![&orders, &tables]);
    let status = |place: &Place<'_>, observed: &Observed, now| {
        let configuration = place.configurations.values().next();
        gateway_status(0, &place.objects, &place.outcome, configuration, observed, &time(now))
    };
    let mut observed = place.serving(2);
    let index = place.configurations.values().next().unwrap().index.hash.clone();
    let cannot = (index, "listener secure: there is no certificate".to_owned());
    observed.serving[0].cannot = [cannot].into();
    let first = status(&place, &observed, 1).unwrap();
    assert_eq!(first.consumer_group, "aldis.realtime.shared");
    let said = |status: &aldis_crds::status::GatewayStatus| -> Vec<_> {
        let listeners = status.listeners.iter();
        let said = listeners.map(|l| {
            (
                l.name.clone(),
                l.attached_channels,
                self::said(&l.conditions).join(", "),
            )
        });
        said.collect()
    };
    let expected = [
        (
            "web",
            2,
            "Accepted=True Accepted @3, ResolvedRefs=True ResolvedRefs @3, Programmed=True Programmed @3",
        ),
        (
            "secure",
            1,
            "Accepted=True Accepted @3, ResolvedRefs=False SecretNotFound @3, Programmed=False NotAccepted @3",
        ),
    ];
    let expected = expected.map(|(name, channels, said)| (name.to_owned(), channels, said.to_owned()));
    assert_eq!(said(&first), expected);
    let message = &first.listeners[1].conditions[1].message;
    assert!(message.contains("spec.listeners[1].tls.secretRef.name"), "{message}");
    // The gateway as a whole says it too.
    assert_eq!(self::said(&first.conditions)[1], "ResolvedRefs=False SecretNotFound @3");

    gateway.status = Some(first);
    place = Place::new(vec![&gateway], vec![&orders, &tables]);
    assert_eq!(status(&place, &observed, 2), None, "nothing is new");
    observed.serving[0].cannot.clear();
    observed.ready = 0;
    let times = status(&place, &observed, 3).unwrap().listeners[0].conditions.clone();
    let times: Vec<_> = times
        .into_iter()
        .map(|condition| condition.last_transition_time)
        .collect();
    assert_eq!(times, [time(1), time(1), time(3)]);
}

#[test]
fn of_two_listeners_that_want_one_port_the_second_says_so() {
    let listeners = json!([{ "name": "web", "port": 3000 }, { "name": "app", "port": 3000 }]);
    let gateway = gateway(json!({ "listeners": listeners }));
    let place = Place::new(vec![&gateway], Vec::new());
    let status = gateway_status(0, &place.objects, &place.outcome, None, &Observed::default(), &time(1)).unwrap();
    let said: Vec<_> = status
        .listeners
        .iter()
        .map(|listener| said(&listener.conditions))
        .collect();
    assert_eq!(
        (said[0][0].as_str(), said[1][0].as_str()),
        ("Accepted=True Accepted @3", "Accepted=False Conflicted @3")
    );
    assert_eq!(said[0][2], "Programmed=False GatewayNotAccepted @3");
    assert_eq!(status.consumer_group, "");
}
