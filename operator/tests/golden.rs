//! Every folder of `testdata`: `in.yaml` gives exactly `out.yaml` (what gateways serve), `problems.txt` (what is wrong) and
//! `status.txt` (what the conditions say before any pod is there), each absent where there is nothing to say. Folders named
//! `objects-*` have `objects.yaml` too: everything that the operator applies. `BLESS=1` writes them anew.
//!
//! The schema's checks are left out on purpose: these steps must hold for what an API server would have refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use aldis_crds::configuration::Configuration;
use aldis_crds::contract::GatewayConfig;
use aldis_crds::{NotificationChannel, NotificationGateway};
use aldis_manifest::{Positions, documents, read_str};
use aldis_operator::objects::{Installation, Owner, objects};
use aldis_operator::status::{Observed, channel_status, gateway_status};
use aldis_operator::validate::{Grants, Object, ObjectName};
use aldis_operator::{Objects, Outcome, translate, validate};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::Value;

/// What each key in `testdata` begins with.
const KEY_MARK: &str = "never-shown";

/// The objects of a file, with where they stand.
#[derive(Default)]
struct Input {
    gateways: Vec<(NotificationGateway, Positions)>,
    channels: Vec<(NotificationChannel, Positions)>,
    secrets: Vec<(Secret, Positions)>,
    namespaces: Vec<Namespace>,
}

impl Input {
    fn read(text: &str) -> Self {
        let mut input = Self::default();
        for document in documents(text) {
            assert_eq!(document.mistakes, []);
            let (value, at) = (document.value.unwrap(), document.positions);
            match value["kind"].as_str().unwrap() {
                "NotificationGateway" => input.gateways.push((serde_json::from_value(value).unwrap(), at)),
                "NotificationChannel" => input.channels.push((serde_json::from_value(value).unwrap(), at)),
                "Namespace" => input.namespaces.push(serde_json::from_value(value).unwrap()),
                "Secret" => input.secrets.push((serde_json::from_value(value).unwrap(), at)),
                other => panic!("{other}"),
            }
        }
        input
    }

    fn objects(&self) -> Objects<'_> {
        Objects {
            gateways: self.gateways.iter().map(|(gateway, _)| gateway).collect(),
            channels: self.channels.iter().map(|(channel, _)| channel).collect(),
            secrets: self.secrets.iter().map(|(secret, _)| secret).collect(),
            namespaces: self.namespaces.iter().collect(),
            grants: Grants::Everything,
            ..Objects::default()
        }
    }

    /// Kind, namespace and name; and where a field of it is.
    fn locate(&self, object: Object, field: &str) -> (String, usize, usize) {
        let (kind, metadata, positions) = match object {
            Object::Gateway(i) => ("NotificationGateway", &self.gateways[i].0.metadata, &self.gateways[i].1),
            Object::Channel(i) => ("NotificationChannel", &self.channels[i].0.metadata, &self.channels[i].1),
            Object::Secret(i) => ("Secret", &self.secrets[i].0.metadata, &self.secrets[i].1),
        };
        let (namespace, name) = (metadata.namespace.as_ref().unwrap(), metadata.name.as_ref().unwrap());
        let position = positions.position(field);
        (format!("{kind} {namespace}/{name}"), position.line, position.column)
    }

    fn problems(&self, outcome: &Outcome) -> String {
        let mut lines = Vec::new();
        for problem in &outcome.problems {
            let (object, line, column) = self.locate(problem.object, &problem.field);
            let (reason, field, message) = (problem.reason.as_str(), &problem.field, &problem.message);
            let mut text = format!("{line}:{column}: {object}: {field}: {reason}: {message}");
            if let Some(gateway) = problem.gateway {
                let _ = write!(text, "\n    at {}", self.locate(Object::Gateway(gateway), "").0);
            }
            if let Some(other) = problem.other {
                let (object, line, _) = self.locate(other, "");
                let _ = write!(text, "\n    see {object}, line {line}");
            }
            lines.push((line, column, text));
        }
        lines.sort();
        lines.into_iter().map(|(_, _, text)| text + "\n").collect()
    }
}

/// Block style; every string in JSON's quotes, which are YAML's too.
fn print(value: &Value, indent: usize, out: &mut String) {
    let padding = " ".repeat(indent);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            for (key, value) in fields {
                let key = Value::from(key.as_str());
                if value.as_object().is_some_and(|inner| !inner.is_empty())
                    || value.as_array().is_some_and(|inner| !inner.is_empty())
                {
                    let _ = writeln!(out, "{padding}{key}:");
                    print(value, indent + 2, out);
                } else {
                    let _ = writeln!(out, "{padding}{key}: {value}");
                }
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let start = out.len();
                print(item, indent + 2, out);
                // The first line of an element stands behind its dash.
                out.replace_range(start + indent..start + indent + 1, "-");
            }
        }
        scalar => {
            let _ = writeln!(out, "{padding}{scalar}");
        }
    }
}

fn served(outcome: &Outcome) -> String {
    let mut out = String::new();
    for validated in &outcome.gateways {
        let config = translate(validated);
        let start = out.len();
        print(&serde_json::to_value(&config).unwrap(), 0, &mut out);
        let read_back = documents(&out[start..]).remove(0).value.unwrap();
        assert_eq!(serde_json::from_value::<GatewayConfig>(read_back).unwrap(), config);
        out.insert_str(
            start,
            &format!("---\n# {}: {:?}\n", validated.gateway.name, validated.keys),
        );
    }
    out
}

/// Each condition, and how many channels each gateway and listener has.
fn statuses(input: &Input, outcome: &Outcome) -> String {
    let objects = input.objects();
    let now = Time(Timestamp::UNIX_EPOCH);
    let configurations: Vec<_> = outcome
        .gateways
        .iter()
        .map(|v| (v.gateway.name.clone(), Configuration::new(&translate(v), &v.keys)))
        .collect();
    let observed = Observed::default();
    let of = |name: &ObjectName| {
        configurations
            .iter()
            .find(|(gateway, _)| gateway == name)
            .map(|(_, configuration)| configuration)
    };
    let served = configurations
        .iter()
        .map(|(name, configuration)| (name.clone(), (configuration, &observed)))
        .collect();
    let mut out = String::new();
    for (position, gateway) in objects.gateways.iter().enumerate() {
        let name = ObjectName::of(&gateway.metadata);
        let status = gateway_status(position, &objects, outcome, of(&name), &observed, &now).unwrap();
        let _ = writeln!(out, "NotificationGateway {name}: {} channels", status.attached_channels);
        conditions(&status.conditions, &mut out);
        for listener in &status.listeners {
            let _ = writeln!(
                out,
                " listener {}: {} channels",
                listener.name, listener.attached_channels
            );
            conditions(&listener.conditions, &mut out);
        }
    }
    for (position, channel) in objects.channels.iter().enumerate() {
        let _ = writeln!(out, "NotificationChannel {}", ObjectName::of(&channel.metadata));
        let status = channel_status(position, &objects, outcome, &served, &now).unwrap();
        for parent in &status.parents {
            conditions(&parent.conditions, &mut out);
        }
    }
    out
}

fn conditions(conditions: &[Condition], out: &mut String) {
    for condition in conditions {
        let Condition {
            type_, status, reason, ..
        } = condition;
        let _ = writeln!(out, "  {type_}={status} {reason}");
    }
}

/// What the operator would apply; each object without what all have.
fn applied(outcome: &Outcome) -> String {
    let installation = Installation {
        id: "aldis-system.aldis".to_owned(),
        gateway_image: "aldis-gateway:0".to_owned(),
    };
    let mut out = String::new();
    for validated in &outcome.gateways {
        let name = &validated.gateway.name;
        let owner = Owner {
            name,
            uid: "6f1f",
            installation: &installation,
            replicas_are_external: false,
        };
        for object in objects(
            &owner,
            validated,
            &Configuration::new(&translate(validated), &validated.keys),
        ) {
            out.push_str("---\n");
            print(&object, 0, &mut out);
        }
    }
    out
}

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut cases: Vec<_> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

fn is_objects(case: &Path) -> bool {
    case.file_name().unwrap().to_string_lossy().starts_with("objects-")
}

#[test]
fn every_case_gives_exactly_what_is_written_beside_it() {
    let mut differences = Vec::new();
    for case in cases() {
        let input = Input::read(&fs::read_to_string(case.join("in.yaml")).unwrap());
        let outcome = validate(&input.objects());
        for (name, got) in [
            ("out.yaml", served(&outcome)),
            ("problems.txt", input.problems(&outcome)),
            ("status.txt", statuses(&input, &outcome)),
            (
                "objects.yaml",
                if is_objects(&case) {
                    applied(&outcome)
                } else {
                    String::new()
                },
            ),
        ] {
            let path = case.join(name);
            if std::env::var_os("BLESS").is_some() {
                match got.as_str() {
                    "" => drop(fs::remove_file(&path)),
                    got => fs::write(&path, got).unwrap(),
                }
            }
            let expected = fs::read_to_string(&path).unwrap_or_default();
            if expected != got {
                differences.push(format!("{} is not what came out, which is:\n{got}", path.display()));
            }
        }
    }
    assert!(
        differences.is_empty(),
        "{}\nif it is meant, run with BLESS=1",
        differences.join("\n")
    );
}

#[test]
fn the_valid_case_is_a_valid_manifest_too() {
    let case = cases().into_iter().find(|case| case.ends_with("valid")).unwrap();
    let text = fs::read_to_string(case.join("in.yaml")).unwrap();
    assert_eq!(read_str(&case.join("in.yaml"), &text).problems, []);
    assert!(!case.join("problems.txt").exists());
}

#[test]
fn no_key_is_in_any_output() {
    let mut keys = 0;
    for case in cases() {
        let input = Input::read(&fs::read_to_string(case.join("in.yaml")).unwrap());
        let outcome = validate(&input.objects());
        let output = format!("{outcome:?}{}{}", served(&outcome), input.problems(&outcome));
        for (secret, _) in &input.secrets {
            let data = secret.data.iter().flatten().map(|(_, value)| value.0.clone());
            let text = secret
                .string_data
                .iter()
                .flatten()
                .map(|(_, value)| value.clone().into_bytes());
            for key in data.chain(text).filter(|key| !key.is_empty()) {
                let plain = String::from_utf8(key.clone()).unwrap();
                assert!(plain.starts_with(KEY_MARK));
                for shape in [plain, STANDARD.encode(&key), format!("{key:?}")] {
                    assert!(!output.contains(&shape), "{}: {shape}", case.display());
                }
                keys += 1;
            }
        }
        assert!(!output.contains(KEY_MARK), "{}", case.display());
    }
    assert!(keys > 10, "only {keys} keys were looked for");
}
