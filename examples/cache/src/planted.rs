//! Bugs that are planted on purpose, so that the simulation can show that it would find them. Only with the feature
//! `planted-bugs`; without it nothing of this is in the code.

/// A bug, by what it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(not(feature = "planted-bugs"), allow(dead_code, unreachable_pub, reason = "planted in tests only"))]
pub enum Bug {
    /// A write is acknowledged before the other nodes of its key have it.
    Acknowledge,
    /// A node that has returned serves its keys before it has got them.
    Handover,
    /// A node serves on when its lease is over, and does not wait for the leases of others.
    Lease,
    /// An older version replaces a newer one where keys are handed over.
    Version,
    /// A value is read when its time is up.
    Expiry,
    /// A node that learns of a new epoch does not take back what it has lent.
    Lent,
}

#[cfg(feature = "planted-bugs")]
mod planting {
    use std::cell::Cell;

    use super::Bug;

    thread_local!(static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) });

    /// Plants `bug` in all nodes of this thread, or none.
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
