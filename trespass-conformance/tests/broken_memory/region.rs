//! Memory that may not be what it seems.

use std::ops::{Deref, DerefMut, Range};
use std::sync::Weak;

use trespass_core::{Access, MemoryFabric, OutOfBounds, Region, RemoteWindow, SharedRegion, Window};
use trespass_mock::{MockError, MockFabric, MockRegion, MockSharedRegion, MockWindow};

use crate::fault::Fault;

/// What all memory of a fabric knows of it.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) fault: Fault,
    pub(crate) mock: MockFabric,
    /// Alive while a handle of the fabric is.
    pub(crate) handle: Weak<()>,
}

impl Origin {
    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }
}

pub(crate) struct BrokenRegion {
    pub(crate) mock: MockRegion,
    pub(crate) origin: Origin,
}

impl Deref for BrokenRegion {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.mock
    }
}

impl DerefMut for BrokenRegion {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.mock
    }
}

impl Region for BrokenRegion {
    type Shared = BrokenShared;

    fn share(self) -> BrokenShared {
        BrokenShared { mock: self.mock.share(), origin: self.origin }
    }
}

#[derive(Clone)]
pub(crate) struct BrokenShared {
    mock: MockSharedRegion,
    origin: Origin,
}

impl SharedRegion for BrokenShared {
    type Error = MockError;
    type Region = BrokenRegion;
    type Window = BrokenWindow;

    fn len(&self) -> usize {
        self.mock.len()
    }

    fn read_at(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfBounds> {
        self.mock.read_at(offset, into)?;
        if self.origin.is(Fault::MemoryDiesWithTheFabric) && self.origin.handle.strong_count() == 0 {
            into.fill(0);
        }
        Ok(())
    }

    fn write_at(&self, offset: usize, from: &[u8]) -> Result<(), OutOfBounds> {
        if self.origin.is(Fault::CopiesInPart) && offset < self.len() {
            let room = from.len().min(self.len() - offset);
            self.mock.write_at(offset, &from[..room])?;
        }
        self.mock.write_at(offset, from)
    }

    fn load(&self, offset: usize) -> Result<u64, OutOfBounds> {
        let word = self.mock.load(offset)?;
        match self.origin.fault {
            Fault::TearsWords => {
                std::thread::yield_now();
                Ok(word & 0xFFFF_FFFF | self.mock.load(offset)? & !0xFFFF_FFFF)
            }
            _ => Ok(word),
        }
    }

    fn store(&self, offset: usize, word: u64) -> Result<(), OutOfBounds> {
        self.mock.store(offset, word)
    }

    fn export(&self, range: Range<usize>, access: Access) -> Result<BrokenWindow, MockError> {
        let window = |mock: MockWindow| -> Result<BrokenWindow, MockError> {
            let remote = mock.remote();
            Ok(BrokenWindow { mock: Some(mock), remote, fault: self.origin.fault })
        };
        match self.origin.fault {
            Fault::LendsNothing if range.is_empty() => window(self.mock.export(0..1, access)?),
            Fault::IgnoresBounds => {
                // Refused as ever, but then all of it.
                let narrow = self.mock.export(range.clone(), access)?.remote();
                let mut whole = window(self.mock.export(0..self.len(), access)?)?;
                whole.remote = move_into(&whole.remote, range.start as u64, narrow.len());
                Ok(whole)
            }
            Fault::IgnoresReadOnly => {
                let mut writable = window(self.mock.export(range, Access::ReadWrite)?)?;
                writable.remote = with_access(&writable.remote, access);
                Ok(writable)
            }
            _ => window(self.mock.export(range, access)?),
        }
    }

    fn reclaim(self) -> Result<BrokenRegion, Self> {
        let Self { mock, origin } = self;
        let mock = match mock.reclaim() {
            Ok(mock) => return Ok(BrokenRegion { mock, origin }),
            Err(mock) => mock,
        };
        if origin.is(Fault::ReclaimsWhatIsLent) {
            let copy = origin.mock.alloc(mock.len()).expect("memory");
            return Ok(BrokenRegion { mock: copy, origin });
        }
        Err(Self { mock, origin })
    }
}

/// The window to `len` bytes from `offset` on of what `window` is to.
fn move_into(window: &RemoteWindow, offset: u64, len: u64) -> RemoteWindow {
    let all = window.slice(0, 1).expect("a window has a byte");
    RemoteWindow::new(all.address() + offset, len, all.key(), all.access()).expect("it lies inside")
}

fn with_access(window: &RemoteWindow, access: Access) -> RemoteWindow {
    let all = window.slice(0, 1).expect("a window has a byte");
    RemoteWindow::new(all.address(), window.len(), all.key(), access).expect("it was one before")
}

pub(crate) struct BrokenWindow {
    mock: Option<MockWindow>,
    remote: RemoteWindow,
    fault: Fault,
}

impl Window for BrokenWindow {
    type Error = MockError;

    fn remote(&self) -> RemoteWindow {
        self.remote
    }

    fn revoke(self) -> Result<(), MockError> {
        Ok(())
    }
}

impl Drop for BrokenWindow {
    fn drop(&mut self) {
        let mock = self.mock.take();
        if self.fault == Fault::RevokeDoesNothing {
            std::mem::forget(mock);
        }
    }
}
