//! The traits of trespass, and what they promise.
//!
//! An application talks through a [`Carrier`], a carrier runs over a [`Track`], tracks come from a [`Fabric`], and the
//! fabric is a type that the user chooses: in process (`trespass-mock`), real NICs (`trespass-verbs`), or one's own.
//!
//! Everything here is `std` only, knows no runtime and has no `unsafe`. Futures are hand-written state machines and
//! thin `async` forms over `poll_` functions; any executor will do.
//!
//! Where to start: [`Track`] has a complete toy implementation, [`Fabric`] another. `docs/CONTRACT.md` numbers what
//! every implementation owes, and `trespass-conformance` checks it.
#![forbid(unsafe_code)]

mod buffer;
mod carrier;
mod delivery;
mod drive;
mod error;
mod fabric;
mod memory;
mod port;
mod spin;
mod sugar;
mod sync;
mod time;
mod track;
#[cfg(feature = "zerocopy")]
mod typed;
mod wait;
mod wake;
mod window;

pub use buffer::{RecvBuf, SendBuf};
pub use carrier::{Carrier, Role};
pub use delivery::{Datagram, Delivery, InOrder, Lossless, Reliable, Unordered};
pub use drive::{Drive, block_on};
pub use error::{ErrorKind, TransportError, TryError, Unsent};
pub use fabric::{Fabric, Incoming, Listener, ThreadFabric};
pub use memory::{Access, Completed, MemoryFabric, Region, RemoteMemory, SharedRegion, ThreadMemoryFabric, Window};
pub use port::{Port, PortExt, PortFabric, Sourced};
pub use spin::{Spin, Spinning, SpinningReceiver, SpinningSender};
pub use sugar::{ListenerExt, RecvSideExt, RemoteMemoryExt, SendSideExt, poll_recv, poll_reserve};
pub use time::{Elapsed, SystemSleep, SystemTimer, Timer, TimerQueue, within};
pub use track::{Address, Endpoint, Limits, RecvSide, SendSide, ThreadTrack, Track};
#[cfg(feature = "zerocopy")]
pub use typed::SharedRegionExt;
pub use wait::{wait, wait_within};
pub use wake::{FanOut, WakerSlot};
pub use window::{BadWindow, OutOfBounds, RemoteSlice, RemoteWindow, RemoteWord};
