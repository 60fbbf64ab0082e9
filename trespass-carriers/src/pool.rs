//! Memory for messages that are put together, kept for the next ones.

use std::sync::{Arc, PoisonError};

use crate::sync::{Mutex, MutexGuard};

/// A bounded store of free memory, shared between a carrier and the messages that it gave out.
#[derive(Debug)]
pub(crate) struct Pool {
    free: Mutex<Free>,
    /// The most that is kept, in bytes.
    limit: usize,
}

#[derive(Debug)]
struct Free {
    /// By size: class `n` holds at least `2^n` bytes each.
    classes: [Vec<Vec<u8>>; CLASSES],
    bytes: usize,
    count: usize,
}

/// Enough for every length that memory can have.
const CLASSES: usize = usize::BITS as usize;
/// The smallest that is made: 256 bytes.
const SMALLEST: u32 = 8;
/// The most that are kept, whatever their size.
const MOST: usize = 1 << 16;
/// A larger class may serve a shorter message, up to this many classes up.
const REACH: u32 = 2;

impl Pool {
    /// An empty one that keeps up to `limit` bytes.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        let classes = std::array::from_fn(|_| Vec::new());
        Arc::new(Self { free: Mutex::new(Free { classes, bytes: 0, count: 0 }), limit })
    }

    /// Empty memory with room for `len` bytes; `None` where there is no more memory.
    pub(crate) fn take(self: &Arc<Self>, len: usize) -> Option<Pooled> {
        let class = class_for(len);
        if let Some(bytes) = self.lock().take(class) {
            return Some(Pooled { bytes, pool: Arc::clone(self) });
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(Self::room_for(len)).ok()?;
        Some(Pooled { bytes, pool: Arc::clone(self) })
    }

    /// How much is allocated for `len` bytes.
    pub(crate) fn room_for(len: usize) -> usize {
        1_usize.checked_shl(class_for(len)).unwrap_or(len)
    }

    /// How much memory messages that need `bytes` may get, where there is nothing smaller.
    pub(crate) fn most_for(bytes: usize) -> usize {
        bytes.saturating_mul(1 << REACH)
    }

    fn give_back(&self, mut bytes: Vec<u8>) {
        bytes.clear();
        // What does not fit is freed outside the lock.
        let _surplus = self.lock().keep(bytes, self.limit);
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        // Valid at every step, so a panic elsewhere harms nothing.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Free {
    fn take(&mut self, class: u32) -> Option<Vec<u8>> {
        let classes = self.classes.get_mut(class as usize..)?;
        let bytes = classes.iter_mut().take(1 + REACH as usize).find_map(Vec::pop)?;
        self.bytes -= bytes.capacity();
        self.count -= 1;
        Some(bytes)
    }

    /// Keeps `bytes`, or hands them back where that would be too much.
    fn keep(&mut self, bytes: Vec<u8>, limit: usize) -> Option<Vec<u8>> {
        let size = bytes.capacity();
        let class = size.checked_ilog2().filter(|class| *class >= SMALLEST);
        let Some(class) = class.and_then(|class| self.classes.get_mut(class as usize)) else { return Some(bytes) };
        if self.count >= MOST || self.bytes.saturating_add(size) > limit {
            return Some(bytes);
        }
        class.push(bytes);
        self.bytes += size;
        self.count += 1;
        None
    }
}

/// The class whose every member has room for `len` bytes.
fn class_for(len: usize) -> u32 {
    let up = usize::BITS - len.saturating_sub(1).leading_zeros();
    up.max(SMALLEST)
}

/// Memory from a pool. It goes back there when it is dropped, on any thread.
#[derive(Debug)]
pub(crate) struct Pooled {
    bytes: Vec<u8>,
    pool: Arc<Pool>,
}

impl Pooled {
    /// What was appended so far.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends `bytes`.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Writes `bytes` from place `at` on. What was skipped is zero until it is written.
    pub(crate) fn write_at(&mut self, at: usize, bytes: &[u8]) {
        let old = self.bytes.len();
        if at == old {
            return self.append(bytes);
        }
        self.bytes.resize(old.max(at.saturating_add(bytes.len())), 0);
        if let Some(room) = self.bytes.get_mut(at..).and_then(|rest| rest.get_mut(..bytes.len())) {
            room.copy_from_slice(bytes);
        }
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_is_used_again() {
        let pool = Pool::new(1 << 20);
        let mut first = pool.take(5000).unwrap();
        first.append(&[7; 5000]);
        let at = first.bytes().as_ptr();
        drop(first);
        let again = pool.take(6000).unwrap();
        assert_eq!((again.bytes().as_ptr(), again.bytes().len()), (at, 0));
        assert!(again.bytes.capacity() >= 6000);
    }

    #[test]
    fn a_class_always_has_the_room_it_says() {
        let pool = Pool::new(1 << 30);
        for len in [0, 1, 255, 256, 257, 4096, 4097, 1 << 20, (1 << 20) + 1] {
            for _ in 0..2 {
                assert!(pool.take(len).unwrap().bytes.capacity() >= len, "{len}");
            }
        }
    }

    #[test]
    fn it_keeps_no_more_than_its_limit() {
        let pool = Pool::new(10_000);
        let taken: Vec<_> = (0..8).map(|_| pool.take(4096).unwrap()).collect();
        drop(taken);
        assert!(pool.lock().bytes <= 10_000);
        assert_eq!(pool.lock().count, 2);
    }

    #[test]
    fn a_short_message_does_not_take_the_memory_of_a_long_one() {
        let pool = Pool::new(1 << 30);
        drop(pool.take(1 << 20).unwrap());
        assert!(pool.take(100).unwrap().bytes.capacity() < 1 << 20);
        assert_eq!(pool.lock().count, 2);
    }

    #[test]
    fn what_cannot_be_allocated_is_none() {
        assert!(Pool::new(0).take(isize::MAX as usize + 1).is_none());
    }

    #[test]
    fn it_comes_back_from_any_thread() {
        let pool = Pool::new(1 << 20);
        let taken = pool.take(100).unwrap();
        std::thread::spawn(move || drop(taken)).join().unwrap();
        assert_eq!(pool.lock().count, 1);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::thread;

    use super::*;

    #[test]
    fn loom_memory_is_had_by_one_at_a_time_and_kept_up_to_the_limit() {
        loom::model(|| {
            let pool = Pool::new(256);
            let mut first = pool.take(1).unwrap();
            first.append(&[1]);
            let place = first.bytes().as_ptr().addr();
            let dropping = thread::spawn(move || drop(first));
            let mut second = pool.take(1).unwrap();
            assert!(second.bytes().is_empty());
            second.append(&[2]);
            let used_again = second.bytes().as_ptr().addr() == place;
            dropping.join().unwrap();
            // Where the first was there to be used again, nothing is kept; else it is, and the second goes beyond the limit.
            assert_eq!(pool.lock().count, usize::from(!used_again));
            drop(second);
            let kept = pool.lock();
            assert_eq!((kept.count, kept.bytes <= 256), (1, true));
        });
    }
}
