//! fair: whose waiting sessions end where a tenant has too many. Pure.
//!
//! Who has most loses first, down to where all that is left fits: one user who connects again and again pushes out its own
//! sessions, and nobody else's.

use std::cmp::Reverse;
use std::collections::HashMap;

use aldis_core::time::Millis;
use aldis_crds::names::ChannelName;

use super::Pid;
use crate::limits::Peer;

/// Whose a session is: a user of a channel; who has no name there counts by address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    pub(super) channel: ChannelName,
    pub(super) user: Option<String>,
    /// Counts where there is no user.
    pub(super) from: Peer,
}

/// Which of these sessions, each waiting since some time, are more than `bound`.
pub(super) fn too_many(waiting: impl Iterator<Item = (Owner, Millis, Pid)>, bound: usize) -> Vec<(Owner, Pid)> {
    let mut owners: HashMap<Owner, Vec<(Millis, Pid)>> = HashMap::new();
    for (owner, since, pid) in waiting {
        let from = match owner.user {
            Some(_) => Peer::UNKNOWN,
            None => owner.from,
        };
        owners.entry(Owner { from, ..owner }).or_default().push((since, pid));
    }
    let share = share(owners.values().map(Vec::len), bound);
    let mut spare = bound.saturating_sub(owners.values().map(|sessions| sessions.len().min(share)).sum());
    let mut ended = Vec::new();
    for (owner, mut sessions) in owners {
        let mut kept = share;
        if sessions.len() > share && spare > 0 {
            (kept, spare) = (share + 1, spare - 1);
        }
        sessions.sort_unstable_by_key(|(since, _)| Reverse(*since));
        ended.extend(
            sessions
                .drain(kept.min(sessions.len())..)
                .map(|(_, pid)| (owner.clone(), pid)),
        );
    }
    ended
}

/// How many each may have so that all fit: those who have fewer leave the others more.
fn share(sizes: impl Iterator<Item = usize>, bound: usize) -> usize {
    let mut sizes: Vec<_> = sizes.collect();
    sizes.sort_unstable();
    let mut left = bound;
    for (index, size) in sizes.iter().enumerate() {
        let share = left / (sizes.len() - index);
        if *size > share {
            return share;
        }
        left -= size;
    }
    usize::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_have_fewer_leave_the_others_more() {
        let share = |sizes: &[usize], bound| share(sizes.iter().copied(), bound);
        assert_eq!(share(&[1, 1, 98], 50), 48);
        assert_eq!(share(&[50, 50], 50), 25);
        assert_eq!(share(&[1, 10, 10], 20), 9);
        assert_eq!(share(&[1, 2], 3), usize::MAX);
        assert_eq!(share(&[1, 2], 0), 0);
        assert_eq!(share(&[], 0), usize::MAX);
    }
}
