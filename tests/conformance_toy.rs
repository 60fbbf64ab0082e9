//! The toy fabric, which knows nothing of this project but the traits of its core, keeps the contract.

#[path = "support/toy/mod.rs"]
mod toy;
#[path = "support/toy_harness.rs"]
mod toy_harness;

use toy_harness::ToyHarness;

trespass_conformance::conformance_tests!(ToyHarness::default());
