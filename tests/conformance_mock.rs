//! The mock keeps the contract, in real time.
#![cfg(feature = "mock")]

#[path = "support/mock_harness.rs"]
mod mock_harness;

use mock_harness::MockHarness;

trespass_conformance::conformance_tests!(MockHarness);
trespass_conformance::memory_conformance_tests!(MockHarness);
