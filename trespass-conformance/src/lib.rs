//! The test kit by which a fabric proves that it keeps the contract (`docs/CONTRACT.md`).
//!
//! Write a [`Harness`] for the fabric and put every property into an integration test of your own:
//!
//! ```text
//! trespass_conformance::conformance_tests!(MyHarness);
//! ```
//!
//! That makes one `#[test]` per property, in a module per group; for datagram tracks the macro is
//! [`datagram_conformance_tests`], and the harness the same trait. A program that has to run everything itself (because
//! it runs inside one boot of a machine, say) calls [`run_all`] or [`run_all_for_datagrams`].
//!
//! A fabric with one-sided memory has more to prove: a [`MemoryHarness`], `memory_conformance_tests!` and [`run_memory`].
//!
//! Every wait in this kit has a deadline ([`Harness::patience`]), and a property that hangs in a call of the fabric ends
//! the process: nothing here waits without end.
//!
//! `docs/guide/own-track.md` and `own-fabric.md` write the smallest fabric that passes, and its harness: `examples/toy_fabric`.
//! `examples/custom_track` has one over TCP, and `tests/support/tcp_harness.rs` its harness.
//!
//! # How a property is found wanting
//! A property panics, and the message says what was expected and which clauses it checks. A wait that runs out of time says
//! whether the thing never came, or had come and nobody was woken.
#![forbid(unsafe_code)]

pub mod buffers;
pub mod carriers;
pub mod connections;
pub mod datagrams;
pub mod ends;
pub mod flow;
mod harness;
pub mod memory;
pub mod model;
mod registry;
mod run;
pub mod servers;
mod traffic;
mod wait;
pub mod waking;

pub use harness::{DatagramHarness, Deadlines, Fabrics, Harness, MemoryHarness, ReliableHarness, time_scale};
pub use registry::{datagram_properties, memory_properties, properties};
pub use run::{Property, Summary, run_all, run_all_for_datagrams, run_memory};
pub use wait::block_on;
