//! The one place that asks what time it is: everything else is told.

use std::time::{SystemTime, UNIX_EPOCH};

use aldis_core::time::Millis;

/// A clock; tests may have it stand still.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    fixed: Option<Millis>,
}

impl Clock {
    /// A clock that stands at `now`.
    pub fn fixed(now: Millis) -> Self {
        Self { fixed: Some(now) }
    }

    /// The time now.
    pub fn now(&self) -> Millis {
        self.fixed.unwrap_or_else(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
        })
    }
}
