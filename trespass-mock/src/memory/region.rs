//! Regions, owned and lent, and windows.

use std::fmt;
use std::ops::{Deref, DerefMut, Range};
use std::sync::{Arc, PoisonError};

use trespass_core::{Access, OutOfBounds, Region, RemoteWindow, SharedRegion, Window};

use crate::error::MockError;
use crate::memory::Domain;
use crate::memory::block::Block;
use crate::sync::{Mutex, lock};

/// Memory of a [`MockFabric`](crate::MockFabric), owned.
pub struct MockRegion {
    block: Block,
}

impl MockRegion {
    pub(crate) fn new(block: Block) -> Self {
        Self { block }
    }

    /// Whether it is memory of that fabric.
    pub(crate) fn is_of(&self, domain: &Arc<Domain>) -> bool {
        Arc::ptr_eq(self.block.domain(), domain)
    }
}

impl Region for MockRegion {
    type Shared = MockSharedRegion;

    /// One small allocation.
    fn share(self) -> MockSharedRegion {
        MockSharedRegion { memory: Arc::new(Memory::new(self.block)) }
    }
}

impl Deref for MockRegion {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.block
    }
}

impl DerefMut for MockRegion {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.block
    }
}

impl fmt::Debug for MockRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockRegion").field("len", &self.block.len()).finish_non_exhaustive()
    }
}

/// Memory that may be lent.
#[derive(Debug)]
pub(crate) struct Memory {
    block: Mutex<Block>,
    domain: Arc<Domain>,
    address: u64,
    len: usize,
}

impl Memory {
    fn new(block: Block) -> Self {
        let (domain, address, len) = (Arc::clone(block.domain()), block.address(), block.len());
        Self { block: Mutex::new(block), domain, address, len }
    }

    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Does something with its bytes, while nobody else does.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut [u8]) -> T) -> T {
        work(&mut lock(&self.block))
    }

    /// The same with `len` bytes from `offset` on.
    fn with_part<T>(&self, offset: usize, len: usize, work: impl FnOnce(&mut [u8]) -> T) -> Result<T, OutOfBounds> {
        let part = offset.checked_add(len).map(|end| offset..end).filter(|part| part.end <= self.len);
        let done = part.and_then(|part| self.with(|bytes| bytes.get_mut(part).map(work)));
        done.ok_or_else(|| self.out_of_bounds(offset, len, false))
    }

    /// The same with the word at `offset`.
    fn with_word<T>(&self, offset: usize, work: impl FnOnce(&mut [u8; 8]) -> T) -> Result<T, OutOfBounds> {
        let unaligned = self.address.wrapping_add(offset as u64) % 8 != 0;
        let done = match unaligned {
            true => None,
            false => self.with_part(offset, 8, |bytes| bytes.first_chunk_mut().map(work))?,
        };
        done.ok_or_else(|| self.out_of_bounds(offset, 8, unaligned))
    }

    fn out_of_bounds(&self, offset: usize, len: usize, unaligned: bool) -> OutOfBounds {
        OutOfBounds { offset: offset as u64, len: len as u64, size: self.len as u64, unaligned }
    }
}

/// Memory of a [`MockFabric`](crate::MockFabric) that may be lent: a handle.
///
/// One lock guards all of it, for copies and peers alike: nothing is ever seen half written.
#[derive(Clone)]
pub struct MockSharedRegion {
    memory: Arc<Memory>,
}

impl SharedRegion for MockSharedRegion {
    type Error = MockError;
    type Region = MockRegion;
    type Window = MockWindow;

    fn len(&self) -> usize {
        self.memory.len
    }

    fn read_at(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfBounds> {
        self.memory.with_part(offset, into.len(), |bytes| into.copy_from_slice(bytes))
    }

    fn write_at(&self, offset: usize, from: &[u8]) -> Result<(), OutOfBounds> {
        self.memory.with_part(offset, from.len(), |bytes| bytes.copy_from_slice(from))
    }

    fn load(&self, offset: usize) -> Result<u64, OutOfBounds> {
        self.memory.with_word(offset, |word| u64::from_ne_bytes(*word))
    }

    fn store(&self, offset: usize, word: u64) -> Result<(), OutOfBounds> {
        self.memory.with_word(offset, |place| *place = word.to_ne_bytes())
    }

    fn export(&self, range: Range<usize>, access: Access) -> Result<MockWindow, MockError> {
        let Range { start, end } = range;
        if start >= end || end > self.memory.len {
            return Err(MockError::BadRange { start, end, size: self.memory.len });
        }
        let (key, remote) = self.memory.domain.lend(&self.memory, range, access)?;
        Ok(MockWindow { domain: Arc::clone(&self.memory.domain), key, remote })
    }

    fn reclaim(self) -> Result<MockRegion, Self> {
        match Arc::try_unwrap(self.memory) {
            Ok(memory) => Ok(MockRegion::new(memory.block.into_inner().unwrap_or_else(PoisonError::into_inner))),
            Err(memory) => Err(Self { memory }),
        }
    }
}

impl fmt::Debug for MockSharedRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockSharedRegion").field("len", &self.memory.len).finish_non_exhaustive()
    }
}

/// What peers may use of a [`MockSharedRegion`]. Dropping it takes it back; that waits for accesses in progress, which are
/// copies.
#[derive(Debug)]
pub struct MockWindow {
    domain: Arc<Domain>,
    key: u32,
    remote: RemoteWindow,
}

impl Window for MockWindow {
    type Error = MockError;

    fn remote(&self) -> RemoteWindow {
        self.remote
    }

    /// Never fails.
    fn revoke(self) -> Result<(), MockError> {
        // The drop does it.
        Ok(())
    }
}

impl Drop for MockWindow {
    fn drop(&mut self) {
        self.domain.revoke(self.key);
    }
}
