//! Queue pairs, and the two calls of the data path.
//!
//! Raw, because sideway's drop asserts that destroying succeeded, its posts allocate, and its extended posts exist on
//! few providers. `ibv_post_send` and `ibv_post_recv` are everywhere, and a linked list of them is one doorbell.

use std::io;
use std::mem::MaybeUninit;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use rdma_mummy_sys::{
    ibv_create_qp, ibv_destroy_qp, ibv_modify_qp, ibv_post_recv, ibv_post_send, ibv_qp, ibv_qp_attr, ibv_qp_attr_mask,
    ibv_qp_cap, ibv_qp_init_attr, ibv_qp_state, ibv_qp_type, ibv_query_qp, ibv_recv_wr, ibv_send_wr,
};
use sideway::ibverbs::protection_domain::ProtectionDomain;

use super::cq::Cq;
use super::srq::Srq;
use crate::error::VerbsError;

/// What a queue pair is asked for, and what it got.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Depths {
    pub(crate) send: u32,
    pub(crate) recv: u32,
    pub(crate) inline: u32,
}

/// A queue pair, destroyed when dropped.
pub(crate) struct Qp {
    qp: NonNull<ibv_qp>,
    /// Every work request in flight is over once `true`: the device touches no memory of this queue pair any more.
    destroyed: bool,
    _pd: Arc<ProtectionDomain>,
}

// SAFETY: a queue pair has no thread of its own; libibverbs lets any thread call on any object (ibv_open_device(3),
// "thread safe" by the verbs specification), and providers lock inside.
unsafe impl Send for Qp {}
// SAFETY: as above: concurrent posts and modifications of one queue pair are serialised by the provider.
unsafe impl Sync for Qp {}

impl Qp {
    /// A reliable connected queue pair in state RESET, on two completion queues that have to outlive it.
    pub(crate) fn new(
        pd: &Arc<ProtectionDomain>,
        send_cq: &Cq,
        recv_cq: &Cq,
        depths: Depths,
    ) -> Result<(Self, Depths), VerbsError> {
        Self::create(pd, depths, blank_init(ibv_qp_type::IBV_QPT_RC, send_cq, recv_cq, depths))
    }

    /// A queue pair for unreliable datagrams in state RESET, on two completion queues that have to outlive it.
    pub(crate) fn datagram(
        pd: &Arc<ProtectionDomain>,
        send_cq: &Cq,
        recv_cq: &Cq,
        depths: Depths,
    ) -> Result<(Self, Depths), VerbsError> {
        Self::create(pd, depths, blank_init(ibv_qp_type::IBV_QPT_UD, send_cq, recv_cq, depths))
    }

    /// A reliable connected queue pair as [`new`](Qp::new) makes it, whose receives come from `srq`, which has to outlive
    /// it too.
    pub(crate) fn sharing(
        pd: &Arc<ProtectionDomain>,
        send_cq: &Cq,
        recv_cq: &Cq,
        srq: &Srq,
        depths: Depths,
    ) -> Result<(Self, Depths), VerbsError> {
        let mut init = blank_init(ibv_qp_type::IBV_QPT_RC, send_cq, recv_cq, Depths { recv: 0, ..depths });
        init.srq = srq.raw();
        Self::create(pd, depths, init)
    }

    fn create(
        pd: &Arc<ProtectionDomain>,
        depths: Depths,
        mut init: ibv_qp_init_attr,
    ) -> Result<(Self, Depths), VerbsError> {
        // SAFETY: the protection domain and the queues that `init` names are alive, and it is complete and ours.
        let qp = unsafe { ibv_create_qp(pd.pd().as_ptr(), &mut init) };
        let Some(qp) = NonNull::new(qp) else {
            return Err(VerbsError::os("create a queue pair", &io::Error::last_os_error()));
        };
        let got = Depths { send: depths.send, recv: depths.recv, inline: init.cap.max_inline_data };
        Ok((Self { qp, destroyed: false, _pd: Arc::clone(pd) }, got))
    }

    pub(crate) fn number(&self) -> u32 {
        // SAFETY: the queue pair is alive, and its number is set once when it is made.
        unsafe { self.qp.as_ref().qp_num }
    }

    /// Changes state and attributes.
    pub(crate) fn modify(&self, attr: &mut ibv_qp_attr, mask: i32) -> io::Result<()> {
        // SAFETY: the queue pair is alive, and `attr` is a complete attribute set of ours (ibv_modify_qp(3)).
        match unsafe { ibv_modify_qp(self.qp.as_ptr(), attr, mask) } {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// The attributes that it has.
    pub(crate) fn query(&self, mask: ibv_qp_attr_mask) -> io::Result<ibv_qp_attr> {
        let mut attr = blank_attr();
        let mut init = MaybeUninit::<ibv_qp_init_attr>::zeroed();
        // SAFETY: the queue pair is alive, and both have room for what the call writes (ibv_query_qp(3)).
        match unsafe { ibv_query_qp(self.qp.as_ptr(), &mut attr, mask.0 as i32, init.as_mut_ptr()) } {
            0 => Ok(attr),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// To state ERROR: what is in flight is flushed, nothing more goes out. From any state; failure changes nothing.
    pub(crate) fn fail(&self) {
        // A queue pair that cannot go to ERROR is destroyed soon; there is nothing else to be done about it here.
        let _ = self.go(ibv_qp_state::IBV_QPS_ERR);
    }

    /// To `state`, from any: ERROR or RESET.
    fn go(&self, state: ibv_qp_state::Type) -> io::Result<()> {
        let mut attr = blank_attr();
        attr.qp_state = state;
        self.modify(&mut attr, ibv_qp_attr_mask::IBV_QP_STATE.0 as i32)
    }

    /// Posts a linked list of sends: one doorbell.
    ///
    /// # Safety
    /// The list and its scatter-gather entries are valid for the call, and the memory that they name is registered in
    /// this protection domain and is neither written nor freed until its completion, or until this queue pair is gone.
    #[inline]
    pub(crate) unsafe fn post_send(&self, first: *mut ibv_send_wr) -> io::Result<()> {
        let mut bad = null_mut();
        // SAFETY: the queue pair is alive; the rest is the caller's promise.
        match unsafe { ibv_post_send(self.qp.as_ptr(), first, &mut bad) } {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Posts a linked list of receives.
    ///
    /// # Safety
    /// As for [`post_send`](Qp::post_send), and nobody reads the memory either.
    #[inline]
    pub(crate) unsafe fn post_recv(&self, first: *mut ibv_recv_wr) -> io::Result<()> {
        let mut bad = null_mut();
        // SAFETY: the queue pair is alive; the rest is the caller's promise.
        match unsafe { ibv_post_recv(self.qp.as_ptr(), first, &mut bad) } {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Destroys the queue pair now, and says whether that worked. If not, the device may still use the memory of what
    /// was in flight, and neither that nor the completion queues may ever be freed.
    ///
    /// It is at rest before: soft-RoCE of Linux 6.1 has tasks of a queue pair under way that hold no reference to it, those of a move to
    /// ERROR among them, and one that schedules another while it is destroyed leaves freed memory in a list of the kernel, after which no
    /// soft-RoCE device of the machine does anything any more. In RESET they do nothing, and the move there waits for them. Where that
    /// fails, destroying does as ever.
    pub(crate) fn destroy(&mut self) -> bool {
        if !self.destroyed {
            let _ = self.go(ibv_qp_state::IBV_QPS_RESET);
            // SAFETY: destroyed at most once: `destroyed` remembers a success. After it the device has let go of all
            // memory of this queue pair (InfiniBand specification vol. 1, 10.2.4.4; ibv_destroy_qp(3)).
            self.destroyed = unsafe { ibv_destroy_qp(self.qp.as_ptr()) } == 0;
        }
        self.destroyed
    }
}

impl Drop for Qp {
    fn drop(&mut self) {
        self.destroy();
    }
}

fn blank_init(kind: ibv_qp_type::Type, send_cq: &Cq, recv_cq: &Cq, depths: Depths) -> ibv_qp_init_attr {
    ibv_qp_init_attr {
        qp_context: null_mut(),
        send_cq: send_cq.raw().as_ptr(),
        recv_cq: recv_cq.raw().as_ptr(),
        srq: null_mut(),
        cap: ibv_qp_cap {
            max_send_wr: depths.send,
            max_recv_wr: depths.recv,
            // A gathered send has two.
            max_send_sge: 2,
            max_recv_sge: 1,
            max_inline_data: depths.inline,
        },
        qp_type: kind,
        sq_sig_all: 0,
    }
}

/// An attribute set with nothing in it.
pub(crate) fn blank_attr() -> ibv_qp_attr {
    // SAFETY: ibv_qp_attr is plain integers and arrays of them; all zero is a valid value.
    unsafe { std::mem::zeroed() }
}
