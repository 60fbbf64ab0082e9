//! Memory for tests: plain, and as a device might see it while it is written.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

use std::ops::{Deref, DerefMut, Range};
use std::sync::{Arc, Mutex};

use trespass_core::{Access, ErrorKind, OutOfBounds, Region, RemoteWindow, SharedRegion, TransportError, Window};

/// Memory that nobody can be lent.
#[derive(Clone)]
pub struct Plain(Arc<Mutex<Vec<u8>>>);

impl Plain {
    pub fn new(len: usize) -> Self {
        Self(Arc::new(Mutex::new(vec![0; len])))
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().expect("no panic").clone()
    }
}

pub struct PlainRegion(Plain);

impl Deref for PlainRegion {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        unreachable!("it is never taken back")
    }
}

impl DerefMut for PlainRegion {
    fn deref_mut(&mut self) -> &mut [u8] {
        unreachable!("it is never taken back")
    }
}

impl Region for PlainRegion {
    type Shared = Plain;
    fn share(self) -> Plain {
        self.0
    }
}

#[derive(Debug, Clone, thiserror::Error)]
#[error("plain memory is not lent")]
pub struct NotLent;

impl TransportError for NotLent {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Config
    }
}

pub struct NoWindow;

impl Window for NoWindow {
    type Error = NotLent;
    fn remote(&self) -> RemoteWindow {
        unreachable!("there is none")
    }
    fn revoke(self) -> Result<(), NotLent> {
        Err(NotLent)
    }
}

impl SharedRegion for Plain {
    type Error = NotLent;
    type Region = PlainRegion;
    type Window = NoWindow;

    fn len(&self) -> usize {
        self.0.lock().expect("no panic").len()
    }

    fn read_at(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfBounds> {
        into.copy_from_slice(&self.0.lock().expect("no panic")[offset..offset + into.len()]);
        Ok(())
    }

    fn write_at(&self, offset: usize, from: &[u8]) -> Result<(), OutOfBounds> {
        self.0.lock().expect("no panic")[offset..offset + from.len()].copy_from_slice(from);
        Ok(())
    }

    fn load(&self, _: usize) -> Result<u64, OutOfBounds> {
        unreachable!("a table needs no words")
    }

    fn store(&self, _: usize, _: u64) -> Result<(), OutOfBounds> {
        unreachable!("a table needs no words")
    }

    fn export(&self, _: Range<usize>, _: Access) -> Result<NoWindow, NotLent> {
        Err(NotLent)
    }

    fn reclaim(self) -> Result<PlainRegion, Self> {
        Err(self)
    }
}
