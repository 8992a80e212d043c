//! Images: what `scripts/rootfs.sh` lists is enough for the programs, and what the Dockerfiles say is what the archive has.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::gateway::binary;
use crate::kafka::repository;

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    output
}

fn script(name: &str) -> Command {
    Command::new(repository().join("scripts").join(name))
}

/// A program, where nothing but what is in the folder is.
fn inside(rootfs: &Path, program: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "chroot"])
        .arg(rootfs)
        .arg(program);
    command
}

/// A file of a tar.
fn file_of(archive: &Path, name: &str) -> Vec<u8> {
    run(Command::new("tar").arg("-xOf").arg(archive).arg(name)).stdout
}

fn image(component: &str, rootfs: &Path, archive: &Path) -> Vec<u8> {
    let dockerfile = repository().join(format!("images/{component}.Dockerfile"));
    let name = format!("localhost/aldis-{component}:test");
    let written = run(script("image.py").arg(name).arg(rootfs).arg(dockerfile)).stdout;
    std::fs::write(archive, &written).unwrap();
    written
}

#[test]
fn an_image_has_what_its_program_needs_runs_as_nobody_and_has_nothing_else() {
    for (component, port) in [("gateway", 9901), ("operator", 9902)] {
        let (program, dir) = (format!("aldis-{component}"), tempfile::tempdir().unwrap());
        let (rootfs, archive) = (dir.path().join("rootfs"), dir.path().join("image.tar"));
        run(script("rootfs.sh")
            .arg(&rootfs)
            .args([binary(&program), binary("aldis-health")]));
        let version = run(inside(&rootfs, &format!("/{program}")).arg("--version")).stdout;
        assert!(String::from_utf8_lossy(&version).starts_with(&program), "{version:?}");
        let top = std::fs::read_dir(&rootfs).unwrap();
        let mut top: Vec<_> = top
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        top.retain(|name| !["lib", "lib64", "usr"].contains(&name.as_str()));
        top.sort();
        let mut expected = [program.as_str(), "aldis-health", "etc"];
        expected.sort();
        assert_eq!(top, expected);

        let first = image(component, &rootfs, &archive);
        let config: Value = serde_json::from_slice(&file_of(&archive, "config.json")).unwrap();
        let check = json!(["CMD", "/aldis-health", format!("127.0.0.1:{port}")]);
        assert_eq!(
            config["config"],
            json!({
                "User": "65532:65532",
                "Entrypoint": [format!("/{program}")],
                "ExposedPorts": { format!("{port}/tcp"): {} },
                "Healthcheck": { "Test": check, "Interval": 10_000_000_000_u64, "Timeout": 3_000_000_000_u64, "StartPeriod": 30_000_000_000_u64 }
            })
        );
        assert!(
            first == image(component, &rootfs, &archive),
            "the same files are the same image"
        );
    }
}

/// A builder gets what the tar file has: the stage that compiles calls the same script for the same programs.
#[test]
fn the_stage_that_compiles_lists_the_programs_that_the_tar_file_has() {
    for component in ["gateway", "operator"] {
        let dockerfile = std::fs::read_to_string(repository().join(format!("images/{component}.Dockerfile"))).unwrap();
        let (compiles, last) = dockerfile.split_once("\nFROM scratch\n").unwrap();
        let programs = format!("aldis-{component} target/release/aldis-health");
        let listed = format!("&& scripts/rootfs.sh /rootfs target/release/{programs}\n");
        assert_eq!(
            compiles.matches("rootfs.sh").count(),
            1 + usize::from(compiles.contains("# Exactly"))
        );
        assert!(compiles.contains(&listed), "{component}: no {listed}");
        let built = format!("cargo build --locked --release --bin aldis-{component} --bin aldis-health");
        assert!(compiles.contains(&built), "{component}: no {built}");
        let copies: Vec<_> = last
            .lines()
            .filter(|line| line.starts_with("COPY") || line.starts_with("ADD"))
            .collect();
        assert_eq!(copies, ["COPY --from=build /rootfs/ /"], "{component}");
    }
}

#[test]
fn two_archives_are_the_same_image_where_files_and_settings_are() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let rootfs = at("rootfs");
    std::fs::create_dir(&rootfs).unwrap();
    std::fs::write(rootfs.join("program"), "1").unwrap();
    let archive = |name: &str, entrypoint: &str| {
        let written = run(script("image.py").arg("a:b").arg(&rootfs).arg(entrypoint)).stdout;
        std::fs::write(at(name), written).unwrap();
        at(name)
    };
    let differences = |other: &Path| {
        let output = script("same-image.py").arg(at("first")).arg(other).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.success(), said.is_empty(), "{said}");
        said
    };
    archive("first", "/program");
    assert_eq!(differences(&archive("same", "/program")), "");
    assert!(differences(&archive("settings", "/another")).starts_with("Entrypoint: "));
    std::fs::write(rootfs.join("program"), "2").unwrap();
    assert!(differences(&archive("content", "/program")).starts_with("/program: "));
    std::fs::write(rootfs.join("program"), "1").unwrap();
    std::fs::write(rootfs.join("more"), "").unwrap();
    assert!(differences(&archive("more", "/program")).starts_with("/more: None and"));
}

#[test]
fn a_dockerfile_that_ends_in_another_image_or_says_more_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dockerfile = dir.path().join("Dockerfile");
    for (text, said) in [
        ("FROM scratch AS a\nFROM debian\nUSER 65532", "not FROM scratch"),
        ("FROM scratch\nRUN chmod 777 /", "does not know what to do with: RUN"),
    ] {
        std::fs::write(&dockerfile, text).unwrap();
        let output = script("image.py")
            .arg("a:b")
            .arg(dir.path())
            .arg(&dockerfile)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(said), "{error}");
    }
}

#[test]
fn a_container_is_healthy_while_its_process_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = std::thread::spawn(move || {
        for status in ["200 OK", "503 Service Unavailable"] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 26];
            stream.read_exact(&mut request).unwrap();
            assert!(request.starts_with(b"GET /health/live HTTP/1.0"));
            stream
                .write_all(format!("HTTP/1.0 {status}\r\n\r\n").as_bytes())
                .unwrap();
        }
    });
    let healthy = || {
        Command::new(binary("aldis-health"))
            .arg(&address)
            .status()
            .unwrap()
            .success()
    };
    assert!(healthy());
    assert!(!healthy());
    asked.join().unwrap();
    assert!(!healthy(), "nobody is there");
}
