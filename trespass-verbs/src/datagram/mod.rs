//! Unreliable datagrams: ports of many peers, and tracks of one peer each, which are views of ports.
//!
//! A [`Port`](port::Port) is one queue pair. Its users are members of a hub (see `hub`): one for a port that is opened by
//! itself or a track that was connected, many for a listener, whose tracks share its queue pair. Who a datagram is for
//! is told by who sent it.

mod addressed;
mod config;
mod fabric;
mod header;
mod hello;
mod listener;
mod port;
mod recv;
mod track;
mod ways;

pub use addressed::VerbsPort;
pub use config::DatagramConfig;
pub(crate) use config::gid_of;
pub(crate) use fabric::Datagrams;
pub use fabric::VerbsDatagrams;
pub(crate) use hello::{Hello, KEYS, Wanted};
pub use listener::{DatagramIncoming, DatagramListener};
pub(crate) use port::Port;
pub use recv::{VerbsDatagram, VerbsPeer};
pub(crate) use track::Parts;
pub use track::{DatagramReceiver, DatagramSender, UnreliableTrack};
