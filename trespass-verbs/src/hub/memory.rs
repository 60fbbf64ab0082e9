//! Receive buffers that are anybody's, and the messages in them.

use std::mem::ManuallyDrop;
use std::net::Ipv6Addr;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock, Weak};

use rdma_mummy_sys::ibv_wc_flags;

use super::member::Member;
use crate::driver::{Command, Control};
use crate::error::VerbsError;
use crate::pool::Arena;
use crate::sync::{AtomicBool, AtomicU32, Ordering};
use crate::track::returns::Returns;

/// Who sent a datagram: the address of the device, and the number of the queue pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    pub(crate) gid: Ipv6Addr,
    pub(crate) number: u32,
}

impl Source {
    /// Where the connection says who it was.
    pub(crate) const NONE: Self = Self { gid: Ipv6Addr::UNSPECIFIED, number: 0 };
}

/// The memory of all receive buffers of a hub: blocks of equal size, one for each seat that was ever taken. Outlives the
/// queue pair for as long as a message is out.
pub(crate) struct HubMemory {
    blocks: Box<[OnceLock<Arena>]>,
    slots_per_block: u32,
    slot_size: usize,
    /// Slots that came back.
    given_back: Returns,
    /// How many those are, or a few more: slots that are about to be in the list.
    returned: AtomicU32,
    /// How many slots the device has. Changed under the hub's lock.
    outstanding: AtomicU32,
    /// How many slots to post at once.
    batch: u32,
    /// Somebody sleeps, and the device runs short: the next slot that comes back calls the driver.
    short: AtomicBool,
    /// The driver, and the token by which it knows the hub.
    driver: Weak<dyn Refiller>,
    token: u64,
}

/// Who posts the slots that come back while those who would are asleep.
pub(crate) trait Refiller: Send + Sync {
    /// Calls it for the hub of `token`. On any thread; it comes soon.
    fn call(&self, token: u64);
}

impl Refiller for Control {
    fn call(&self, token: u64) {
        self.leave(Command::Refill(token));
    }
}

impl HubMemory {
    pub(crate) fn new(
        blocks: usize,
        slots_per_block: usize,
        slot_size: usize,
        driver: &Arc<impl Refiller + 'static>,
        token: u64,
    ) -> Arc<Self> {
        let driver = Arc::downgrade(driver);
        Arc::new(Self {
            blocks: (0..blocks).map(|_| OnceLock::new()).collect(),
            slots_per_block: slots_per_block as u32,
            slot_size,
            given_back: Returns::new(blocks * slots_per_block),
            returned: AtomicU32::new(0),
            outstanding: AtomicU32::new(0),
            batch: (slots_per_block as u32 / 4).clamp(1, 32),
            short: AtomicBool::new(false),
            driver,
            token,
        })
    }

    pub(crate) fn slots_per_block(&self) -> u32 {
        self.slots_per_block
    }

    /// Takes `arena` for the memory of the block, and says its key.
    pub(crate) fn install(&self, block: usize, arena: Arena) -> Result<u32, VerbsError> {
        let lkey = arena.lkey();
        let installed = self.blocks.get(block).is_some_and(|cell| cell.set(arena).is_ok());
        match installed {
            true => Ok(lkey),
            false => Err(VerbsError::ResourceLimit { action: "add receive buffers", why: "no seat is left".into() }),
        }
    }

    /// Where a slot begins; `None` for one that there is not.
    #[inline]
    pub(crate) fn slot(&self, slot: u32) -> Option<NonNull<u8>> {
        let (block, index) = (slot / self.slots_per_block, slot % self.slots_per_block);
        let arena = self.blocks.get(block as usize)?.get()?;
        // SAFETY: an arena of a hub has `slots_per_block` slots of `slot_size` bytes, and `index` is below that.
        Some(unsafe { arena.start().add(index as usize * self.slot_size) })
    }

    /// A slot comes back, on any thread.
    #[inline]
    pub(crate) fn give_back(&self, slot: u32) {
        // Counted first: the count is never less than what is in the list.
        self.returned.fetch_add(1, Ordering::SeqCst);
        self.given_back.push(slot);
        // SeqCst, as are the count, the sleeper's store, and its look at the count once more: in the one order of these
        // four, one of the two sees the other.
        if self.short.load(Ordering::SeqCst) {
            self.call_driver();
        }
    }

    #[cold]
    fn call_driver(&self) {
        if self.short.swap(false, Ordering::SeqCst) {
            if let Some(driver) = self.driver.upgrade() {
                driver.call(self.token);
            }
        }
    }

    /// Whether the next slot that comes back calls the driver. Look at [`returned`](HubMemory::returned) after this.
    pub(crate) fn call_when_returned(&self, short: bool) {
        self.short.store(short, Ordering::SeqCst);
    }

    /// How many slots have come back and were not taken.
    #[inline]
    pub(crate) fn returned(&self) -> u32 {
        self.returned.load(Ordering::SeqCst)
    }

    /// The device has so many slots more, or (wrapping) fewer. Under the hub's lock.
    #[inline]
    pub(crate) fn count_outstanding(&self, more: u32) {
        self.outstanding.store(self.outstanding().wrapping_add(more), Ordering::Relaxed);
    }

    /// How many slots the device has. Under the hub's lock.
    #[inline]
    pub(crate) fn outstanding(&self) -> u32 {
        self.outstanding.load(Ordering::Relaxed)
    }

    /// Whether the device has so few slots that each that comes back is posted at once.
    #[inline]
    pub(crate) fn is_short(&self) -> bool {
        self.outstanding() < self.batch
    }

    /// Whether `waiting` slots are to be posted now.
    #[inline]
    pub(crate) fn is_due_for(&self, waiting: u32) -> bool {
        waiting >= self.batch || (waiting > 0 && self.is_short())
    }

    /// Whether the slots that came back are to be posted now.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.is_due_for(self.returned())
    }

    /// Takes the slots that came back.
    pub(crate) fn take(&self, into: &mut Vec<u32>) {
        let before = into.len();
        into.extend(self.given_back.take());
        self.returned.fetch_sub((into.len() - before) as u32, Ordering::SeqCst);
    }
}

/// A message in a slot that the device has let go of.
pub(crate) struct Received {
    start: NonNull<u8>,
    len: u32,
    slot: u32,
    source: Source,
    /// The flags and the immediate data of the completion, as they came.
    flags: u32,
    word: u32,
    memory: Arc<HubMemory>,
}

// SAFETY: the slot, and so its memory, belongs to this value alone until it is dropped.
unsafe impl Send for Received {}
// SAFETY: shared references give shared slices only.
unsafe impl Sync for Received {}

impl Received {
    /// The `len` bytes from `offset` of a slot.
    ///
    /// # Safety
    /// The device has completed a receive into `slot` of `memory`, wrote `offset + len` bytes, all of them within it, and
    /// does not have the slot any more; nobody else has it, until this value gives it back.
    pub(crate) unsafe fn new(
        memory: &Arc<HubMemory>,
        slot: (u32, NonNull<u8>),
        offset: u32,
        len: u32,
        source: Source,
        (flags, word): (u32, u32),
    ) -> Self {
        let (slot, start) = slot;
        // SAFETY: the offset lies within the slot, by the caller's promise.
        let start = unsafe { start.add(offset as usize) };
        Self { start, len, slot, source, flags, word, memory: Arc::clone(memory) }
    }
}

impl Deref for Received {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: by the promise of `new` the device wrote these bytes and nothing writes to them any more; `memory` keeps
        // them mapped.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len as usize) }
    }
}

impl Drop for Received {
    #[inline]
    fn drop(&mut self) {
        self.memory.give_back(self.slot);
    }
}

/// A received message in the hands of the user of a member, which is told when it is given back.
pub(crate) struct Message {
    /// Given back before its member is told.
    received: ManuallyDrop<Received>,
    member: Arc<Member>,
}

impl Message {
    #[inline]
    pub(crate) fn new(received: Received, member: &Arc<Member>) -> Self {
        Self { received: ManuallyDrop::new(received), member: Arc::clone(member) }
    }

    pub(crate) fn source(&self) -> Source {
        self.received.source
    }

    /// The word that was sent beside it.
    #[inline]
    pub(crate) fn immediate(&self) -> Option<u32> {
        let has_word = self.received.flags & ibv_wc_flags::IBV_WC_WITH_IMM.0 != 0;
        has_word.then(|| u32::from_be(self.received.word))
    }
}

impl Deref for Message {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.received
    }
}

impl Drop for Message {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: dropped once, here, and not used afterwards.
        unsafe { ManuallyDrop::drop(&mut self.received) };
        self.member.shared.returned();
    }
}
