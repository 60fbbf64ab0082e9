//! Members: one track's part of what is shared.

use std::sync::Arc;

use super::inbox::Inbox;
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::track::slots::Shared;

/// Known to the two halves of a track, and to the hub for as long as the device has anything of it.
pub(crate) struct Member {
    /// The memory of its sends, its wakers, and how it ended.
    pub(crate) shared: Arc<Shared>,
    pub(crate) inbox: Inbox,
    /// How many of the shared receive buffers it may have.
    quota: u32,
    /// How many it has: in its inbox, in the hands of its user, or given back and not posted yet. Changed by the hub
    /// alone, under its lock.
    held: AtomicU32,
    /// The quota, and one for each of its buffers that was posted again.
    posted: AtomicU64,
    /// What arrived for it and went beyond its quota, or was not read any more.
    dropped: AtomicU64,
    /// Whether its halves sleep: a mark for each, since they sleep and wake by themselves.
    pub(crate) recv_asleep: AtomicBool,
    pub(crate) send_asleep: AtomicBool,
    /// Whether its receiving half sleeps while sends are under way: see [`Lane::mind`](super::Lane::mind).
    pub(crate) minding: AtomicBool,
    /// The sends that were posted.
    sent: AtomicU64,
    /// The sends that have completed: all up to this.
    done: AtomicU64,
    /// The sends that were posted, once there will be no more.
    last: AtomicU64,
    /// Where it sits, and whose turn there it is: the upper half of its work request numbers.
    tag: u32,
}

/// `last` while there may be more.
const MORE: u64 = u64::MAX;

impl Member {
    pub(crate) fn new(shared: Arc<Shared>, quota: u32, tag: u32) -> Self {
        Self {
            shared,
            inbox: Inbox::new(quota),
            quota,
            held: AtomicU32::new(0),
            posted: AtomicU64::new(u64::from(quota)),
            dropped: AtomicU64::new(0),
            recv_asleep: AtomicBool::new(false),
            send_asleep: AtomicBool::new(false),
            minding: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            done: AtomicU64::new(0),
            last: AtomicU64::new(MORE),
            tag,
        }
    }

    /// The number of the work request that is the `seq`-th send.
    #[inline]
    pub(crate) fn request(&self, seq: u64) -> u64 {
        (u64::from(self.tag) << 32) | (seq & 0xffff_ffff)
    }

    /// Whether `request` is one of this member.
    #[inline]
    pub(crate) fn owns(&self, request: u64) -> bool {
        self.tag == (request >> 32) as u32
    }

    /// The sends up to the one that `request` names are over.
    #[inline]
    pub(crate) fn complete(&self, request: u64) {
        let done = self.done.load(Ordering::Relaxed);
        let more = (request as u32).wrapping_sub(done as u32);
        // Completions come in order; what names an earlier one again frees nothing.
        if more <= u32::MAX / 2 {
            let upto = done + u64::from(more);
            if let Some(loan) = &self.shared.loan {
                loan.complete(done, upto);
            }
            // SeqCst, with the look at the marks that follows: whoever marks itself and looks again has missed neither.
            self.done.store(upto, Ordering::SeqCst);
        }
    }

    /// So many sends were posted.
    #[inline]
    pub(crate) fn post(&self, sent: u64) {
        self.sent.store(sent, Ordering::SeqCst);
    }

    /// Whether sends are under way.
    #[inline]
    pub(crate) fn is_sending(&self) -> bool {
        self.sent.load(Ordering::SeqCst) != self.done()
    }

    #[inline]
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::SeqCst)
    }

    /// There are no more sends than these.
    pub(crate) fn leave(&self, posted: u64) {
        self.last.store(posted, Ordering::Release);
    }

    /// How many buffers it may get before it has none left.
    pub(crate) fn room(&self) -> u32 {
        self.quota.saturating_sub(self.held.load(Ordering::Relaxed))
    }

    /// Whether there are no more sends to come.
    pub(crate) fn has_left(&self) -> bool {
        self.last.load(Ordering::Acquire) != MORE
    }

    /// Whether the device has nothing more of it, and it has no buffer.
    pub(crate) fn has_gone(&self) -> bool {
        self.last.load(Ordering::Acquire) == self.done() && self.held.load(Ordering::Relaxed) == 0
    }

    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.room() > 0
    }

    /// It gets a buffer.
    #[inline]
    pub(crate) fn hold(&self) {
        self.held.fetch_add(1, Ordering::Relaxed);
    }

    /// A buffer that it had is posted again.
    #[inline]
    pub(crate) fn release(&self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
        self.posted.fetch_add(1, Ordering::Release);
    }

    #[inline]
    pub(crate) fn posted(&self) -> u64 {
        self.posted.load(Ordering::Acquire)
    }

    pub(crate) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
