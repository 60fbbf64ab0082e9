//! Unreliable datagrams: ports of many peers, and tracks of one peer each, which are views of ports.
//!
//! A [`Port`](port::Port) is one queue pair, as it were: a number, and who gets what arrives there. Each user of a port is a
//! [`Member`](member::Member), with memory of its own, which is a lane (see there). A datagram is carried by the one who
//! flushes it: to the port, which tells by who sent it whose it is, and into a receive of that member, if there is one.

mod addressed;
mod config;
mod fabric;
mod faults;
mod member;
mod port;
mod queues;
mod recv;
mod track;

pub use addressed::MockPort;
pub use config::MockDatagramConfig;
pub use fabric::{MockDatagrams, MockResolving};
pub use faults::MockFaults;
pub(crate) use member::Member;
pub(crate) use port::Directory;
pub use recv::{MockDatagram, MockPeer};
pub use track::{MockDatagramReceiver, MockDatagramSender, MockDatagramTrack};
