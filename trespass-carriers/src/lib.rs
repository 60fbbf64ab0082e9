//! Carriers for trespass: what applications talk through.
//!
//! [`MessageCarrier`] takes over any track that loses nothing and keeps order, and carries messages of any size up to a
//! configured limit, both ways: with a handshake in band, credits so that a receiver is never overrun, and an end that
//! tells a goodbye from a death. [`StreamCarrier`] carries bytes over the same tracks, in the same ways: what a TCP socket
//! is, for whatever talks through tokio's or futures-io's traits (features `tokio`, `futures-io`).
//!
//! [`DatagramCarrier`] takes over any datagram track, and carries messages that arrive whole or not at all.
//!
//! [`Server`] takes peers in for any of them, or for a carrier of one's own: side by side, within limits, until it is drained.
//!
//! The parts that decide (the wire format, the credits, the order of segments, what waits in the inbox, the handshake) are
//! state machines without IO, tested by themselves; the carrier joins them to a track.
#![forbid(unsafe_code)]
// Signatures are written out: an alias would hide what can go wrong.
#![allow(clippy::type_complexity)]

mod carrier;
mod closing;
mod config;
mod credit;
mod datagram;
mod error;
mod handshake;
mod inbox;
mod lends;
mod message;
#[cfg(all(test, loom))]
mod modelled;
mod opening;
mod planted;
mod pool;
mod pulse;
mod segment;
mod server;
mod side;
mod stats;
mod stream;
mod sync;
mod wire;

pub use carrier::{
    Finishing, HalfSending, MessageCarrier, MessageOpening, MessageReceiver, MessageSender, RendezvousCarrier,
    RendezvousConfig, RendezvousMessage, RendezvousOpening, RendezvousReceiver, RendezvousSender, Sending,
    TryRegionError, Unmatched,
};
#[cfg(feature = "futures")]
pub use carrier::{MessageSink, MessageStream};
pub use config::MessageConfig;
pub use datagram::{
    DatagramCarrier, DatagramConfig, DatagramOpening, DatagramRecvHalf, DatagramSendHalf, DatagramSending,
    DatagramStats,
};
pub use error::{CarrierError, ConfigFault, Phase, Refusal, Violation};
pub use message::{Message, MessageBuf};
#[cfg(feature = "planted-bugs")]
#[doc(hidden)]
pub use planted::{Bug, plant};
pub use server::{
    Accepted, Drained, Event, Excess, HandshakeError, Identity, Peer, Server, ServerConfig, ServerFault, ServerHandle,
    ServerStats,
};
pub use stats::Stats;
pub use stream::{StreamCarrier, StreamConfig, StreamOpening, StreamReadHalf, StreamStats, StreamWriteHalf};
