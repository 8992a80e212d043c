//! Listing, completions, man pages and errors, as a process.

use std::fs;

use serde_json::Value;

use crate::aldis::run;

const BISTRO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/bistro");

#[tokio::test]
async fn channels_are_listed_as_a_table_without_colours_where_no_terminal_is() {
    let ended = run(&["list", BISTRO], &[], "").await;
    assert!(ended.status.success(), "{ended:?}");
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert!(lines[0].starts_with("CHANNEL "), "{ended:?}");
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("bistro/kitchen ") && line.contains(" /kitchen/display "))
    );
    assert!(!ended.stdout.contains('\x1b'), "{ended:?}");
}

#[tokio::test]
async fn the_same_channels_are_listed_as_json_and_yaml() {
    let json = run(&["list", BISTRO, "--output", "json"], &[], "").await;
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    let names = |value: &Value| -> Vec<String> {
        let rows = value.as_array().unwrap().iter();
        rows.map(|row| row["name"].as_str().unwrap().to_owned()).collect()
    };
    assert!(names(&json).contains(&"bistro/orders".to_owned()), "{json}");
    assert_eq!(json[0]["problems"], 0);
    let yaml = run(&["list", BISTRO, "--output", "yaml"], &[], "").await.stdout;
    let listed: Vec<_> = yaml
        .lines()
        .filter_map(|line| line.trim_start_matches("- ").trim().strip_prefix("name: "))
        .collect();
    assert_eq!(listed, names(&json), "{yaml}");
}

#[tokio::test]
async fn problems_are_printed_as_yaml_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.yaml");
    fs::write(
        &file,
        "apiVersion: aldis.dev/v1alpha1\nkind: NotificationChannel\nmetadata: {name: a, namespace: b}\nspec: {}\n",
    )
    .unwrap();
    let ended = run(&["validate", file.to_str().unwrap(), "--output", "yaml"], &[], "").await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(
        ended.stdout.starts_with("ok: false\nproblems:\n- column: "),
        "{ended:?}"
    );
}

#[tokio::test]
async fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let ended = run(&["completions", shell], &[], "").await;
        assert!(ended.status.success(), "{ended:?}");
        for command in [
            "dev",
            "validate",
            "translate",
            "list",
            "publish",
            "tail",
            "token",
            "status",
            "why",
            "completions",
            "man",
        ] {
            assert!(ended.stdout.contains(command), "{shell} does not know {command}");
        }
    }
    let ended = run(&["completions", "cmd.exe"], &[], "").await;
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    assert!(ended.stderr.contains("possible values: bash"), "{ended:?}");
}

/// A shell takes what is printed: it is no text that only looks like a script.
#[tokio::test]
async fn bash_completes_with_what_is_printed() {
    let ended = run(&["completions", "bash"], &[], "").await;
    let script = format!(
        "{}\nCOMP_WORDS=(aldis pub); COMP_CWORD=1; _aldis aldis pub aldis; echo \"${{COMPREPLY[@]}}\"",
        ended.stdout
    );
    let output = tokio::process::Command::new("bash")
        .args(["-c", &script])
        .output()
        .await
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "publish", "{output:?}");
}

#[tokio::test]
async fn there_is_a_man_page_for_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().join("man1");
    let ended = run(&["man", into.to_str().unwrap()], &[], "").await;
    assert!(ended.status.success(), "{ended:?}");
    for page in [
        "aldis",
        "aldis-dev",
        "aldis-validate",
        "aldis-list",
        "aldis-publish",
        "aldis-tail",
        "aldis-token",
        "aldis-status",
        "aldis-why",
    ] {
        let text = fs::read_to_string(into.join(format!("{page}.1"))).unwrap();
        assert!(
            text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"),
            "{page}: {text}"
        );
    }
    let blocked = dir.path().join("file");
    fs::write(&blocked, "").unwrap();
    let ended = run(&["man", blocked.to_str().unwrap()], &[], "").await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains("hint: may you write there?"), "{ended:?}");
}
