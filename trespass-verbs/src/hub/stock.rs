//! Send memory on loan: a member has some only while it writes a message, or the device has one of its own.
//!
//! The [`Stock`] is a stack of slots that any thread takes from and gives back to, without a lock; it grows by a block when it
//! runs out, and never shrinks. What a member has on loan, its [`Loan`] knows, and gives back when the queue pair is gone.

use std::ptr::NonNull;
use std::sync::{Arc, PoisonError};

use crate::error::VerbsError;
use crate::pool::Arena;
use crate::sync::{AtomicU32, AtomicU64, Mutex, OnceLock, Ordering};

#[cfg(all(test, loom))]
mod loom_tests;

/// Where a slot is, for the device too.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) start: NonNull<u8>,
    pub(crate) lkey: u32,
}

/// The send slots of all members of a hub.
pub(crate) struct Stock {
    /// Where another block comes from: now and then, under the lock of `grown`.
    more: Box<dyn Fn() -> Result<Arena, VerbsError> + Send + Sync>,
    blocks: Box<[OnceLock<Block>]>,
    slots_per_block: u32,
    slot_size: usize,
    /// The number of the topmost slot, and one more with each change above it: a top that went and came back is another.
    top: AtomicU64,
    /// The number of the next borrower.
    borrowers: AtomicU32,
    /// How many blocks there are.
    grown: Mutex<usize>,
}

struct Block {
    arena: Arena,
    lkey: u32,
    /// The slot below each that is in the stack.
    below: Box<[AtomicU32]>,
    /// Whose bytes are in each, in the upper half, and how many at most.
    traces: Box<[AtomicU64]>,
}

const NONE: u32 = u32::MAX;

impl Stock {
    /// A stock of up to so many blocks, each one arena of `more`; the first is there.
    pub(crate) fn new(
        more: impl Fn() -> Result<Arena, VerbsError> + Send + Sync + 'static,
        blocks: usize,
        slots_per_block: usize,
        slot_size: usize,
    ) -> Result<Arc<Self>, VerbsError> {
        let stock = Self {
            more: Box::new(more),
            blocks: (0..blocks).map(|_| OnceLock::new()).collect(),
            slots_per_block: slots_per_block as u32,
            slot_size,
            top: AtomicU64::new(u64::from(NONE)),
            borrowers: AtomicU32::new(0),
            grown: Mutex::new(0),
        };
        stock.grow(&mut stock.grown.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(Arc::new(stock))
    }

    /// A slot that nobody has, without a byte of any other borrower in it, for `len` bytes of `borrower`.
    #[inline]
    fn take(&self, borrower: u32, len: usize) -> Result<(u32, Place), VerbsError> {
        let slot = match self.pop() {
            Some(slot) => slot,
            None => self.pop_after_growing()?,
        };
        let (block, index) = self.block(slot).ok_or_else(none_left)?;
        // SAFETY: an arena of a stock has `slots_per_block` slots of `slot_size` bytes, and `index` is below that.
        let start = unsafe { block.arena.start().add(index * self.slot_size) };
        // Nobody else has the slot; what its last borrower did to these was before it gave the slot back.
        let trace = block.traces[index].load(Ordering::Relaxed);
        let (last, used) = ((trace >> 32) as u32, trace as u32);
        let mut most = len.min(self.slot_size) as u32;
        if last == borrower {
            most = most.max(used);
        } else {
            // SAFETY: `used` is at most `slot_size`, being what was set below, and this thread alone has the slot.
            unsafe { start.write_bytes(0, used as usize) };
        }
        block.traces[index].store((u64::from(borrower) << 32) | u64::from(most), Ordering::Relaxed);
        Ok((slot, Place { start, lkey: block.lkey }))
    }

    #[inline]
    fn block(&self, slot: u32) -> Option<(&Block, usize)> {
        let block = self.blocks.get((slot / self.slots_per_block) as usize)?.get()?;
        Some((block, (slot % self.slots_per_block) as usize))
    }

    #[inline]
    fn pop(&self) -> Option<u32> {
        let mut top = self.top.load(Ordering::Acquire);
        loop {
            let (block, index) = self.block(top as u32)?;
            // Of a slot that was taken meanwhile this is anything; then the exchange fails.
            let below = block.below[index].load(Ordering::Relaxed);
            match self.top.compare_exchange_weak(top, changed(top, below), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(top as u32),
                Err(now) => top = now,
            }
        }
    }

    /// Gives back a slot that was taken.
    #[inline]
    fn push(&self, slot: u32) {
        let Some((block, index)) = self.block(slot) else { return };
        let mut top = self.top.load(Ordering::Relaxed);
        loop {
            block.below[index].store(top as u32, Ordering::Relaxed);
            match self.top.compare_exchange_weak(top, changed(top, slot), Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }

    #[cold]
    fn pop_after_growing(&self) -> Result<u32, VerbsError> {
        let mut grown = self.grown.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            // Others may have grown it meanwhile, or given something back.
            if let Some(slot) = self.pop() {
                return Ok(slot);
            }
            self.grow(&mut grown)?;
        }
    }

    fn grow(&self, grown: &mut usize) -> Result<(), VerbsError> {
        let cell = self.blocks.get(*grown).ok_or_else(none_left)?;
        let arena = (self.more)()?;
        let block = Block {
            lkey: arena.lkey(),
            arena,
            below: (0..self.slots_per_block).map(|_| AtomicU32::new(NONE)).collect(),
            traces: (0..self.slots_per_block).map(|_| AtomicU64::new(0)).collect(),
        };
        if cell.set(block).is_err() {
            return Err(none_left());
        }
        let first = *grown as u32 * self.slots_per_block;
        *grown += 1;
        (first..first + self.slots_per_block).for_each(|slot| self.push(slot));
        Ok(())
    }
}

#[inline]
fn changed(top: u64, slot: u32) -> u64 {
    ((top >> 32).wrapping_add(1) << 32) | u64::from(slot)
}

/// Never where every member has as many slots as a block: the stock has a block for each.
fn none_left() -> VerbsError {
    VerbsError::ResourceLimit { action: "take send memory", why: "all of it is under way".into() }
}

/// What one member has on loan.
pub(crate) struct Loan {
    stock: Arc<Stock>,
    borrower: u32,
    /// What each of its send slots has that is reserved and not queued.
    reserved: Box<[AtomicU32]>,
    /// What is queued or under way, by the number of the send: a ring.
    queued: Box<[AtomicU32]>,
}

impl Loan {
    /// For a member of `slots` send slots.
    pub(crate) fn new(stock: &Arc<Stock>, slots: usize) -> Self {
        let none = || (0..slots).map(|_| AtomicU32::new(NONE)).collect();
        let borrower = stock.borrowers.fetch_add(1, Ordering::Relaxed);
        Self { stock: Arc::clone(stock), borrower, reserved: none(), queued: none() }
    }

    /// Memory for `len` bytes, for send slot `slot`, which has none.
    #[inline]
    pub(crate) fn reserve(&self, slot: u32, len: usize) -> Result<Place, VerbsError> {
        let (taken, place) = self.stock.take(self.borrower, len)?;
        self.reserved[slot as usize].store(taken, Ordering::Relaxed);
        Ok(place)
    }

    /// What send slot `slot` has is not sent. By whoever had it reserved.
    #[inline]
    pub(crate) fn give_back(&self, slot: u32) {
        if let Some(cell) = self.reserved.get(slot as usize) {
            self.give(cell);
        }
    }

    /// What send slot `slot` has is the `number`-th send from now on.
    #[inline]
    pub(crate) fn queue(&self, slot: u32, number: u64) {
        let taken = self.reserved[slot as usize].swap(NONE, Ordering::Relaxed);
        self.queued[(number % self.queued.len() as u64) as usize].store(taken, Ordering::Release);
    }

    /// The sends from `first` up to and without `end` are over. Before anybody may queue others in their places.
    #[inline]
    pub(crate) fn complete(&self, first: u64, end: u64) {
        let places = self.queued.len() as u64;
        for number in (first..end).take(places as usize) {
            self.give(&self.queued[(number % places) as usize]);
        }
    }

    /// The queue pair is gone, and whoever sent: nothing that was queued is the device's any more.
    pub(crate) fn reclaim(&self) {
        self.queued.iter().for_each(|cell| self.give(cell));
    }

    #[inline]
    fn give(&self, cell: &AtomicU32) {
        // Once: whoever finds it gives it back.
        let slot = cell.swap(NONE, Ordering::AcqRel);
        if slot != NONE {
            self.stock.push(slot);
        }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.reclaim();
        self.reserved.iter().for_each(|cell| self.give(cell));
    }
}
