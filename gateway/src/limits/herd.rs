//! Herds: stock clients come back within a second and a half, all of them. They are let in one after the other, at a pace that
//! leaves time for those who are connected.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::sabotage::Rule;

/// CONNECTs that are let in each second. 1,000: a fifth of a core's time or so.
pub const CONNECTS_PER_SECOND: u32 = 1_000;
/// CONNECTs that are let in at once after a quiet moment. 100.
pub const CONNECT_BURST: u32 = 100;
/// CONNECTs that may wait for their turn. 20,000: the last of them waits for 20 s, well within a client's connect timeout.
pub const CONNECTS_WAITING: u32 = 20_000;

/// A token bucket with a line.
#[derive(Debug)]
pub struct Herd {
    /// When the bucket is full again, if nobody comes.
    full_at: Mutex<Option<Instant>>,
    per_second: u32,
    burst: u32,
    waiting: u32,
}

/// The line is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineFull;

impl Default for Herd {
    fn default() -> Self {
        Self::new(CONNECTS_PER_SECOND, CONNECT_BURST, CONNECTS_WAITING)
    }
}

impl Herd {
    /// A full bucket.
    pub fn new(per_second: u32, burst: u32, waiting: u32) -> Self {
        Self {
            full_at: Mutex::new(None),
            per_second: per_second.max(1),
            burst: burst.max(1),
            waiting,
        }
    }

    /// The turn of one who comes now: how long it waits. Everybody who gets a turn takes it.
    ///
    /// # Errors
    /// [`LineFull`]; it got no turn.
    pub fn turn(&self, now: Instant) -> Result<Duration, LineFull> {
        if !Rule::Herd.is_on() {
            return Ok(Duration::ZERO);
        }
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = self.wait(*full_at, now);
        if wait > self.each() * self.waiting {
            return Err(LineFull);
        }
        *full_at = Some(full_at.unwrap_or(now).max(now) + self.each());
        Ok(wait)
    }

    /// Whether one who comes now would find the line full.
    pub fn is_full(&self, now: Instant) -> bool {
        let full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        Rule::Herd.is_on() && self.wait(*full_at, now) > self.each() * self.waiting
    }

    fn wait(&self, full_at: Option<Instant>, now: Instant) -> Duration {
        let missing = full_at.map_or(Duration::ZERO, |full_at| full_at.saturating_duration_since(now));
        missing.saturating_sub(self.each() * (self.burst - 1))
    }

    /// Time for one.
    fn each(&self) -> Duration {
        Duration::from_secs(1) / self.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits, in ms, of so many who come at once.
    fn come(herd: &Herd, count: usize, now: Instant) -> Vec<Result<u128, LineFull>> {
        (0..count)
            .map(|_| herd.turn(now).map(|wait| wait.as_millis()))
            .collect()
    }

    /// Of a thousand who come at once, a hundred are in at once, and within each further second a thousand at most.
    fn is_let_in_one_after_the_other() -> bool {
        let herd = Herd::new(1_000, 100, 20_000);
        let turns = come(&herd, 1_000, Instant::now());
        let waits: Vec<_> = turns.into_iter().map(Result::unwrap).collect();
        let at_once = waits.iter().filter(|wait| **wait == 0).count();
        waits.is_sorted() && at_once == 100 && waits[999] == 900
    }

    #[cfg(feature = "sabotage")]
    #[test]
    fn rule_22_a_herd_is_let_in_one_after_the_other() {
        assert!(is_let_in_one_after_the_other());
        Rule::Herd.switch_off();
        assert!(!is_let_in_one_after_the_other());
    }

    #[test]
    fn the_line_is_bounded_and_moves_on() {
        let herd = Herd::new(10, 1, 5);
        let now = Instant::now();
        assert_eq!(
            come(&herd, 8, now),
            [
                Ok(0),
                Ok(100),
                Ok(200),
                Ok(300),
                Ok(400),
                Ok(500),
                Err(LineFull),
                Err(LineFull)
            ]
        );
        assert!(herd.is_full(now));
        let later = now + Duration::from_millis(250);
        assert!(!herd.is_full(later));
        assert_eq!(come(&herd, 3, later), [Ok(350), Ok(450), Err(LineFull)]);
        let quiet = now + Duration::from_secs(60);
        assert_eq!(come(&herd, 2, quiet), [Ok(0), Ok(100)]);
    }
}
