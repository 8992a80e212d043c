//! The append-only file of a Redis: how long it was when, so that it can be made so again.

use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a Redis has to run with: all is in its file before it is answered, and the file only grows. With `everysec`, the default, a write
/// waits up to 2 s for a disk that is busy, while what it says is answered and published already; a SIGKILL takes nothing that was written.
pub(crate) const ARGUMENTS: &[&str] = &[
    "--save",
    "",
    "--appendonly",
    "yes",
    "--appendfsync",
    "no",
    "--auto-aof-rewrite-percentage",
    "0",
];

/// Lengths that are kept: a minute, at one every 100 ms.
const KEPT: usize = 600;

/// How long the file was.
#[derive(Default)]
pub(crate) struct Lengths(VecDeque<(Duration, u64)>);

impl Lengths {
    /// Notes how long it is now.
    pub(crate) fn note(&mut self, now: Duration, folder: &Path) {
        let length = file(folder)
            .and_then(|file| fs::metadata(file).ok())
            .map_or(0, |file| file.len());
        self.0.push_back((now, length));
        if self.0.len() > KEPT {
            self.0.pop_front();
        }
    }

    /// Makes it as it was at a time, or at the earliest that is known; Redis does not run. Gives how much is gone.
    pub(crate) fn roll_back(&mut self, to: Duration, folder: &Path) -> u64 {
        let before = self.0.partition_point(|(at, _)| *at <= to);
        self.0.truncate(before.max(1));
        let (Some(file), Some((_, length))) = (file(folder), self.0.back()) else {
            return 0;
        };
        let file = OpenOptions::new().write(true).open(file).unwrap();
        let gone = file.metadata().unwrap().len().saturating_sub(*length);
        if gone > 0 {
            file.set_len(*length).unwrap();
        }
        gone
    }

    /// Removes all of it.
    pub(crate) fn empty(&mut self, folder: &Path) {
        self.0.clear();
        fs::remove_dir_all(folder.join("appendonlydir")).unwrap();
    }
}

/// The part that grows.
fn file(folder: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(folder.join("appendonlydir")).ok()?.filter_map(Result::ok);
    let mut parts = files
        .map(|file| file.path())
        .filter(|path| path.to_string_lossy().ends_with(".incr.aof"));
    parts.next()
}
