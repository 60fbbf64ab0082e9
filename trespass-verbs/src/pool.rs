//! The registered memory of a fabric: chunks that are registered once, cut into arenas, one for each track.
//!
//! All tracks of a fabric have the same shape, so a free list of arenas is the whole allocator, and a connection that
//! comes after another has gone registers nothing.

use std::io;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use sideway::ibverbs::AccessFlags;
use sideway::ibverbs::memory_region::MemoryRegion;
use sideway::ibverbs::protection_domain::ProtectionDomain;

use crate::error::VerbsError;

/// How much to register at a time, where an arena is smaller.
pub(crate) const CHUNK: usize = 4 << 20;

/// How many arenas to register at a time, `chunk` bytes or one, where `room` bytes may be.
pub(crate) fn arenas_at_once(arena_size: usize, chunk: usize, room: usize) -> usize {
    (chunk / arena_size).max(1).min(room / arena_size)
}

/// Hands out arenas of one size.
pub(crate) struct Pool {
    pd: Arc<ProtectionDomain>,
    arena_size: usize,
    /// How much to register at a time, where an arena is smaller.
    chunk: usize,
    limit: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    free: Vec<Piece>,
    registered: usize,
}

/// An arena-sized part of a chunk.
struct Piece {
    chunk: Arc<Chunk>,
    offset: usize,
    used_before: bool,
}

impl Pool {
    /// A pool that has registered its first chunk, so that a lack of locked memory shows at once.
    pub(crate) fn new(pd: &Arc<ProtectionDomain>, arena_size: usize, limit: usize) -> Result<Arc<Self>, VerbsError> {
        Self::with_chunk(pd, arena_size, CHUNK, limit)
    }

    /// A pool that registers `chunk` bytes at a time, or one arena where that is larger.
    pub(crate) fn with_chunk(
        pd: &Arc<ProtectionDomain>,
        arena_size: usize,
        chunk: usize,
        limit: usize,
    ) -> Result<Arc<Self>, VerbsError> {
        let pool = Arc::new(Self { pd: Arc::clone(pd), arena_size, chunk, limit, state: Mutex::default() });
        pool.grow(&mut pool.lock())?;
        Ok(pool)
    }

    /// An arena of zeros.
    pub(crate) fn arena(self: &Arc<Self>) -> Result<Arena, VerbsError> {
        let mut state = self.lock();
        if state.free.is_empty() {
            self.grow(&mut state)?;
        }
        let Some(piece) = state.free.pop() else {
            return Err(VerbsError::ResourceLimit {
                action: "take registered memory",
                why: "the pool is empty".into(),
            });
        };
        drop(state);
        let arena = Arena { piece: Some(piece), size: self.arena_size, pool: Arc::downgrade(self) };
        arena.clear();
        Ok(arena)
    }

    fn grow(&self, state: &mut State) -> Result<(), VerbsError> {
        let arenas = arenas_at_once(self.arena_size, self.chunk, self.limit.saturating_sub(state.registered));
        if arenas == 0 {
            return Err(VerbsError::ResourceLimit {
                action: "register memory for another track",
                why: format!("pool_limit ({} bytes) is reached; raise it, or close tracks", self.limit),
            });
        }
        let chunk = Arc::new(Chunk::register(&self.pd, arenas * self.arena_size)?);
        state.registered += arenas * self.arena_size;
        state.free.extend((0..arenas).map(|i| Piece {
            chunk: Arc::clone(&chunk),
            offset: i * self.arena_size,
            used_before: false,
        }));
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Registered memory of one track. Whoever holds a part of it by a slot holds that part alone.
pub(crate) struct Arena {
    piece: Option<Piece>,
    size: usize,
    pool: Weak<Pool>,
}

impl Arena {
    /// One of nothing.
    pub(crate) fn none() -> Self {
        Self { piece: None, size: 0, pool: Weak::new() }
    }

    /// Where it begins.
    #[inline]
    pub(crate) fn start(&self) -> NonNull<u8> {
        match &self.piece {
            // SAFETY: a piece lies within its chunk, by `grow`.
            Some(piece) => unsafe { piece.chunk.memory.start.add(piece.offset) },
            None => NonNull::dangling(),
        }
    }

    /// The key by which the device finds it.
    pub(crate) fn lkey(&self) -> u32 {
        self.piece.as_ref().map_or(0, |piece| piece.chunk.region.lkey())
    }

    /// No byte of an earlier connection is ever seen by a later one.
    fn clear(&self) {
        if self.piece.as_ref().is_some_and(|piece| piece.used_before) {
            // SAFETY: the arena is `size` bytes of its chunk's memory and was just taken from the free list: no slot of
            // it is out, and no queue pair knows it.
            unsafe { self.start().write_bytes(0, self.size) };
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let Some(piece) = self.piece.take() else { return };
        // A pool that is gone needs nothing back: the chunk goes with its last piece.
        if let Some(pool) = self.pool.upgrade() {
            pool.lock().free.push(Piece { used_before: true, ..piece });
        }
    }
}

/// Memory and its registration; the registration goes first.
struct Chunk {
    region: Arc<MemoryRegion>,
    memory: Mapping,
}

impl Chunk {
    fn register(pd: &Arc<ProtectionDomain>, len: usize) -> Result<Self, VerbsError> {
        let memory = Mapping::new(len).map_err(|error| VerbsError::os("map memory", &error))?;
        // SAFETY: the mapping is `len` bytes, and outlives the registration: it is the later field of one struct, and
        // nothing else holds the region. Only slots of this crate touch the memory.
        let region = unsafe { pd.reg_mr(memory.start.as_ptr() as usize, len, AccessFlags::LocalWrite) }
            .map_err(|error| VerbsError::sideway("register memory", error))?;
        Ok(Self { region, memory })
    }
}

/// Anonymous memory of our own, of whole pages and zero at first.
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: memory belongs to no thread; who may touch which part of it is decided by slots.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Huge pages for whole ones of 2 MiB, where the system has some reserved.
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        let start = match len % HUGE_PAGE == 0 {
            true => map(len, libc::MAP_HUGETLB).or_else(|_| map(len, 0))?,
            false => map(len, 0)?,
        };
        // SAFETY: the mapping was just made; advice about huge pages changes no content, and failing changes nothing.
        unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_HUGEPAGE) };
        Ok(Self { start, len })
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

/// The size of a huge page on every machine that has an RDMA device, but for some of ARM and POWER: there, none are used.
const HUGE_PAGE: usize = 2 << 20;

fn map(len: usize, more: i32) -> io::Result<NonNull<u8>> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | more);
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing that exists (mmap(2)).
    let start = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(start.cast::<u8>()).ok_or_else(io::Error::last_os_error)
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, unmapped once; no slot is left, since each holds the chunk.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
