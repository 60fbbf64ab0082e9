//! Lanes: one completion queue of many members.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::member::Member;
use super::turn::Turn;
use crate::raw::cq::{CompletionBatch, Cq, POLL_BATCH};

/// What a lane is of: sends or receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Send,
    Recv,
}

/// A completion queue that whoever looks empties for all.
///
/// Waking: a half that is about to sleep marks itself, arms the queue unless it is armed, and looks once more. The driver
/// clears the armed mark at an event, looks, and arms and looks again while anybody sleeps: one member's message uses
/// up the notification of all.
pub(crate) struct Lane {
    pub(crate) cq: Cq,
    side: Side,
    turn: Turn<Looking>,
    armed: AtomicBool,
    /// How many halves have a mark.
    sleepers: AtomicUsize,
    arms: AtomicU64,
}

struct Looking {
    batch: CompletionBatch,
    /// Who got something in this batch, and may sleep.
    got: Vec<Arc<Member>>,
}

impl Lane {
    pub(crate) fn new(cq: Cq, side: Side) -> Self {
        let looking = Looking { batch: CompletionBatch::new(), got: Vec::with_capacity(POLL_BATCH) };
        Self {
            cq,
            side,
            turn: Turn::new(looking),
            armed: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            arms: AtomicU64::new(0),
        }
    }

    /// Takes what has completed, unless somebody else is at it. `sort` gets each batch, and names the members that get
    /// something of it; these are woken after it. Takes no lock where nothing has completed.
    #[inline]
    pub(crate) fn look(&self, mut sort: impl FnMut(&mut CompletionBatch, &mut Vec<Arc<Member>>)) -> io::Result<()> {
        let mut outcome = Ok(());
        self.turn.look(|looking| outcome = self.empty(looking, &mut sort));
        outcome
    }

    /// Takes what has completed by now, or has whoever is at it take it. For those about to sleep.
    pub(crate) fn look_surely(
        &self,
        mut sort: impl FnMut(&mut CompletionBatch, &mut Vec<Arc<Member>>),
    ) -> io::Result<()> {
        let mut outcome = Ok(());
        self.turn.look_surely(|looking| outcome = self.empty(looking, &mut sort));
        outcome
    }

    #[inline]
    fn empty(
        &self,
        looking: &mut Looking,
        sort: &mut impl FnMut(&mut CompletionBatch, &mut Vec<Arc<Member>>),
    ) -> io::Result<()> {
        // A batch that is not full was the last.
        while self.cq.poll(&mut looking.batch)? > 0 {
            let last = !looking.batch.is_full();
            sort(&mut looking.batch, &mut looking.got);
            for member in looking.got.drain(..) {
                self.wake(&member);
            }
            if last {
                break;
            }
        }
        Ok(())
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

    /// Asks for an event, unless that was done. Look surely afterwards.
    pub(crate) fn arm(&self) -> io::Result<()> {
        if self.armed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        self.arms.fetch_add(1, Ordering::Relaxed);
        self.cq.arm()
    }

    /// The event has come: look surely after this, and again where this says that somebody sleeps.
    pub(crate) fn disarmed(&self) {
        self.armed.store(false, Ordering::SeqCst);
    }

    pub(crate) fn anybody_sleeps(&self) -> bool {
        self.sleepers.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn arms(&self) -> u64 {
        self.arms.load(Ordering::Relaxed)
    }
}
