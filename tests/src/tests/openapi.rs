//! The OpenAPI document of a channel against what its listener answers: each is all of the other.

use std::collections::BTreeSet;
use std::process::Stdio;

use aldis_core::http::{BuiltIn, Health};
use aldis_crds::names::ChannelName;
use serde_json::Value;

use crate::deadline::within;
use crate::gateway::Gateway;
use crate::manifests::Manifests;
use crate::node::node;

/// Method and path of what the manifests below declare.
const DECLARED: [(&str, &str); 4] = [
    ("GET", "/api/docs"),
    ("GET", "/health/ready"),
    ("POST", "/press/rooms/{room}/news"),
    ("DELETE", "/press/rooms/{room}/news"),
];

fn manifests() -> Manifests {
    let manifests = Manifests::gateway();
    manifests.write(
        "news.yaml",
        "apiVersion: v1
kind: Secret
metadata: {name: jwt, namespace: press, labels: {aldis.dev/use: channel}}
stringData: {secret: a-secret-for-a-test}
---
apiVersion: aldis.dev/v1alpha1
kind: NotificationChannel
metadata:
  name: news
  namespace: press
  annotations:
    aldis.dev/sample: '{\"claims\": {\"sub\": \"ann\", \"role\": \"editor\"}}'
spec:
  parentRefs: [{name: shared}]
  authentication:
    jwt: [{name: staff, secretRef: {name: jwt, key: secret}, algorithms: [HS256], identity: {user: claims.sub, attributes: {role: claims.role}}}]
  http:
  - {method: GET, path: /api/docs, allow: identity.role == 'editor', docs: true}
  - {method: GET, path: /health/ready, allow: \"true\", respond: {body: {status: mine}}}
  - method: POST
    path: /press/rooms/{room}/news
    allow: identity.role == 'editor'
    require: [body.title]
    validations: [{rule: size(body.title) < 20, message: the title is too long}]
    publish: {type: published, data: {room: \"{params.room}\", title: \"{body.title}\"}}
  - {method: DELETE, path: \"/press/rooms/{room}/news\", allow: \"true\", respond: {body: {gone: true}}}
  api: {allow: identity.role == 'editor'}
",
    );
    manifests
}

/// Status of an empty request, with this token.
async fn ask(gateway: &Gateway, method: &str, path: &str, token: Option<&str>) -> (u16, String) {
    let url = gateway.url(&path.replace("{room}", "a").replace("{user}", "b"));
    let mut request = reqwest::Client::new().request(method.parse().unwrap(), url);
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let response = within(path, request.send()).await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test]
async fn every_route_that_is_served_is_in_the_document_and_the_other_way_round() {
    let manifests = manifests();
    let gateway = Gateway::start(&manifests.path(), None).await;
    let token = gateway.channel("press/news").token.clone().unwrap();
    assert_eq!(ask(&gateway, "GET", "/api/docs", None).await.0, 401);
    let (status, document) = ask(&gateway, "GET", "/api/docs", Some(&token)).await;
    assert_eq!(status, 200, "{document}");
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let described: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys();
            methods.map(|method| (method.to_uppercase(), path.clone()))
        })
        .collect();

    let channel = ChannelName {
        namespace: "press".to_owned(),
        name: "news".to_owned(),
    };
    let declared = DECLARED.map(|(method, path)| (method.to_owned(), path.to_owned()));
    let built_in = BuiltIn::ALL.map(|it| (it.method().as_str().to_owned(), it.path_of(&channel)));
    let health = Health::ALL.map(|it| ("GET".to_owned(), it.path().to_owned()));
    let served: BTreeSet<_> = declared.into_iter().chain(built_in).chain(health).collect();
    assert_eq!(described, served);

    for path in described.iter().map(|(_, path)| path).collect::<BTreeSet<_>>() {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let (status, body) = ask(&gateway, method, path, Some(&token)).await;
            let is_described = described.contains(&(method.to_owned(), path.clone()));
            assert_eq!(
                ![404, 405].contains(&status),
                is_described,
                "{method} {path} is answered {status}: {body}"
            );
            if is_described {
                let responses = &document["paths"][path][method.to_lowercase()]["responses"];
                assert!(
                    responses.get(status.to_string()).is_some(),
                    "{method} {path}: {status} is not among {responses}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_browser_shows_the_document_to_who_has_a_token() {
    let manifests = manifests();
    let gateway = Gateway::start(&manifests.path(), None).await;
    let token = gateway.channel("press/news").token.clone().unwrap();
    let looked = node(&["page.js", "docs", &gateway.url("/api/docs"), &token])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output();
    let output = within("the page of the document", looked).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
