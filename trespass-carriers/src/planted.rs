//! Bugs that are planted on purpose, so that tests can show that they would be found. Only with the feature `planted-bugs`,
//! which is for the tests of this crate alone; without it nothing of this is in the code.

/// A bug, by the part that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(not(feature = "planted-bugs"), allow(unreachable_pub, reason = "public for the tests only"))]
pub enum Bug {
    /// Credits: an end that is about to wait does not say what its starved peer waits for.
    Credits,
    /// Close: a death is taken for a goodbye.
    Close,
    /// Reassembly: the Abort of one message takes those with it that wait before it.
    Reassembly,
    /// Wake-up: an end that waits for a send slot to say its credits is not woken by one.
    WakeUp,
    /// Drain: a close does not look for the peer's goodbye among what has arrived.
    Drain,
    /// Rendezvous: a message that was read brings the memory of the next one back too.
    Rendezvous,
    /// Streams alone: a gathered write forgets what it has sent already of the piece that it is in.
    Gathered,
    /// Datagrams alone: a segment that comes twice counts twice.
    Duplicates,
}

#[cfg(feature = "planted-bugs")]
mod planting {
    use std::cell::Cell;

    use super::Bug;

    thread_local!(static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) });

    /// Plants `bug` in all carriers of this thread, or none.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    pub(crate) fn is(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(feature = "planted-bugs")]
pub(crate) use planting::is;
#[cfg(feature = "planted-bugs")]
pub use planting::plant;

#[cfg(not(feature = "planted-bugs"))]
pub(crate) const fn is(_: Bug) -> bool {
    false
}
