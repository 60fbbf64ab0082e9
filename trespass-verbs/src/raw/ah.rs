//! Address handles: the way to another port, as the device knows it. sideway has none.

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use rdma_mummy_sys::{ibv_ah, ibv_ah_attr, ibv_create_ah, ibv_destroy_ah, ibv_gid, ibv_global_route};
use sideway::ibverbs::protection_domain::ProtectionDomain;

use crate::error::VerbsError;

/// How many routers a datagram may pass, where the connection manager did not say.
const HOPS: u8 = 64;

/// An address handle, destroyed when dropped. Sends that name it have to be over by then.
pub(crate) struct Ah {
    ah: NonNull<ibv_ah>,
    _pd: Arc<ProtectionDomain>,
}

// SAFETY: libibverbs lets any thread call on any object; an address handle does not change.
unsafe impl Send for Ah {}
// SAFETY: as above.
unsafe impl Sync for Ah {}

impl Ah {
    /// Costs a system call.
    pub(crate) fn new(pd: &Arc<ProtectionDomain>, mut way: ibv_ah_attr) -> Result<Self, VerbsError> {
        // SAFETY: the protection domain is alive, and `way` is complete and ours (ibv_create_ah(3)).
        let ah = unsafe { ibv_create_ah(pd.pd().as_ptr(), &mut way) };
        let ah =
            NonNull::new(ah).ok_or_else(|| VerbsError::os("make an address handle", &io::Error::last_os_error()))?;
        Ok(Self { ah, _pd: Arc::clone(pd) })
    }

    /// The raw handle, valid while `self` lives.
    #[inline]
    pub(crate) fn raw(&self) -> *mut ibv_ah {
        self.ah.as_ptr()
    }
}

impl Drop for Ah {
    fn drop(&mut self) {
        // SAFETY: destroyed once. A failure leaves it with the device, which is all that could be done.
        unsafe { ibv_destroy_ah(self.ah.as_ptr()) };
    }
}

/// The way from the GID at `index` of `port` to `gid`.
pub(crate) fn way_to(gid: [u8; 16], port: u8, index: u8, traffic_class: u8) -> ibv_ah_attr {
    ibv_ah_attr {
        grh: ibv_global_route {
            dgid: ibv_gid { raw: gid },
            flow_label: 0,
            sgid_index: index,
            hop_limit: HOPS,
            traffic_class,
        },
        dlid: 0,
        sl: 0,
        src_path_bits: 0,
        static_rate: 0,
        is_global: 1,
        port_num: port,
    }
}
