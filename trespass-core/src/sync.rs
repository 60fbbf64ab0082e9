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
