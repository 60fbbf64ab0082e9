//! Buffers that may not be what they seem.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, ThreadId};

use toy_fabric::{ToyRecvBuf, ToySendBuf};
use trespass_core::SendBuf;

use crate::fault::Fault;
use crate::tap::{Deaf, unheard};

pub(crate) struct BrokenSendBuf {
    /// `None` once it was taken out to be sent.
    pub(crate) toy: Option<Memory>,
    pub(crate) fault: Fault,
    /// Whether it was reserved before its track was split.
    pub(crate) before_split: bool,
    pub(crate) owner: Weak<()>,
    pub(crate) discarded: Arc<AtomicBool>,
}

/// What a buffer stands for below.
pub(crate) enum Memory {
    Slot(ToySendBuf),
    /// With no slot to it.
    Heap(Vec<u8>),
}

impl Memory {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Slot(buf) => buf,
            Self::Heap(bytes) => bytes,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Slot(buf) => buf,
            Self::Heap(bytes) => bytes,
        }
    }
}

const BLANK: &[u8] = &[0; 4096];

fn dead(fault: Fault, owner: &Weak<()>) -> bool {
    fault == Fault::BuffersDieWithTheTrack && owner.strong_count() == 0
}

impl Deref for BrokenSendBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let bytes = self.toy.as_ref().map(Memory::bytes).unwrap_or_default();
        if dead(self.fault, &self.owner) { &BLANK[..bytes.len()] } else { bytes }
    }
}

impl DerefMut for BrokenSendBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.toy.as_mut().map(Memory::bytes_mut).unwrap_or_default()
    }
}

impl SendBuf for BrokenSendBuf {
    fn truncate(&mut self, len: usize) {
        match &mut self.toy {
            _ if self.fault == Fault::IgnoresTruncate => {}
            Some(Memory::Slot(buf)) => buf.truncate(len),
            Some(Memory::Heap(bytes)) => bytes.truncate(len),
            None => {}
        }
    }
}

impl Drop for BrokenSendBuf {
    fn drop(&mut self) {
        let toy = self.toy.take();
        self.discarded.fetch_or(toy.is_some(), Ordering::AcqRel);
        match self.fault {
            Fault::LeaksASlot => std::mem::forget(toy),
            Fault::FreedSlotWakesNobody => unheard(Deaf::Everybody, || drop(toy)),
            _ => drop(toy),
        }
    }
}

pub(crate) struct BrokenRecvBuf {
    toy: Option<ToyRecvBuf>,
    fault: Fault,
    number: u64,
    thread: ThreadId,
    owner: Weak<()>,
    /// What was written over it.
    over: Arc<OnceLock<Box<[u8]>>>,
}

impl BrokenRecvBuf {
    pub(crate) fn new(toy: ToyRecvBuf, fault: Fault, number: u64, owner: Weak<()>) -> Self {
        Self { toy: Some(toy), fault, number, thread: thread::current().id(), owner, over: Arc::default() }
    }

    /// A way to write over it.
    pub(crate) fn pen(&self) -> Arc<OnceLock<Box<[u8]>>> {
        Arc::clone(&self.over)
    }
}

impl Deref for BrokenRecvBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let bytes = self.toy.as_deref().unwrap_or_default();
        match self.over.get() {
            Some(over) => over,
            None if dead(self.fault, &self.owner) => &BLANK[..bytes.len()],
            None => bytes,
        }
    }
}

impl AsRef<[u8]> for BrokenRecvBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for BrokenRecvBuf {
    fn drop(&mut self) {
        let toy = self.toy.take();
        match self.fault {
            Fault::LeaksAReceive => std::mem::forget(toy),
            Fault::ReturnedBufferWakesNobody => unheard(Deaf::Everybody, || drop(toy)),
            Fault::LosesBuffersOfOtherThreads if self.number % 9 == 8 && self.thread != thread::current().id() => {
                std::mem::forget(toy);
            }
            _ => drop(toy),
        }
    }
}
