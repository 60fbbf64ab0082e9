//! What waits to be sent, and the slots that are kept back so that it can be.
//!
//! Things go out in one order: the Abort of a message that was withdrawn half-way, then messages that were handed over while
//! there were no credits, then the goodbye. Credits go out whenever they are due. Frames of control use the *stash*: send
//! slots reserved ahead, so that an application which holds every other slot cannot keep the credits from the peer.

use std::collections::VecDeque;

use trespass_core::{ErrorKind, InOrder, Lossless, SendBuf, SendSide, Track, TransportError, TryError, Unsent};

use crate::carrier::MessageCarrier;
use crate::credit::Rank;
use crate::error::{CarrierError, Phase};
use crate::pulse::Sign;
use crate::wire::{HEADER, Kind, stamp};

/// How many send slots are kept back for control.
const STASH: usize = 2;

pub(crate) struct Outbox<T: SendSide> {
    /// What keeps a message from being sent at once: none of it on the fast path.
    hurdles: u8,
    stash: Vec<T::SendBuf>,
    /// Messages without credits.
    waiting: VecDeque<T::SendBuf>,
    /// The Fin was queued.
    finished: bool,
    /// What sending ends with.
    error: Option<CarrierError<T::Error>>,
    /// Which carrier this is, among all of the process.
    pub(crate) id: u64,
}

/// Sending has ended, by the application or by an error.
const OVER: u8 = 1;
/// Half a message was sent. Only its own future may go on.
const OPEN: u8 = 2;
/// An Abort is to be sent.
const ABORT: u8 = 4;
/// Messages wait for credits.
const WAITING: u8 = 8;
/// A Fin is to be sent.
const FIN: u8 = 16;
/// A Bye is to be sent.
const BYE: u8 = 32;
/// The stash is not full.
const LOW: u8 = 64;

/// A Fetched is to be sent, or several.
const FETCHED: u8 = 128;

/// What is to be sent as soon as it may be.
const PENDING: u8 = ABORT | WAITING | FIN | BYE | FETCHED;

impl<T: SendSide> Outbox<T> {
    pub(crate) fn new(id: u64) -> Self {
        Self {
            hurdles: LOW,
            stash: Vec::with_capacity(STASH),
            waiting: VecDeque::new(),
            finished: false,
            error: None,
            id,
        }
    }

    /// Nothing keeps a message from being sent, but perhaps credits.
    #[inline]
    pub(crate) fn is_clear(&self) -> bool {
        self.hurdles == 0
    }

    /// The same, for the next segment of the message that was begun.
    pub(crate) fn is_clear_for_segment(&self) -> bool {
        self.hurdles & !OPEN == 0
    }

    #[inline]
    pub(crate) fn is_pending(&self) -> bool {
        self.hurdles & PENDING != 0
    }

    /// Whether nothing more can be sent, and why.
    pub(crate) fn over(&self) -> Option<CarrierError<T::Error>> {
        (self.hurdles & OVER != 0).then(|| self.error.clone().unwrap_or(CarrierError::Closed))
    }

    /// Whether the stash waits for a send slot of the track.
    pub(crate) fn wants_slot(&self) -> bool {
        self.hurdles & LOW != 0
    }

    /// Whether a message that has its slot would overtake another.
    fn would_overtake(&self) -> bool {
        self.hurdles & (ABORT | WAITING) != 0
    }

    /// Whether the Fin is on its way.
    pub(crate) fn has_finished(&self) -> bool {
        self.finished
    }

    fn set(&mut self, hurdle: u8, on: bool) {
        match on {
            true => self.hurdles |= hurdle,
            false => self.hurdles &= !hurdle,
        }
    }

    /// Notes that a message was begun, or that it is done.
    pub(crate) fn set_open(&mut self, open: bool) {
        self.set(OPEN, open);
    }

    /// A message that was begun, and that nobody will end, is to be withdrawn.
    pub(crate) fn abandon(&mut self) -> bool {
        let open = self.hurdles & OPEN != 0;
        if open {
            self.hurdles = (self.hurdles & !OPEN) | ABORT;
        }
        open
    }

    /// No more messages: a Fin is to be sent, once.
    pub(crate) fn finish(&mut self) {
        if self.hurdles & OVER == 0 {
            self.hurdles |= OVER | FIN;
        }
    }

    /// Nor will anything be read: a Bye is to be sent, once, in place of a Fin that was not sent yet. It withdraws the
    /// message that was begun, too, unless others wait, which go out before it: then that takes an Abort still.
    pub(crate) fn leave(&mut self) {
        let abort = if self.hurdles & WAITING == 0 { ABORT } else { 0 };
        self.hurdles = (self.hurdles & !(OPEN | abort | FIN | FETCHED)) | OVER | BYE;
    }

    /// The peer reads no more: what waits is of no use. A Bye may still be said.
    pub(crate) fn peer_left(&mut self) {
        self.hurdles = (self.hurdles & (LOW | BYE)) | OVER;
        self.waiting.clear();
        self.error.get_or_insert(CarrierError::Closed);
    }

    /// What sending ended with, if it was an error.
    pub(crate) fn error(&self) -> Option<&CarrierError<T::Error>> {
        self.error.as_ref()
    }

    /// Ends sending with `error`, unless an earlier one did. Returns the first.
    pub(crate) fn fail(&mut self, error: CarrierError<T::Error>) -> CarrierError<T::Error> {
        self.hurdles = OVER;
        self.stash.clear();
        self.waiting.clear();
        self.error.get_or_insert(error).clone()
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> MessageCarrier<T> {
    /// Queues `frame`, with the header of `kind`, unless it is bare. Credits and order are the caller's concern.
    #[inline]
    pub(super) fn queue(
        &mut self,
        mut frame: T::SendBuf,
        kind: Kind,
    ) -> Result<(), Unsent<T::SendBuf, CarrierError<T::Error>>> {
        let Some(track) = &mut self.track else { return Err(Unsent { buf: frame, error: self.why_not() }) };
        let posted = track.posted();
        let sent = match (kind, self.sizes.head) {
            (Kind::Message, 0) => track.send_immediate(frame, posted as u32),
            _ => {
                stamp(&mut frame, kind, posted);
                track.send(frame).map_err(Unsent::certain)
            }
        };
        match sent {
            Ok(()) => {
                self.credits.on_sent(posted);
                Ok(())
            }
            Err(Unsent { buf, error: Some(error) }) => Err(Unsent { buf, error: self.sending_failed(error) }),
            Err(Unsent { buf, error: None }) => Err(Unsent { buf, error: self.fail(CarrierError::NotCarried) }),
        }
    }

    /// Queues a frame of control from the stash, if it may go now.
    pub(super) fn queue_control(&mut self, kind: Kind, rank: Rank) -> bool {
        if !self.credits.may_send(rank) {
            return false;
        }
        self.fill_stash();
        let Some(mut frame) = self.out.stash.pop() else { return false };
        self.out.set(LOW, true);
        frame.truncate(HEADER);
        let queued = self.queue(frame, kind).is_ok();
        self.fill_stash();
        queued
    }

    /// Fills the stash up, as far as there are slots: before anything else may have them.
    pub(super) fn fill_stash(&mut self) {
        while self.out.hurdles & LOW != 0 {
            if self.out.stash.len() >= STASH {
                return self.out.set(LOW, false);
            }
            let Some(track) = &mut self.track else { return };
            match track.try_reserve(HEADER) {
                Ok(frame) => self.out.stash.push(frame),
                Err(TryError::WouldBlock) => return,
                Err(TryError::Failed(error)) => {
                    self.sending_failed(error);
                    return;
                }
            }
        }
    }

    /// Sends what may be sent of what waits, in order, and returns whether anything was.
    pub(super) fn advance(&mut self) -> bool {
        let mut queued = false;
        if self.out.hurdles & ABORT != 0 {
            if !self.queue_control(Kind::Abort, Rank::Abort) {
                return false;
            }
            self.stats.messages_withdrawn += 1;
            self.out.set(ABORT, false);
            queued = true;
        }
        queued |= self.advance_waiting();
        if self.out.hurdles & (WAITING | ABORT) != 0 {
            return queued;
        }
        queued |= self.advance_fetched();
        if self.out.hurdles & FIN != 0 && self.queue_control(Kind::Fin, Rank::Fin) {
            self.out.set(FIN, false);
            self.out.finished = true;
            queued = true;
        }
        if self.out.hurdles & BYE != 0 && self.queue_control(Kind::Bye, Rank::Bye) {
            self.out.set(BYE, false);
            queued = true;
        }
        queued
    }

    /// Says how many of the peer's lent messages were read. Like data it leaves the last credits alone: they are kept for what
    /// comes once.
    fn advance_fetched(&mut self) -> bool {
        let mut queued = false;
        while self.out.hurdles & FETCHED != 0 && self.queue_control(Kind::Fetched, Rank::Data) {
            queued = true;
            self.out.set(FETCHED, self.lends.said());
        }
        queued
    }

    /// The oldest message that the peer lent has been read: says so as soon as it may.
    pub(crate) fn say_fetched(&mut self) {
        let due = self.lends.read();
        self.say_fetched_if(due);
    }

    /// Nothing that the peer lent will be read any more: says so of all that has arrived.
    pub(crate) fn discard_lent(&mut self) {
        let due = self.lends.discard();
        self.say_fetched_if(due);
    }

    /// A message that the peer lends has arrived: where nobody will read it, that is said with what goes out next.
    pub(super) fn note_unwanted(&mut self) {
        if self.lends.is_due() && self.out.hurdles & BYE == 0 {
            self.out.set(FETCHED, true);
        }
    }

    fn say_fetched_if(&mut self, due: bool) {
        // Not beside a Bye, which says it of all.
        if !due || self.out.hurdles & BYE != 0 || self.track.is_none() {
            return;
        }
        self.out.set(FETCHED, true);
        if self.advance() {
            // Errors stick: whoever sends next is told.
            let _ = self.ring();
        }
    }

    fn advance_waiting(&mut self) -> bool {
        let mut queued = false;
        while self.credits.may_send(Rank::Data) {
            let Some(frame) = self.out.waiting.pop_front() else { break };
            queued |= self.queue(frame, Kind::Message).is_ok();
        }
        self.out.set(WAITING, !self.out.waiting.is_empty());
        queued
    }

    /// Queues the frame of a message now, or keeps it until there are credits: it has its slot.
    pub(super) fn queue_or_keep(
        &mut self,
        frame: T::SendBuf,
    ) -> Result<(), Unsent<T::SendBuf, CarrierError<T::Error>>> {
        if !self.out.would_overtake() && self.credits.may_send(Rank::Data) {
            return self.queue(frame, Kind::Message);
        }
        self.out.waiting.push_back(frame);
        self.out.set(WAITING, true);
        Ok(())
    }

    /// Sends what may be sent of what waits, and the peer's credits if they are due. For an end that is about to wait.
    #[inline]
    pub(super) fn settle(&mut self) {
        let due = match &self.track {
            Some(track) => self.credits.due_before_wait(track.posted()),
            None => false,
        };
        if due || self.out.is_pending() || self.pulse.is_due() {
            self.settle_now(due);
        }
    }

    #[cold]
    fn settle_now(&mut self, due: bool) {
        let mut queued = self.advance();
        // Whatever went out has said the credits too.
        if due && !queued {
            queued = self.queue_credit();
        }
        if self.pulse.is_due() {
            queued |= self.feel_pulse();
        }
        if queued {
            // Errors stick: whoever sends next is told.
            let _ = self.ring();
        }
    }

    /// Says that this end is there, or ends what the peer has left to silence. Whether anything was queued.
    fn feel_pulse(&mut self) -> bool {
        let Some(track) = &self.track else { return false };
        match self.pulse.look(&track.timer(), &self.credits) {
            Sign::Fine => false,
            Sign::Beat => {
                let queued = self.queue_control(Kind::Credit, Rank::Data);
                self.stats.beats_sent += u64::from(queued);
                queued
            }
            Sign::Silence => {
                self.fail(CarrierError::TimedOut(Phase::Idle));
                false
            }
        }
    }

    /// Gives the peer its credits, if they are due in mid-conversation.
    #[cold]
    pub(super) fn report(&mut self) {
        let due = self.track.as_ref().is_some_and(|track| self.credits.due(track.posted()));
        if (due && self.queue_credit()) | (self.out.is_pending() && self.advance()) {
            let _ = self.ring();
        }
    }

    fn queue_credit(&mut self) -> bool {
        let queued = self.queue_control(Kind::Credit, Rank::Credit);
        self.stats.credit_updates_sent += u64::from(queued);
        queued
    }

    /// Rings the doorbell.
    #[inline]
    pub(super) fn ring(&mut self) -> Result<(), CarrierError<T::Error>> {
        let Some(track) = &mut self.track else { return Err(self.why_not()) };
        match track.flush() {
            Ok(()) => Ok(()),
            Err(error) => Err(self.sending_failed(error)),
        }
    }

    /// Ends sending, and leaves receiving to take what had arrived.
    #[cold]
    pub(super) fn sending_failed(&mut self, error: T::Error) -> CarrierError<T::Error> {
        if error.kind() == ErrorKind::Closed {
            // The peer's goodbye may be among what has arrived: then it is no death.
            self.take_in();
        }
        let error = self.ended(error);
        let first = self.out.fail(error);
        self.fan_out.waker().wake_by_ref();
        first
    }

    /// Why nothing can be sent.
    #[cold]
    pub(super) fn why_not(&self) -> CarrierError<T::Error> {
        self.out.over().unwrap_or(CarrierError::Closed)
    }
}
