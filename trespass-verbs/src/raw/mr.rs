//! The registration of some memory with the device.
//!
//! Raw, because sideway's drop panics where deregistering fails, and that has to be seen: memory which the device may still
//! reach is never given back.

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use rdma_mummy_sys::{ibv_access_flags, ibv_dereg_mr, ibv_mr, ibv_reg_mr};
use sideway::ibverbs::protection_domain::ProtectionDomain;

/// Who may do what in a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grant {
    /// The own device reads and writes, for work requests of this end.
    Local,
    /// Peers read.
    Read,
    /// Peers read, write and change words.
    Write,
}

/// Memory that the device knows. Ended by [`deregister`](Mr::deregister) alone: dropped without it, it stays for ever.
#[derive(Debug)]
pub(crate) struct Mr {
    mr: NonNull<ibv_mr>,
    pd: Arc<ProtectionDomain>,
}

// SAFETY: a registration belongs to no thread (verbs calls are safe from any thread; ibv_open_device(3)), and its fields are
// never written after it was made.
unsafe impl Send for Mr {}
// SAFETY: as above.
unsafe impl Sync for Mr {}

impl Mr {
    /// Registers `len` bytes from `start` on.
    ///
    /// # Safety
    /// The memory is mapped, and stays so until [`deregister`](Mr::deregister) has said that it worked. While it is
    /// registered with more than [`Grant::Local`], it is touched by atomic operations alone.
    pub(crate) unsafe fn register(
        pd: &Arc<ProtectionDomain>,
        start: NonNull<u8>,
        len: usize,
        grant: Grant,
    ) -> io::Result<Self> {
        let flags = match grant {
            Grant::Local => ibv_access_flags::IBV_ACCESS_LOCAL_WRITE.0,
            Grant::Read => ibv_access_flags::IBV_ACCESS_REMOTE_READ.0,
            // Who lets others write has to be able to itself (ibv_reg_mr(3)).
            Grant::Write => {
                ibv_access_flags::IBV_ACCESS_LOCAL_WRITE.0
                    | ibv_access_flags::IBV_ACCESS_REMOTE_READ.0
                    | ibv_access_flags::IBV_ACCESS_REMOTE_WRITE.0
                    | ibv_access_flags::IBV_ACCESS_REMOTE_ATOMIC.0
            }
        };
        // SAFETY: the protection domain is alive (`pd`), and the memory is mapped: the caller's promise.
        let mr = unsafe { ibv_reg_mr(pd.pd().as_ptr(), start.as_ptr().cast(), len, flags as i32) };
        match NonNull::new(mr) {
            Some(mr) => Ok(Self { mr, pd: Arc::clone(pd) }),
            None => Err(io::Error::last_os_error()),
        }
    }

    /// By which work requests of this end name it.
    #[inline]
    pub(crate) fn lkey(&self) -> u32 {
        // SAFETY: alive until `deregister`, which takes `self`; the field is set once when it is made.
        unsafe { self.mr.as_ref().lkey }
    }

    /// By which peers name it.
    pub(crate) fn rkey(&self) -> u32 {
        // SAFETY: as above.
        unsafe { self.mr.as_ref().rkey }
    }

    #[inline]
    pub(crate) fn pd(&self) -> &Arc<ProtectionDomain> {
        &self.pd
    }

    /// Makes the device forget the memory: when this returns, no access by it is under way, and none begins (InfiniBand
    /// specification vol. 1, 10.6.6.2.4).
    ///
    /// # Errors
    /// The device still knows it, and may use it: the memory has to stay for ever.
    pub(crate) fn deregister(self) -> io::Result<()> {
        // SAFETY: registered by `register`, and deregistered at most once: this takes `self`.
        match unsafe { ibv_dereg_mr(self.mr.as_ptr()) } {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}
