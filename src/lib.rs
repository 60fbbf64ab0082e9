//! The facade of trespass.
#![forbid(unsafe_code)]
pub use trespass_core as core;
