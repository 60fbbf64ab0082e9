//! A peer's window: bounds, and the bytes by which it travels.
//!
//! Whatever a peer claims is parsed into these types first, and every offset and length is checked here, with arithmetic that
//! cannot overflow, before a device hears of it. What a peer claims wrongly, its own device refuses.

use thiserror::Error;

use crate::memory::Access;

/// A range that does not lie inside, or a word that is not aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{len} bytes from {offset} do not lie in {size}{}", if *.unaligned { ", or do not begin at a multiple of 8" } else { "" })]
pub struct OutOfBounds {
    /// Where it would begin.
    pub offset: u64,
    /// How long it would be.
    pub len: u64,
    /// How long the memory is.
    pub size: u64,
    /// Whether it had to begin at a multiple of 8 as well.
    pub unaligned: bool,
}

/// Bytes that are no window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum BadWindow {
    /// Not as long as a window is.
    #[error("a window is {} bytes, and these are {len}", RemoteWindow::ENCODED)]
    Length {
        /// How many there are.
        len: usize,
    },
    /// Of another version, with an access that does not exist, or with bits that have to be zero.
    #[error("these bytes are no window of this version")]
    Form,
    /// It would reach beyond the last address.
    #[error("a window of {len} bytes at {start:#x} reaches beyond the last address")]
    Overflow {
        /// Where it would begin.
        start: u64,
        /// How long it would be.
        len: u64,
    },
}

/// Memory of a peer's that we were told of: a name and its bounds. It holds nothing: the peer may revoke it at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RemoteWindow {
    start: u64,
    len: u64,
    key: u32,
    access: Access,
}

const VERSION: u8 = 1;

impl RemoteWindow {
    /// How many bytes [`encode`](Self::encode) makes.
    pub const ENCODED: usize = 24;

    /// For fabrics: the window of `len` bytes from `start` on, under `key`.
    ///
    /// # Errors
    /// [`BadWindow::Overflow`].
    pub fn new(start: u64, len: u64, key: u32, access: Access) -> Result<Self, BadWindow> {
        match start.checked_add(len) {
            Some(_) => Ok(Self { start, len, key, access }),
            None => Err(BadWindow::Overflow { start, len }),
        }
    }

    /// The bytes by which a peer is told of it: version, access, two zeros, then key, start and length, little-endian.
    pub fn encode(&self) -> [u8; Self::ENCODED] {
        let mut bytes = [0; Self::ENCODED];
        bytes[0] = VERSION;
        bytes[1] = u8::from(self.access == Access::ReadWrite);
        bytes[4..8].copy_from_slice(&self.key.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.start.to_le_bytes());
        bytes[16..].copy_from_slice(&self.len.to_le_bytes());
        bytes
    }

    /// The window that a peer tells of. Nothing it can say here does harm: its own device checks each access.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadWindow> {
        let bytes: &[u8; Self::ENCODED] = bytes.try_into().map_err(|_| BadWindow::Length { len: bytes.len() })?;
        let [version, access, 0, 0, k0, k1, k2, k3, rest @ ..] = *bytes else { return Err(BadWindow::Form) };
        let access = match access {
            0 => Access::ReadOnly,
            1 => Access::ReadWrite,
            _ => return Err(BadWindow::Form),
        };
        if version != VERSION {
            return Err(BadWindow::Form);
        }
        let word = |at: usize| std::array::from_fn(|i| rest[at + i]);
        Self::new(
            u64::from_le_bytes(word(0)),
            u64::from_le_bytes(word(8)),
            u32::from_le_bytes([k0, k1, k2, k3]),
            access,
        )
    }

    /// How many bytes it has.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What it allows.
    pub fn access(&self) -> Access {
        self.access
    }

    /// A part of it: `len` bytes from `offset` on.
    ///
    /// # Errors
    /// Where that does not lie inside.
    pub fn slice(&self, offset: u64, len: usize) -> Result<RemoteSlice, OutOfBounds> {
        let wanted = len as u64;
        match offset.checked_add(wanted) {
            // No overflow below: `start + self.len` has none, and `offset` is not above `self.len`.
            Some(end) if end <= self.len => {
                Ok(RemoteSlice { start: self.start + offset, len, key: self.key, access: self.access })
            }
            _ => Err(OutOfBounds { offset, len: wanted, size: self.len, unaligned: false }),
        }
    }

    /// The word at `offset`, for atomic operations.
    ///
    /// # Errors
    /// Where it does not lie inside, or not at an address that is a multiple of 8.
    pub fn word(&self, offset: u64) -> Result<RemoteWord, OutOfBounds> {
        let slice = self.slice(offset, 8)?;
        if slice.start % 8 != 0 {
            return Err(OutOfBounds { offset, len: 8, size: self.len, unaligned: true });
        }
        Ok(RemoteWord { start: slice.start, key: slice.key, access: slice.access })
    }
}

/// A part of a [`RemoteWindow`], within its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteSlice {
    start: u64,
    len: usize,
    key: u32,
    access: Access,
}

impl RemoteSlice {
    /// How many bytes it has.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// For fabrics: its address at the peer.
    #[inline]
    pub fn address(&self) -> u64 {
        self.start
    }

    /// For fabrics: the key of its window.
    #[inline]
    pub fn key(&self) -> u32 {
        self.key
    }

    /// What its window allows.
    #[inline]
    pub fn access(&self) -> Access {
        self.access
    }
}

/// An aligned word of eight bytes in a [`RemoteWindow`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteWord {
    start: u64,
    key: u32,
    access: Access,
}

impl RemoteWord {
    /// For fabrics: its address at the peer.
    #[inline]
    pub fn address(&self) -> u64 {
        self.start
    }

    /// For fabrics: the key of its window.
    #[inline]
    pub fn key(&self) -> u32 {
        self.key
    }

    /// What its window allows.
    #[inline]
    pub fn access(&self) -> Access {
        self.access
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(start: u64, len: u64) -> RemoteWindow {
        RemoteWindow::new(start, len, 7, Access::ReadWrite).unwrap()
    }

    #[test]
    fn a_window_survives_its_bytes() {
        for access in [Access::ReadOnly, Access::ReadWrite] {
            for (start, len) in [(0, 0), (0, u64::MAX), (u64::MAX, 0), (0x1234_5678_9abc, 4096)] {
                let window = RemoteWindow::new(start, len, 0xdead_beef, access).unwrap();
                assert_eq!(RemoteWindow::decode(&window.encode()), Ok(window));
            }
        }
    }

    #[test]
    fn what_is_no_window_is_refused() {
        let good = window(64, 64).encode();
        assert_eq!(RemoteWindow::decode(&good[1..]), Err(BadWindow::Length { len: 23 }));
        assert_eq!(RemoteWindow::decode(&[]), Err(BadWindow::Length { len: 0 }));
        for (at, byte) in [(0, 0), (0, 2), (1, 2), (1, 255), (2, 1), (3, 1)] {
            let mut bad = good;
            bad[at] = byte;
            assert_eq!(RemoteWindow::decode(&bad), Err(BadWindow::Form), "byte {at} is {byte}");
        }
        let mut bad = good;
        bad[8..].fill(0xff);
        assert_eq!(RemoteWindow::decode(&bad), Err(BadWindow::Overflow { start: u64::MAX, len: u64::MAX }));
    }

    #[test]
    fn no_slice_leaves_its_window() {
        let window = window(u64::MAX - 100, 100);
        let inside = window.slice(90, 10).unwrap();
        assert_eq!((inside.address(), inside.len()), (u64::MAX - 10, 10));
        assert!(window.slice(100, 0).is_ok_and(|slice| slice.is_empty()));
        for (offset, len) in [(0, 101), (100, 1), (101, 0), (u64::MAX, 1), (1, usize::MAX), (u64::MAX, usize::MAX)] {
            let refused = window.slice(offset, len).unwrap_err();
            assert_eq!(refused, OutOfBounds { offset, len: len as u64, size: 100, unaligned: false });
        }
    }

    #[test]
    fn a_word_is_aligned_at_the_peer() {
        assert!(window(64, 16).word(8).is_ok());
        assert!(window(64, 16).word(9).is_err());
        assert!(window(64, 16).word(16).is_err());
        // What counts is the address, not the offset.
        assert!(window(60, 16).word(0).is_err_and(|refused| refused.unaligned));
        assert_eq!(window(60, 16).word(4).unwrap().address(), 64);
    }
}
