//! Memory that peers may read and write: atomic copies, no references.

use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use trespass_core::{Access, OutOfBounds, SharedRegion};

use crate::error::VerbsError;
use crate::memory::block::Block;
use crate::memory::region::VerbsRegion;
use crate::memory::window::VerbsWindow;

/// Registered memory that peers may use: see [`SharedRegion`]. Copies go by words of eight bytes where they are aligned.
#[derive(Clone)]
pub struct VerbsSharedRegion {
    /// Windows have a reference each.
    block: Arc<Block>,
}

const WORD: usize = size_of::<u64>();

impl VerbsSharedRegion {
    pub(super) fn new(block: Arc<Block>) -> Self {
        Self { block }
    }

    pub(super) fn block(&self) -> &Arc<Block> {
        &self.block
    }

    /// Where `len` bytes from `offset` on begin, if they lie inside.
    fn place(&self, offset: usize, len: usize) -> Result<NonNull<u8>, OutOfBounds> {
        match offset.checked_add(len) {
            // SAFETY: `offset` is not above the block's length, so the pointer stays within it or one past its end.
            Some(end) if end <= self.block.len() => Ok(unsafe { self.block.start().add(offset) }),
            _ => Err(self.out_of_bounds(offset, len, false)),
        }
    }

    /// The word at `offset`, if it lies inside and is aligned.
    fn word(&self, offset: usize) -> Result<&AtomicU64, OutOfBounds> {
        let place = self.place(offset, WORD)?.cast::<u64>();
        if !place.is_aligned() {
            return Err(self.out_of_bounds(offset, WORD, true));
        }
        // SAFETY: eight mapped and initialised bytes, aligned, alive as long as `self`. While the block is shared it is
        // touched by atomic operations alone on this side; what devices do to it is no access of this program.
        Ok(unsafe { AtomicU64::from_ptr(place.as_ptr()) })
    }

    fn out_of_bounds(&self, offset: usize, len: usize, unaligned: bool) -> OutOfBounds {
        OutOfBounds { offset: offset as u64, len: len as u64, size: self.block.len() as u64, unaligned }
    }
}

impl SharedRegion for VerbsSharedRegion {
    type Error = VerbsError;
    type Region = VerbsRegion;
    type Window = VerbsWindow;

    fn len(&self) -> usize {
        self.block.len()
    }

    fn read_at(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfBounds> {
        let place = self.place(offset, into.len())?;
        let (head, rest) = into.split_at_mut(head(place, into.len()));
        let mut words = rest.chunks_exact_mut(WORD);
        let mut at = Cursor(place);
        head.iter_mut().for_each(|byte| *byte = at.byte().load(Ordering::Relaxed));
        words.by_ref().for_each(|word| word.copy_from_slice(&at.word().load(Ordering::Relaxed).to_ne_bytes()));
        words.into_remainder().iter_mut().for_each(|byte| *byte = at.byte().load(Ordering::Relaxed));
        Ok(())
    }

    fn write_at(&self, offset: usize, from: &[u8]) -> Result<(), OutOfBounds> {
        let place = self.place(offset, from.len())?;
        let (head, rest) = from.split_at(head(place, from.len()));
        let words = rest.chunks_exact(WORD);
        let tail = words.remainder();
        let mut at = Cursor(place);
        head.iter().for_each(|byte| at.byte().store(*byte, Ordering::Relaxed));
        for word in words {
            let word = word.first_chunk().map_or(0, |word| u64::from_ne_bytes(*word));
            at.word().store(word, Ordering::Relaxed);
        }
        tail.iter().for_each(|byte| at.byte().store(*byte, Ordering::Relaxed));
        Ok(())
    }

    fn load(&self, offset: usize) -> Result<u64, OutOfBounds> {
        self.word(offset).map(|word| word.load(Ordering::Acquire))
    }

    fn store(&self, offset: usize, word: u64) -> Result<(), OutOfBounds> {
        self.word(offset).map(|place| place.store(word, Ordering::Release))
    }

    fn export(&self, range: Range<usize>, access: Access) -> Result<VerbsWindow, VerbsError> {
        VerbsWindow::new(self, range, access)
    }

    fn reclaim(self) -> Result<VerbsRegion, Self> {
        VerbsRegion::reclaim(self.block).map_err(|block| Self { block })
    }
}

/// How many of `len` bytes come before the first that is aligned to a word.
fn head(place: NonNull<u8>, len: usize) -> usize {
    place.align_offset(WORD).min(len)
}

/// Walks through shared memory. Made only by the two copies above, which have checked that all they take lies inside.
struct Cursor(NonNull<u8>);

impl Cursor {
    fn byte(&mut self) -> &AtomicU8 {
        let place = self.0;
        // SAFETY: the walk stays within what was checked, or ends one past it.
        self.0 = unsafe { self.0.add(1) };
        // SAFETY: mapped and initialised, alive as long as the region that is borrowed for the copy; touched by atomic
        // operations alone while it is shared.
        unsafe { AtomicU8::from_ptr(place.as_ptr()) }
    }

    fn word(&mut self) -> &AtomicU64 {
        let place = self.0.cast::<u64>();
        // SAFETY: as in `byte`: a whole word is left of what was checked.
        self.0 = unsafe { self.0.add(WORD) };
        // SAFETY: as in `byte`; aligned, because the walk took all bytes before the first aligned one, and whole words since.
        unsafe { AtomicU64::from_ptr(place.as_ptr()) }
    }
}

impl fmt::Debug for VerbsSharedRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerbsSharedRegion").field("len", &self.block.len()).finish_non_exhaustive()
    }
}
