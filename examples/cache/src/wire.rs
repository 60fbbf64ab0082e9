//! What nodes and clients say to each other: requests as messages, beats and what is handed over as frames of a stream.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::membership::{Epoch, NodeId};
use crate::store::Version;

/// Reads a key, at its primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// What the client takes for the epoch.
    pub epoch: Epoch,
    /// Which.
    pub key: Bytes,
}

/// What a read gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The newest version and its value; `None` where there is none, or not any more.
    pub value: Option<(Version, Bytes)>,
    /// Where the key may be read one-sided from now on, and until when.
    pub hot: Option<Stamp>,
}

/// How long what a node has lent may be trusted, by its own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// What its clock says.
    pub now: Duration,
    /// Until when nobody else serves its keys.
    pub until: Duration,
}

/// Writes a key, at its primary, or deletes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// What the client takes for the epoch.
    pub epoch: Epoch,
    /// Which.
    pub key: Bytes,
    /// Its value; `None` deletes it.
    pub value: Option<Bytes>,
    /// For how long it is to be read, from when its primary has it.
    pub ttl: Duration,
}

/// One write, from the primary of its key to the others that are to have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replicate {
    /// The epoch in which it is written: the receiver has to be in the same.
    pub epoch: Epoch,
    /// The primary.
    pub from: NodeId,
    /// Which start of it.
    pub incarnation: u64,
    /// Grows when an earlier replicate may still be under way. What comes late has a lower number, and is refused.
    pub link: u64,
    /// Which.
    pub key: Bytes,
    /// What is written.
    pub version: Version,
    /// From when on it is not read any more, by the primary's clock.
    pub expires: Duration,
    /// Its value; `None` deletes it.
    pub value: Option<Bytes>,
}

/// That it is there: at which start of the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replicated {
    /// Numbers the starts of a node. One that was started again has lost what the one before had said to have.
    pub incarnation: u64,
}

/// How a node does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Which.
    pub node: NodeId,
    /// The newest epoch that it knows.
    pub epoch: Option<Epoch>,
    /// Whether it has all of its keys.
    pub ready: bool,
    /// Whether every member has, so that another may go.
    pub settled: bool,
    /// Entries.
    pub entries: u64,
    /// Bytes that they take.
    pub weight: u64,
    /// Entries that had to go for others.
    pub evictions: u64,
}

/// Where a node lends its hot keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lent {
    /// The address that takes tracks of readers.
    pub address: String,
    /// What a reader has to know.
    pub directory: Bytes,
}

/// Why a node does not do what it is asked to. In each case it has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The request carries an old epoch: read the membership again.
    #[error("the request is of an old epoch: {known} is known here")]
    StaleEpoch {
        /// What the node knows.
        known: Epoch,
    },
    /// The request carries an epoch that the node has not heard of. It reads its membership again; later may work.
    #[error("the request is of an epoch that is not known here yet")]
    Behind,
    /// The node cannot answer for its keys just now; later may work.
    #[error("not ready: {0}")]
    NotReady(Unready),
    /// The key has another primary in this epoch.
    #[error("the key has another primary")]
    Misplaced,
    /// The value, or the key, is longer than what is taken.
    #[error("key and value have {len} bytes, where at most {most} are taken")]
    TooLarge {
        /// How long both are.
        len: u64,
        /// How long they may be.
        most: u64,
    },
    /// There is no room, and nothing may go while the node gets its keys.
    #[error("no room while keys are handed over")]
    Full,
    /// A replicate that may have been overtaken by a later one.
    #[error("a replicate of an old link: {seen} was seen")]
    OldLink {
        /// The newest that was seen.
        seen: u64,
    },
    /// A message from before the sender was started again, or a write that is older than what is there.
    #[error("superseded by something newer")]
    Superseded,
    /// Some of the key's nodes may have the write, or all: it was not undone. The one refusal after which it may be read.
    #[error("the write was not confirmed by all nodes of its key: it may be read later, or not")]
    InDoubt,
}

/// What a node waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Error)]
#[non_exhaustive]
pub enum Unready {
    /// To be a member.
    #[error("not a member in this epoch")]
    NotMember,
    /// To hear again from where memberships come from: others may have moved on.
    #[error("the lease on the membership is over")]
    Lease,
    /// Until nobody can serve an earlier epoch any more.
    #[error("an earlier epoch may still be served elsewhere")]
    Waiting,
    /// To get the key from those that had it before.
    #[error("keys are being handed over")]
    Syncing,
    /// For another node that is to have the write: it cannot be reached, and nobody has it.
    #[error("another node of the key cannot be reached")]
    Unreached,
    /// To have heard of the sender, and what its clock says.
    #[error("the sender is not known yet")]
    Unacquainted,
}

/// An answer: what was asked for, or why not.
pub type Answer<T> = Result<T, Refusal>;

/// What a node says of itself, to be noted by the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// Which.
    pub node: NodeId,
    /// Which start of it.
    pub incarnation: u64,
    /// The newest epoch that it knows: it serves no earlier one any more.
    pub epoch: Option<Epoch>,
    /// The epochs in which it had all of its keys, as far as that matters.
    pub bases: Vec<Epoch>,
    /// What its clock says.
    pub now: Duration,
}

/// What goes over a stream, both ways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frame {
    /// I am there; the answer is the same.
    Beat(Presence),
    /// I want what there is of my keys in this epoch. The answer is `Have` or `Refused`.
    Pull(Presence, Epoch),
    /// This is who has it.
    Have(Presence),
    /// Begin.
    Go,
    /// Some of it.
    Items(Vec<Item>),
    /// That was all.
    End,
    /// No.
    Refused(Refusal),
}

/// An entry on its way to another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Of which key.
    pub key: Bytes,
    /// The write that made it.
    pub version: Version,
    /// From when on it is not read any more, by the sender's clock.
    pub expires: Duration,
    /// `None` where it was deleted.
    pub value: Option<Bytes>,
}
