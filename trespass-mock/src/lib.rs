//! The in-process fabric of trespass: what a NIC and its verbs do, without either.
//!
//! A track here behaves as a reliable connected queue pair does. Send and receive queues are bounded, memory is set up
//! once and reused, a message is copied from the sender's memory into a receive that the peer has posted, a peer that has
//! posted none stalls the sender, and an end that dies looks like one that closed. Time is real or
//! [virtual](MockNet::virtual_time), and [everything that costs on a device is counted](MockCounters).
//!
//! ```
//! use trespass_core::{Fabric, Incoming, ListenerExt, RecvSideExt, SendSide, SendSideExt};
//! use trespass_mock::{MockAddr, MockFabric};
//!
//! # futures_executor::block_on(async {
//! let fabric = MockFabric::new();
//! let addr: MockAddr = "server".parse()?;
//! let mut listener = fabric.listen(&addr)?;
//! let connecting = fabric.connect(&addr);
//! let mut server = listener.incoming().await?.accept().await?;
//! let mut client = connecting.await?;
//!
//! let mut buf = client.reserve(5).await?;
//! buf.copy_from_slice(b"hello");
//! client.send(buf).map_err(|unsent| unsent.error)?;
//! client.flush()?;
//! assert_eq!(&*server.recv().await?, b"hello");
//! assert_eq!(client.counters().doorbells, 1);
//! # Ok::<(), trespass_mock::MockError>(())
//! # }).unwrap();
//! ```
//!
//! # Datagrams
//! [`MockFabric::datagrams`] gives the same fabric's [`MockDatagrams`], as a device has unreliable datagrams beside reliable
//! connections: [ports](MockPort) that serve many peers, and [tracks](MockDatagramTrack) of one. A datagram that nobody is
//! there for, or that meets no posted receive, is gone; its sender is not told. The network loses, duplicates and reorders
//! where [`MockDatagramConfig`] tells it to, by a seed.
//!
//! Tracks of both sorts carry a word of [immediate data](trespass_core::SendSide::send_immediate) with a message.
//!
//! # Trouble on demand
//! [`MockFabric::kill`] ends a fabric as SIGKILL ends a process; [`MockFabric::break_link`] and [`MockTrack::break_link`]
//! pull the cable of reliable tracks. A receiver that keeps its buffers makes its peer stall, and a net in virtual time makes
//! every deadline pass at once.
//!
//! # Simulation
//! [`MockSim`] runs tasks in an order made of a seed, on virtual time, in a net where a [`MockPlan`] says what goes wrong: delays,
//! late completions, devices that stall, partitions, queue pairs that fail. [`explore`] tries many seeds; a failure prints its
//! own and the line that replays it. `docs/MOCK.md` says how to test an application with it.
//!
//! # Where it differs from hardware
//! - The "device" has no thread of its own. A message moves while its sender flushes, or, when it had to wait for a
//!   receive, while the peer reposts. Moving one takes no time on the fabric's clock.
//! - A receiver that is not ready stalls its sender without end, as `rnr_retry` 7 does; nothing is retried meanwhile, and
//!   each message that had to wait is counted once.
//! - A dead peer is seen at once, not after a retry time or a keepalive.
//! - Memory needs no registration. Memory that is lent is never found half written, as it may be where a device writes it.
//! - One-sided operations are done one after the other, in the order of queueing: a read never sees what was queued behind
//!   it. An error says why an access was refused; a device says only that it was.
//! - [`inline`](trespass_core::Limits::inline) changes nothing but the number.
//! - A receive of datagrams is posted again the moment that its buffer is dropped, and each track has its own, also where a
//!   port has many.
//! - Ports have no keys: what keeps strangers off is that a track looks at who sent a datagram.
//! - Receives are used last in, first out: what is reused soonest is warmest in the cache.
#![forbid(unsafe_code)]

mod addr;
mod buffer;
mod clock;
mod config;
mod conn;
mod connect;
mod counters;
mod datagram;
mod error;
mod fabric;
mod lane;
mod listen;
#[cfg(all(test, loom))]
mod loom_tests;
mod memory;
mod registry;
mod sim;
mod slots;
mod sync;
mod track;

pub use addr::MockAddr;
pub use buffer::{MockRecvBuf, MockSendBuf};
pub use clock::{MockDriver, MockSleep, MockTimer};
pub use config::MockConfig;
pub use connect::{MockAccepting, MockConnecting, MockIncoming};
pub use counters::MockCounters;
pub use datagram::{
    MockDatagram, MockDatagramConfig, MockDatagramReceiver, MockDatagramSender, MockDatagramTrack, MockDatagrams,
    MockFaults, MockPeer, MockPort, MockResolving,
};
pub use error::MockError;
pub use fabric::{MockFabric, MockNet};
pub use listen::MockListener;
pub use memory::{MockFetchPermit, MockRegion, MockSharedRegion, MockWindow, MockWritePermit};
pub use sim::{
    MockEvent, MockFault, MockPlan, MockSim, MockSimEnd, MockSimFailure, MockSimReport, MockSpawner, MockTask,
    MockWhen, explore, seeds,
};
pub use track::{MockReceiver, MockSender, MockTrack};
