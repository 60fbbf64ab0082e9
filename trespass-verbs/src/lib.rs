//! Real RDMA for trespass: reliable connected queue pairs through libibverbs and librdmacm.
//!
//! Devices, protection domains, memory registration and completion queues come from
//! [`sideway`](https://docs.rs/sideway); what it lacks comes
//! from its own bindings in a few small modules, which `docs/SIDEWAY.md` lists. Linking needs no RDMA library: both are
//! opened when the process starts, and where they are missing [`VerbsFabric::open`] says so.
//!
//! Unsafe code is in this crate only: in the RAII types over the bindings, the pool, and the two queues.
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

mod choose;
mod config;
mod datagram;
mod device;
mod driver;
mod error;
mod fabric;
mod hub;
mod link;
mod listener;
mod memory;
mod pool;
mod port;
mod promise;
mod raw;
mod shared;
mod sockaddr;
mod status;
pub mod survey;
mod sync;
mod timer;
mod track;

pub use config::VerbsConfig;
pub use datagram::{
    DatagramConfig, DatagramIncoming, DatagramListener, DatagramReceiver, DatagramSender, UnreliableTrack,
    VerbsDatagram, VerbsDatagrams, VerbsPeer, VerbsPort,
};
pub use driver::VerbsDriver;
pub use error::VerbsError;
pub use fabric::VerbsFabric;
pub use listener::{TrackListener, VerbsHandshake, VerbsIncoming};
pub use memory::{Mapping, VerbsRegion, VerbsSharedRegion, VerbsWindow, leaked_registrations};
pub use shared::{
    SharedConfig, SharedIncoming, SharedListener, SharedReceiver, SharedRecvBuf, SharedSender, SharedTrack, VerbsShared,
};
pub use survey::survey;
pub use timer::{VerbsSleep, VerbsTimer};
pub use track::{
    ReliableTrack, VerbsCounters, VerbsFetchPermit, VerbsPath, VerbsReceiver, VerbsRecvBuf, VerbsSendBuf, VerbsSender,
    VerbsWritePermit, leaked_queue_pairs,
};
