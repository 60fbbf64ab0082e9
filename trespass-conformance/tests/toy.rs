//! The kit, run for a fabric that keeps the contract: everything has to pass, nothing to be skipped.

#[path = "../../examples/toy_fabric/tests/harness/mod.rs"]
mod toy_harness;

use toy_harness::ToyHarness;

trespass_conformance::conformance_tests!(ToyHarness::default());
