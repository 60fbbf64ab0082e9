//! Memory that is owned: plain bytes.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use sideway::ibverbs::protection_domain::ProtectionDomain;
use trespass_core::{MemoryFabric, Region, Unsent};

use crate::error::VerbsError;
use crate::fabric::VerbsFabric;
use crate::memory::block::{Block, Mapping, Registrar, empty};
use crate::memory::shared::VerbsSharedRegion;

/// Registered memory, owned: see [`Region`]. Reading and writing it costs what plain memory costs.
pub struct VerbsRegion {
    start: NonNull<u8>,
    len: usize,
    /// Nobody else has it.
    block: Arc<Block>,
}

// SAFETY: it owns the block, which belongs to no thread.
unsafe impl Send for VerbsRegion {}
// SAFETY: shared references give shared slices only.
unsafe impl Sync for VerbsRegion {}

impl VerbsRegion {
    fn new(block: Block) -> Self {
        Self { start: block.start(), len: block.len(), block: Arc::new(block) }
    }

    /// Owned again, unless somebody else has it.
    pub(super) fn reclaim(mut block: Arc<Block>) -> Result<Self, Arc<Block>> {
        match Arc::get_mut(&mut block) {
            Some(_) => Ok(Self { start: block.start(), len: block.len(), block }),
            None => Err(block),
        }
    }

    pub(crate) fn alloc(registrar: &Arc<Registrar>, len: usize) -> Result<Self, VerbsError> {
        if len == 0 {
            return Err(empty());
        }
        registrar.alloc(len).map(Self::new)
    }

    /// Where it begins: for the device, which has it while an operation is in flight.
    #[inline]
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    #[inline]
    pub(crate) fn lkey(&self) -> u32 {
        self.block.lkey()
    }

    /// Whether it is registered in this protection domain.
    #[inline]
    pub(crate) fn is_of(&self, pd: &Arc<ProtectionDomain>) -> bool {
        self.block.pd().is_some_and(|own| Arc::ptr_eq(own, pd))
    }
}

impl Deref for VerbsRegion {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: `len` bytes from `start` are mapped and were initialised (pages are zero, a box or mapping is the user's).
        // This value alone has the block: no window of it is left (`reclaim`), and the device has it only while it is in the
        // table of operations, out of everybody's hands.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for VerbsRegion {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Region for VerbsRegion {
    type Shared = VerbsSharedRegion;

    fn share(self) -> VerbsSharedRegion {
        VerbsSharedRegion::new(self.block)
    }
}

impl fmt::Debug for VerbsRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerbsRegion").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl MemoryFabric for VerbsFabric {
    type Region = VerbsRegion;

    /// Memory of at least 2 MiB comes in huge pages where the system has some reserved (`vm.nr_hugepages`), and is advised
    /// to become huge where not.
    fn alloc(&self, len: usize) -> Result<VerbsRegion, VerbsError> {
        VerbsRegion::alloc(self.registrar(), len)
    }

    fn adopt(&self, memory: Box<[u8]>) -> Result<VerbsRegion, Unsent<Box<[u8]>, VerbsError>> {
        match self.registrar().adopt(memory) {
            Ok(block) => Ok(VerbsRegion::new(block)),
            Err((buf, error)) => Err(Unsent { buf, error }),
        }
    }
}

impl VerbsFabric {
    /// Registers memory that the user mapped, where it is. It is dropped with the region.
    ///
    /// # Errors
    /// It comes back, with an error as of [`alloc`](MemoryFabric::alloc).
    pub fn register<M: Mapping>(&self, memory: M) -> Result<VerbsRegion, Unsent<M, VerbsError>> {
        match self.registrar().map(memory) {
            Ok(block) => Ok(VerbsRegion::new(block)),
            Err((buf, error)) => Err(Unsent { buf, error }),
        }
    }
}
