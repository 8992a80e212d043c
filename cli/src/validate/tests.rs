use clap::Parser as _;
use tempfile::TempDir;

use super::*;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    args: ValidateArgs,
}

/// A directory with these files.
fn dir(files: &[(&str, &str)]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

fn args(dir: &TempDir, flags: &[&str]) -> ValidateArgs {
    let path = dir.path().to_str().unwrap();
    Line::parse_from(["validate", path].iter().chain(flags)).args
}

/// What is printed, with paths from the directory on; and the verdict.
fn validated(files: &[(&str, &str)], flags: &[&str]) -> (String, Result<(), ValidateError>) {
    let dir = dir(files);
    let args = args(&dir, flags);
    let report = check(&args).unwrap();
    let text = report
        .text(Style::Plain)
        .replace(&format!("{}/", dir.path().display()), "");
    (text, report.verdict(&args))
}

const GATEWAY: &str = "\
apiVersion: aldis.dev/v1alpha1
kind: NotificationGateway
metadata: {name: shared, namespace: realtime}
spec:
  kafka: {bootstrapServers: ['kafka:9092']}
  listeners: [{name: web, port: 3000}]
";

const CHANNEL: &str = "\
apiVersion: aldis.dev/v1alpha1
kind: NotificationChannel
metadata: {name: orders, namespace: bistro}
spec:
  parentRefs: [{name: shared, namespace: realtime}]
  authentication:
    jwt:
    - name: staff
      secretRef: {name: jwt, key: secret}
      algorithms: [HS256]
      identity: {user: claims.sub}
  sources: [{name: main, kafka: {topics: [orders]}}]
  rooms: [{name: all, key: all}, {name: one, key: 'one:{id}'}]
  routes:
  - types: [made]
    emit: [{event: made, to: [{room: all}]}]
";

const SECRET: &str = "\
apiVersion: v1
kind: Secret
metadata: {name: jwt, namespace: bistro, labels: {aldis.dev/use: channel}}
stringData: {secret: never-shown}
";

#[test]
fn a_good_directory_is_summed_up() {
    let (text, verdict) = validated(
        &[
            ("gateway.yaml", GATEWAY),
            ("bistro/orders.yml", CHANNEL),
            ("bistro/secret.yaml", SECRET),
        ],
        &[],
    );
    assert_eq!(text, "ok: 1 gateway, 1 channel, 2 rooms, 1 route\n");
    assert!(verdict.is_ok());
}

#[test]
fn every_mistake_of_a_directory_is_a_line_by_file_and_line() {
    let younger = CHANNEL.replace("name: orders, namespace", "name: younger, namespace");
    let younger = younger.replace("spec:", "spec:\n  paths: [/bistro/orders]");
    let wrong = CHANNEL
        .replace("name: orders, namespace: bistro", "name: wrong, namespace: bistro")
        .replace("namespace: realtime}", "namespace: realtime, sectionName: wob}")
        .replace("key: secret", "key: token")
        .replace("claims.sub", "clams.sub")
        .replace("{room: all}", "{room: al}");
    let both = format!("{younger}---\n{wrong}");
    let unreadable = "kind: [\n";
    let schema = GATEWAY
        .replace("shared", "other")
        .replace("port: 3000", "port: 3000, prot: 1");
    let (text, verdict) = validated(
        &[
            ("z/gateway.yaml", GATEWAY),
            ("c/orders.yaml", CHANNEL),
            ("b/both.yaml", &both),
            ("secret.yaml", SECRET),
            ("schema.yaml", &schema),
            ("unreadable.yaml", unreadable),
        ],
        &[],
    );
    let expected = r#"b/both.yaml:5:11: NotificationChannel bistro/younger: spec.paths[0]: conflicted: path /bistro/orders of listener web belongs to bistro/orders already; choose another in spec.paths (see c/orders.yaml:3)
b/both.yaml:23:52: NotificationChannel bistro/wrong: spec.parentRefs[0].sectionName: NotificationGateway realtime/shared has no listener "wob"; it has: web (see z/gateway.yaml:3)
b/both.yaml:27:30: NotificationChannel bistro/wrong: spec.authentication.jwt[0].secretRef.key: Secret bistro/jwt has no key "token"; it has: secret
b/both.yaml:29:18: NotificationChannel bistro/wrong: spec.authentication.jwt[0].identity.user: column 1: there is no "clams" here; there are claims
b/both.yaml:34:32: NotificationChannel bistro/wrong: spec.routes[0].emit[0].to[0].room: there is no room "al"; there are: all, one
schema.yaml:6:39: NotificationGateway realtime/other: spec.listeners[0].prot: unknown field; did you mean "port"?
"#;
    let (lines, last) = text.rsplit_once("unreadable.yaml:").unwrap();
    assert_eq!(lines, expected);
    assert!(last.contains("this is no YAML: "), "{last}");
    assert_eq!(verdict.unwrap_err().to_string(), "7 problems in 3 files");
}

#[test]
fn a_tenants_own_files_can_be_checked_alone() {
    let files = [("orders.yaml", CHANNEL)];
    let (text, verdict) = validated(&files, &[]);
    assert_eq!(text.lines().count(), 2);
    let error = verdict.unwrap_err();
    assert_eq!(error.to_string(), "2 problems in 1 file");
    assert!(error.hint().unwrap().contains("--no-gateway and --no-secrets"));

    let (text, _) = validated(&files, &["--no-gateway"]);
    assert!(
        text.starts_with("orders.yaml:9:19: ") && text.lines().count() == 1,
        "{text}"
    );
    let (text, _) = validated(&files, &["--no-secrets"]);
    assert!(
        text.starts_with("orders.yaml:5:17: ") && text.lines().count() == 1,
        "{text}"
    );
    let (text, verdict) = validated(&files, &["--no-gateway", "--no-secrets"]);
    assert_eq!(text, "ok: 0 gateways, 1 channel, 2 rooms, 1 route\n");
    assert!(verdict.is_ok());

    let wrong = CHANNEL.replace("key: 'one:{id}'", "key: 'one:{id'");
    let (text, _) = validated(&[("orders.yaml", &wrong)], &["--no-gateway", "--no-secrets"]);
    assert!(text.contains("spec.rooms[1].key"), "{text}");
}

#[test]
fn a_mistake_in_a_gateway_or_secret_is_not_held_against_its_channels() {
    let gateway = GATEWAY.replace("port", "prot");
    let secret = SECRET.replace("stringData: {secret: never-shown}", "data: {secret: '%never-shown%'}");
    let (text, _) = validated(&[("a.yaml", &gateway), ("b.yaml", CHANNEL), ("c.yaml", &secret)], &[]);
    assert!(!text.contains("b.yaml"), "{text}");
    assert!(text.contains("a.yaml:6") && text.contains("c.yaml:4"), "{text}");
    assert!(!text.contains("never-shown"));
}

#[test]
fn json_holds_the_same_problems_with_their_reasons() {
    let channel = CHANNEL.replace("claims.sub", "clams.sub");
    let dir = dir(&[("orders.yaml", &channel)]);
    let report = check(&args(&dir, &["--output", "json", "--no-secrets"])).unwrap();
    let json = report.json();
    assert_eq!(json["ok"], false);
    let problems = json["problems"].as_array().unwrap();
    let brief = |problem: &Value| {
        (
            problem["reason"].clone(),
            problem["line"].clone(),
            problem["object"].clone(),
        )
    };
    let object = json!("NotificationChannel bistro/orders");
    assert_eq!(
        brief(&problems[0]),
        (json!("GatewayNotFound"), json!(5), object.clone())
    );
    assert_eq!(brief(&problems[1]), (json!("Invalid"), json!(11), object));
    assert_eq!(problems.len(), 2);
    assert_eq!(
        json["read"],
        json!({ "gateways": 0, "channels": 1, "rooms": 2, "routes": 1 })
    );
}

#[test]
fn colours_are_only_there_when_asked_for_and_change_no_text() {
    let dir = dir(&[("orders.yaml", CHANNEL)]);
    let report = check(&args(&dir, &[])).unwrap();
    let (plain, coloured) = (report.text(Style::Plain), report.text(Style::Colours));
    assert!(!plain.contains('\x1b'));
    assert!(coloured.contains("\x1b[1m"));
    let stripped = ["\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[36m", "\x1b[0m"]
        .iter()
        .fold(coloured, |text, code| text.replace(code, ""));
    assert_eq!(stripped, plain);
}

#[test]
fn what_a_file_says_cannot_steer_the_terminal() {
    let channel = CHANNEL
        .replace("[made]", r#"["made"]"#)
        .replace("event: made", r#"event: "\e[2Jmade\n", "x\e[31m": 1"#);
    let (text, verdict) = validated(&[("orders.yaml", &channel)], &["--no-gateway", "--no-secrets"]);
    assert!(verdict.is_err());
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
}

#[test]
fn a_directory_without_manifests_or_that_is_not_there_fails() {
    let empty = dir(&[
        ("README.md", "nothing"),
        ("service.yaml", "apiVersion: v1\nkind: Service\n"),
    ]);
    assert!(matches!(check(&args(&empty, &[])), Err(ValidateError::Nothing { .. })));
    let mut gone = args(&empty, &[]);
    gone.dir.push("gone");
    assert!(matches!(check(&gone), Err(ValidateError::Unreadable { .. })));
}

#[test]
fn a_channel_that_nobody_can_connect_to_is_served_and_warned_of() {
    let (begin, end) = (
        CHANNEL.find("  authentication:").unwrap(),
        CHANNEL.find("  sources:").unwrap(),
    );
    let closed = [&CHANNEL[..begin], &CHANNEL[end..]].concat();
    let files = [("gateway.yaml", GATEWAY), ("orders.yaml", closed.as_str())];
    let (text, verdict) = validated(&files, &[]);
    assert!(verdict.is_ok());
    assert_eq!(
        text,
        "orders.yaml:4:1: warning: NotificationChannel bistro/orders: spec.authentication: nobody may connect: name who may by \
         `jwt` or `query`, or write `anonymous: {}` for everybody\nok: 1 gateway, 1 channel, 2 rooms, 1 route\n"
    );
    let dir = dir(&files);
    let json = check(&args(&dir, &[])).unwrap().json();
    assert_eq!((&json["ok"], &json["problems"]), (&json!(true), &json!([])));
    assert_eq!(json["warnings"][0]["field"], "spec.authentication");
}

#[test]
fn a_gateway_that_shows_a_password_to_whoever_listens_is_served_and_warned_of() {
    let kafka = "bootstrapServers: [";
    for (mechanism, tls, shown) in [
        (
            "PLAIN",
            "",
            "the password goes over the network as it is, and so do records",
        ),
        (
            "SCRAM-SHA-256",
            "",
            "records go over the network in the clear, and nobody checks who the brokers are",
        ),
        ("PLAIN", "tls: {}, ", ""),
    ] {
        let sasl = format!("sasl: {{mechanism: {mechanism}, secretRef: {{name: kafka-user}}}}, {tls}{kafka}");
        let gateway = GATEWAY.replace(kafka, &sasl);
        assert_ne!(gateway, GATEWAY);
        let (text, verdict) = validated(
            &[("gateway.yaml", &gateway), ("orders.yaml", CHANNEL)],
            &["--no-secrets"],
        );
        assert!(verdict.is_ok(), "{text}");
        let warned = text.contains(&format!("spec.kafka.sasl: {shown}: add `tls: {{}}`"));
        assert_eq!(warned, !shown.is_empty(), "{text}");
        assert_eq!(text.contains("warning"), warned, "{text}");
    }
}
