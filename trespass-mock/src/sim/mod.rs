//! Simulation: tasks in an order made of a seed, on virtual time, in a net where a plan says what goes wrong.

mod dice;
mod explore;
mod plan;
mod run;
mod trouble;

pub(crate) use dice::mixed;
pub use explore::{explore, seeds};
pub use plan::{MockEvent, MockFault, MockPlan, MockWhen};
pub use run::{MockSim, MockSimEnd, MockSimFailure, MockSimReport, MockSpawner, MockTask};
pub(crate) use trouble::{Answered, Note, Trouble, Way};
