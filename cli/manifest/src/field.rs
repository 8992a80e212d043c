//! Field paths, written as `kubectl` writes them: `spec.routes[0].emit[1].payload`, `spec.tables.statusText["a.b"]`.

/// The path of a field of `parent`; an empty parent is the document.
pub fn of(parent: &str, key: &str) -> String {
    let mut path = parent.to_owned();
    push_key(&mut path, key);
    path
}

/// The path of an element of the list `parent`.
pub fn item(parent: &str, index: usize) -> String {
    format!("{parent}[{index}]")
}

/// Appends a field, in brackets and quotes where it would be read otherwise.
pub(crate) fn push_key(path: &mut String, key: &str) {
    let plain = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if !plain {
        path.push_str(&format!("[{}]", serde_json::Value::from(key)));
        return;
    }
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}

/// Appends an element.
pub(crate) fn push_index(path: &mut String, index: usize) {
    path.push_str(&format!("[{index}]"));
}

/// One step of a path.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

/// The steps of a path, up to where it stops being one.
pub(crate) fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let step = match rest.strip_prefix("[\"") {
            Some(_) => quoted(&mut rest),
            None if rest.starts_with('[') => index(&mut rest),
            None => {
                rest = rest.strip_prefix('.').unwrap_or(rest);
                let end = rest.find(['.', '[']).unwrap_or(rest.len());
                let key = rest[..end].to_owned();
                rest = &rest[end..];
                (!key.is_empty()).then_some(Step::Key(key))
            }
        };
        match step {
            Some(step) => steps.push(step),
            None => break,
        }
    }
    steps
}

/// `["key"]` at the beginning of `rest`, which moves on behind it.
fn quoted(rest: &mut &str) -> Option<Step> {
    let inside = &rest[1..];
    let mut strings = serde_json::Deserializer::from_str(inside).into_iter::<String>();
    let key = strings.next()?.ok()?;
    *rest = inside[strings.byte_offset()..].strip_prefix(']')?;
    Some(Step::Key(key))
}

/// `[12]` at the beginning of `rest`, which moves on behind it.
fn index(rest: &mut &str) -> Option<Step> {
    let (digits, behind) = rest[1..].split_once(']')?;
    *rest = behind;
    digits.parse().ok().map(Step::Index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_back_as_it_was_written() {
        let path = item(&of(&of(&of("", "spec"), "a.b\"c]"), "x-y"), 7);
        assert_eq!(path, r#"spec["a.b\"c]"].x-y[7]"#);
        let key = |key: &str| Step::Key(key.to_owned());
        assert_eq!(steps(&path), [key("spec"), key("a.b\"c]"), key("x-y"), Step::Index(7)]);
    }

    #[test]
    fn what_is_no_path_ends_it() {
        for broken in ["a[", "a[x]", "a[\"b", "a[\"b\"", "a[-1]", "a..b"] {
            assert_eq!(steps(broken), [Step::Key("a".to_owned())], "{broken}");
        }
    }
}
