//! A distributed cache over the carriers of trespass: the parts that a program of one's own would keep. The README beside this
//! package says how to run it, its ARCHITECTURE.md what holds and why.
#![forbid(unsafe_code)]

mod bell;
mod calls;
mod client;
mod clock;
mod control;
#[cfg(feature = "etcd")]
pub mod etcd;
pub mod hot;
mod lending;
pub mod membership;
mod node;
mod planted;
mod reading;
pub mod source;
pub mod state;
pub mod store;
pub mod view;
pub mod wire;

pub use calls::CallFailure;
pub use client::{CacheError, Client, ClientConfig, Trouble};
pub use lending::{HotConfig, HotTable, LendingError};
pub use node::{Node, NodeConfig, NodeError, NodeHandle};
#[cfg(feature = "planted-bugs")]
#[doc(hidden)]
pub use planted::{Bug, plant};
pub use reading::HotClient;
