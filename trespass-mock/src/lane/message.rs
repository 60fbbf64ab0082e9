//! A message in the memory of a lane.

use std::mem;

/// A message, or a piece of memory with room for one: the first `len` bytes of `mem`.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) mem: Box<[u8]>,
    /// At most 2^30: a `u32` keeps this small.
    len: u32,
    /// It is the place of an operation in the queue, and the next of the operations is the one.
    pub(crate) is_operation: bool,
    /// Immediate data goes beside it: the last four bytes of its memory.
    has_word: bool,
}

/// The end of a message's memory, which is no room for bytes: a word there, and not beside the length, keeps a message that
/// has none as small as it was.
pub(super) const TAIL: usize = size_of::<u32>();

/// How many bytes of a message there is room for in `mem`.
#[inline]
pub(super) fn room(mem: &[u8]) -> usize {
    mem.len().saturating_sub(TAIL)
}

impl Message {
    /// Room for a message.
    #[inline]
    pub(crate) fn new(mem: Box<[u8]>) -> Self {
        Self::with_len(mem, 0)
    }

    #[allow(clippy::cast_possible_truncation, reason = "memory of a message has 2^30 bytes at most")]
    #[inline]
    pub(super) fn with_len(mem: Box<[u8]>, len: usize) -> Self {
        Self { len: len as u32, mem, is_operation: false, has_word: false }
    }

    /// Immediate data, beside it.
    #[inline]
    pub(crate) fn word(&self) -> Option<u32> {
        if self.has_word { self.mem.last_chunk().map(|word| u32::from_le_bytes(*word)) } else { None }
    }

    /// Has `word` go beside it, or nothing.
    #[inline]
    pub(crate) fn set_word(&mut self, word: Option<u32>) {
        self.has_word = word.is_some();
        if let (Some(word), Some(place)) = (word, self.mem.last_chunk_mut()) {
            *place = word.to_le_bytes();
        }
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.mem[..self.len as usize]
    }

    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.mem[..self.len as usize]
    }

    /// Makes it `len` bytes long, or as long as there is room.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "memory of a message has 2^30 bytes at most")]
    pub(crate) fn set_len(&mut self, len: usize) {
        self.len = len.min(room(&self.mem)) as u32;
    }

    /// Takes it out, and leaves nothing.
    #[inline]
    pub(crate) fn take(&mut self) -> Self {
        Self { mem: mem::take(&mut self.mem), ..*self }
    }
}
