//! One-sided memory: regions and windows of a fabric, and what is done with a peer's.
//!
//! Nobody refers to memory while a peer may write to it: memory that is lent lies behind a lock, for which copies in and
//! out, peers' accesses and atomic operations all ask. So nothing is ever half written here, where on hardware it may be.

mod block;
mod domain;
mod operation;
mod permit;
mod region;
mod remote;

pub(crate) use domain::{Domain, Refused};
pub(crate) use operation::{Action, Done, Failure, Operation, Payload};
pub use permit::{MockFetchPermit, MockWritePermit};
pub use region::{MockRegion, MockSharedRegion, MockWindow};
