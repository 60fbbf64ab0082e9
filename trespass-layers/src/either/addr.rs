//! Addresses of either side.

use std::fmt::{self, Display, Write};
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use trespass_core::Address;

use super::{Either, each};

/// An address that a side cannot read. Names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableAddress {
    text: Arc<str>,
}

impl Display for UnreadableAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no address of the fabric that was chosen", self.text)
    }
}

impl std::error::Error for UnreadableAddress {}

/// What `addr` is to the left side.
pub(super) fn left<A: Address, B: Address>(addr: &Either<A, B>) -> Result<A, UnreadableAddress> {
    match addr {
        Either::Left(addr) => Ok(addr.clone()),
        Either::Right(other) => reread(&other.to_string()),
    }
}

/// What `addr` is to the right side.
pub(super) fn right<A: Address, B: Address>(addr: &Either<A, B>) -> Result<B, UnreadableAddress> {
    match addr {
        Either::Left(other) => reread(&other.to_string()),
        Either::Right(addr) => Ok(addr.clone()),
    }
}

fn reread<T: FromStr>(text: &str) -> Result<T, UnreadableAddress> {
    text.parse().map_err(|_| UnreadableAddress { text: text.into() })
}

impl<A: FromStr, B: FromStr> FromStr for Either<A, B> {
    type Err = UnreadableAddress;

    fn from_str(text: &str) -> Result<Self, UnreadableAddress> {
        text.parse().map(Self::Left).or_else(|_| reread(text).map(Self::Right))
    }
}

impl<A: Display, B: Display> Display for Either<A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        each!(self, addr => addr.fmt(f))
    }
}

impl<A: Display + PartialEq, B: Display + PartialEq> PartialEq for Either<A, B> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Left(one), Self::Left(other)) => one == other,
            (Self::Right(one), Self::Right(other)) => one == other,
            (one, other) => one.to_string() == other.to_string(),
        }
    }
}

impl<A: Display + Eq, B: Display + Eq> Eq for Either<A, B> {}

impl<A: Display, B: Display> Hash for Either<A, B> {
    /// The hash of the text, byte by byte: the same on both sides.
    fn hash<H: Hasher>(&self, state: &mut H) {
        struct Bytes<'a, H>(&'a mut H);
        impl<H: Hasher> Write for Bytes<'_, H> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                text.bytes().for_each(|byte| self.0.write_u8(byte));
                Ok(())
            }
        }
        // Neither an address nor this writer has a way to fail.
        let _ = write!(Bytes(state), "{self}");
        state.write_u8(0xFF);
    }
}
