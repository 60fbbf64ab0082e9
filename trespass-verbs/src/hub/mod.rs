//! What many tracks share: completion queues that whoever looks empties for all, receive buffers that are anybody's, and
//! marks of who sleeps.
//!
//! A [`Lane`] is one completion queue. Whoever looks takes a [`Turn`](turn::Turn), sorts what has completed to its
//! [`Member`]s, and wakes those that sleep; nobody waits for a turn. [`Receives`] are the receive buffers that the device
//! has, and which member had each of the others. A member holds no more of them than its quota, so that none starves
//! the others.

mod inbox;
mod inward;
mod lane;
#[cfg(all(test, loom))]
mod loom_tests;
mod member;
mod memory;
mod receives;
mod seats;
mod sends;
mod stock;
mod turn;

pub(crate) use inward::{Inward, Supply};
pub(crate) use lane::{Lane, Side};
pub(crate) use member::Member;
pub(crate) use memory::{HubMemory, Message, Received, Source};
pub(crate) use receives::Receives;
pub(crate) use seats::Seats;
pub(crate) use sends::{Gate, Sends};
pub(crate) use stock::{Loan, Stock};
