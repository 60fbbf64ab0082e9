//! Publish-subscribe over any fabric whose tracks lose nothing and keep order: two carriers of one's own, the ends of one
//! conversation, and a publisher that has any number of them.
//!
//! - `wire`: what is said, as checked types;
//! - `open`: the handshake, which both carriers have in common;
//! - `subscriber`, `feed`: the two carriers;
//! - `publisher`: topics, queues, and what becomes of slow subscribers and late ones;
//! - `server`: takes subscribers in, with a thread for each.

mod feed;
mod open;
mod publisher;
mod server;
mod subscriber;
pub(crate) mod wire;

use thiserror::Error;
use trespass::carriers::{CarrierError, MessageConfig};
use trespass::core::{ErrorKind, TransportError};

use wire::{Refusal, Violation};

pub(crate) use feed::Feed;
pub(crate) use publisher::{PublishError, Publisher, PublisherConfig};
pub(crate) use server::Server;
pub(crate) use subscriber::Subscriber;

/// What goes wrong with a subscriber or a feed over a track whose own errors are `E`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum PubSubError<E> {
    /// The carrier below, or the track below that.
    #[error(transparent)]
    Below(#[from] CarrierError<E>),
    /// The peer said no to the handshake, or this end did and told it so.
    #[error("no publish-subscribe with this peer: {0}")]
    Refused(Refusal),
    #[error(transparent)]
    Protocol(#[from] Violation),
    #[error("the handshake took too long")]
    TimedOut,
    #[error("the name of a topic has {0} bytes, and {max} are allowed", max = wire::MAX_TOPIC)]
    TopicTooLong(usize),
}

impl<E: TransportError> TransportError for PubSubError<E> {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Below(error) => error.kind(),
            Self::Refused(_) => ErrorKind::Refused,
            Self::Protocol(_) => ErrorKind::Protocol,
            Self::TimedOut => ErrorKind::TimedOut,
            Self::TopicTooLong(_) => ErrorKind::Oversize,
        }
    }
}

/// How the carrier below is set up: its deadlines are those of these carriers too.
pub(crate) fn message_config() -> MessageConfig {
    MessageConfig::default()
}
