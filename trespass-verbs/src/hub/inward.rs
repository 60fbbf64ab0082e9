//! The receiving side of a member.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use trespass_core::TryError;

use super::lane::{Completions, Lane};
use super::member::Member;
use super::memory::{Message, Received};
use crate::error::VerbsError;

/// From what a member receives.
pub(crate) trait Supply {
    type Queue: Completions;
    /// Where the completions of receives come.
    fn receives(&self) -> &Lane<Self::Queue>;
    /// Takes what has arrived, for all, unless somebody else is at it, and posts receives where that is due. No lock where
    /// neither is.
    fn look(&self);
    /// The same, or has whoever is at it do so.
    fn look_surely(&self);
    /// The same, and all that had arrived is sorted when this returns. For an end.
    fn look_now(&self);
    /// Posts all that has come back; and the next buffer that does calls the driver, if the device runs short.
    fn mind_shortage(&self);
    /// The receiving half of `member` is about to sleep: if nothing but their completions tells of sends that fail, they
    /// have to wake it.
    fn mind_sends(&self, _member: &Member) {}
    /// Ends all that uses it.
    fn fail(&self, failure: VerbsError);
}

/// What arrives for one member.
pub(crate) struct Inward<S: Supply> {
    supply: Arc<S>,
    member: Arc<Member>,
    /// Taken out of the inbox, all that was there at once.
    taken: VecDeque<Received>,
    /// Of how many posted receives the user could know when this side last went to sleep.
    told: u64,
    /// With less room than this, each buffer that comes back is worth a wake-up.
    batch: u32,
}

impl<S: Supply> Inward<S> {
    pub(crate) fn new(supply: Arc<S>, member: Arc<Member>) -> Self {
        let quota = member.room();
        let told = member.posted();
        let taken = VecDeque::with_capacity(quota as usize);
        Self { supply, member, taken, told, batch: (quota / 4).clamp(1, 32) }
    }

    #[inline]
    pub(crate) fn posted(&self) -> u64 {
        self.member.posted()
    }

    pub(crate) fn member(&self) -> &Member {
        &self.member
    }

    pub(crate) fn supply(&self) -> &Arc<S> {
        &self.supply
    }

    #[inline]
    pub(crate) fn try_recv(&mut self) -> Result<Message, TryError<VerbsError>> {
        if self.taken.is_empty() {
            // Its mark stays, if it has one: whoever waits is to be woken, though somebody else looks.
            // Looked at before the queue: what arrived before the end is there by then.
            if self.member.shared.has_ended() {
                return self.recv_last();
            }
            self.supply.look();
            self.member.inbox.take(&mut self.taken);
        }
        let received = self.taken.pop_front().ok_or(TryError::WouldBlock)?;
        Ok(Message::new(received, &self.member))
    }

    /// The next message of a member that has ended: somebody else may be sorting what has arrived for it, and is waited for.
    #[cold]
    fn recv_last(&mut self) -> Result<Message, TryError<VerbsError>> {
        self.supply.look_now();
        self.member.inbox.take(&mut self.taken);
        match self.taken.pop_front() {
            Some(received) => Ok(Message::new(received, &self.member)),
            None => Err(TryError::Failed(self.member.shared.cause())),
        }
    }

    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let shared = &self.member.shared;
        shared.awake();
        if !self.taken.is_empty() {
            return Poll::Ready(());
        }
        shared.recv_waker.register(cx.waker());
        self.supply.receives().sleep(&self.member);
        if self.look() {
            return self.ready();
        }
        if let Err(error) = self.supply.receives().arm() {
            self.supply.fail(VerbsError::os("arm the receive completion queue", &error));
        }
        self.supply.mind_sends(&self.member);
        if self.look() {
            return self.ready();
        }
        let short = self.member.room() < self.batch;
        shared.sleep_until_returned(if short { 1 } else { self.batch });
        self.supply.mind_shortage();
        let posted = self.member.posted();
        if std::mem::replace(&mut self.told, posted) != posted {
            // Others post too, at any moment: the user has to look how many are posted before this side sleeps.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn ready(&self) -> Poll<()> {
        self.supply.receives().awake(&self.member);
        Poll::Ready(())
    }

    fn look(&self) -> bool {
        let ended = self.member.shared.has_ended();
        self.supply.look_surely();
        self.member.inbox.is_filled() || ended
    }
}

impl<S: Supply> Drop for Inward<S> {
    fn drop(&mut self) {
        self.member.inbox.shut();
        self.supply.receives().awake(&self.member);
    }
}
