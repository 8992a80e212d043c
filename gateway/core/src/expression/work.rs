//! How much may be evaluated for one record, or one client event, over all expressions of a channel.
//!
//! CEL has no budget, and a function that CEL calls gets no state of ours. So what is left stands in a variable of the
//! thread while [`bounded`] runs. Evaluation never waits: nothing else runs on the thread meanwhile.

use std::cell::Cell;

use super::bounds::MAX_WORK;

thread_local! {
    static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Nothing is left; and nothing will be, until [`bounded`] ends.
#[derive(Debug)]
pub(crate) struct Exhausted;

/// What an evaluation says that finds nothing left.
pub(crate) fn exhausted_message() -> String {
    format!(
        "the expressions take more than {MAX_WORK} steps together: shorten the lists that they go through, or the payloads"
    )
}

/// Runs `work` with [`MAX_WORK`] to spend. Within another `bounded`, what is left of that counts on.
pub(crate) fn bounded<T>(work: impl FnOnce() -> T) -> T {
    /// Also where `work` panics.
    struct Restore(Option<usize>);
    impl Drop for Restore {
        fn drop(&mut self) {
            if self.0.is_none() {
                LEFT.set(None);
            }
        }
    }
    let restore = Restore(LEFT.get());
    if restore.0.is_none() {
        LEFT.set(Some(MAX_WORK));
    }
    work()
}

/// Spends some of what is left. Outside [`bounded`] there is no bound.
pub(crate) fn spend(steps: usize) -> Result<(), Exhausted> {
    match LEFT.get() {
        None => Ok(()),
        Some(left) => match left.checked_sub(steps) {
            Some(rest) => {
                LEFT.set(Some(rest));
                Ok(())
            }
            None => {
                LEFT.set(Some(0));
                Err(Exhausted)
            }
        },
    }
}

/// Spends what writing or reading so many bytes takes.
pub(crate) fn spend_bytes(bytes: usize) -> Result<(), Exhausted> {
    spend(bytes / 32)
}

/// Whether all was spent.
pub(crate) fn is_exhausted() -> bool {
    LEFT.get() == Some(0)
}
