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

/// Memory that is written late, word by word and in any order: as a device may see it that reads meanwhile. Its owner sees
/// what it wrote at once.
pub struct Late<S> {
    inner: S,
    writes: Arc<Mutex<Writes>>,
}

impl<S: Clone> Clone for Late<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), writes: Arc::clone(&self.writes) }
    }
}

struct Writes {
    /// What the owner sees.
    image: Vec<u8>,
    /// Words that a device does not see yet.
    pending: Vec<(usize, Vec<u8>)>,
}

impl<S: SharedRegion> Late<S> {
    pub fn new(inner: S) -> Self {
        let writes = Writes { image: vec![0; inner.len()], pending: Vec::new() };
        Self { inner, writes: Arc::new(Mutex::new(writes)) }
    }

    /// How many words a device does not see yet.
    pub fn pending(&self) -> usize {
        self.writes.lock().expect("no panic").pending.len()
    }

    /// Lets a device see one of them: one of those that are first at their place, as `chance` says.
    pub fn settle_one(&self, chance: u64) {
        let mut writes = self.writes.lock().expect("no panic");
        let picked = usize::try_from(chance % writes.pending.len() as u64).expect("it was a length");
        let at = writes.pending[picked].0;
        let first = writes.pending.iter().position(|(offset, _)| *offset == at).expect("it is there");
        let (at, word) = writes.pending.remove(first);
        self.inner.write_at(at, &word).expect("inside");
    }

    pub fn settle(&self) {
        while self.pending() > 0 {
            self.settle_one(0);
        }
    }
}

pub struct LateRegion<S>(Late<S>);

impl<S> Deref for LateRegion<S> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        unreachable!("it is never taken back")
    }
}

impl<S> DerefMut for LateRegion<S> {
    fn deref_mut(&mut self) -> &mut [u8] {
        unreachable!("it is never taken back")
    }
}

impl<S: SharedRegion> Region for LateRegion<S> {
    type Shared = Late<S>;
    fn share(self) -> Late<S> {
        self.0
    }
}

impl<S: SharedRegion> SharedRegion for Late<S> {
    type Error = S::Error;
    type Region = LateRegion<S>;
    type Window = S::Window;

    fn len(&self) -> usize {
        self.inner.len()
    }

    fn read_at(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfBounds> {
        into.copy_from_slice(&self.writes.lock().expect("no panic").image[offset..offset + into.len()]);
        Ok(())
    }

    fn write_at(&self, offset: usize, from: &[u8]) -> Result<(), OutOfBounds> {
        let mut writes = self.writes.lock().expect("no panic");
        writes.image[offset..offset + from.len()].copy_from_slice(from);
        // All that a table writes begins at a word.
        assert_eq!(offset % 8, 0);
        for (at, word) in (offset..).step_by(8).zip(from.chunks(8)) {
            writes.pending.push((at, word.to_vec()));
        }
        Ok(())
    }

    fn load(&self, _: usize) -> Result<u64, OutOfBounds> {
        unreachable!("a table needs no words")
    }

    fn store(&self, _: usize, _: u64) -> Result<(), OutOfBounds> {
        unreachable!("a table needs no words")
    }

    fn export(&self, range: Range<usize>, access: Access) -> Result<S::Window, S::Error> {
        self.inner.export(range, access)
    }

    fn reclaim(self) -> Result<LateRegion<S>, Self> {
        Err(self)
    }
}
