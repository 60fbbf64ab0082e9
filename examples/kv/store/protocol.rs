//! What a client and the server say to each other: one message per request, one per reply, in the same order.
//!
//! | message | bytes |
//! |---|---|
//! | get | `1`, the key |
//! | put | `2`, the key's length as a u32, the key, the value |
//! | delete | `3`, the key |
//! | scan | `4`, how many pairs at most as a u32, the key to begin at |
//! | where the table is | `5` |
//! | how busy the server was | `6` |
//! | done | `0` |
//! | value | `1`, the value |
//! | missing | `2` |
//! | rejected | `3`, a [`Rejection`], the reason in UTF-8 |
//! | pairs | `4`, for each the lengths of key and value as a u32 each, the key, the value |
//! | the table | `5`, a [`Directory`], the address in UTF-8 at which tracks for it are taken in |
//! | busy | `6`, messages handled as a u64, nanoseconds of processor time as a u64 (all ones where it is not known) |
//!
//! All numbers are little-endian.
//!
//! The carrier keeps lengths, so nothing here has to say where a message ends.

use std::fmt;

use thiserror::Error;
use trespass_example_table::Directory;

const GET: u8 = 1;
const PUT: u8 = 2;
const DELETE: u8 = 3;
const SCAN: u8 = 4;
const TABLE: u8 = 5;
const EFFORT: u8 = 6;

const DONE: u8 = 0;
const VALUE: u8 = 1;
const MISSING: u8 = 2;
const REJECTED: u8 = 3;
const PAIRS: u8 = 4;
const LENT: u8 = 5;
const BUSY: u8 = 6;

/// The longest key. A file's path fits; what is longer is most likely a mistake.
pub(crate) const MAX_KEY: usize = 4096;

/// The most that a put adds to its value. A reply adds less: what could be put can also be got.
pub(crate) const MAX_PUT_HEAD: usize = 1 + size_of::<u32>() + MAX_KEY;

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    Get {
        key: Key<'a>,
    },
    Put {
        key: Key<'a>,
        value: &'a [u8],
    },
    Delete {
        key: Key<'a>,
    },
    /// Pairs from `from` on, in the order of their keys: `most` of them, or fewer where they get too long together.
    Scan {
        from: Key<'a>,
        most: u32,
    },
    /// Where the table is, for whoever wants to read it.
    Table,
    /// How busy the server was so far.
    Effort,
}

/// Bytes that are short enough to be a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key<'a>(&'a [u8]);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a key of {0} bytes: {MAX_KEY} is the most")]
pub(crate) struct KeyTooLong(usize);

/// Why a request makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Malformed {
    #[error("an empty request")]
    Empty,
    #[error("operation {0} does not exist")]
    UnknownOperation(u8),
    #[error("it ends before it is complete")]
    CutShort,
    #[error("it goes on behind its end")]
    TooMuch,
    #[error(transparent)]
    KeyTooLong(#[from] KeyTooLong),
}

impl<'a> Key<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, KeyTooLong> {
        if bytes.len() > MAX_KEY {
            return Err(KeyTooLong(bytes.len()));
        }
        Ok(Self(bytes))
    }

    pub(crate) fn bytes(self) -> &'a [u8] {
        self.0
    }
}

impl<'a> Request<'a> {
    pub(crate) fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let (&operation, rest) = message.split_first().ok_or(Malformed::Empty)?;
        match operation {
            GET => Ok(Self::Get { key: Key::new(rest)? }),
            DELETE => Ok(Self::Delete { key: Key::new(rest)? }),
            PUT => {
                let (&len, rest) = rest.split_first_chunk().ok_or(Malformed::CutShort)?;
                let len = usize::try_from(u32::from_le_bytes(len)).map_err(|_| Malformed::CutShort)?;
                let (key, value) = rest.split_at_checked(len).ok_or(Malformed::CutShort)?;
                Ok(Self::Put { key: Key::new(key)?, value })
            }
            SCAN => {
                let (&most, key) = rest.split_first_chunk().ok_or(Malformed::CutShort)?;
                Ok(Self::Scan { from: Key::new(key)?, most: u32::from_le_bytes(most) })
            }
            TABLE | EFFORT if !rest.is_empty() => Err(Malformed::TooMuch),
            TABLE => Ok(Self::Table),
            EFFORT => Ok(Self::Effort),
            unknown => Err(Malformed::UnknownOperation(unknown)),
        }
    }

    /// How long the message is.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Get { key } | Self::Delete { key } => 1 + key.bytes().len(),
            Self::Put { key, value } => 1 + size_of::<u32>() + key.bytes().len() + value.len(),
            Self::Scan { from, .. } => 1 + size_of::<u32>() + from.bytes().len(),
            Self::Table | Self::Effort => 1,
        }
    }

    /// Appends the message to `out`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(self.len());
        match *self {
            Self::Get { key } => {
                out.push(GET);
                out.extend_from_slice(key.bytes());
            }
            Self::Delete { key } => {
                out.push(DELETE);
                out.extend_from_slice(key.bytes());
            }
            Self::Put { key, value } => {
                let len = u32::try_from(key.bytes().len()).expect("MAX_KEY fits");
                out.push(PUT);
                out.extend_from_slice(&len.to_le_bytes());
                out.extend_from_slice(key.bytes());
                out.extend_from_slice(value);
            }
            Self::Scan { from, most } => {
                out.push(SCAN);
                out.extend_from_slice(&most.to_le_bytes());
                out.extend_from_slice(from.bytes());
            }
            Self::Table => out.push(TABLE),
            Self::Effort => out.push(EFFORT),
        }
    }
}

/// What the server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply<'a> {
    /// The value is put, or the key deleted.
    Done,
    Value(&'a [u8]),
    /// There is no such key.
    Missing,
    /// Not done, and why. The connection lives on.
    Rejected(Rejection, &'a str),
    Pairs(Pairs<'a>),
    /// The table, and where tracks to read it by are taken in.
    Table(Directory, &'a str),
    Busy(Effort),
}

/// What a server has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Effort {
    /// Requests that were answered, but for those about this.
    pub(crate) messages: u64,
    /// Processor time of its threads, in nanoseconds, where the system tells.
    pub(crate) cpu_ns: Option<u64>,
}

/// Keys and values, as they lie in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pairs<'a>(&'a [u8]);

impl<'a> Pairs<'a> {
    /// They are, once all of them were looked at.
    fn parse(bytes: &'a [u8]) -> Result<Self, Nonsense> {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = first_pair(rest).ok_or(Nonsense)?.2;
        }
        Ok(Self(bytes))
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (key, value, behind) = first_pair(rest)?;
            rest = behind;
            Some((key, value))
        })
    }

    /// Begins a reply of pairs in `out`.
    pub(crate) fn begin(out: &mut Vec<u8>) {
        out.push(PAIRS);
    }

    /// Appends a pair to it. What is longer than a message can be is not sent anyway.
    pub(crate) fn push(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
        for part in [key, value] {
            out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
        }
        out.extend_from_slice(key);
        out.extend_from_slice(value);
    }
}

fn first_pair(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (&key, rest) = bytes.split_first_chunk()?;
    let (&value, rest) = rest.split_first_chunk()?;
    let (key, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(key)).ok()?)?;
    let (value, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(value)).ok()?)?;
    Some((key, value, rest))
}

/// Why the server will not do what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// The request makes no sense.
    Malformed,
    /// The store is full.
    Full,
    /// The answer is longer than a message of this connection can be.
    TooLong,
}

/// A reply that makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a reply that makes no sense")]
pub(crate) struct Nonsense;

impl Rejection {
    const ALL: [Self; 3] = [Self::Malformed, Self::Full, Self::TooLong];

    fn code(self) -> u8 {
        match self {
            Self::Malformed => 1,
            Self::Full => 2,
            Self::TooLong => 3,
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed request",
            Self::Full => "the store is full",
            Self::TooLong => "answer too long",
        })
    }
}

impl<'a> Reply<'a> {
    pub(crate) fn parse(message: &'a [u8]) -> Result<Self, Nonsense> {
        let (&status, rest) = message.split_first().ok_or(Nonsense)?;
        match status {
            DONE if rest.is_empty() => Ok(Self::Done),
            VALUE => Ok(Self::Value(rest)),
            MISSING if rest.is_empty() => Ok(Self::Missing),
            REJECTED => {
                let (&code, reason) = rest.split_first().ok_or(Nonsense)?;
                let why = Rejection::ALL.into_iter().find(|why| why.code() == code).ok_or(Nonsense)?;
                Ok(Self::Rejected(why, std::str::from_utf8(reason).map_err(|_| Nonsense)?))
            }
            PAIRS => Ok(Self::Pairs(Pairs::parse(rest)?)),
            LENT => {
                let (directory, addr) = rest.split_at_checked(Directory::ENCODED).ok_or(Nonsense)?;
                let directory = Directory::decode(directory).map_err(|_| Nonsense)?;
                Ok(Self::Table(directory, std::str::from_utf8(addr).map_err(|_| Nonsense)?))
            }
            BUSY => {
                let (&messages, rest) = rest.split_first_chunk().ok_or(Nonsense)?;
                let cpu: &[u8; 8] = rest.try_into().map_err(|_| Nonsense)?;
                let cpu_ns = Some(u64::from_le_bytes(*cpu)).filter(|cpu| *cpu != u64::MAX);
                Ok(Self::Busy(Effort { messages: u64::from_le_bytes(messages), cpu_ns }))
            }
            _ => Err(Nonsense),
        }
    }

    /// Appends the message to `out`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Done => out.push(DONE),
            Self::Value(value) => {
                out.reserve(1 + value.len());
                out.push(VALUE);
                out.extend_from_slice(value);
            }
            Self::Missing => out.push(MISSING),
            Self::Rejected(why, reason) => {
                out.extend_from_slice(&[REJECTED, why.code()]);
                out.extend_from_slice(reason.as_bytes());
            }
            Self::Pairs(Pairs(pairs)) => {
                Pairs::begin(out);
                out.extend_from_slice(pairs);
            }
            Self::Table(directory, addr) => {
                out.push(LENT);
                out.extend_from_slice(&directory.encode());
                out.extend_from_slice(addr.as_bytes());
            }
            Self::Busy(Effort { messages, cpu_ns }) => {
                out.push(BUSY);
                out.extend_from_slice(&messages.to_le_bytes());
                out.extend_from_slice(&cpu_ns.unwrap_or(u64::MAX).to_le_bytes());
            }
        }
    }
}
