//! Directories of manifests to run, with topics and a consumer group that no other test has.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::kafka::{repository, unique};

/// A directory of manifests.
pub(crate) struct Manifests {
    dir: TempDir,
    /// Topic that the channels read.
    pub(crate) topic: String,
    /// The gateway's dead letter topic.
    pub(crate) dead_letters: String,
    /// The gateway's consumer group.
    group: String,
}

impl Manifests {
    /// `examples/bistro`: channels bistro/orders on `/`, `/orders`, `/kitchen` and `/managers`, bistro/kitchen on
    /// `/kitchen/display`. Orders are in [`Self::topic`], payments and inventory in topics named after it.
    pub(crate) fn bistro() -> Self {
        let manifests = Self::new();
        let Self {
            topic, dead_letters, ..
        } = &manifests;
        let group = format!(
            "deadLetterTopic: {dead_letters}\n    ingressTopic: {dead_letters}.http\n    groupId: {}",
            unique("bistro")
        );
        let changes = [
            (
                "gateway.yaml",
                vec![("deadLetterTopic: bistro.dead-letters", group.as_str())],
            ),
            ("kitchen.yaml", vec![("topics: [orders]", "topics: [TOPIC]")]),
            (
                "orders.yaml",
                vec![
                    ("topics: [orders]", "topics: [TOPIC]"),
                    ("topics: [payments]", "topics: [TOPIC.payments]"),
                    ("topics: [inventory]", "topics: [TOPIC.inventory]"),
                    ("{topic: bistro.orders.dead-letters}", "{topic: DEAD}"),
                ],
            ),
            ("secret.yaml", vec![]),
        ];
        for (file, changes) in changes {
            let mut text = std::fs::read_to_string(repository().join("examples/bistro").join(file)).unwrap();
            for (from, to) in changes {
                assert!(text.contains(from), "{file} has no {from:?}");
                text = text.replace(
                    from,
                    &to.replace("TOPIC", topic)
                        .replace("DEAD", &format!("{dead_letters}.orders")),
                );
            }
            manifests.write(file, &text);
        }
        manifests
    }

    /// `examples/protocol`: channel protocol/echo on `/` and `/custom`. Its listener has `times` in place of the short ones that
    /// the public suites expect.
    pub(crate) fn protocol(times: &str) -> Self {
        let manifests = Self::new();
        let example = repository().join("examples/protocol");
        let read = |file| std::fs::read_to_string(example.join(file)).unwrap();
        let short = "heartbeat: {interval: 300ms, timeout: 200ms}\n    connectTimeout: 1s";
        let gateway = read("gateway.yaml");
        assert!(gateway.contains(short), "{gateway}");
        manifests.write("gateway.yaml", &gateway.replace(short, times));
        manifests.write("echo.yaml", &read("echo.yaml"));
        manifests
    }

    /// A gateway alone.
    pub(crate) fn gateway() -> Self {
        let manifests = Self::new();
        manifests.listeners("[{name: web, port: 3000}]");
        manifests
    }

    /// Writes the gateway with these listeners, as a YAML list in one line or an indented block.
    pub(crate) fn listeners(&self, listeners: &str) {
        self.gateway_with(&format!("listeners: {listeners}"));
    }

    /// Writes the gateway with these fields beside its Kafka, indented as they are below `spec`.
    pub(crate) fn gateway_with(&self, fields: &str) {
        self.gateway_at("kafka:9092", "", fields);
    }

    /// The same with this broker, and what else is so of its Kafka (`tls: {}, sasl: {…}`).
    pub(crate) fn gateway_at(&self, broker: &str, kafka: &str, fields: &str) {
        let Self {
            dead_letters, group, ..
        } = self;
        self.write(
            "gateway.yaml",
            &format!(
                "apiVersion: aldis.dev/v1alpha1
kind: NotificationGateway
metadata: {{name: shared, namespace: press}}
spec:
  kafka: {{bootstrapServers: [\"{broker}\"], groupId: {group}, deadLetterTopic: {dead_letters}, ingressTopic: {dead_letters}.http, {kafka}}}
  {fields}
"
            ),
        );
    }

    /// A gateway with the channel press/news on `/news`.
    pub(crate) fn news() -> Self {
        let manifests = Self::gateway();
        manifests.channel("news", "news:published");
        manifests
    }

    /// Grants the namespace press everything that it wants here, within `limits` (`{connections: 1}`), and others nothing
    /// but the same.
    pub(crate) fn limit(&self, limits: &str) {
        self.limit_each(&[("press", limits), ("other", limits)]);
    }

    /// The same for these namespaces, each within its limits.
    pub(crate) fn limit_each(&self, tenants: &[(&str, &str)]) {
        let tenants = tenants
            .iter()
            .map(|(tenant, limits)| (*tenant, format!("limits: {limits}")));
        self.grant_each(tenants);
    }

    /// Grants the namespaces press and other everything that they want here, and `more` (`egress: [10.0.0.0/8]`).
    pub(crate) fn grant(&self, more: &str) {
        self.grant_each(["press", "other"].map(|tenant| (tenant, more.to_owned())));
    }

    /// They may read the topic, and those whose names begin with it and a dot.
    fn grant_each<'t>(&self, tenants: impl IntoIterator<Item = (&'t str, String)>) {
        let gateway = std::fs::read_to_string(self.path().join("gateway.yaml")).unwrap();
        let declared = gateway.split("  tenants:").next().unwrap();
        let tenants = tenants.into_iter().map(|(tenant, more)| self.tenant(tenant, &more));
        let tenants = tenants.collect::<String>();
        self.write("gateway.yaml", &format!("{declared}  tenants:\n{tenants}"));
    }

    fn tenant(&self, name: &str, more: &str) -> String {
        let Self { topic, .. } = self;
        format!(
            "  - name: {name}
    namespaces: {{matchLabels: {{kubernetes.io/metadata.name: {name}}}}}
    listeners: [web]
    paths: [\"/*\"]
    httpPaths: [\"/{{namespace}}/*\"]
    topics: [{topic}, \"{topic}.*\"]
    authentication: [jwt, query, anonymous, open]
    {more}
"
        )
    }

    /// Writes a channel press/NAME on `/NAME` into the file NAME.yaml. Anybody may `join` and `leave` `{room}`; a record
    /// `{type: news, room, ...}` goes to its room as `event`, with itself as payload.
    pub(crate) fn channel(&self, name: &str, event: &str) {
        let Self { topic, .. } = self;
        self.write(
            &format!("{name}.yaml"),
            &format!(
                "apiVersion: aldis.dev/v1alpha1
kind: NotificationChannel
metadata: {{name: {name}, namespace: press}}
spec:
  parentRefs: [{{name: shared}}]
  paths: [/{name}]
  authentication: {{anonymous: {{}}}}
  sources:
  - name: news
    kafka: {{topics: [{topic}]}}
    type: \"{{body.type}}\"
    data: \"{{body}}\"
    where: \"!has(body.draft)\"
    require: [data.room]
  rooms:
  - name: room
    key: \"room:{{room}}\"
    join: {{event: join, leave: leave, with: {{room: args.room}}}}
    allow: \"true\"
  routes:
  - types: [news]
    emit:
    - event: \"{event}\"
      payload: \"{{event.data}}\"
      to: [{{room: room, with: {{room: event.data.room}}}}]
"
            ),
        );
    }

    /// Writes a channel press/news on `/news`, with `more` beside sources, routes and rooms. Those whom `allow` lets may `join`
    /// `{room}`; a record `{n, room}` goes to its room as event `news`, with `n` as payload.
    pub(crate) fn numbers(&self, allow: &str, more: &str) {
        let Self { topic, .. } = self;
        self.write(
            "news.yaml",
            &format!(
                "apiVersion: aldis.dev/v1alpha1
kind: NotificationChannel
metadata: {{name: news, namespace: press}}
spec:
  parentRefs: [{{name: shared}}]
  paths: [/news]
  authentication: {{anonymous: {{}}}}
  sources: [{{name: news, kafka: {{topics: [{topic}]}}, type: news}}]
  rooms: [{{name: room, key: \"room:{{room}}\", join: {{event: join, with: {{room: args.room}}}}, allow: {allow}}}]
  routes:
  - types: [news]
    emit: [{{event: news, payload: \"{{event.data.n}}\", to: [{{room: room, with: {{room: event.data.room}}}}]}}]
{more}
"
            ),
        );
    }

    /// Writes a file in one step, so that nobody reads half of it.
    pub(crate) fn write(&self, file: &str, text: &str) {
        let new = self.dir.path().join(".new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.path().join(file)).unwrap();
    }

    pub(crate) fn remove(&self, file: &str) {
        std::fs::remove_file(self.path().join(file)).unwrap();
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("manifests")
    }

    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(Path::new(dir.path()).join("manifests")).unwrap();
        Self {
            dir,
            topic: unique("records"),
            dead_letters: unique("dead-letters"),
            group: unique("press"),
        }
    }
}
