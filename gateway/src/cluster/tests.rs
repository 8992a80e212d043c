use std::collections::BTreeMap;

use aldis_crds::channel::SecretKeyRef;
use aldis_crds::configuration::Configuration;
use aldis_crds::contract::GatewayConfig;
use serde_json::json;

use super::*;

const GATEWAY: &str = "shared";

fn config() -> GatewayConfig {
    let channel = |name: &str| {
        json!({
            "channel": { "namespace": "bistro", "name": name },
            "attachments": [{ "listener": "web", "path": format!("/bistro/{name}") }],
            "spec": { "parentRefs": [{ "name": GATEWAY }] }
        })
    };
    let value = json!({
        "version": CONTRACT_VERSION,
        "kafka": { "bootstrapServers": ["kafka:9092"], "groupId": "g", "deadLetterTopic": "dead" },
        "listeners": [{ "name": "web", "port": 3000 }],
        "channels": [channel("orders"), channel("tables")]
    });
    serde_json::from_value(value).unwrap()
}

fn keys(text: &str) -> Keys {
    let mut keys = Keys::default();
    let (name, key) = ("jwt".to_owned(), "secret".to_owned());
    keys.insert("bistro", SecretKeyRef { name, key }, Secret::new(text));
    keys
}

/// What the operator writes: specs by name.
fn written(keys: &Keys) -> BTreeMap<String, Value> {
    let configuration = Configuration::new(&config(), keys);
    let index = (index_name(GATEWAY), json!(configuration.index_spec()));
    let parts = configuration.parts.iter();
    let parts = parts.map(|(hash, channel)| (part_name(GATEWAY, hash), json!(Configuration::part_spec(channel))));
    parts.chain([index]).collect()
}

fn seen(objects: &BTreeMap<String, Value>, keys: &Keys) -> Look {
    look(GATEWAY, keys.clone(), |name| objects.get(name).cloned())
}

#[test]
fn what_the_operator_writes_is_read_as_it_was_with_the_hash_it_has_there() {
    let objects = written(&keys("1"));
    let look = seen(&objects, &keys("1"));
    assert!(look.is_whole);
    let revision = look.found.unwrap();
    assert_eq!(revision, Revision::new(config(), keys("1")));
    assert_eq!(objects["shared.index"]["index"]["hash"], revision.hash.as_str());
}

#[test]
fn what_is_half_written_is_not_whole_and_says_what_is_missing() {
    let all = written(&keys("1"));
    for name in all.keys() {
        let mut half = all.clone();
        half.remove(name);
        let look = seen(&half, &keys("1"));
        assert!(!look.is_whole, "{name}");
        let error = look.found.unwrap_err().to_string();
        assert!(error.contains(&format!("there is no GatewayConfig {name}")), "{error}");
    }
    let look = seen(&all, &keys("2"));
    assert!(!look.is_whole);
    let revision = look.found.unwrap();
    assert_eq!(revision.config, config());
    assert_ne!(
        all["shared.index"]["index"]["hash"],
        revision.hash.as_str(),
        "nobody takes it for what is wanted"
    );
}

#[test]
fn another_version_and_what_is_no_configuration_are_refused_with_the_place() {
    let refused = |name: &str, pointer: &str, value: Value| {
        let mut objects = written(&keys("1"));
        *objects.get_mut(name).unwrap().pointer_mut(pointer).unwrap() = value;
        let look = seen(&objects, &keys("1"));
        assert!(look.is_whole, "waiting would not help");
        look.found.unwrap_err().to_string()
    };
    let newer = refused("shared.index", "/contractVersion", json!(99));
    assert!(newer.contains("shared.index has version 99 of the contract"), "{newer}");
    let wrong = refused("shared.index", "/index/listeners/0/port", json!("web"));
    assert!(wrong.contains("spec.index.listeners[0].port"), "{wrong}");
    let index = written(&keys("1"))["shared.index"]["index"].clone();
    let part = part_name(GATEWAY, index["channels"][1].as_str().unwrap());
    let wrong = refused(&part, "/channel/spec", json!(7));
    assert!(wrong.contains(&part) && wrong.contains("spec.channel.spec"), "{wrong}");
    let wrong = refused(&part, "/channel", json!(null));
    assert!(wrong.contains("it is no channel"), "{wrong}");
}

#[test]
fn each_is_told_once_and_half_of_one_only_when_it_stays_so() {
    let mut judge = Judge::default();
    let start = Instant::now();
    let objects = written(&keys("1"));
    let whole = || seen(&objects, &keys("1"));
    let half = || look(GATEWAY, keys("1"), |_| None);
    assert!(judge.tell(half(), start).is_none());
    assert_eq!(judge.ends(start), Some(start + PATIENCE));
    assert!(judge.tell(whole(), start).unwrap().is_ok());
    assert!(judge.tell(whole(), start).is_none());
    // A moment in which it is half written is not told, and nothing is when it is as before.
    assert!(judge.tell(half(), start).is_none());
    assert!(judge.tell(whole(), start).is_none());
    assert!(judge.tell(half(), start).is_none());
    let later = start + PATIENCE;
    assert!(judge.tell(half(), later).unwrap().is_err());
    assert!(judge.tell(half(), later + PATIENCE).is_none());
    assert!(
        judge.tell(whole(), later).unwrap().is_ok(),
        "what was wrong is not any more"
    );
    // Keys of another configuration are taken in the end.
    assert!(judge.tell(seen(&objects, &keys("2")), later).is_none());
    assert!(
        judge
            .tell(seen(&objects, &keys("2")), later + PATIENCE)
            .unwrap()
            .is_ok()
    );
}

#[test]
fn a_gateway_has_a_namespace_and_a_name() {
    let name: GatewayName = "realtime/shared".parse().unwrap();
    assert_eq!((name.namespace.as_str(), name.name.as_str()), ("realtime", "shared"));
    for wrong in ["shared", "/shared", "realtime/", "a/b/c", ""] {
        assert!(wrong.parse::<GatewayName>().is_err(), "{wrong}");
    }
}
