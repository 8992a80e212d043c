//! How to mend what a schema refuses, in words.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::Regex;
use serde_json::Value;

use super::shown;

/// What a value must be to fit a pattern. The tests know that every pattern of the kinds is here.
const PATTERNS: &[(&str, &str)] = &[
    (
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        "must be lower-case letters, digits and '-', and begin and end with a letter or digit",
    ),
    (
        r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        "must be lower-case letters, digits, '-' and '.', and begin and end with a letter or digit",
    ),
    (
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        "must be lower-case letters, digits, '-' and '.', and every part between '.' begin and end with a letter or digit",
    ),
    (
        r"^[A-Za-z0-9]([-_A-Za-z0-9]*[A-Za-z0-9])?$",
        "must be letters, digits, '-' and '_', and begin and end with a letter or digit",
    ),
    (
        r"^([A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?)?$",
        "must be letters, digits, '-', '_' and '.', and begin and end with a letter or digit",
    ),
    (r"^[-._a-zA-Z0-9]+$", "must be letters, digits, '-', '_' and '.'"),
    (r"^[A-Za-z0-9._-]+$", "must be letters, digits, '-', '_' and '.'"),
    (
        r"^[A-Za-z0-9._\[\]:-]+:[0-9]{1,5}$",
        "must be host:port, such as kafka-0.kafka:9092",
    ),
    (
        r"^rediss?(\+sentinel|\+cluster)?://[^\s@]+$",
        "must be redis://host:port, rediss:// over TLS, redis+sentinel://host:port,…/master or redis+cluster://host:port,…, without a user and a password",
    ),
    (
        r"^/[A-Za-z0-9._~/-]*$",
        "must begin with '/', and then have only letters, digits and . _ ~ / -",
    ),
    (
        r"^/[A-Za-z0-9._~{}/-]*$",
        "must begin with '/', and then have only letters, digits and . _ ~ / - and parameters in braces",
    ),
    (
        r"^(body|query)(\.[A-Za-z_][A-Za-z0-9_]*)+$",
        "must be the path of a field in the request, such as body.order_id or query.tenant_id",
    ),
    (
        r"^([^*]+\*?|\*)$",
        "must be an event type, or the beginning of one and a single '*' behind it",
    ),
    (
        r"^https?://[^ @#\\]+$",
        "must be an https URL, such as https://id.example.com/jwks.json",
    ),
    (r"^[^ \t\r\n]+$", "must not have spaces or line breaks"),
    (
        r"^[1-9][0-9]{0,5}[smh]$",
        "must be a number of seconds, minutes or hours, such as 30s, 10m or 1h",
    ),
    (
        r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        "must be a host name in lower case, such as notify.example.com, or *.example.com for all below it",
    ),
    (
        r"^(\*|https?://([a-z0-9._-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?)$",
        "must be an origin as browsers send it, such as https://app.example.com (in lower case, without a path or a '/' at the end), or \"*\"",
    ),
    (
        r"^[1-9][0-9]{0,5}(ms|s|m)$",
        "must be a number of milliseconds, seconds or minutes, such as 1500ms, 25s or 2m",
    ),
    (
        r"^[1-9][0-9]{0,6}(k|Ki|M|Mi)?$",
        "must be a number of bytes, such as 65536, 100k or 1Mi",
    ),
    (
        r"^[A-Za-z_][A-Za-z0-9_]*$",
        "must be letters, digits and '_', and not begin with a digit",
    ),
    (
        r"^data(\.[A-Za-z_][A-Za-z0-9_]*)+$",
        "must be the path of a field in the event's data, such as data.order_id",
    ),
    (
        r"^[1-9][0-9]{0,8}(k|M|G|Ki|Mi|Gi)?$",
        "must be a number of bytes, such as 100000, 64Ki or 256Mi",
    ),
    (
        r"^/((\{namespace\}|[A-Za-z0-9._~-])+/)*(\*|(\{namespace\}|[A-Za-z0-9._~-])*)$",
        "must be a path, such as /orders; {namespace} stands for the channel's, and a * behind the last / for anything",
    ),
    (
        r"^(\{namespace\}|[A-Za-z0-9._-])+([._-]\*)?$",
        "must be a topic, such as orders; {namespace} stands for the channel's, and a * at the end, behind one of . _ and -, for anything",
    ),
    (
        r"^[A-Za-z0-9*._:\[\]/-]+$",
        "must be a host or an address range, such as id.example.com or 10.0.0.0/8",
    ),
    (
        r"^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$",
        "must be an address or a range of addresses, such as 10.0.0.0/8 or fd00::/8",
    ),
];

/// What a value must be to fit `pattern`.
pub(super) fn pattern(pattern: &str) -> String {
    match PATTERNS.iter().find(|(known, _)| *known == pattern) {
        Some((_, hint)) => (*hint).to_owned(),
        None => format!("must match the pattern {pattern}"),
    }
}

/// Whether a text fits a pattern of a schema. A pattern that cannot be read fits nothing.
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    thread_local! {
        static COMPILED: RefCell<HashMap<String, Option<Regex>>> = RefCell::default();
    }
    COMPILED.with_borrow_mut(|compiled| {
        let regex = compiled
            .entry(pattern.to_owned())
            .or_insert_with(|| Regex::new(pattern).ok());
        regex.as_ref().is_some_and(|regex| regex.is_match(text))
    })
}

/// A value of another type than the schema's. Never shows the value, which may be a secret.
pub(super) fn wrong_type(wanted: &str, value: &Value) -> String {
    let (wanted, found) = (named(wanted), named(type_of(value)));
    let mend = match (wanted, value) {
        ("a string", Value::Bool(_)) => "; yes, no, on, off, y and n are booleans in YAML: put it in quotes",
        ("a string", Value::Number(_)) => "; put it in quotes",
        ("an integer", Value::Number(_)) => " that is no integer",
        ("an integer" | "a number", Value::String(text)) if text.parse::<f64>().is_ok() => "; leave out the quotes",
        ("a boolean", Value::String(text)) if text == "true" || text == "false" => "; leave out the quotes",
        ("a list", _) if !value.is_null() => "; begin every item with a dash, or write the list in brackets",
        _ => "",
    };
    format!("must be {wanted}, and is {found}{mend}")
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn named(type_: &str) -> &'static str {
    match type_ {
        "object" => "an object",
        "array" => "a list",
        "string" => "a string",
        "integer" => "an integer",
        "number" => "a number",
        "boolean" => "a boolean",
        _ => "null",
    }
}

/// A field that the schema does not have.
pub(super) fn unknown_field<'a>(key: &str, existing: impl Iterator<Item = &'a str> + Clone) -> String {
    if let Some(close) = closest(key, existing.clone()) {
        return format!("unknown field; did you mean {close:?}?");
    }
    let existing: Vec<_> = existing.collect();
    let booleans = match key {
        "true" => "; yes, on and y as keys are true in YAML",
        "false" => "; no, off and n as keys are false in YAML",
        _ => "",
    };
    match existing[..] {
        [] => format!("unknown field{booleans}; there can be none here"),
        _ => format!("unknown field{booleans}; there can be {}", existing.join(", ")),
    }
}

/// A text that is none of those that the schema lists.
pub(super) fn not_allowed(text: &str, allowed: &[&str]) -> String {
    let list = allowed
        .iter()
        .map(|value| format!("{value:?}"))
        .collect::<Vec<_>>()
        .join(", ");
    let guess = match closest(text, allowed.iter().copied()) {
        Some(close) if allowed.len() > 1 => format!("; did you mean {close:?}?"),
        _ => String::new(),
    };
    format!(
        "{} is not allowed; must be {}{list}{guess}",
        shown(text),
        if allowed.len() > 1 { "one of " } else { "" }
    )
}

/// What somebody meant who wrote `word`: the name at the smallest distance, if it is small for a name of that length, or
/// one that `word` begins.
pub(crate) fn closest<'a>(word: &str, names: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let distance = |name: &str| strsim::osa_distance(&lower, &name.to_lowercase());
    let near = names
        .clone()
        .map(|name| (distance(name), name))
        .filter(|(distance, name)| *distance <= name.len().min(word.len()) / 3);
    let nearest = near.min_by_key(|(distance, _)| *distance).map(|(_, name)| name);
    nearest.or_else(|| {
        let mut begun = names.filter(|name| lower.len() >= 3 && name.to_lowercase().starts_with(&lower));
        begun.next().filter(|_| begun.next().is_none())
    })
}
