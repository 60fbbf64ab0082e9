//! Connecting to somebody who has too much to do: it waits, and comes again, until the handshake's deadline.
//!
//! A listener holds a bounded queue of requests and refuses the next with "busy". Of the places where the excess of a storm
//! could wait, the connecting end is the one that is bounded by itself (each waits for itself) and costs the listener
//! nothing. A pause that doubles with each try, and is never the same twice, spreads them out.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use super::VerbsDriver;
use super::entry::{Entry, Pausing, Resolving, Waiting};
use crate::error::VerbsError;

/// The first pause, before chance has its say.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// No pause is longer than half as much again.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Reasons of the connection manager, which give a number of their own (InfiniBand specification vol. 1, 12.6.7.2; iWARP
/// gives a negative errno).
const NO_QUEUE_PAIR: i32 = 1;
const NO_RESOURCES: i32 = 3;
const STALE: i32 = 10;

/// Whether the connection manager of the peer refused for a reason that passes: it lacks something just now, or still
/// remembers an earlier connection of the number that this queue pair has, which the next has not.
pub(super) fn passes(status: i32) -> bool {
    matches!(status, NO_QUEUE_PAIR | NO_RESOURCES | STALE)
}

impl VerbsDriver {
    /// The peer is busy: gives back what was built, and tries again after a pause, if there is time for that.
    pub(super) fn try_later(&mut self, token: u64) {
        let control = Arc::clone(&self.control);
        let mut state = control.state();
        // Looked at before it is taken: anything else at this token is not for this event.
        let Some(Entry::Waiting(waiting)) = state.entries.get_mut(token) else { return };
        let again = waiting.tries.map(|tries| control.now() + pause(tries)).filter(|again| *again < waiting.deadline);
        let Some(again) = again else {
            drop(state);
            self.fail(token, |peer| VerbsError::Busy { peer });
            return;
        };
        let Some(Entry::Waiting(waiting)) = state.entries.take(token) else { return };
        let Waiting { queues, peer, taker, deadline, tries } = *waiting;
        let tries = tries.unwrap_or(0).saturating_add(1);
        state.entries.put(token, Entry::Pausing(Pausing { peer, taker, deadline, again, tries }));
        state.deadlines.remove(&(deadline, token));
        state.deadlines.insert((again, token));
        drop(state);
        queues.conn().end(None);
    }

    /// The pause is over.
    pub(super) fn try_again(&mut self, token: u64) {
        let control = Arc::clone(&self.control);
        let mut state = control.state();
        let Some(Entry::Pausing(_)) = state.entries.get_mut(token) else { return };
        let Some(Entry::Pausing(Pausing { peer, taker, deadline, tries, .. })) = state.entries.take(token) else {
            return;
        };
        match control.begin(token, peer) {
            Ok(id) => {
                state.entries.put(token, Entry::Resolving(Resolving { id, peer, taker, deadline, tries }));
                state.deadlines.insert((deadline, token));
            }
            Err(error) => {
                state.entries.remove(token);
                drop(state);
                taker.fail(error);
            }
        }
    }
}

/// How long to wait before try number `tries` + 1: twice as long each time, from half of that to half as much again.
fn pause(tries: u32) -> Duration {
    let pause = FIRST_PAUSE.saturating_mul(1 << tries.min(16)).min(LONGEST_PAUSE);
    // The standard library's source of chance: each hasher of a new state gives another number.
    let chance = RandomState::new().build_hasher().finish() as u32;
    pause / 2 + pause.mul_f64(f64::from(chance) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        for (tries, middle) in [(0, 20), (1, 40), (5, 640), (6, 1000), (u32::MAX, 1000)] {
            let middle = Duration::from_millis(middle);
            let pauses: Vec<_> = (0..100).map(|_| pause(tries)).collect();
            let (least, most) = (*pauses.iter().min().unwrap(), *pauses.iter().max().unwrap());
            assert!(least >= middle / 2 && most <= middle + middle / 2, "{least:?} to {most:?} around {middle:?}");
            // A hundred of them spread over most of the range.
            assert!(most - least > middle / 2, "{least:?} to {most:?}");
        }
    }

    #[test]
    fn only_what_passes_is_tried_again() {
        // Nobody listens; the peer's program said no; the connection manager gave up; refused on iWARP.
        for status in [8, 28, 4, -libc::ECONNREFUSED, 0] {
            assert!(!passes(status), "{status}");
        }
        assert!(passes(STALE));
    }
}
