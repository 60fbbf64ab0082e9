//! A queue pair with all that it needs, in the order in which it has to go.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::device::{Device, cq_depth};
use crate::error::VerbsError;
use crate::hub::Member;
use crate::memory::VerbsRegion;
use crate::raw::cm::CmId;
use crate::raw::cq::Cq;
use crate::raw::qp::Qp;
use crate::shared::SharedQueue;
use crate::track::slots::Shared;

/// Queue pairs that could not be destroyed, with their memory, since the process began.
static LEAKED: AtomicU64 = AtomicU64::new(0);

/// How many queue pairs this process could not destroy. Each keeps its completion queues and its memory for ever, since
/// the device may still use them: leaked on purpose, and counted here.
pub fn leaked_queue_pairs() -> u64 {
    LEAKED.load(Ordering::Relaxed)
}

/// One more that could not be destroyed.
pub(crate) fn count_leaked() {
    LEAKED.fetch_add(1, Ordering::Relaxed);
}

/// Shared by the halves of a track and the driver. The last to let go destroys it: first the queue pair, which makes the
/// device let go of all memory; then the completion queues, the connection, and at last the memory.
pub(crate) struct Conn {
    pub(crate) qp: Qp,
    pub(crate) send_cq: Cq,
    pub(crate) recv_cq: Cq,
    pub(crate) id: CmId,
    pub(crate) shared: Arc<Shared>,
    /// Memory of operations that nobody waits for any more, and that the device may still have.
    orphans: Mutex<Vec<VerbsRegion>>,
    /// Where others use the same queues.
    pub(crate) sharing: Option<Sharing>,
    /// Keeps the device open; last.
    pub(crate) device: Arc<Device>,
}

/// Which queues a connection shares, and as whom.
pub(crate) struct Sharing {
    pub(crate) queue: Arc<SharedQueue>,
    pub(crate) member: Arc<Member>,
}

impl Conn {
    /// A queue pair in RESET for the connection `id`, its events marked with `token`, on queues of its own or shared ones.
    pub(crate) fn new(
        device: &Arc<Device>,
        id: CmId,
        token: u64,
        shared: Arc<Shared>,
        sharing: Option<Sharing>,
    ) -> Result<Self, (CmId, VerbsError)> {
        let queues = || {
            if let Some(Sharing { queue, .. }) = &sharing {
                let (send_cq, recv_cq) = (queue.sends.cq().share(), queue.receives.cq().share());
                let (qp, _) = Qp::sharing(&device.pd, &send_cq, &recv_cq, &queue.srq, device.depths)?;
                return Ok((qp, send_cq, recv_cq));
            }
            let cq = |depth: u32, token| {
                Cq::new(&device.context, &device.channel, cq_depth(depth as usize), device.vector, token)
            };
            let send_cq = cq(device.depths.send, token << 1)?;
            let recv_cq = cq(device.depths.recv, (token << 1) | 1)?;
            let (qp, _) = Qp::new(&device.pd, &send_cq, &recv_cq, device.depths)?;
            Ok((qp, send_cq, recv_cq))
        };
        match queues() {
            Ok((qp, send_cq, recv_cq)) => {
                let (orphans, device) = (Mutex::default(), Arc::clone(device));
                Ok(Self { qp, send_cq, recv_cq, id, shared, orphans, sharing, device })
            }
            Err(error) => Err((id, error)),
        }
    }

    /// Keeps memory until the queue pair is gone.
    pub(crate) fn keep_until_destroyed(&self, memory: impl Iterator<Item = VerbsRegion>) {
        self.orphans.lock().unwrap_or_else(PoisonError::into_inner).extend(memory);
    }

    /// Ends the connection after a failure, of which `Closed` is none. What the peer's device refused only this end knows, so the
    /// peer is told at once. After anything else the link may be down, and a goodbye is not tried over one of those before the
    /// track is dropped: on soft-RoCE it breaks the connection manager of the device (see `docs/PROVIDERS.md`).
    pub(crate) fn fail(&self, failure: VerbsError) {
        if failure.is_an_answer() {
            self.end(Some(failure));
        } else {
            self.qp.fail();
            self.shared.end((failure != VerbsError::Closed).then_some(failure));
        }
    }

    /// Ends the connection: nothing goes out any more, what is in flight is flushed, the peer is told, both sides wake.
    pub(crate) fn end(&self, failure: Option<VerbsError>) {
        self.qp.fail();
        // Fails where the peer was first, or the connection never came up: then there is nobody to tell.
        let _ = self.id.disconnect();
        self.shared.end(failure);
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        let number = self.qp.number();
        if self.qp.destroy() {
            if let Some(Sharing { queue, member }) = &self.sharing {
                queue.gone(number, member);
            }
        } else {
            count_leaked();
            self.send_cq.leak();
            self.recv_cq.leak();
            std::mem::forget(Arc::clone(&self.shared));
            std::mem::forget(std::mem::take(self.orphans.get_mut().unwrap_or_else(PoisonError::into_inner)));
            std::mem::forget(self.sharing.as_ref().map(|sharing| Arc::clone(&sharing.queue)));
            std::mem::forget(Arc::clone(&self.device));
        }
    }
}
