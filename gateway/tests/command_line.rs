//! The binary `aldis-gateway`: what it says when it can not run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aldis-gateway"));
    command.args(args).env_remove("ALDIS_LOG").output().unwrap()
}

#[test]
fn without_a_configuration_it_says_how_to_get_one_and_fails() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(&["--config", dir.path().to_str().unwrap()]);
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(
        log.contains("there is no config.json in") && log.contains("aldis translate DIR --out"),
        "{log}"
    );
}

#[test]
fn a_port_that_is_none_is_wrong_usage() {
    for port in ["web", "web=http", "web=70000"] {
        let output = run(&["--config", ".", "--port", port]);
        assert_eq!(output.status.code(), Some(2), "{port}: {output:?}");
    }
}
