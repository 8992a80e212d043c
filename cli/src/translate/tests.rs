use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn manifests(secret: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "apiVersion: aldis.dev/v1alpha1
kind: NotificationGateway
metadata: {{name: shared, namespace: press}}
spec:
  kafka: {{bootstrapServers: [\"kafka:9092\"]}}
  listeners: [{{name: web, port: 3000}}]
---
apiVersion: aldis.dev/v1alpha1
kind: NotificationChannel
metadata: {{name: news, namespace: press}}
spec:
  parentRefs: [{{name: shared}}]
  authentication: {{jwt: [{{name: staff, secretRef: {{name: {secret}, key: secret}}, algorithms: [HS256], identity: {{user: claims.sub}}}}]}}
---
apiVersion: v1
kind: Secret
metadata: {{name: {secret}, namespace: press, labels: {{aldis.dev/use: channel}}}}
stringData: {{secret: never-shown}}
"
    );
    fs::write(dir.path().join("all.yaml"), text).unwrap();
    dir
}

fn translate_to(out: &Path, secret: &str) {
    let dir = manifests(secret);
    run(TranslateArgs {
        dir: dir.path().to_owned(),
        out: Some(out.to_owned()),
        gateway: None,
    })
    .unwrap();
}

#[test]
fn what_is_written_is_the_configuration_and_exactly_its_keys() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("gateway");
    translate_to(&out, "old");
    translate_to(&out, "jwt");
    let keys: Vec<_> = fs::read_dir(out.join("keys"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(keys, ["channel_press_jwt_secret"], "the key of before is gone");
    let key = out.join("keys/channel_press_jwt_secret");
    assert_eq!(fs::read(&key).unwrap(), b"never-shown");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let config = fs::read_to_string(out.join("config.json")).unwrap();
    assert!(!config.contains("never-shown"));
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["channels"][0]["channel"]["name"], "news");
    assert_eq!(config["version"], aldis_crds::contract::CONTRACT_VERSION);
}
