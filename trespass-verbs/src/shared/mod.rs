//! Reliable tracks that share their queues: one completion queue for all sends, one for all receives, one receive queue.
//!
//! A [`SharedQueue`](queue::SharedQueue) is a hub (see `hub`) with a queue pair for each member. A message takes whichever
//! receive buffer is next, and is sorted by the queue pair that it came to. Each member may have as many buffers as its
//! quota, and a member that holds all of its own takes none from the others: there are as many as have to be posted
//! ([`Backing`](backing::Backing)) beside those that are held. Send buffers are on loan, for as long as a send is under way.

mod backing;
mod config;
mod fabric;
mod gate;
mod queue;
mod recv;
mod track;

pub use config::SharedConfig;
pub(crate) use fabric::Claim;
pub use fabric::{SharedIncoming, SharedListener, VerbsShared};
pub(crate) use queue::SharedQueue;
pub use recv::SharedRecvBuf;
pub use track::{SharedReceiver, SharedSender, SharedTrack};
