//! Every block is executed by a test, or says why not; every manifest is valid; every link and path leads somewhere.

use std::collections::BTreeMap;
use std::path::Path;

use aldis_cli::declared::{Declared, Elsewhere};

use crate::kafka::repository;
use crate::markdown::{Block, blocks, pages};
use crate::node::node;

/// Blocks that no test can execute. Each says why, in a comment before it.
const NOT_RUN: usize = 14;

/// What executes a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Executed {
    /// [`every_manifest_is_valid`]
    Manifest,
    /// [`the_parts_that_a_page_explains_make_valid_ones`]
    Part,
    /// [`super::the_clients_in_the_pages_receive_the_example_record`]
    Client,
    /// [`every_fragment_of_javascript_is_javascript`]
    Fragment,
    /// `tests/src/tests/bistro/snippets.rs`
    Snippet,
    /// `tests/src/tests/bistro/service.rs`
    Calls,
    /// [`super::commands`]
    Commands,
}

pub(super) fn executed(block: &Block) -> Option<Executed> {
    let of_the_example = block.page == "examples/bistro/README.md";
    match block.language.as_str() {
        _ if block.not_run.is_some() => None,
        "yaml" if block.text.contains("apiVersion: aldis.dev/") => Some(Executed::Manifest),
        "yaml" => Some(Executed::Part),
        "js" if of_the_example => Some(Executed::Snippet),
        "js" if block.text.contains("require(") => Some(Executed::Client),
        "js" => Some(Executed::Fragment),
        "sh" if of_the_example && block.text.contains("curl") => Some(Executed::Calls),
        "sh" => Some(Executed::Commands),
        _ => None,
    }
}

#[test]
fn every_block_is_executed_or_says_why_not() {
    let mut not_run = Vec::new();
    // Drawings, and what programs print, are text.
    for block in blocks().into_iter().filter(|block| block.language != "text") {
        match &block.not_run {
            Some(reason) => not_run.push(format!("{block}: {reason}")),
            None => assert!(
                executed(&block).is_some(),
                "{block}: no test executes {:?}",
                block.language
            ),
        }
    }
    assert_eq!(not_run.len(), NOT_RUN, "these are not run:\n{}", not_run.join("\n"));
}

#[tokio::test]
async fn every_fragment_of_javascript_is_javascript() {
    let fragments = blocks().into_iter();
    for block in fragments.filter(|block| executed(block) == Some(Executed::Fragment)) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("fragment.mjs");
        std::fs::write(&file, &block.text).unwrap();
        let output = node(&["--check", file.to_str().unwrap()]).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{block}: {said}");
    }
}

/// Where a page leaves out gateways and Secrets, they are somewhere else.
fn assert_valid(what: &str, manifest: &str) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("block.yaml"), manifest).unwrap();
    let elsewhere = Elsewhere {
        gateways: true,
        secrets: true,
    };
    let declared = Declared::read(dir.path(), elsewhere).unwrap();
    let findings: Vec<_> = declared.findings.iter().map(ToString::to_string).collect();
    assert!(findings.is_empty(), "{what}:\n{}\nin\n{manifest}", findings.join("\n"));
    assert!(!declared.is_empty(), "{what} holds nothing");
}

#[test]
fn every_manifest_is_valid() {
    let manifests = blocks().into_iter();
    let manifests: Vec<_> = manifests
        .filter(|block| executed(block) == Some(Executed::Manifest))
        .collect();
    assert!(manifests.iter().any(|block| block.page == "README.md"));
    for block in manifests {
        assert_valid(&block.to_string(), &block.text);
    }
}

/// Fields of a gateway that pages explain; all others are a channel's. The value stands where a page leaves the field out.
const OF_A_GATEWAY: [(&str, &str); 4] = [
    ("autoscaling", "{minReplicas: 1, maxReplicas: 2}"),
    ("kafka", "{bootstrapServers: [\"kafka:9092\"]}"),
    ("listeners", "[{name: web, port: 3000}]"),
    ("tenants", "[]"),
];

/// A page explains a channel, or a gateway, part by part: together they are one that is valid.
#[test]
fn the_parts_that_a_page_explains_make_valid_ones() {
    let mut specs: BTreeMap<(String, bool), String> = BTreeMap::new();
    for block in blocks()
        .into_iter()
        .filter(|block| executed(block) == Some(Executed::Part))
    {
        let field = block.text.split(':').next().unwrap_or_default();
        let of_a_gateway = OF_A_GATEWAY.iter().any(|(known, _)| *known == field);
        let spec = specs.entry((block.page.clone(), of_a_gateway)).or_default();
        spec.extend(block.text.lines().map(|line| format!("  {line}\n")));
    }
    assert!(specs.len() >= 4, "{specs:?}");
    for ((page, of_a_gateway), mut spec) in specs {
        let kind = match of_a_gateway {
            true => "NotificationGateway",
            false => "NotificationChannel",
        };
        let rest = match of_a_gateway {
            true => OF_A_GATEWAY.to_vec(),
            false => vec![("parentRefs", "[{name: shared}]")],
        };
        for (field, value) in rest {
            if !spec.lines().any(|line| line.starts_with(&format!("  {field}:"))) {
                spec += &format!("  {field}: {value}\n");
            }
        }
        let metadata = "metadata: {name: parts, namespace: docs}";
        let manifest = format!("apiVersion: aldis.dev/v1alpha1\nkind: {kind}\n{metadata}\nspec:\n{spec}");
        assert_valid(&page, &manifest);
    }
}

#[test]
fn every_link_and_path_in_the_pages_leads_somewhere() {
    let mut checked = 0;
    for page in pages() {
        let text = std::fs::read_to_string(repository().join(&page)).unwrap();
        let folder = page.parent().unwrap();
        // Between backticks is code, in blocks too.
        let prose: String = text.split('`').step_by(2).collect();
        let links = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let links = links.filter(|link| !link.contains("://"));
        let links = links.map(|link| folder.join(link.split('#').next().unwrap_or_default()));
        let is_path = |code: &&str| {
            let folders = [
                "charts/",
                "cli/",
                "crds/",
                "docs/",
                "examples/",
                "gateway/",
                "operator/",
                "scripts/",
                "tests/",
            ];
            let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
            folders.iter().any(|folder| code.starts_with(folder)) && code.chars().all(plain) && !code.ends_with('/')
        };
        let code = text
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(is_path)
            .map(|code| Path::new(code).to_owned());
        for path in links.chain(code) {
            let found = repository().join(&path).exists();
            assert!(found, "{}: there is no {}", page.display(), path.display());
            checked += 1;
        }
    }
    assert!(checked > 50, "{checked} links and paths were found");
}
