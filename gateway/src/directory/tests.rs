use std::os::unix::fs::symlink;

use super::*;

const CONFIG: &str = r#"{"version": 1,
  "kafka": {"bootstrapServers": ["kafka:9092"], "groupId": "g", "deadLetterTopic": "dead", "ingressTopic": "in"},
  "listeners": [{"name": "web", "port": 3000}], "channels": []}"#;

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> &Self {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn directory(&self) -> Directory {
        Directory::new(self.0.path().to_owned(), None)
    }

    fn load(&self) -> Result<(GatewayConfig, Keys), LoadError> {
        self.directory().read().and_then(Files::parse)
    }

    fn error(&self) -> String {
        self.load().expect_err("it is refused").to_string()
    }
}

#[test]
fn json_and_yaml_say_the_same_and_keys_are_beside_them() {
    let json = Dir::new();
    json.write("config.json", CONFIG)
        .write("keys/listener_web_tls.crt", "chain")
        .write("keys/listener_web_tls.key", "key");
    let (config, keys) = json.load().unwrap();
    assert_eq!(config.listeners[0].name, "web");
    assert_eq!(keys.certificate("web").unwrap().chain.expose(), b"chain");
    let yaml = Dir::new();
    yaml.write(
        "config.yaml",
        "version: 1\nkafka: {bootstrapServers: ['kafka:9092'], groupId: g, deadLetterTopic: dead, ingressTopic: in}\nlisteners:\n- {name: web, port: 3000}\nchannels: []\n",
    );
    assert_eq!(yaml.load().unwrap().0, config);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let dir = Dir::new();
    assert!(dir.error().contains("there is no config.json in"));
    dir.write("config.json", "{\n  \"version\": 1,\n]");
    assert!(
        dir.error().contains("config.json: ") && dir.error().contains("line 3"),
        "{}",
        dir.error()
    );
    dir.write("config.json", &CONFIG.replace("\"port\": 3000", "\"port\": \"web\""));
    assert!(
        dir.error().contains("listeners[0].port: invalid type: string"),
        "{}",
        dir.error()
    );
    dir.write(
        "config.json",
        &CONFIG.replace("\"port\": 3000", "\"port\": 3000, \"tsl\": {}"),
    );
    assert!(dir.error().contains("unknown field `tsl`"), "{}", dir.error());
    dir.write("config.json", &CONFIG.replace("\"version\": 1", "\"version\": 2"));
    assert!(
        dir.error()
            .contains("version 2 of the contract, and this gateway reads version 1"),
        "{}",
        dir.error()
    );
    dir.write("config.json", CONFIG).write("config.yaml", "version: 1");
    assert!(
        dir.error().contains("has config.json and config.yaml: remove one"),
        "{}",
        dir.error()
    );
    fs::remove_file(dir.0.path().join("config.json")).unwrap();
    dir.write("config.yaml", "version: 1\n---\nversion: 1\n");
    assert!(dir.error().contains("2 YAML documents"), "{}", dir.error());
    dir.write("config.yaml", "a: [");
    assert!(dir.error().contains("line "), "{}", dir.error());
}

#[test]
fn a_mounted_secret_that_is_swapped_is_another_content_and_no_other_file_counts() {
    let dir = Dir::new();
    let keys = dir.0.path().join("keys");
    dir.write("config.json", CONFIG)
        .write("keys/..1/listener_web_tls.crt", "old chain")
        .write("keys/..1/listener_web_tls.key", "old key")
        .write("keys/..2/listener_web_tls.crt", "new chain")
        .write("keys/..2/listener_web_tls.key", "new key");
    // As a kubelet mounts a Secret: files are links through ..data, which is swapped.
    symlink("..1", keys.join("..data")).unwrap();
    for name in ["listener_web_tls.crt", "listener_web_tls.key"] {
        symlink(Path::new("..data").join(name), keys.join(name)).unwrap();
    }
    let look = || dir.directory().read().unwrap();
    let before = look();
    assert_eq!(before.fingerprint(), look().fingerprint(), "the same is the same");
    let (_, old) = before.parse().unwrap();
    assert_eq!(old.certificate("web").unwrap().key.expose(), b"old key");
    let fingerprint = look().fingerprint();
    symlink("..2", keys.join("..data_tmp")).unwrap();
    fs::rename(keys.join("..data_tmp"), keys.join("..data")).unwrap();
    assert_ne!(look().fingerprint(), fingerprint);
    let (_, new) = look().parse().unwrap();
    assert_eq!(new.certificate("web").unwrap().chain.expose(), b"new chain");
}

#[test]
fn keys_may_be_mounted_elsewhere() {
    let (config, keys) = (Dir::new(), Dir::new());
    config.write("config.json", CONFIG);
    keys.write("channel_bistro_jwt_secret", "s");
    let directory = Directory::new(config.0.path().to_owned(), Some(keys.0.path().to_owned()));
    let (_, keys) = directory.read().unwrap().parse().unwrap();
    let reference = serde_json::from_str(r#"{"name": "jwt", "key": "secret"}"#).unwrap();
    assert_eq!(keys.get("bistro", &reference).unwrap().expose(), b"s");
}
