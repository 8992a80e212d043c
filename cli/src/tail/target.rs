//! Where `aldis tail` connects to, and as whom: from its arguments to the client's options.

use serde_json::json;

use super::{TailArgs, TailError};
use crate::args::{Secret, json_object};
use crate::client::Connect;

/// `from_env` is the token used where the arguments give none.
pub(super) fn connect_options(args: &TailArgs, from_env: Option<Secret>) -> Result<Connect, TailError> {
    let (url, namespace, mut query) = split_url(&args.url);
    query.extend(args.query.iter().cloned());
    let auth = match (&args.auth, args.token.as_ref().or(from_env.as_ref())) {
        (Some(auth), _) => Some(json_object(auth.reveal()).map_err(TailError::Auth)?),
        (None, Some(token)) => Some(json!({"token": token.reveal()})),
        (None, None) => None,
    };
    let namespace = args.namespace.clone().unwrap_or(namespace);
    Ok(Connect {
        path: args.path.clone(),
        namespace,
        query,
        auth,
        ..Connect::to(url)
    })
}

/// Takes `http://host:port/namespace?query` apart as Socket.IO's clients do. Without a scheme it is http.
fn split_url(url: &str) -> (String, String, Vec<(String, String)>) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let rest = rest.split('#').next().unwrap_or_default();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, namespace) = rest.split_once('/').unwrap_or((rest, ""));
    let query = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (percent_decode(name), percent_decode(value)))
        .collect();
    (format!("{scheme}://{host}"), format!("/{namespace}"), query)
}

/// Decodes `%XX`; what is not such a code stays as it is.
fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if bytes[at] == b'%' => {
                decoded.push(byte);
                at += 3;
            }
            _ => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
