//! What README, docs and examples show is what a real API server takes: manifests as they stand there, and parts of one within the
//! smallest object that can have them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::admission::dry_run;
use crate::cluster::{Cluster, repository};
use crate::markdown::blocks;

/// Where parts are applied, and manifests that name no namespace.
const NAMESPACE: &str = "default";
/// Of each kind whose parts are explained, the fields that it must have: they stand where a page leaves them out.
const SMALLEST: [(&str, &[(&str, &str)]); 2] = [
    (
        "NotificationGateway",
        &[
            ("kafka", "{bootstrapServers: [\"kafka:9092\"]}"),
            ("listeners", "[{name: web, port: 3000}]"),
        ],
    ),
    ("NotificationChannel", &[("parentRefs", "[{name: shared}]")]),
];

/// Names at the beginning of lines: the fields of a part.
fn fields(part: &str) -> BTreeSet<&str> {
    let is_field = |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric());
    let names = part.lines().filter_map(|line| line.split_once(':'));
    names.map(|(name, _)| name).filter(is_field).collect()
}

/// What the spec of each kind may say, as its CRD has it.
fn spec_fields() -> BTreeMap<String, BTreeSet<String>> {
    let of = |crd: CustomResourceDefinition| {
        let schema = crd.spec.versions.into_iter().next()?.schema?.open_api_v3_schema?;
        let spec = schema.properties?.remove("spec")?;
        Some((crd.spec.names.kind, spec.properties?.into_keys().collect()))
    };
    aldis_crds::crd::all()
        .into_iter()
        .map(|crd| of(crd).expect("every kind has a spec"))
        .collect()
}

/// A whole object around the fields that a page explains, or why there is none.
fn whole(part: &str) -> Result<String, String> {
    let (shown, known) = (fields(part), spec_fields());
    let has_all = |kind: &str| shown.iter().all(|field| known[kind].contains(*field));
    let kinds: Vec<_> = SMALLEST.iter().filter(|(kind, _)| has_all(kind)).collect();
    let [(kind, required)] = kinds[..] else {
        let kinds: Vec<_> = kinds.iter().map(|(kind, _)| kind).collect();
        return Err(format!(
            "{shown:?} are not fields of the spec of one kind, but of {kinds:?}: show the whole object, or say why it is not run"
        ));
    };
    let indented = part.lines().map(|line| format!("  {line}\n"));
    let required = required.iter().filter(|(field, _)| !shown.contains(field));
    let required = required.map(|(field, value)| format!("  {field}: {value}\n"));
    let spec: String = indented.chain(required).collect();
    Ok(format!(
        "apiVersion: aldis.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: part}}\nspec:\n{spec}"
    ))
}

/// The YAML files of the examples.
fn examples(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(examples(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
    files
}

/// Every manifest that people may copy, with the place where it stands.
fn manifests() -> Vec<(String, Result<String, String>)> {
    let shown = blocks().into_iter();
    let shown = shown.filter(|block| block.language == "yaml" && block.not_run.is_none());
    let mut all: Vec<_> = shown
        .map(|block| {
            let is_whole = fields(&block.text).contains("kind");
            let manifest = if is_whole {
                Ok(block.text.clone())
            } else {
                whole(&block.text)
            };
            (block.to_string(), manifest)
        })
        .collect();
    let examples = examples(&repository().join("examples"));
    all.extend(examples.into_iter().map(|file| {
        let text = std::fs::read_to_string(&file).unwrap();
        (file.display().to_string(), Ok(text))
    }));
    all
}

/// Namespaces that a manifest names.
fn namespaces(manifest: &str) -> impl Iterator<Item = &str> {
    let named = manifest.split("namespace: ").skip(1);
    let end = |rest: &str| rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    let named = named.map(move |rest| &rest[..end(rest).unwrap_or(rest.len())]);
    named.filter(|name| !name.is_empty())
}

impl Cluster {
    /// Why a manifest is refused.
    async fn refuses(&self, manifest: &str) -> Option<String> {
        let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
        std::fs::write(file.path(), manifest).unwrap();
        dry_run(self, file.path()).await.err()
    }
}

#[tokio::test]
async fn what_pages_and_examples_show_is_taken_by_an_api_server() {
    let cluster = Cluster::start().await;
    // Of what the examples use beside Aldis.
    cluster.install("scaledobjects.yaml").await;
    let manifests = manifests();
    let named: BTreeSet<_> = manifests
        .iter()
        .filter_map(|(_, manifest)| manifest.as_ref().ok())
        .flat_map(|manifest| namespaces(manifest))
        .chain([NAMESPACE])
        .collect();
    let existing: Api<Namespace> = Api::all(cluster.client.clone());
    for name in named {
        let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
        if existing.get_opt(name).await.unwrap().is_none() {
            // The API server makes `default` itself, soon after it is ready.
            let made = existing.create(&PostParams::default(), &namespace).await;
            let is_there = |error: &kube::Error| matches!(error, kube::Error::Api(status) if status.code == 409);
            assert!(made.as_ref().err().is_none_or(is_there), "{name}: {made:?}");
        }
    }
    let mut wrong = Vec::new();
    for (place, manifest) in &manifests {
        let refused = match manifest {
            Ok(manifest) => cluster.refuses(manifest).await,
            Err(reason) => Some(reason.clone()),
        };
        wrong.extend(refused.map(|said| format!("{place}: {said}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let (parts, wholes): (Vec<_>, Vec<_>) = manifests
        .iter()
        .filter_map(|(_, manifest)| manifest.as_ref().ok())
        .partition(|manifest| manifest.contains("{name: part}"));
    assert!(
        parts.len() >= 10 && wholes.len() >= 8,
        "{} and {}",
        parts.len(),
        wholes.len()
    );

    // And it would say so.
    for (part, said) in [
        ("http:\n- {method: FETCH, path: /x}\n", "FETCH"),
        ("listeners: [{name: web, prot: 3000}]\n", "prot"),
        ("redis: {url: \"http://redis:6379\"}\n", "spec.redis.url"),
    ] {
        let refused = cluster.refuses(&whole(part).unwrap()).await;
        let refused = refused.unwrap_or_else(|| panic!("{part} is taken"));
        assert!(refused.contains(said), "{refused}");
    }
}

#[test]
fn a_part_that_is_no_field_of_one_kind_has_to_be_shown_whole() {
    for part in ["sorces: []\n", "rooms: []\nlisteners: []\n", "- a: 1\n", "nothing\n"] {
        assert!(whole(part).is_err(), "{part}");
    }
    let gateway = whole("listeners:\n- name: web\n  port: 1\n").unwrap();
    assert!(gateway.contains("kind: NotificationGateway") && gateway.contains("  - name: web\n    port: 1\n"));
    assert!(gateway.contains("  kafka: {") && gateway.matches("listeners:").count() == 1);
}
