//! Which receive buffers the device has, and who had the others.

use std::io;
use std::mem::MaybeUninit;
use std::ptr::null_mut;
use std::sync::Arc;

use rdma_mummy_sys::{ibv_recv_wr, ibv_sge};

use super::member::Member;
use super::memory::HubMemory;
use crate::error::VerbsError;
use crate::pool::Arena;

/// The receive buffers of a hub. Work requests are made once, one for each slot, and linked when posted.
pub(crate) struct Receives {
    memory: Arc<HubMemory>,
    blocks: Vec<Block>,
    slots: Vec<Slot>,
    /// Slots that came back and are not posted yet.
    idle: Vec<u32>,
    /// How many members have, or gave back since they were last posted.
    held: u32,
}

struct Block {
    requests: Box<[ibv_recv_wr]>,
    _elements: Box<[ibv_sge]>,
}

// SAFETY: the pointers in the work requests point to each other's boxes and to slots, which stay where they are; none is
// bound to a thread.
unsafe impl Send for Block {}

#[derive(Clone)]
enum Slot {
    WithDevice,
    /// Not with the device, and nobody's.
    Out,
    /// It holds a message of this member, or has come back from it.
    Of(Arc<Member>),
}

impl Receives {
    pub(crate) fn new(memory: Arc<HubMemory>) -> Self {
        Self { memory, blocks: Vec::new(), slots: Vec::new(), idle: Vec::new(), held: 0 }
    }

    /// Adds the slots of `arena`, each of `len` bytes. They are posted with the next that are.
    pub(crate) fn grow(&mut self, arena: Arena, len: usize) -> Result<(), VerbsError> {
        let block = self.blocks.len();
        let lkey = self.memory.install(block, arena)?;
        let count = self.memory.slots_per_block();
        let first = block as u32 * count;
        let element = |slot| {
            let start = self.memory.slot(slot).map_or(0, |start| start.as_ptr() as u64);
            ibv_sge { addr: start, length: len as u32, lkey }
        };
        let mut elements: Box<[ibv_sge]> = (first..first + count).map(element).collect();
        let requests = elements.iter_mut().zip(first..).map(|(element, slot)| blank_request(slot, element)).collect();
        self.blocks.push(Block { requests, _elements: elements });
        self.slots.resize((first + count) as usize, Slot::Out);
        self.idle.extend(first..first + count);
        // So that taking slots back never allocates.
        self.idle.reserve(self.slots.len());
        Ok(())
    }

    pub(crate) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// The device has completed the receive into `slot`. False where it did not have that: then nothing may be believed.
    #[inline]
    pub(crate) fn completed(&mut self, slot: u32) -> bool {
        match self.slots.get_mut(slot as usize) {
            Some(state @ Slot::WithDevice) => {
                *state = Slot::Out;
                self.memory.count_outstanding(1u32.wrapping_neg());
                true
            }
            _ => false,
        }
    }

    /// The message in `slot` is for `member`.
    #[inline]
    pub(crate) fn assign(&mut self, slot: u32, member: &Arc<Member>) {
        if let Some(state) = self.slots.get_mut(slot as usize) {
            member.hold();
            self.held += 1;
            *state = Slot::Of(Arc::clone(member));
        }
    }

    /// What was in `slot` is for nobody.
    #[inline]
    pub(crate) fn reject(&mut self, slot: u32) {
        self.idle.push(slot);
    }

    pub(crate) fn held(&self) -> u32 {
        self.held
    }

    /// Whether it is time to post, or the device runs short.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.memory.is_due_for(self.idle.len() as u32 + self.memory.returned())
    }

    /// Posts all that came back, through `post`.
    pub(crate) fn post(&mut self, post: impl FnOnce(*mut ibv_recv_wr) -> io::Result<()>) -> io::Result<()> {
        self.memory.take(&mut self.idle);
        if self.idle.is_empty() {
            return Ok(());
        }
        let per_block = self.memory.slots_per_block();
        let mut first: *mut ibv_recv_wr = null_mut();
        for &slot in &self.idle {
            let request = &mut self.blocks[(slot / per_block) as usize].requests[(slot % per_block) as usize];
            request.next = first;
            first = request;
        }
        post(first)?;
        self.memory.count_outstanding(self.idle.len() as u32);
        for slot in self.idle.drain(..) {
            // Not before the device has it: a peer may send by what is counted here.
            if let Slot::Of(member) = std::mem::replace(&mut self.slots[slot as usize], Slot::WithDevice) {
                member.release();
                self.held -= 1;
            }
        }
        Ok(())
    }
}

fn blank_request(slot: u32, element: &mut ibv_sge) -> ibv_recv_wr {
    let request = MaybeUninit::<ibv_recv_wr>::zeroed();
    // SAFETY: plain integers and pointers that may be null: all zero is a valid value.
    let mut request = unsafe { request.assume_init() };
    request.wr_id = u64::from(slot);
    request.sg_list = element;
    request.num_sge = 1;
    request
}
