//! The toy fabric, which knows nothing of this project but the traits of its core, keeps the contract.

mod harness;

use harness::ToyHarness;

trespass_conformance::conformance_tests!(ToyHarness::default());
