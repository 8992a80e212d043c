//! Waiting: until something is so, never for a time that is hoped to be enough.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long anything may take before a test gives up. 40 s: the broker's slowest answer, after a crash, is some 10 s.
pub(crate) const DEADLINE: Duration = Duration::from_secs(40);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Looks until `found` says something; panics with `what` after [`DEADLINE`].
pub(crate) async fn until<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = found().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        sleep(LOOK).await;
    }
}

/// Looks until `value` gives `expected`; panics with the last value after [`DEADLINE`].
pub(crate) async fn until_equal<T: PartialEq + Debug>(what: &str, expected: T, mut value: impl AsyncFnMut() -> T) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let found = value().await;
        if found == expected {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "not within {DEADLINE:?}: {what}: {found:?} is not {expected:?}"
        );
        sleep(LOOK).await;
    }
}

/// The future's value; panics with `what` after [`DEADLINE`].
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {DEADLINE:?}: {what}"),
    }
}
