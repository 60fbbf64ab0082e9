//! Shared receive queues: receives that any of many queue pairs takes. sideway has none.

use std::ffi::c_void;
use std::io;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use rdma_mummy_sys::{
    ibv_create_srq, ibv_destroy_srq, ibv_modify_srq, ibv_post_srq_recv, ibv_recv_wr, ibv_srq, ibv_srq_attr,
    ibv_srq_attr_mask, ibv_srq_init_attr,
};
use sideway::ibverbs::protection_domain::ProtectionDomain;

use crate::error::VerbsError;

/// A shared receive queue, destroyed when dropped, after the queue pairs that use it.
pub(crate) struct Srq {
    srq: NonNull<ibv_srq>,
    _pd: Arc<ProtectionDomain>,
}

// SAFETY: libibverbs lets any thread call on any object, and providers lock inside.
unsafe impl Send for Srq {}
// SAFETY: as above.
unsafe impl Sync for Srq {}

impl Srq {
    /// A queue for `depth` receives of one element each, its events marked with `token`, which is never taken for an
    /// address.
    pub(crate) fn new(pd: &Arc<ProtectionDomain>, depth: u32, token: u64) -> Result<Self, VerbsError> {
        let attr = ibv_srq_attr { max_wr: depth, max_sge: 1, srq_limit: 0 };
        let mut init = ibv_srq_init_attr { srq_context: token as usize as *mut c_void, attr };
        // SAFETY: the protection domain is alive, and `init` is complete and ours (ibv_create_srq(3)).
        let srq = NonNull::new(unsafe { ibv_create_srq(pd.pd().as_ptr(), &mut init) });
        let srq = srq.ok_or_else(|| VerbsError::os("create a shared receive queue", &io::Error::last_os_error()))?;
        Ok(Self { srq, _pd: Arc::clone(pd) })
    }

    /// The raw handle, valid while `self` lives.
    pub(crate) fn raw(&self) -> *mut ibv_srq {
        self.srq.as_ptr()
    }

    /// Asks for one asynchronous event, when it has fewer than `least` receives. Where that is so already, the event may
    /// come at once or with the next message (ibv_modify_srq(3)); where it is empty by then, there may be none.
    pub(crate) fn watch(&self, least: u32) -> io::Result<()> {
        let mut attr = ibv_srq_attr { max_wr: 0, max_sge: 0, srq_limit: least };
        // SAFETY: the queue is alive, and of `attr` the limit alone is looked at, as the mask says.
        match unsafe { ibv_modify_srq(self.srq.as_ptr(), &mut attr, ibv_srq_attr_mask::IBV_SRQ_LIMIT.0 as i32) } {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Posts a linked list of receives.
    ///
    /// # Safety
    /// The list and its scatter-gather entries are valid for the call, and the memory that they name is registered in this
    /// protection domain and is neither read, written nor freed until its completion, or until this queue and all queue
    /// pairs that use it are gone.
    pub(crate) unsafe fn post(&self, first: *mut ibv_recv_wr) -> io::Result<()> {
        let mut bad = null_mut();
        // SAFETY: the queue is alive; the rest is the caller's promise.
        match unsafe { ibv_post_srq_recv(self.srq.as_ptr(), first, &mut bad) } {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

impl Drop for Srq {
    fn drop(&mut self) {
        // SAFETY: destroyed once; every queue pair that used it is gone, since each holds it (`Conn`).
        unsafe { ibv_destroy_srq(self.srq.as_ptr()) };
    }
}
