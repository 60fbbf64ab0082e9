//! The memory of one fabric: how much there may be, and what of it is lent to whom.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use trespass_core::{Access, RemoteWindow};

use crate::error::MockError;
use crate::memory::region::Memory;

/// The memory of one fabric, as its device sees it. It outlives the fabric.
#[derive(Debug)]
pub(crate) struct Domain {
    limit: usize,
    used: AtomicUsize,
    /// Those that peers may use, by key; `None` once the fabric was killed. Peers hold it for reading while they are at it,
    /// so whoever takes a window out has waited for them.
    windows: RwLock<Option<HashMap<u32, Lent>>>,
    /// Keys are not to be guessed from one another: they are a hash of this and a count.
    secret: u64,
    made: AtomicU64,
}

/// What a key gives access to.
#[derive(Debug)]
struct Lent {
    memory: Arc<Memory>,
    range: Range<usize>,
    access: Access,
}

/// Why a peer's access was refused. A device says only that it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    NoWindow,
    Range,
    ReadOnly,
}

impl From<Refused> for MockError {
    fn from(why: Refused) -> Self {
        Self::AccessRefused {
            why: match why {
                Refused::NoWindow => "there is no such window: it was revoked, or never was",
                Refused::Range => "the window does not reach so far",
                Refused::ReadOnly => "the window is read-only",
            },
        }
    }
}

impl Domain {
    /// Memory of up to `limit` bytes. Whoever wants the same keys in each run gives a `secret`.
    pub(crate) fn new(limit: usize, secret: Option<u64>) -> Self {
        Self {
            limit,
            used: AtomicUsize::new(0),
            windows: RwLock::new(Some(HashMap::new())),
            secret: secret.unwrap_or_else(|| RandomState::new().hash_one(0)),
            made: AtomicU64::new(0),
        }
    }

    /// Takes `len` bytes of what there may be.
    pub(crate) fn charge(&self, len: usize) -> Result<(), MockError> {
        if len == 0 {
            return Err(MockError::NoLength);
        }
        let limit = self.limit;
        let charged = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(len).filter(|used| *used <= limit)
        });
        charged.map(|_| ()).map_err(|used| MockError::MemoryLimit { len, used, limit })
    }

    pub(crate) fn discharge(&self, len: usize) {
        self.used.fetch_sub(len, Ordering::Relaxed);
    }

    /// Lends `range` of `memory`, in which it lies.
    pub(crate) fn lend(
        &self,
        memory: &Arc<Memory>,
        range: Range<usize>,
        access: Access,
    ) -> Result<(u32, RemoteWindow), MockError> {
        let mut windows = self.windows.write().unwrap_or_else(PoisonError::into_inner);
        let windows = windows.as_mut().ok_or(MockError::Killed)?;
        let bad_range = || MockError::BadRange { start: range.start, end: range.end, size: memory.len() };
        let start = memory.address().checked_add(range.start as u64).ok_or_else(bad_range)?;
        loop {
            let key = self.next_key();
            let Entry::Vacant(place) = windows.entry(key) else { continue };
            let window = RemoteWindow::new(start, range.len() as u64, key, access).map_err(|_| bad_range())?;
            place.insert(Lent { memory: Arc::clone(memory), range, access });
            return Ok((key, window));
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "any 32 bits of it will do")]
    fn next_key(&self) -> u32 {
        let mut hasher = DefaultHasher::new();
        (self.secret, self.made.fetch_add(1, Ordering::Relaxed)).hash(&mut hasher);
        hasher.finish() as u32
    }

    /// Takes a window back. When this returns nobody uses it any more.
    pub(crate) fn revoke(&self, key: u32) {
        let taken =
            self.windows.write().unwrap_or_else(PoisonError::into_inner).as_mut().and_then(|all| all.remove(&key));
        // The last owner of memory frees it: not under the lock.
        drop(taken);
    }

    /// Takes all windows back, for ever: the fabric is dead.
    pub(crate) fn kill(&self) {
        let taken = self.windows.write().unwrap_or_else(PoisonError::into_inner).take();
        drop(taken);
    }

    /// Does `work` to the `len` bytes at `address`, if the window with this `key` allows it.
    pub(crate) fn reach<T>(
        &self,
        key: u32,
        address: u64,
        len: usize,
        wanted: Access,
        work: impl FnOnce(&mut [u8]) -> T,
    ) -> Result<T, Refused> {
        let windows = self.windows.read().unwrap_or_else(PoisonError::into_inner);
        let lent = windows.as_ref().and_then(|all| all.get(&key)).ok_or(Refused::NoWindow)?;
        if wanted != Access::ReadOnly && lent.access != Access::ReadWrite {
            return Err(Refused::ReadOnly);
        }
        let start = address.checked_sub(lent.memory.address()).and_then(|start| usize::try_from(start).ok());
        let range = start.and_then(|start| Some(start..start.checked_add(len)?));
        let range = range.filter(|range| lent.range.start <= range.start && range.end <= lent.range.end);
        let range = range.ok_or(Refused::Range)?;
        lent.memory.with(|bytes| bytes.get_mut(range).map(work)).ok_or(Refused::Range)
    }
}
