//! The kit, run for a fabric that keeps the contract: everything has to pass, nothing to be skipped.

#[path = "../../tests/support/toy/mod.rs"]
mod toy;
#[path = "../../tests/support/toy_harness.rs"]
mod toy_harness;

use toy_harness::ToyHarness;

trespass_conformance::conformance_tests!(ToyHarness::default());
