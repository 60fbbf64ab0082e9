//! A completion queue: sideway's object, with the calls that sideway lacks or makes dear.

use std::ffi::c_void;
use std::io;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::NonNull;
use std::sync::Arc;

use rdma_mummy_sys::{ibv_ack_cq_events, ibv_cq, ibv_get_cq_event, ibv_poll_cq, ibv_req_notify_cq, ibv_wc};
use sideway::ibverbs::completion::{BasicCompletionQueue, CompletionChannel, CompletionQueue};
use sideway::ibverbs::device_context::DeviceContext;

use crate::error::VerbsError;

/// How many completions one poll takes at most.
pub(crate) const POLL_BATCH: usize = 16;

/// A completion queue with notification through `channel`.
pub(crate) struct Cq {
    /// Dropped last of all that uses it, or leaked on purpose: sideway's drop panics where destroying fails.
    cq: ManuallyDrop<Arc<BasicCompletionQueue>>,
    leak: bool,
}

impl Cq {
    /// A queue for `depth` completions. Events come by completion vector `vector`, which the device has, and carry
    /// `token`, which is never taken for an address.
    pub(crate) fn new(
        context: &Arc<DeviceContext>,
        channel: &Arc<CompletionChannel>,
        depth: u32,
        vector: u32,
        token: u64,
    ) -> Result<Self, VerbsError> {
        let cq = context
            .create_cq_builder()
            .setup_cqe(depth)
            .setup_cq_context(token as usize as *mut c_void)
            .setup_comp_channel(channel, vector)
            .build()
            .map_err(|error| VerbsError::sideway("create a completion queue", error))?;
        Ok(Self { cq: ManuallyDrop::new(cq), leak: false })
    }

    /// Another handle of the same queue, for a queue pair that uses it with others.
    pub(crate) fn share(&self) -> Self {
        Self { cq: ManuallyDrop::new(Arc::clone(&self.cq)), leak: false }
    }

    /// The raw handle, valid while `self` lives.
    #[inline]
    pub(crate) fn raw(&self) -> NonNull<ibv_cq> {
        // SAFETY: sideway asks that the handle is not used after its owner is gone; every use in this crate is by a
        // `Cq` or by a queue pair that holds it.
        unsafe { self.cq.cq() }
    }

    /// The next completion asks for an event. One that is there already does not: poll again afterwards.
    #[inline]
    pub(crate) fn arm(&self) -> io::Result<()> {
        // SAFETY: the queue is alive (`self`), and ibv_req_notify_cq(3) may be called from any thread.
        match unsafe { ibv_req_notify_cq(self.raw().as_ptr(), 0) } {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Takes completions into `batch`, and says how many.
    #[inline]
    pub(crate) fn poll(&self, batch: &mut CompletionBatch) -> io::Result<usize> {
        batch.len = 0;
        batch.next = 0;
        // SAFETY: `wcs` has room for POLL_BATCH completions and is ours alone; the queue is alive (`self`), and
        // ibv_poll_cq(3) may be called from any thread.
        let polled = unsafe { ibv_poll_cq(self.raw().as_ptr(), POLL_BATCH as i32, batch.wcs.as_mut_ptr().cast()) };
        match usize::try_from(polled) {
            Ok(count) => {
                batch.len = count.min(POLL_BATCH);
                Ok(batch.len)
            }
            Err(_) => Err(io::Error::from_raw_os_error(-polled)),
        }
    }

    /// Acknowledges `count` events that [`next_cq_event`] gave for this queue.
    pub(crate) fn ack(&self, count: u32) {
        if count > 0 {
            // SAFETY: the queue is alive (`self`) and `count` events of it were taken and not acknowledged before.
            unsafe { ibv_ack_cq_events(self.raw().as_ptr(), count) };
        }
    }

    /// Keeps the queue for ever: a queue pair that could not be destroyed still uses it.
    pub(crate) fn leak(&mut self) {
        self.leak = true;
    }
}

impl Drop for Cq {
    fn drop(&mut self) {
        if !self.leak {
            // SAFETY: dropped once, here, and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.cq) };
        }
    }
}

/// Completions taken in one poll, and how many of them were looked at.
pub(crate) struct CompletionBatch {
    wcs: [MaybeUninit<ibv_wc>; POLL_BATCH],
    len: usize,
    next: usize,
}

impl CompletionBatch {
    pub(crate) fn new() -> Self {
        Self { wcs: [MaybeUninit::uninit(); POLL_BATCH], len: 0, next: 0 }
    }

    /// Takes the completions of these work requests in place of what was here, for a model.
    #[cfg(all(test, loom))]
    pub(crate) fn fill(&mut self, requests: impl Iterator<Item = u64>) -> usize {
        (self.len, self.next) = (0, 0);
        for (place, request) in self.wcs.iter_mut().zip(requests) {
            // SAFETY: plain integers, and unions of them: all zero is a valid value.
            let mut wc = unsafe { MaybeUninit::<ibv_wc>::zeroed().assume_init() };
            wc.wr_id = request;
            place.write(wc);
            self.len += 1;
        }
        self.len
    }

    /// Whether the poll took as many as it could: there may be more.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.len == POLL_BATCH
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.next == self.len
    }

    /// The next that was not looked at yet, where it is: they are large.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<&ibv_wc> {
        if self.next == self.len {
            return None;
        }
        let wc = &self.wcs[self.next];
        self.next += 1;
        // SAFETY: `poll` set `len` to the number of completions that ibv_poll_cq wrote, and `next` was below it.
        Some(unsafe { wc.assume_init_ref() })
    }
}

/// Takes one event from a non-blocking `channel`: the token of the queue that it is for. It has to be acknowledged on
/// that queue before the queue is destroyed.
pub(crate) fn next_cq_event(channel: &CompletionChannel) -> io::Result<Option<u64>> {
    let mut cq = std::ptr::null_mut();
    let mut token = std::ptr::null_mut();
    // SAFETY: the channel is alive, and both out-pointers are valid for the call (ibv_get_cq_event(3)). Neither of
    // what they receive is followed: the token is an integer, and the queue is found by it.
    let failed = unsafe { ibv_get_cq_event(channel.comp_channel().as_ptr(), &mut cq, &mut token) } != 0;
    if !failed {
        return Ok(Some(token as usize as u64));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR) => Ok(None),
        _ => Err(error),
    }
}
