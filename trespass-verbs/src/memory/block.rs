//! Memory with its registration, from the system or of the user's own, and those that wait to be used again.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use sideway::ibverbs::protection_domain::ProtectionDomain;

use crate::error::VerbsError;
use crate::pool;
use crate::raw::mr::{Grant, Mr};

const PAGE: usize = 4096;

/// Registrations that could not be ended, since the process began.
static LEAKED: AtomicU64 = AtomicU64::new(0);

/// How many registrations of memory this process could not end. The memory of each is kept for ever, since the device, or a
/// peer through it, may still use it: leaked on purpose, and counted here.
pub fn leaked_registrations() -> u64 {
    LEAKED.load(Ordering::Relaxed)
}

/// Ends a registration. If that fails it stays, and so has its memory to.
pub(super) fn end(mr: Mr) -> Result<(), VerbsError> {
    mr.deregister().map_err(|error| {
        LEAKED.fetch_add(1, Ordering::Relaxed);
        VerbsError::os("end the registration of memory", &error)
    })
}

/// Memory of one's own that a fabric can register: a file that was mapped, pages of a device, a shared segment.
///
/// # Safety
/// - [`start`](Mapping::start) and [`len`](Mapping::len) say the same at every call, also after the value was moved.
/// - Those bytes can be read and written, and stay mapped there until the value is dropped.
/// - Nobody else reads or writes them while the value lives: neither through it, nor through a copy of the pointer, nor in
///   another process.
pub unsafe trait Mapping: Send + 'static {
    /// Where it begins.
    fn start(&self) -> NonNull<u8>;

    /// How many bytes it has.
    fn len(&self) -> usize;

    /// Whether it has none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A box that gave up its claim to be the only pointer: the device has another.
struct Boxed {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: it owns the bytes, which belong to no thread.
unsafe impl Send for Boxed {}

impl Boxed {
    fn new(memory: Box<[u8]>) -> Self {
        let len = memory.len();
        Self { start: NonNull::from(Box::leak(memory)).cast(), len }
    }

    fn into_box(self) -> Box<[u8]> {
        let this = ManuallyDrop::new(self);
        // SAFETY: taken from a box of this length by `new`, and given back once: `this` is not dropped.
        unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(this.start.as_ptr(), this.len)) }
    }
}

impl Drop for Boxed {
    fn drop(&mut self) {
        // SAFETY: as above; a value that was turned back into a box is not dropped.
        drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(self.start.as_ptr(), self.len)) });
    }
}

/// What the bytes are a part of.
enum Backing {
    /// Pages of ours: may be used again.
    Pages(pool::Mapping),
    Boxed(#[expect(dead_code, reason = "kept to be dropped with the block")] Boxed),
    Users(#[expect(dead_code, reason = "kept to be dropped with the block")] Box<dyn Mapping>),
}

/// Memory with its registration for local use. Who may touch it is decided by the types around it.
pub(crate) struct Block {
    start: NonNull<u8>,
    len: usize,
    /// `None` only while it is dropped.
    mr: Option<Mr>,
    backing: Option<Backing>,
    /// Where pages go when they are done with.
    home: Weak<Registrar>,
}

// SAFETY: it owns the bytes, which belong to no thread; references to them are made by the types around it, under their
// rules.
unsafe impl Send for Block {}
// SAFETY: as above; nothing here changes through a shared reference.
unsafe impl Sync for Block {}

impl Block {
    #[inline]
    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn lkey(&self) -> u32 {
        self.mr.as_ref().map_or(0, Mr::lkey)
    }

    /// Whose memory it is: the protection domain, which is the fabric's.
    #[inline]
    pub(super) fn pd(&self) -> Option<&Arc<ProtectionDomain>> {
        self.mr.as_ref().map(Mr::pd)
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block").field("start", &self.start).field("len", &self.len).finish_non_exhaustive()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let (Some(mr), Some(backing)) = (self.mr.take(), self.backing.take()) else { return };
        let backing = match (backing, self.home.upgrade()) {
            (Backing::Pages(pages), Some(home)) => match home.keep(mr, pages) {
                None => return,
                Some((mr, pages)) => return drop_pages(mr, Backing::Pages(pages)),
            },
            (backing, _) => backing,
        };
        drop_pages(mr, backing);
    }
}

/// The registration first, then the memory; which stays if the registration does.
fn drop_pages(mr: Mr, backing: Backing) {
    match end(mr) {
        Ok(()) => drop(backing),
        Err(_) => std::mem::forget(backing),
    }
}

/// Registers memory for one fabric, and keeps some of what was given back: registering and pinning cost far more than
/// writing zeros.
pub(crate) struct Registrar {
    pd: Arc<ProtectionDomain>,
    /// Bytes to keep at most.
    limit: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    blocks: Vec<(Mr, pool::Mapping)>,
    bytes: usize,
}

impl Registrar {
    pub(crate) fn new(pd: &Arc<ProtectionDomain>, limit: usize) -> Arc<Self> {
        Arc::new(Self { pd: Arc::clone(pd), limit, kept: Mutex::default() })
    }

    /// Zeroed pages, for `len` bytes.
    pub(super) fn alloc(self: &Arc<Self>, len: usize) -> Result<Block, VerbsError> {
        let too_much = || VerbsError::ResourceLimit {
            action: "allocate memory",
            why: format!("{len} bytes are more than there can be"),
        };
        let rounded =
            len.checked_next_multiple_of(PAGE).filter(|len| isize::try_from(*len).is_ok()).ok_or_else(too_much)?;
        let (mr, pages) = match self.kept_of(rounded) {
            Some(kept) => kept,
            None => {
                let pages = pool::Mapping::new(rounded).map_err(|error| VerbsError::os("map memory", &error))?;
                // SAFETY: just mapped with this length, and unmapped only after the registration has ended (`drop_pages`).
                let mr = unsafe { Mr::register(&self.pd, pages.start(), rounded, Grant::Local) };
                (mr.map_err(|error| VerbsError::os("register memory", &error))?, pages)
            }
        };
        Ok(self.block(pages.start(), len, mr, Backing::Pages(pages)))
    }

    pub(super) fn adopt(self: &Arc<Self>, memory: Box<[u8]>) -> Result<Block, (Box<[u8]>, VerbsError)> {
        let boxed = Boxed::new(memory);
        match self.register(boxed.start, boxed.len) {
            Ok(mr) => Ok(self.block(boxed.start, boxed.len, mr, Backing::Boxed(boxed))),
            Err(error) => Err((boxed.into_box(), error)),
        }
    }

    pub(super) fn map<M: Mapping>(self: &Arc<Self>, memory: M) -> Result<Block, (M, VerbsError)> {
        let (start, len) = (memory.start(), memory.len());
        match self.register(start, len) {
            Ok(mr) => Ok(self.block(start, len, mr, Backing::Users(Box::new(memory)))),
            Err(error) => Err((memory, error)),
        }
    }

    fn register(&self, start: NonNull<u8>, len: usize) -> Result<Mr, VerbsError> {
        if len == 0 {
            return Err(empty());
        }
        // SAFETY: mapped by the promise of `Mapping`, or a box; given back only after the registration has ended
        // (`drop_pages`), or where there is none.
        unsafe { Mr::register(&self.pd, start, len, Grant::Local) }
            .map_err(|error| VerbsError::os("register memory", &error))
    }

    fn block(self: &Arc<Self>, start: NonNull<u8>, len: usize, mr: Mr, backing: Backing) -> Block {
        Block { start, len, mr: Some(mr), backing: Some(backing), home: Arc::downgrade(self) }
    }

    /// Memory of this length that was kept, zeroed: no peer's bytes reach another.
    fn kept_of(&self, rounded: usize) -> Option<(Mr, pool::Mapping)> {
        let mut kept = self.lock();
        let at = kept.blocks.iter().rposition(|(_, pages)| pages.len() == rounded)?;
        kept.bytes -= rounded;
        let (mr, pages) = kept.blocks.swap_remove(at);
        drop(kept);
        // SAFETY: mapped with this length, and in nobody's hands: it was dropped, and is not out again.
        unsafe { pages.start().write_bytes(0, rounded) };
        Some((mr, pages))
    }

    /// Keeps memory that was given back, if there is room; else it comes back.
    fn keep(&self, mr: Mr, pages: pool::Mapping) -> Option<(Mr, pool::Mapping)> {
        let mut kept = self.lock();
        match kept.bytes.checked_add(pages.len()) {
            Some(bytes) if bytes <= self.limit => {
                kept.bytes = bytes;
                kept.blocks.push((mr, pages));
                None
            }
            _ => Some((mr, pages)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registrar {
    fn drop(&mut self) {
        let kept = self.kept.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (mr, pages) in kept.blocks.drain(..) {
            drop_pages(mr, Backing::Pages(pages));
        }
    }
}

/// The error for memory of no bytes.
pub(super) fn empty() -> VerbsError {
    VerbsError::Config { setting: "the length of registered memory", why: "is 0; it has to be at least 1".into() }
}
