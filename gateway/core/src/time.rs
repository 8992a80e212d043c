//! Times as Aldis handles and shows them.

use chrono::{DateTime, Datelike, SecondsFormat, Utc};

/// Milliseconds since 1970-01-01T00:00:00Z, Kafka's measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub i64);

impl Millis {
    /// RFC 3339 with milliseconds and `Z`: `2026-11-21T09:30:00.000Z`. Times before year 1 or after
    /// 9999, which RFC 3339 has no form for, are shown as the epoch.
    pub fn rfc3339(self) -> String {
        self.to_chrono().to_rfc3339_opts(SecondsFormat::Millis, true)
    }

    /// From an RFC 3339 text, as CloudEvents' `time` is.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        DateTime::parse_from_rfc3339(text)
            .ok()
            .map(|time| Self(time.timestamp_millis()))
    }

    pub(crate) fn to_chrono(self) -> DateTime<Utc> {
        // Also keeps calculations with them in what chrono can hold: it panics beyond.
        DateTime::from_timestamp_millis(self.0)
            .filter(|time| (1..=9999).contains(&time.year()))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::Millis;

    #[test]
    fn times_have_milliseconds_and_z() {
        assert_eq!(Millis(0).rfc3339(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Millis(1_795_253_400_007).rfc3339(), "2026-11-21T09:30:00.007Z");
        assert_eq!(
            Millis::parse_rfc3339("2026-11-21T10:30:00.007+01:00"),
            Some(Millis(1_795_253_400_007))
        );
    }
}
