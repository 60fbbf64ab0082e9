//! Operations: what the device is to do with a peer's memory, and what became of it.

use std::ops::Range;

use trespass_core::{Access, RemoteSlice, RemoteWord};

use crate::memory::{Domain, MockRegion, Refused};

/// An operation that was queued. Its slot is in the queue, in the place of a message.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) tag: u64,
    pub(crate) action: Action,
}

/// Bounds of what is ours were checked when it was queued; those of the peer's its device checks.
#[derive(Debug)]
pub(crate) enum Action {
    Read {
        into: MockRegion,
        at: usize,
        from: RemoteSlice,
    },
    Write {
        from: MockRegion,
        at: usize,
        to: RemoteSlice,
    },
    /// The bytes are in the slot, and there is no completion.
    WriteSlot {
        to: RemoteSlice,
    },
    CompareSwap {
        word: RemoteWord,
        expected: u64,
        new: u64,
    },
    FetchAdd {
        word: RemoteWord,
        add: u64,
    },
    /// The head is in the slot.
    Gather {
        body: MockRegion,
        range: Range<usize>,
    },
}

/// An operation that is over.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) tag: u64,
    pub(crate) payload: Payload,
    /// Its slot.
    pub(crate) slot: Box<[u8]>,
    /// Whether it has a place among the fetches.
    pub(crate) fetch: bool,
}

#[derive(Debug)]
pub(crate) enum Payload {
    Memory(MockRegion, Result<(), Failure>),
    Word(Result<u64, Failure>),
    /// Of what needs no completion: its slot alone comes back.
    Nothing(Result<(), Failure>),
}

/// Why an operation was not done.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Failure {
    Refused(Refused),
    /// The track ended first.
    Ended,
}

impl Action {
    /// Whether it has a place among the fetches.
    pub(crate) fn is_fetch(&self) -> bool {
        matches!(self, Self::Read { .. } | Self::CompareSwap { .. } | Self::FetchAdd { .. })
    }

    /// How many bytes it moves between two memories by itself.
    pub(crate) fn moved(&self) -> Option<usize> {
        match self {
            Self::Read { from: slice, .. } | Self::Write { to: slice, .. } | Self::WriteSlot { to: slice } => {
                Some(slice.len())
            }
            Self::CompareSwap { .. } | Self::FetchAdd { .. } | Self::Gather { .. } => None,
        }
    }

    /// Does it in the memory of the peer. `slot` has the bytes of a short write.
    pub(crate) fn run(self, slot: &[u8], target: &Domain) -> Payload {
        match self {
            Self::Read { mut into, at, from } => {
                let result = reach(target, from, Access::ReadOnly, |theirs| copy(theirs, part(&mut into, at, from)));
                Payload::Memory(into, result)
            }
            Self::Write { mut from, at, to } => {
                let result = reach(target, to, Access::ReadWrite, |theirs| copy(part(&mut from, at, to), theirs));
                Payload::Memory(from, result)
            }
            Self::WriteSlot { to } => {
                Payload::Nothing(reach(target, to, Access::ReadWrite, |theirs| copy(slot, theirs)))
            }
            Self::CompareSwap { word, expected, new } => {
                Payload::Word(change(target, word, |was| if was == expected { new } else { was }))
            }
            Self::FetchAdd { word, add } => Payload::Word(change(target, word, |was| was.wrapping_add(add))),
            // The receiver's business; no memory of the target's is reached.
            Self::Gather { body, .. } => Payload::Memory(body, Ok(())),
        }
    }

    /// What it comes to when the track ends before it was done.
    pub(crate) fn ended(self) -> Payload {
        match self {
            Self::Read { into: region, .. } | Self::Write { from: region, .. } | Self::Gather { body: region, .. } => {
                Payload::Memory(region, Err(Failure::Ended))
            }
            Self::CompareSwap { .. } | Self::FetchAdd { .. } => Payload::Word(Err(Failure::Ended)),
            Self::WriteSlot { .. } => Payload::Nothing(Err(Failure::Ended)),
        }
    }
}

impl Payload {
    /// Why the target refused it, if it did.
    pub(crate) fn refused(&self) -> Option<Refused> {
        let failure = match self {
            Self::Memory(_, result) | Self::Nothing(result) => result.err(),
            Self::Word(result) => result.err(),
        };
        match failure {
            Some(Failure::Refused(why)) => Some(why),
            Some(Failure::Ended) | None => None,
        }
    }
}

/// What is not there asks for nothing: an operation of no bytes is not even looked at (InfiniBand specification vol. 1,
/// 9.7.4.1.1, C9-88).
fn reach(target: &Domain, slice: RemoteSlice, wanted: Access, work: impl FnOnce(&mut [u8])) -> Result<(), Failure> {
    match slice.is_empty() {
        true => Ok(()),
        false => target.reach(slice.key(), slice.address(), slice.len(), wanted, work).map_err(Failure::Refused),
    }
}

fn change(target: &Domain, word: RemoteWord, new: impl FnOnce(u64) -> u64) -> Result<u64, Failure> {
    let changed = target.reach(word.key(), word.address(), 8, Access::ReadWrite, |bytes| {
        let place: &mut [u8; 8] = bytes.first_chunk_mut()?;
        let was = u64::from_ne_bytes(*place);
        *place = new(was).to_ne_bytes();
        Some(was)
    });
    changed.and_then(|was| was.ok_or(Refused::Range)).map_err(Failure::Refused)
}

/// The part of `region` that an operation with `slice` is about. Empty where it does not lie inside, which was checked.
fn part(region: &mut MockRegion, at: usize, slice: RemoteSlice) -> &mut [u8] {
    region.get_mut(at..).and_then(|rest| rest.get_mut(..slice.len())).unwrap_or_default()
}

/// The device's copy. Both are of one length.
fn copy(from: &[u8], to: &mut [u8]) {
    if let Some(from) = from.get(..to.len()) {
        to.copy_from_slice(from);
    }
}
