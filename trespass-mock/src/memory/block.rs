//! Plain memory, and its share of what the fabric may have.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use trespass_core::Unsent;

use crate::error::MockError;
use crate::memory::Domain;

/// The alignment of what is allocated.
const PAGE: usize = 4096;

/// The first `len` bytes from `start` on of some memory that never moves.
#[derive(Debug)]
pub(crate) struct Block {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
    domain: Arc<Domain>,
}

impl Block {
    /// Zeroed and aligned.
    pub(crate) fn zeroed(domain: &Arc<Domain>, len: usize) -> Result<Self, MockError> {
        domain.charge(len)?;
        // From here on dropping it gives the share back.
        let mut block = Self { bytes: Vec::new(), start: 0, len, domain: Arc::clone(domain) };
        let padded = len.checked_add(PAGE - 1).filter(|padded| block.bytes.try_reserve_exact(*padded).is_ok());
        let padded = padded.ok_or(MockError::NoMemory { len })?;
        block.bytes.resize(padded, 0);
        // Never above: a byte can be aligned in less than a page.
        block.start = block.bytes.as_ptr().align_offset(PAGE).min(PAGE - 1);
        Ok(block)
    }

    /// What exists, as it is.
    pub(crate) fn adopted(domain: &Arc<Domain>, memory: Box<[u8]>) -> Result<Self, Unsent<Box<[u8]>, MockError>> {
        match domain.charge(memory.len()) {
            Ok(()) => Ok(Self { start: 0, len: memory.len(), bytes: memory.into_vec(), domain: Arc::clone(domain) }),
            Err(error) => Err(Unsent { buf: memory, error }),
        }
    }

    pub(crate) fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }

    /// Where it lies, as peers are told.
    pub(crate) fn address(&self) -> u64 {
        self.as_ptr().addr() as u64
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

impl DerefMut for Block {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        drop(mem::take(&mut self.bytes));
        self.domain.discharge(self.len);
    }
}
