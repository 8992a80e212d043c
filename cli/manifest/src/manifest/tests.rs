use std::collections::BTreeSet;

use super::*;

fn testdata(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../crds/testdata")
        .join(folder)
}

/// The problems of a text, as they are printed.
fn problems(text: &str) -> Vec<String> {
    read_str(Path::new("x.yaml"), text)
        .problems
        .iter()
        .map(Problem::to_string)
        .collect()
}

const GATEWAY: &str = "apiVersion: aldis.dev/v1alpha1\nkind: NotificationGateway\nmetadata: {name: shared}\nspec:\n  kafka: \
                       {bootstrapServers: [\"kafka:9092\"]}\n  listeners: [{name: web, port: 3000}]\n";

#[test]
fn valid_files_are_read_without_a_problem() {
    let manifests = read_dir(&testdata("valid")).unwrap();
    assert_eq!(manifests.problems, []);
    assert_eq!(
        (
            manifests.gateways.len(),
            manifests.channels.len(),
            manifests.secrets.len()
        ),
        (4, 5, 1)
    );
    let named = |name: &str| {
        manifests
            .gateways
            .iter()
            .find(|gateway| gateway.value.metadata.name.as_deref() == Some(name))
    };
    let ports: Vec<_> = named("yaml")
        .unwrap()
        .value
        .spec
        .listeners
        .iter()
        .map(|listener| listener.port)
        .collect();
    assert_eq!(ports, [8, 8080, 3000, 3001], "numbers are what kubectl makes of them");
    assert_eq!(
        manifests.gateways[0].value.metadata.namespace.as_deref(),
        Some("default")
    );
}

/// Every invalid file says at its top what is to be found in it, exactly.
#[test]
fn invalid_files_have_exactly_the_problems_that_they_expect() {
    let mut checked = 0;
    for file in manifest_files(&testdata("invalid")).unwrap() {
        let text = fs::read_to_string(&file).unwrap();
        let name = Path::new(file.file_name().unwrap());
        let expected: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("# expect: ")).collect();
        assert!(!expected.is_empty(), "{} expects nothing", file.display());
        let prefix = format!("{}:", name.display());
        let printed: Vec<_> = read_str(name, &text).problems.iter().map(Problem::to_string).collect();
        let found: Vec<_> = printed
            .iter()
            .map(|problem| problem.strip_prefix(&prefix).unwrap())
            .collect();
        assert_eq!(found, expected, "{}", file.display());
        checked += 1;
    }
    assert!(checked > 70, "only {checked} files");
}

#[test]
fn every_rule_has_an_invalid_file() {
    let messages: String = manifest_files(&testdata("invalid"))
        .unwrap()
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    fn rules(schema: &Value, found: &mut BTreeSet<String>) {
        match schema {
            Value::Object(map) => {
                for rule in map
                    .get("x-kubernetes-validations")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                {
                    // Rules about a change need two objects.
                    if !rule["rule"].as_str().unwrap().contains("oldSelf") {
                        found.insert(rule["message"].as_str().unwrap().to_owned());
                    }
                }
                map.values().for_each(|value| rules(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| rules(value, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    rules(&serde_json::to_value(aldis_crds::crd::all()).unwrap(), &mut found);
    assert!(found.len() > 8);
    let missing: Vec<_> = found.into_iter().filter(|rule| !messages.contains(rule)).collect();
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn the_valid_files_use_every_field_there_is() {
    fn fields(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            fields(property, &path, found);
            found.insert(path);
        }
        fields_of_items(schema, path, found);
    }
    fn fields_of_items(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
        for keyword in ["items", "additionalProperties"] {
            if schema[keyword].is_object() {
                fields(&schema[keyword], path, found);
            }
        }
    }
    fn used(value: &Value, path: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    let path = format!("{path}.{name}");
                    used(value, &path, found);
                    found.insert(path);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| used(item, path, found)),
            _ => {}
        }
    }
    let (mut there, mut found) = (BTreeSet::new(), BTreeSet::new());
    // What people write: the spec of their kinds.
    for crd in aldis_crds::crd::all()
        .into_iter()
        .filter(|crd| crd.spec.names.kind != "GatewayConfig")
    {
        let schema = serde_json::to_value(crd.spec.versions[0].schema.as_ref().unwrap()).unwrap();
        let spec = &schema["openAPIV3Schema"]["properties"]["spec"];
        fields(
            &json!({ "properties": { "spec": spec } }),
            &crd.spec.names.kind,
            &mut there,
        );
    }
    let manifests = read_dir(&testdata("valid")).unwrap();
    for gateway in &manifests.gateways {
        used(
            &json!({ "spec": gateway.value.spec }),
            "NotificationGateway",
            &mut found,
        );
    }
    for channel in &manifests.channels {
        used(
            &json!({ "spec": channel.value.spec }),
            "NotificationChannel",
            &mut found,
        );
    }
    assert!(there.len() > 50);
    assert_eq!(there.difference(&found).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn a_directory_is_read_sorted_without_hidden_and_foreign_files() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let named = |name: &str| GATEWAY.replace("shared", name);
    write("b.yml", &named("b"));
    write(
        "a/z.json",
        &serde_json::to_string(&documents_as_json(&named("a"))).unwrap(),
    );
    write("c.yaml", "kind: [");
    write("README.md", "not YAML: [");
    write(".hidden.yaml", "broken: [");
    write("..data/x.yaml", "broken: [");
    std::os::unix::fs::symlink(folder.path(), folder.path().join("loop")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("b.yml"), folder.path().join("link.yaml")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("nowhere"), folder.path().join("dangling.yaml")).unwrap();

    let manifests = read_dir(folder.path()).unwrap();
    let names: Vec<_> = manifests
        .gateways
        .iter()
        .map(|gateway| gateway.value.metadata.name.clone().unwrap())
        .collect();
    assert_eq!(names, ["a", "b"]);
    let name_of = |problem: &Problem| problem.file.file_name().unwrap().to_string_lossy().into_owned();
    let files: Vec<_> = manifests.problems.iter().map(name_of).collect();
    assert_eq!(
        files,
        ["c.yaml", "dangling.yaml", "link.yaml"],
        "the link repeats an object"
    );

    assert_eq!(
        read_dir(&folder.path().join("b.yml")).unwrap().gateways.len(),
        1,
        "one file"
    );
    assert!(read_dir(&folder.path().join("nowhere")).is_err());
}

fn documents_as_json(text: &str) -> Value {
    yaml::documents(text).pop().unwrap().value.unwrap()
}

#[test]
fn files_that_are_too_large_or_no_text_are_problems_and_the_others_are_read() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), vec![b'#'; MAX_FILE_BYTES as usize + 1]).unwrap();
    fs::write(folder.path().join("b.yaml"), b"ok: 1\nname: \xc3\xa9\xff\n").unwrap();
    fs::write(folder.path().join("c.yaml"), GATEWAY).unwrap();
    let manifests = read_dir(folder.path()).unwrap();
    assert_eq!(manifests.gateways.len(), 1);
    let found: Vec<_> = manifests
        .problems
        .iter()
        .map(|problem| (problem.line, problem.column, problem.message.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            (1, 1, "the file is larger than 4194304 bytes"),
            (2, 8, "this byte is no UTF-8; save the file as UTF-8")
        ]
    );
}

#[test]
fn an_object_in_two_files_is_named_with_the_other_place() {
    let mut reader = Reader::default();
    reader.text(Path::new("a.yaml"), GATEWAY);
    reader.text(Path::new("b.yaml"), &format!("---\n{GATEWAY}"));
    let printed: Vec<_> = reader.manifests.problems.iter().map(Problem::to_string).collect();
    let wanted = "b.yaml:4:12: NotificationGateway default/shared: metadata.name: this object is in a.yaml:3 too; the later one would replace it";
    assert_eq!(printed, [wanted]);
    assert_eq!(reader.manifests.gateways.len(), 1);
}

#[test]
fn an_origin_places_problems_that_others_find() {
    let manifests = read_str(Path::new("x.yaml"), GATEWAY);
    let origin = &manifests.gateways[0].origin;
    assert_eq!(origin.position("spec.listeners[0].port"), (6, 27));
    let problem = origin.problem(
        "NotificationGateway default/shared",
        "spec.listeners[0].tls",
        "no key".to_owned(),
    );
    assert_eq!(
        problem.to_string(),
        "x.yaml:6:15: NotificationGateway default/shared: spec.listeners[0].tls: no key"
    );
    let whole = Problem {
        object: String::new(),
        field: String::new(),
        ..problem
    };
    assert_eq!(whole.to_string(), "x.yaml:6:15: no key");
}

#[test]
fn objects_of_a_list_are_placed_within_it() {
    let text = format!(
        "apiVersion: v1\nkind: List\nitems:\n- {}",
        GATEWAY.trim_end().replace('\n', "\n  ")
    );
    let manifests = read_str(Path::new("x.yaml"), &text);
    assert_eq!(manifests.problems, []);
    let problem = manifests.gateways[0]
        .origin
        .problem("", "spec.listeners", String::new());
    assert_eq!((problem.field.as_str(), problem.line), ("items[0].spec.listeners", 9));
}

#[test]
fn secrets_do_not_print() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: jwt}\nstringData: {key: hunter2}\n";
    let manifests = read_str(Path::new("x.yaml"), text);
    assert_eq!(manifests.secrets[0].value.data.as_ref().unwrap()["key"].0, b"hunter2");
    let printed = format!("{manifests:?}");
    assert!(
        !printed.contains("hunter2") && !printed.contains("104, 117"),
        "{printed}"
    );
}

#[test]
fn other_peoples_kinds_are_ignored_and_their_mistakes_are_not() {
    let foreign = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {nme: x}\n---\napiVersion: aldis.example/v1\nkind: NotificationChannel\n";
    assert_eq!(problems(foreign), Vec::<String>::new());
    assert_eq!(
        problems("apiVersion: apps/v1\nkind: Deployment\nkind: Job\n"),
        ["x.yaml:3:1: Job: kind: this key is in line 2 already"]
    );
}
