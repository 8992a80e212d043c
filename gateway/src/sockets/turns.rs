//! The events of one client are done in the order in which it sent them, also where one has to wait.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;

/// Events of one client that wait for an earlier one. 256: a client waits for acknowledgements before it has sent more; one
/// that does not is closed.
const MAX_WAITING: usize = 256;

/// What an event makes the gateway do.
pub(super) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Too many events wait.
#[derive(Debug)]
pub(super) struct TooMany;

/// Whose turn it is.
#[derive(Default)]
pub(super) struct Turns(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    /// Whether a task works off what waits.
    runs: bool,
    work: VecDeque<Work>,
}

impl Turns {
    /// Does it after all that came before: at once, on this task, where nothing waits and it has nothing to wait for. Called
    /// on the task that reads the client alone.
    pub(super) fn take(self: &Arc<Self>, mut work: Work) -> Result<(), TooMany> {
        {
            let mut waiting = self.lock();
            if waiting.runs {
                if waiting.work.len() >= MAX_WAITING {
                    return Err(TooMany);
                }
                waiting.work.push_back(work);
                return Ok(());
            }
        }
        if (&mut work).now_or_never().is_none() {
            self.lock().runs = true;
            let turns = Arc::clone(self);
            tokio::spawn(async move {
                let mut next = Some(work);
                while let Some(work) = next {
                    work.await;
                    next = turns.next();
                }
            });
        }
        Ok(())
    }

    fn next(&self) -> Option<Work> {
        let mut waiting = self.lock();
        let next = waiting.work.pop_front();
        waiting.runs = next.is_some();
        next
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn events_are_done_in_the_order_in_which_they_came() {
        let (turns, done) = (Arc::new(Turns::default()), Arc::new(Mutex::new(Vec::new())));
        let (release, waits) = oneshot::channel::<()>();
        let note = |number: u32| {
            let done = Arc::clone(&done);
            move || done.lock().unwrap().push(number)
        };
        let at_once = note(1);
        turns.take(Box::pin(async move { at_once() })).unwrap();
        assert_eq!(*done.lock().unwrap(), [1], "on this task");
        let waiting = note(2);
        turns
            .take(Box::pin(async move {
                waits.await.unwrap();
                waiting();
            }))
            .unwrap();
        for number in 3..=2 + MAX_WAITING as u32 {
            let behind = note(number);
            turns.take(Box::pin(async move { behind() })).unwrap();
        }
        assert!(turns.take(Box::pin(async {})).is_err(), "no more than that wait");
        release.send(()).unwrap();
        while turns.lock().runs {
            tokio::task::yield_now().await;
        }
        assert_eq!(*done.lock().unwrap(), (1..=2 + MAX_WAITING as u32).collect::<Vec<_>>());
    }
}
