//! What a client and the server say to each other: one message per request, one per reply, in the same order.
//!
//! | message | bytes |
//! |---|---|
//! | get | `1`, the key |
//! | put | `2`, the key's length as a little-endian u32, the key, the value |
//! | delete | `3`, the key |
//! | done | `0` |
//! | value | `1`, the value |
//! | missing | `2` |
//! | rejected | `3`, a [`Rejection`], the reason in UTF-8 |
//!
//! The carrier keeps lengths, so nothing here has to say where a message ends.

use std::fmt;

use thiserror::Error;

const GET: u8 = 1;
const PUT: u8 = 2;
const DELETE: u8 = 3;

const DONE: u8 = 0;
const VALUE: u8 = 1;
const MISSING: u8 = 2;
const REJECTED: u8 = 3;

/// The longest key. A file's path fits; what is longer is most likely a mistake.
pub(crate) const MAX_KEY: usize = 4096;

/// The most that a put adds to its value. A reply adds less: what could be put can also be got.
pub(crate) const MAX_PUT_HEAD: usize = 1 + size_of::<u32>() + MAX_KEY;

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    Get { key: Key<'a> },
    Put { key: Key<'a>, value: &'a [u8] },
    Delete { key: Key<'a> },
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
    #[error("a put that ends before its key does")]
    CutShort,
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
            unknown => Err(Malformed::UnknownOperation(unknown)),
        }
    }

    /// Appends the message to `out`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
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
                out.reserve(1 + size_of::<u32>() + key.bytes().len() + value.len());
                out.push(PUT);
                out.extend_from_slice(&len.to_le_bytes());
                out.extend_from_slice(key.bytes());
                out.extend_from_slice(value);
            }
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
        }
    }
}
