//! Patterns of what a tenant may claim.
//!
//! `{namespace}` is the namespace that claims. A `*` stands for anything but nothing, at the end only and behind a separator:
//! `shop*` would cover `shopping`, which is somebody else's. For the same reason no `*` follows `{namespace}-`: a namespace's
//! name may hold `-`, so that `a-*` of namespace `a` would cover what `{namespace}-*` grants to namespace `a-b`.

/// Where the name of the namespace goes.
pub(super) const NAMESPACE: &str = "{namespace}";

/// What is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A Socket.IO namespace.
    Path,
    /// A path of HTTP.
    HttpPath,
    /// A topic of Kafka.
    Topic,
}

/// A pattern that can be read.
#[derive(Debug)]
pub(super) struct Pattern<'p> {
    kind: Kind,
    /// The pattern, without its `*`.
    text: &'p str,
    /// Whether it had one.
    any: bool,
}

/// HTTP paths that are the gateway's own, with all below them.
const OWN_PATHS: [&str; 2] = ["/socket.io", "/aldis"];
/// HTTP paths that are granted one at a time only, with all that begins so.
const EXACT_PATHS: [&str; 2] = ["/health", "/api/docs"];

impl<'p> Pattern<'p> {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Why it grants nothing.
    pub(super) fn read(kind: Kind, pattern: &'p str) -> Result<Self, String> {
        let (text, any) = match pattern.strip_suffix('*') {
            Some(text) => (text, true),
            None => (pattern, false),
        };
        let rest = text.replace(NAMESPACE, "");
        if rest.contains(['*', '{', '}']) {
            return Err(format!(
                "{pattern:?} grants nothing: a * stands at the end only, and {NAMESPACE} is all that braces may hold"
            ));
        }
        if kind != Kind::Topic && !text.starts_with('/') {
            return Err(format!("{pattern:?} grants nothing: a path begins with /"));
        }
        let separators: &[char] = if kind == Kind::Topic { &['.', '_', '-'] } else { &['/'] };
        if any && !text.ends_with(separators) {
            return Err(format!(
                "{pattern:?} grants nothing: a * stands behind a separator, {}",
                if kind == Kind::Topic {
                    "one of . _ -"
                } else {
                    "which is /"
                }
            ));
        }
        if any && text.ends_with(&format!("{NAMESPACE}-")) {
            return Err(format!(
                "{pattern:?} grants nothing: names of namespaces may hold -, so it would cover what is another's; write {NAMESPACE}.*"
            ));
        }
        if kind == Kind::HttpPath {
            reserved(pattern, text, any)?;
        }
        Ok(Self { kind, text, any })
    }

    /// Whether a namespace may claim this.
    pub(super) fn covers(&self, namespace: &str, claimed: &str) -> bool {
        let text = self.text.replace(NAMESPACE, namespace);
        // A namespace may be called `aldis` or `health`.
        if self.kind == Kind::HttpPath && is_own(claimed, self.exact().is_some()) {
            return false;
        }
        if !self.any {
            return claimed == text;
        }
        let rest = claimed.strip_prefix(&text);
        rest.is_some_and(|rest| match self.kind {
            Kind::Topic => !rest.is_empty(),
            // Some clients resolve these on the way, and would come out somewhere else.
            Kind::Path | Kind::HttpPath => rest.split('/').all(|segment| !matches!(segment, "" | "." | "..")),
        })
    }

    /// The one thing that it covers, for any namespace.
    pub(super) fn exact(&self) -> Option<&'p str> {
        (!self.any && !self.text.contains(NAMESPACE)).then_some(self.text)
    }
}

/// Whether this HTTP path is the gateway's own, or is granted only by a pattern that is `exact`.
fn is_own(path: &str, exact: bool) -> bool {
    let is_below = |own: &str| path == own || path.strip_prefix(own).is_some_and(|rest| rest.starts_with('/'));
    OWN_PATHS.iter().any(|own| is_below(own)) || (!exact && EXACT_PATHS.iter().any(|own| path.starts_with(own)))
}

fn reserved(pattern: &str, text: &str, any: bool) -> Result<(), String> {
    let own = || OWN_PATHS.iter().chain(&EXACT_PATHS);
    if is_own(text, !any) || (any && own().any(|own| own.starts_with(text))) {
        return Err(format!(
            "{pattern:?} grants nothing: {} are the gateway's own, and {} are granted one at a time",
            OWN_PATHS.join(" and "),
            EXACT_PATHS.map(|path| format!("{path}*")).join(" and ")
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(kind: Kind, pattern: &str, namespace: &str, claimed: &str) -> bool {
        Pattern::read(kind, pattern).unwrap().covers(namespace, claimed)
    }

    #[test]
    fn a_path_is_granted_as_itself_or_below_a_slash() {
        for (pattern, claimed, expected) in [
            ("/{namespace}/*", "/shop/orders", true),
            ("/{namespace}/*", "/shop/orders/late", true),
            ("/{namespace}/*", "/shop", false),
            ("/{namespace}/*", "/shop/", false),
            ("/{namespace}/*", "/shopping/orders", false),
            ("/{namespace}/*", "/other/orders", false),
            ("/{namespace}/*", "/shop/../other", false),
            ("/{namespace}/*", "/shop/./x", false),
            ("/{namespace}/*", "/shop//x", false),
            ("/{namespace}/*", "/{namespace}/x", false),
            ("/{namespace}", "/shop", true),
            ("/orders", "/orders", true),
            ("/orders", "/orders/x", false),
            ("/", "/", true),
            ("/", "/x", false),
            ("/*", "/", false),
            ("/*", "/x", true),
        ] {
            assert_eq!(
                covers(Kind::Path, pattern, "shop", claimed),
                expected,
                "{pattern} {claimed}"
            );
        }
    }

    #[test]
    fn a_topic_is_granted_as_itself_or_behind_a_separator() {
        for (pattern, claimed, expected) in [
            ("orders", "orders", true),
            ("orders", "orders.late", false),
            ("{namespace}.*", "a.orders", true),
            ("{namespace}.*", "a.", false),
            ("{namespace}.*", "a-b.orders", false),
            ("{namespace}.*", "a", false),
            ("{namespace}_*", "a_orders", true),
            ("all-*", "all-orders", true),
            ("x-{namespace}.*", "x-a.orders", true),
            ("x-{namespace}.*", "x-a-b.orders", false),
        ] {
            assert_eq!(
                covers(Kind::Topic, pattern, "a", claimed),
                expected,
                "{pattern} {claimed}"
            );
        }
    }

    #[test]
    fn a_namespace_called_like_a_path_of_the_gateway_does_not_get_it() {
        for (pattern, namespace, claimed) in [
            ("/{namespace}/*", "aldis", "/aldis/v1"),
            ("/{namespace}/*", "health", "/health/live"),
            ("/{namespace}", "health", "/health"),
            ("/{namespace}/*", "api", "/api/docs"),
        ] {
            assert!(!covers(Kind::HttpPath, pattern, namespace, claimed), "{claimed}");
        }
        assert!(covers(Kind::HttpPath, "/health/live", "any", "/health/live"));
        assert!(covers(Kind::HttpPath, "/{namespace}/*", "api", "/api/v1"));
    }

    #[test]
    fn a_pattern_that_could_cover_what_is_anothers_grants_nothing() {
        for (kind, pattern) in [
            (Kind::Topic, "*"),
            (Kind::Topic, "shop*"),
            (Kind::Topic, "{namespace}*"),
            (Kind::Topic, "{namespace}-*"),
            (Kind::Topic, "*.orders"),
            (Kind::Topic, "{name}.*"),
            (Kind::Topic, "{{namespace}}.x"),
            (Kind::Path, "*"),
            (Kind::Path, "/shop*"),
            (Kind::Path, "/{namespace}*"),
            (Kind::Path, "/{namespace}-*"),
            (Kind::Path, "shop"),
            (Kind::Path, "/*/x"),
            (Kind::HttpPath, "/*"),
            (Kind::HttpPath, "/socket.io"),
            (Kind::HttpPath, "/socket.io/x"),
            (Kind::HttpPath, "/aldis/*"),
            (Kind::HttpPath, "/aldis"),
            (Kind::HttpPath, "/health/*"),
            (Kind::HttpPath, "/api/*"),
            (Kind::HttpPath, "/api/docs/*"),
        ] {
            assert!(Pattern::read(kind, pattern).is_err(), "{kind:?} {pattern}");
        }
        for pattern in [
            "/{namespace}/*",
            "/health",
            "/health/live",
            "/api/docs",
            "/aldis-shop/*",
            "/api/v1/*",
        ] {
            assert!(Pattern::read(Kind::HttpPath, pattern).is_ok(), "{pattern}");
        }
    }
}
