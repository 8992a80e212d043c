//! Runs the built binary.

use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::server::DEADLINE;

/// A running `aldis`; killed when dropped.
pub struct Aldis {
    child: Child,
    pub stdout: Lines<BufReader<ChildStdout>>,
}

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// Starts the binary with `input` on standard input and no environment of ours but `env`.
pub async fn start(args: &[&str], env: &[(&str, &str)], input: &str) -> Aldis {
    let mut child = Command::new(env!("CARGO_BIN_EXE_aldis"))
        .args(args)
        .env_remove("ALDIS_TOKEN")
        .env_remove("ALDIS_SECRET")
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that reads no input may be gone already.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    Aldis { child, stdout }
}

/// Runs it to its end.
pub async fn run(args: &[&str], env: &[(&str, &str)], input: &str) -> Ended {
    start(args, env, input).await.end().await
}

impl Aldis {
    /// The next line of standard output.
    pub async fn line(&mut self) -> String {
        let line = timeout(DEADLINE, self.stdout.next_line())
            .await
            .expect("no line came")
            .unwrap();
        line.expect("standard output ended")
    }

    /// Sends the signal that Ctrl-C sends.
    pub async fn interrupt(&self) {
        let pid = self.child.id().expect("still running").to_string();
        assert!(
            Command::new("kill")
                .args(["-INT", &pid])
                .status()
                .await
                .unwrap()
                .success()
        );
    }

    pub async fn end(mut self) -> Ended {
        let ending = async {
            let (mut stdout, mut stderr) = (String::new(), String::new());
            let mut errors = self.child.stderr.take().unwrap();
            let read_stdout = async {
                while let Some(line) = self.stdout.next_line().await.unwrap() {
                    stdout.push_str(&line);
                    stdout.push('\n');
                }
            };
            let (_, read) = tokio::join!(read_stdout, errors.read_to_string(&mut stderr));
            read.unwrap();
            Ended {
                status: self.child.wait().await.unwrap(),
                stdout,
                stderr,
            }
        };
        timeout(DEADLINE, ending).await.expect("the command did not end")
    }
}

#[tokio::test]
async fn version_and_help_are_told() {
    let ended = run(&["--version"], &[], "").await;
    assert_eq!(ended.stdout, format!("aldis {}\n", env!("CARGO_PKG_VERSION")));
    let help = run(&["--help"], &[], "").await.stdout;
    for command in ["tail", "publish", "token"] {
        assert!(help.contains(command), "{help}");
    }
}

#[tokio::test]
async fn wrong_usage_ends_with_code_2() {
    for wrong in [
        &["nonsense"][..],
        &["tail"],
        &["publish", "--topic", "t"],
        &["tail", "ftp://h"],
    ] {
        let ended = run(wrong, &[], "").await;
        assert_eq!(ended.status.code(), Some(2), "{wrong:?}: {ended:?}");
        assert!(ended.stderr.starts_with("error: "), "{wrong:?}: {ended:?}");
    }
}
