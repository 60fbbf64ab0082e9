//! The TCP fabric of `examples/custom_track`, which a user might have written, keeps the contract.
#![cfg(target_os = "linux")] // For the addresses alone: elsewhere 127.0.0.1 is the only one that leads here.

#[path = "../examples/custom_track/tcp/mod.rs"]
mod tcp;
#[path = "support/tcp_harness.rs"]
mod tcp_harness;

use tcp_harness::TcpHarness;

trespass_conformance::conformance_tests!(TcpHarness);
