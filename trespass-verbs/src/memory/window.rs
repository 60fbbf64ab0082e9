//! What is lent to peers: a registration of its own, so that it can be ended alone.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use trespass_core::{Access, RemoteWindow, Window};

use crate::error::VerbsError;
use crate::memory::block::{Block, end};
use crate::memory::shared::VerbsSharedRegion;
use crate::raw::mr::{Grant, Mr};

/// A part of a region that peers may use: see [`Window`]. One registration; revoking ends it, and waits until the device
/// does nothing there any more.
pub struct VerbsWindow {
    /// `None` once it was revoked.
    mr: Option<Mr>,
    remote: RemoteWindow,
    block: Arc<Block>,
}

impl VerbsWindow {
    pub(super) fn new(shared: &VerbsSharedRegion, range: Range<usize>, access: Access) -> Result<Self, VerbsError> {
        let block = shared.block();
        let refused = |why: String| VerbsError::Config { setting: "the range of a window", why };
        if range.start >= range.end || range.end > block.len() {
            return Err(refused(format!("is {range:?}; it has to be within the {} bytes, and not empty", block.len())));
        }
        let grant = match access {
            Access::ReadOnly => Grant::Read,
            Access::ReadWrite => Grant::Write,
            _ => return Err(refused(format!("is lent for {access:?}, which is not known here"))),
        };
        let len = range.end - range.start;
        // SAFETY: `range` lies within the block, so the pointer does.
        let start = unsafe { block.start().add(range.start) };
        // SAFETY: the block is mapped as long as it lives; this value holds it, and lets go only after the registration has
        // ended. It is shared, so it is touched by atomic operations alone until `reclaim` finds nobody else holding it.
        let mr = unsafe { Mr::register(block.pd().ok_or(VerbsError::Closed)?, start, len, grant) }
            .map_err(|error| VerbsError::os("register a window", &error))?;
        match RemoteWindow::new(start.as_ptr().addr() as u64, len as u64, mr.rkey(), access) {
            Ok(remote) => Ok(Self { mr: Some(mr), remote, block: Arc::clone(block) }),
            Err(bad) => {
                let _ = end(mr);
                Err(refused(bad.to_string()))
            }
        }
    }

    fn take_back(&mut self) -> Result<(), VerbsError> {
        let Some(mr) = self.mr.take() else { return Ok(()) };
        end(mr).inspect_err(|_| {
            // A peer may still be there: the block is never owned again, and never freed.
            std::mem::forget(Arc::clone(&self.block));
        })
    }
}

impl Window for VerbsWindow {
    type Error = VerbsError;

    fn remote(&self) -> RemoteWindow {
        self.remote
    }

    fn revoke(mut self) -> Result<(), VerbsError> {
        self.take_back()
    }
}

impl Drop for VerbsWindow {
    fn drop(&mut self) {
        // What cannot be taken back is kept for ever, and counted.
        let _ = self.take_back();
    }
}

impl fmt::Debug for VerbsWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerbsWindow").field("remote", &self.remote).finish_non_exhaustive()
    }
}
