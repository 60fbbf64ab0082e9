//! What threads share is made of these: the standard library's, or under `--cfg loom` those of loom, which tries every order.
//!
//! Loom takes an access that is SeqCst for one that is AcqRel: what relies on the one order of all SeqCst accesses says so by
//! a fence.

#[cfg(not(loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering, fence},
};

#[cfg(loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering, fence},
};
