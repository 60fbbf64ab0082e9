//! What threads share is made of these: the standard library's, or under `--cfg loom` those of loom, which tries every order.
//!
//! Loom takes an access that is SeqCst for one that is AcqRel. What relies on the one order of all SeqCst accesses says so by
//! a fence, here, or is modelled with one.

#[cfg(not(loom))]
pub(crate) use std::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering, fence},
};
#[cfg(not(loom))]
pub(crate) use std::thread::{Thread, current, park};

#[cfg(loom)]
pub(crate) use loom::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering, fence},
};
#[cfg(loom)]
pub(crate) use loom::thread::{Thread, current, park};

/// A number that no other running thread has: the address of something of its own. (`thread::current` counts references.)
#[cfg(not(loom))]
pub(crate) fn this_thread() -> usize {
    thread_local!(static OWN: u8 = const { 0 });
    OWN.with(|own| std::ptr::from_ref(own).addr())
}

/// The same of a thread of loom's, all of which are on one.
#[cfg(loom)]
pub(crate) fn this_thread() -> loom::thread::ThreadId {
    current().id()
}

/// What [`this_thread`] says.
#[cfg(not(loom))]
pub(crate) type ThisThread = usize;
#[cfg(loom)]
pub(crate) type ThisThread = loom::thread::ThreadId;
