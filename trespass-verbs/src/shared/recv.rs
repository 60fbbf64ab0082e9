//! The receiving side of a track that shares its queues.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::Arc;
use std::task::{Context, Poll};

use rdma_mummy_sys::ibv_wc_flags;
use trespass_core::{Immediate, TryError};

use super::queue::SharedQueue;
use crate::error::VerbsError;
use crate::hub::{Member, Received};
use crate::track::conn::Conn;

/// A received message, in a registered buffer of all tracks that share.
pub struct SharedRecvBuf {
    /// Given back before its owner is told.
    received: std::mem::ManuallyDrop<Received>,
    member: Arc<Member>,
}

impl Deref for SharedRecvBuf {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.received
    }
}

impl AsRef<[u8]> for SharedRecvBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Immediate for SharedRecvBuf {
    fn immediate(&self) -> Option<u32> {
        let has_word = self.received.flags & ibv_wc_flags::IBV_WC_WITH_IMM.0 != 0;
        has_word.then(|| u32::from_be(self.received.word))
    }
}

impl Drop for SharedRecvBuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: dropped once, here, and not used afterwards.
        unsafe { std::mem::ManuallyDrop::drop(&mut self.received) };
        self.member.shared.returned();
    }
}

impl std::fmt::Debug for SharedRecvBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedRecvBuf").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// What arrives for one track.
pub(crate) struct SharedReceives {
    queue: Arc<SharedQueue>,
    conn: Arc<Conn>,
    member: Arc<Member>,
    /// Taken out of the inbox, all that was there at once.
    taken: VecDeque<Received>,
    /// Of how many posted receives the user could know when this side last went to sleep.
    told: u64,
    /// With less room than this, each buffer that comes back is worth a wake-up.
    batch: u32,
}

impl SharedReceives {
    pub(crate) fn new(queue: Arc<SharedQueue>, conn: Arc<Conn>, member: Arc<Member>) -> Self {
        let quota = queue.config.quota;
        let (taken, batch) = (VecDeque::with_capacity(quota), (quota as u32 / 4).clamp(1, 32));
        let told = member.posted();
        Self { queue, conn, member, taken, told, batch }
    }

    #[inline]
    pub(crate) fn posted(&self) -> u64 {
        self.member.posted()
    }

    pub(crate) fn queue(&self) -> &SharedQueue {
        &self.queue
    }

    #[inline]
    pub(crate) fn try_recv(&mut self) -> Result<SharedRecvBuf, TryError<VerbsError>> {
        if self.taken.is_empty() {
            self.queue.receives.awake(&self.member);
            // Looked at before the queue: what arrived before the end is there by then.
            if self.conn.shared.has_ended() {
                return self.recv_last();
            }
            self.queue.look();
            self.member.inbox.take(&mut self.taken);
        }
        let received = self.taken.pop_front().ok_or(TryError::WouldBlock)?;
        Ok(self.buffer(received))
    }

    /// The next message of a track that has ended: somebody else may be sorting what has arrived for it, and is waited for.
    #[cold]
    fn recv_last(&mut self) -> Result<SharedRecvBuf, TryError<VerbsError>> {
        self.queue.look_now();
        self.member.inbox.take(&mut self.taken);
        match self.taken.pop_front() {
            Some(received) => Ok(self.buffer(received)),
            None => Err(TryError::Failed(self.conn.shared.cause())),
        }
    }

    #[inline]
    fn buffer(&self, received: Received) -> SharedRecvBuf {
        SharedRecvBuf { received: std::mem::ManuallyDrop::new(received), member: Arc::clone(&self.member) }
    }

    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let shared = &self.conn.shared;
        shared.awake();
        if !self.taken.is_empty() {
            return Poll::Ready(());
        }
        shared.recv_waker.register(cx.waker());
        self.queue.receives.sleep(&self.member);
        if self.look() {
            return self.awake();
        }
        if let Err(error) = self.queue.receives.arm() {
            self.queue.fail(VerbsError::os("arm the receive completion queue", &error));
        }
        self.mind_sends();
        if self.look() {
            return self.awake();
        }
        let short = self.member.room() < self.batch;
        shared.sleep_until_returned(if short { 1 } else { self.batch });
        self.queue.mind_shortage();
        let posted = self.member.posted();
        if std::mem::replace(&mut self.told, posted) != posted {
            // Others post too, at any moment: the user has to look how many are posted before this side sleeps.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn awake(&self) -> Poll<()> {
        self.queue.receives.awake(&self.member);
        Poll::Ready(())
    }

    /// If sends are under way, their failure has to wake this side.
    fn mind_sends(&self) {
        if self.member.is_sending() {
            self.queue.sends.mind(&self.member);
            if let Err(error) = self.queue.sends.arm() {
                self.queue.fail(VerbsError::os("arm the send completion queue", &error));
            }
            self.queue.look_at_sends_surely();
        }
    }

    fn look(&self) -> bool {
        let ended = self.conn.shared.has_ended();
        self.queue.look_surely();
        self.member.inbox.is_filled() || ended
    }
}

impl Drop for SharedReceives {
    fn drop(&mut self) {
        self.member.inbox.shut();
        self.queue.receives.awake(&self.member);
        self.queue.sends.forget(&self.member);
    }
}
