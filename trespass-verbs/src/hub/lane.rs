//! Lanes: one completion queue of many members.

use std::io;
use std::sync::{Arc, PoisonError};

use super::member::Member;
use super::turn::Turn;
use crate::raw::cq::{CompletionBatch, Cq, POLL_BATCH};
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering};

/// Events that may be unacknowledged.
const ACK_BATCH: u32 = 64;

/// What a lane is of: sends or receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Send,
    Recv,
}

/// What a lane is made of: a completion queue, or the model of one.
pub(crate) trait Completions {
    /// Takes completions into `batch`, and says how many.
    fn poll(&self, batch: &mut CompletionBatch) -> io::Result<usize>;
    /// The next completion asks for an event. One that is there already does not.
    fn arm(&self) -> io::Result<()>;
    /// Acknowledges `count` events.
    fn ack(&self, count: u32);
}

impl Completions for Cq {
    #[inline]
    fn poll(&self, batch: &mut CompletionBatch) -> io::Result<usize> {
        Cq::poll(self, batch)
    }

    #[inline]
    fn arm(&self) -> io::Result<()> {
        Cq::arm(self)
    }

    fn ack(&self, count: u32) {
        Cq::ack(self, count);
    }
}

/// A completion queue that whoever looks empties for all.
///
/// Waking: a half that is about to sleep marks itself, arms the queue unless it is armed, and looks once more. The driver
/// clears the armed mark at an event, looks, and arms and looks again while anybody sleeps: one member's message uses
/// up the notification of all.
pub(crate) struct Lane<Q: Completions = Cq> {
    cq: Q,
    side: Side,
    turn: Turn<CompletionBatch>,
    armed: AtomicBool,
    /// How many marks there are.
    sleepers: AtomicUsize,
    arms: AtomicU64,
    /// Events taken and not acknowledged. By the driver alone.
    unacked: AtomicU32,
    /// Members that got something and sleep, to be woken when the turn is over: a waker may look at this very lane.
    to_wake: Mutex<Vec<Arc<Member>>>,
    somebody_to_wake: AtomicBool,
}

impl<Q: Completions> Lane<Q> {
    pub(crate) fn new(cq: Q, side: Side) -> Self {
        Self {
            cq,
            side,
            turn: Turn::new(CompletionBatch::new()),
            armed: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            arms: AtomicU64::new(0),
            unacked: AtomicU32::new(0),
            to_wake: Mutex::new(Vec::with_capacity(POLL_BATCH)),
            somebody_to_wake: AtomicBool::new(false),
        }
    }

    pub(crate) fn cq(&self) -> &Q {
        &self.cq
    }

    /// Takes what has completed, unless somebody else is at it. `sort` gets each batch, and says by [`got`](Lane::got) who
    /// gets something of it; those that sleep are woken after it. Takes no lock where nothing has completed.
    #[inline]
    pub(crate) fn look(&self, mut sort: impl FnMut(&mut CompletionBatch)) -> io::Result<()> {
        let mut outcome = Ok(());
        self.turn.look(|batch| outcome = self.empty(batch, &mut sort));
        self.wake_all();
        outcome
    }

    /// Takes what has completed by now, or has whoever is at it take it. For those about to sleep.
    pub(crate) fn look_surely(&self, mut sort: impl FnMut(&mut CompletionBatch)) -> io::Result<()> {
        let mut outcome = Ok(());
        self.turn.look_surely(|batch| outcome = self.empty(batch, &mut sort));
        self.wake_all();
        outcome
    }

    /// Takes what has completed by now, and has sorted it when this returns: waits while somebody else is at it, which is
    /// no longer than a batch takes. For what happens once, at an end.
    pub(crate) fn look_now(&self, mut sort: impl FnMut(&mut CompletionBatch)) -> io::Result<()> {
        let mut outcome = Ok(());
        self.turn.wait(|batch| outcome = self.empty(batch, &mut sort));
        self.wake_all();
        outcome
    }

    #[inline]
    fn empty(&self, batch: &mut CompletionBatch, sort: &mut impl FnMut(&mut CompletionBatch)) -> io::Result<()> {
        // A batch that is not full was the last.
        while self.cq.poll(batch)? > 0 {
            let last = !batch.is_full();
            sort(batch);
            if last {
                break;
            }
        }
        Ok(())
    }

    /// `member` gets something of the batch that is being sorted.
    #[inline]
    pub(crate) fn got(&self, member: &Arc<Member>) {
        if self.mark(member).load(Ordering::SeqCst) {
            self.waking().push(Arc::clone(member));
            self.somebody_to_wake.store(true, Ordering::Release);
        }
    }

    #[inline]
    fn wake_all(&self) {
        if self.somebody_to_wake.load(Ordering::Acquire) {
            self.somebody_to_wake.store(false, Ordering::Release);
            loop {
                let member = self.waking().pop();
                match member {
                    Some(member) => self.wake(&member),
                    None => return,
                }
            }
        }
    }

    fn waking(&self) -> MutexGuard<'_, Vec<Arc<Member>>> {
        self.to_wake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn mark<'a>(&self, member: &'a Member) -> &'a AtomicBool {
        match self.side {
            Side::Send => &member.send_asleep,
            Side::Recv => &member.recv_asleep,
        }
    }

    /// Wakes a half, if it sleeps.
    #[inline]
    fn wake(&self, member: &Member) {
        if self.awake(member) {
            match self.side {
                Side::Send => member.shared.send_waker.wake(),
                Side::Recv => member.shared.recv_waker.wake(),
            }
        }
    }

    /// A half is about to sleep, its waker registered.
    pub(crate) fn sleep(&self, member: &Member) {
        if !self.mark(member).swap(true, Ordering::SeqCst) {
            self.sleepers.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A half does not sleep, or is being woken; whether it slept.
    #[inline]
    pub(crate) fn awake(&self, member: &Member) -> bool {
        let mark = self.mark(member);
        let slept = mark.load(Ordering::SeqCst) && mark.swap(false, Ordering::SeqCst);
        if slept {
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
        }
        slept
    }

    /// The receiving half of `member` sleeps while sends are under way: should they fail, it has to be woken, and nothing
    /// else may look at them. Only for a lane of sends.
    pub(crate) fn mind(&self, member: &Member) {
        if !member.minding.swap(true, Ordering::SeqCst) {
            self.sleepers.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// No sends of `member` are under way any more, or its receiving half is awake.
    #[inline]
    pub(crate) fn forget(&self, member: &Member) {
        if member.minding.load(Ordering::SeqCst) && member.minding.swap(false, Ordering::SeqCst) {
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// As [`forget`](Lane::forget), and takes that back where sends were posted meanwhile and the receiving half sleeps.
    #[inline]
    pub(crate) fn forget_unless(&self, member: &Member, is_sending: impl FnOnce() -> bool) {
        if !(member.minding.load(Ordering::SeqCst) && member.minding.swap(false, Ordering::SeqCst)) {
            return;
        }
        let mind = is_sending() && member.recv_asleep.load(Ordering::SeqCst);
        // Counted until it is certain: a driver that meanwhile found nobody would not arm.
        if !mind || member.minding.swap(true, Ordering::SeqCst) {
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Asks for an event, unless that was done. Look surely afterwards.
    pub(crate) fn arm(&self) -> io::Result<()> {
        if self.armed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        self.arms.fetch_add(1, Ordering::Relaxed);
        self.cq.arm()
    }

    /// An event has come: `look` is to look surely, and another is asked for while anybody sleeps. Whether anybody did.
    pub(crate) fn on_event(&self, look: impl Fn()) -> io::Result<bool> {
        self.disarmed();
        look();
        let asleep = self.sleepers.load(Ordering::SeqCst) > 0;
        if asleep {
            self.arm()?;
            look();
        }
        Ok(asleep)
    }

    /// The event is acknowledged with others: acknowledging takes a lock of libibverbs.
    fn disarmed(&self) {
        // An exchange, as in `arm`: what is between the two of them is then known to a model too.
        self.armed.swap(false, Ordering::SeqCst);
        if self.unacked.fetch_add(1, Ordering::Relaxed) + 1 >= ACK_BATCH {
            self.cq.ack(self.unacked.swap(0, Ordering::Relaxed));
        }
    }

    pub(crate) fn arms(&self) -> u64 {
        self.arms.load(Ordering::Relaxed)
    }
}

impl Lane {
    /// Keeps the queue for ever: a queue pair that could not be destroyed still uses it.
    pub(crate) fn leak(&mut self) {
        self.cq.leak();
    }
}

impl<Q: Completions> Drop for Lane<Q> {
    fn drop(&mut self) {
        // A completion queue with unacknowledged events is never destroyed (ibv_destroy_cq(3)).
        self.cq.ack(self.unacked.swap(0, Ordering::Relaxed));
    }
}
