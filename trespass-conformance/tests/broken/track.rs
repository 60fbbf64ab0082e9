//! Tracks of the toy fabric with one fault.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use trespass_core::{
    Endpoint, ErrorKind, Limits, RecvSide, Reliable, SendBuf, SendSide, SystemTimer, Track, TransportError, TryError,
    Unsent,
};

use crate::bufs::{BrokenRecvBuf, BrokenSendBuf, Memory};
use crate::fabric::{Parents, Shared};
use crate::fault::Fault;
use crate::receiver::BrokenReceiver;
use crate::tap::{Deaf, Tap, unheard};
use crate::toy::track::{ToyReceiver, ToySendBuf, ToySender};
use crate::toy::{ToyAddr, ToyError};

pub(crate) struct BrokenTrack {
    sender: BrokenSender,
    receiver: BrokenReceiver,
}

pub(crate) struct BrokenSender {
    toy: Option<ToySender>,
    own: Own,
    /// Queued here instead of below.
    queue: Vec<ToySendBuf>,
    sent: u64,
    /// How often it was waited for a slot in vain.
    waited: usize,
    /// What a close gave.
    closed: Option<Result<(), ToyError>>,
    close_polls: usize,
    extra_doorbells: u64,
    stalled_since: Option<Instant>,
}

/// What the two halves of a track share.
#[derive(Clone)]
pub(crate) struct Own {
    pub(crate) shared: Arc<Shared>,
    pub(crate) parents: Parents,
    pub(crate) tap: Arc<Tap>,
    pub(crate) alive: Arc<()>,
    pub(crate) flags: Arc<Flags>,
    pub(crate) limits: Limits,
    pub(crate) addrs: (ToyAddr, ToyAddr),
    pub(crate) timer: SystemTimer,
}

#[derive(Default)]
pub(crate) struct Flags {
    pub(crate) split: AtomicBool,
    pub(crate) receiver_dropped: AtomicBool,
    pub(crate) closed_here: AtomicBool,
    pub(crate) full: AtomicBool,
    /// Whether a buffer was dropped unsent.
    discarded: Arc<AtomicBool>,
}

impl Flags {
    pub(crate) fn raise(flag: &AtomicBool) {
        flag.store(true, Ordering::Release);
    }

    pub(crate) fn is(flag: &AtomicBool) -> bool {
        flag.load(Ordering::Acquire)
    }
}

impl BrokenTrack {
    pub(crate) fn new(sender: ToySender, receiver: ToyReceiver, parents: Parents, shared: &Arc<Shared>) -> Self {
        let (send_tap, recv_tap) = Tap::pair(shared.fault);
        let own = Own {
            shared: Arc::clone(shared),
            parents,
            tap: send_tap,
            alive: Arc::default(),
            flags: Arc::default(),
            limits: sender.limits(),
            addrs: match shared.fault {
                Fault::MisnamesThePeer => (sender.local(), sender.local()),
                _ => (sender.local(), sender.peer()),
            },
            timer: sender.timer(),
        };
        Self {
            receiver: BrokenReceiver::new(receiver, Own { tap: recv_tap, ..own.clone() }),
            sender: BrokenSender {
                toy: Some(sender),
                own,
                queue: Vec::new(),
                sent: 0,
                waited: 0,
                closed: None,
                close_polls: 0,
                extra_doorbells: 0,
                stalled_since: None,
            },
        }
    }

    pub(crate) fn doorbells(&self) -> u64 {
        self.sender.extra_doorbells + self.sender.toy.as_ref().map_or(0, ToySender::doorbells)
    }

    pub(crate) fn arms(&self) -> u64 {
        self.sender.toy.as_ref().map_or(0, ToySender::arms)
    }

    pub(crate) fn cut(&self) -> ErrorKind {
        self.sender.toy.as_ref().map_or(ErrorKind::Disconnected, ToySender::cut)
    }
}

impl Own {
    pub(crate) fn is(&self, fault: Fault) -> bool {
        self.shared.fault == fault
    }

    /// The error that ends the track from above, if one does.
    pub(crate) fn ended_above(&self) -> Option<ToyError> {
        let others = self.is(Fault::EndOfOneEndsAll) && self.shared.any_ended.load(Ordering::Acquire);
        (others || self.parents.gone()).then_some(ToyError(ErrorKind::Closed))
    }

    /// What this fabric calls an error of the toy.
    pub(crate) fn renamed(&self, error: ToyError) -> ToyError {
        match error.kind() {
            ErrorKind::Closed if self.is(Fault::DeathIsDisconnected) => ToyError(ErrorKind::Disconnected),
            ErrorKind::Disconnected if self.is(Fault::CutLooksLikeAClose) => ToyError(ErrorKind::Closed),
            _ => error,
        }
    }
}

pub(crate) fn failed<T>(kind: ErrorKind) -> Result<T, TryError<ToyError>> {
    Err(TryError::Failed(ToyError(kind)))
}

impl SendSide for BrokenSender {
    type SendBuf = BrokenSendBuf;

    fn try_reserve(&mut self, len: usize) -> Result<BrokenSendBuf, TryError<ToyError>> {
        if let Some(error) = self.own.ended_above() {
            return Err(TryError::Failed(error));
        }
        if Flags::is(&self.own.flags.receiver_dropped) && self.own.is(Fault::DroppedReceiverEndsTheSender) {
            return failed(ErrorKind::Closed);
        }
        if self.closed.is_some() && self.own.is(Fault::ReservesAfterAClose) {
            return Ok(self.wrap(Memory::Heap(vec![0; len])));
        }
        let max = self.own.limits.max_message;
        let Some(toy) = &mut self.toy else { return failed(ErrorKind::Closed) };
        let result = match self.own.shared.fault {
            Fault::ReservesTooMuch => toy.try_reserve((len + 1).min(max)),
            Fault::ClampsOversize => toy.try_reserve(len.min(max)),
            Fault::OversizeCostsASlot if len > max => {
                std::mem::forget(toy.try_reserve(0)?);
                toy.try_reserve(len)
            }
            Fault::OversizeEndsTheTrack if len > max => {
                self.toy = None;
                return failed(ErrorKind::Oversize);
            }
            Fault::KeepsSlotsForTheGone if self.waited > 1 => {
                self.waited -= 1;
                std::mem::forget(toy.try_reserve(0)?);
                toy.try_reserve(len)
            }
            Fault::HasNoBound => match toy.try_reserve(len) {
                Err(TryError::WouldBlock) => return Ok(self.wrap(Memory::Heap(vec![0; len]))),
                result => result,
            },
            _ => toy.try_reserve(len),
        };
        let full = matches!(result, Err(TryError::WouldBlock));
        let idle = 1 + std::iter::from_fn(|| toy.try_reserve(0).ok()).collect::<Vec<_>>().len();
        let under_way = idle < self.own.limits.send_slots;
        self.own.flags.full.store(full, Ordering::Release);
        match (full, self.own.shared.fault) {
            (true, Fault::FullQueueIsAnError) => return failed(ErrorKind::ResourceLimit),
            (true, Fault::StallIsAnError) => {
                let since = self.stalled_since.get_or_insert_with(Instant::now);
                if since.elapsed() > Duration::from_millis(5) {
                    return failed(ErrorKind::Disconnected);
                }
            }
            (_, Fault::LongStallIsAnError) if under_way => {
                let since = self.stalled_since.get_or_insert_with(Instant::now);
                if since.elapsed() > Duration::from_millis(300) {
                    return failed(ErrorKind::Disconnected);
                }
            }
            (false, _) => self.stalled_since = None,
            _ => {}
        }
        let mut buf = result.map_err(|error| match error {
            TryError::Failed(error) => TryError::Failed(self.own.renamed(error)),
            TryError::WouldBlock => TryError::WouldBlock,
        })?;
        match self.own.shared.fault {
            // The buffer that is given out is the memory of the last one that was sent, and will be written to.
            Fault::ReusesSentMemory => self.queue.last_mut().into_iter().for_each(|sent| sent.fill(0xEE)),
            Fault::ShowsReceivedBytes => {
                let last = self.own.shared.last_received.lock().expect("no panic under this lock");
                buf.iter_mut().zip(&*last).for_each(|(to, from)| *to = *from);
            }
            _ => {}
        }
        Ok(self.wrap(Memory::Slot(buf)))
    }

    fn send(&mut self, mut buf: BrokenSendBuf) -> Result<(), Unsent<BrokenSendBuf, ToyError>> {
        if self.own.is(Fault::SplitForgetsBuffers) && buf.before_split && Flags::is(&self.own.flags.split) {
            return Err(Unsent { buf, error: ToyError(ErrorKind::ForeignBuffer) });
        }
        if self.own.is(Fault::SendFindsNoRoom) && Flags::is(&self.own.flags.full) {
            return Err(Unsent { buf, error: ToyError(ErrorKind::ResourceLimit) });
        }
        let (Some(toy), Some(memory)) = (&mut self.toy, buf.toy.take()) else {
            return Err(Unsent { buf, error: ToyError(ErrorKind::Closed) });
        };
        let slot = match memory {
            Memory::Slot(slot) => slot,
            // It goes nowhere; nobody has looked for that yet when it comes to this.
            Memory::Heap(_) => return Ok(()),
        };
        let Err(Unsent { buf: slot, error }) = self.own.queue(toy, slot, &mut self.queue, &mut self.sent) else {
            return Ok(());
        };
        if error.kind() == ErrorKind::ForeignBuffer && self.own.is(Fault::AcceptsForeignBuffers) {
            if let Ok(mut copy) = toy.try_reserve(slot.len()) {
                copy.copy_from_slice(&slot);
                return toy.send(copy).map_err(|_| unreachable!("a slot of its own"));
            }
        }
        let error = match error.kind() {
            ErrorKind::ForeignBuffer if self.own.is(Fault::MisnamesForeignBuffers) => ToyError(ErrorKind::Config),
            _ => error,
        };
        buf.toy = Some(Memory::Slot(slot));
        Err(Unsent { buf, error })
    }

    fn carries_immediate(&self) -> bool {
        matches!(self.own.shared.fault, Fault::ForgetsTheWord | Fault::RefusesTheWord)
    }

    /// The toy carries none.
    fn send_immediate(&mut self, buf: BrokenSendBuf, _: u32) -> Result<(), Unsent<BrokenSendBuf, Option<ToyError>>> {
        match self.own.shared.fault {
            Fault::ForgetsTheWord | Fault::CarriesUnsaid => self.send(buf).map_err(Unsent::certain),
            _ => Err(Unsent { buf, error: None }),
        }
    }

    fn flush(&mut self) -> Result<(), ToyError> {
        let Some(toy) = &mut self.toy else { return Err(ToyError(ErrorKind::Closed)) };
        let later = self.own.is(Fault::SwapsMessages);
        for slot in self.queue.drain(if later { ..0 } else { ..self.queue.len() }) {
            toy.send(slot).map_err(|unsent| unsent.error)?;
        }
        if self.own.is(Fault::Invents) {
            if let Ok(nothing) = toy.try_reserve(0) {
                toy.send(nothing).map_err(|unsent| unsent.error)?;
            }
        }
        let before = toy.doorbells();
        toy.flush()?;
        if self.own.is(Fault::RingsForNothing) && toy.doorbells() == before {
            self.extra_doorbells += 1;
        }
        Ok(())
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.own.is(Fault::WaitsWithoutAFlush) {
            let _ = self.flush();
        }
        let waker = self.own.tap.waker(cx.waker());
        let Some(toy) = &mut self.toy else { return Poll::Ready(()) };
        let polled = toy.poll_send_ready(&mut Context::from_waker(&waker));
        self.waited += usize::from(polled.is_pending());
        if self.own.is(Fault::ReadyToSendForNothing) { Poll::Ready(()) } else { polled }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ToyError>> {
        let fault = self.own.shared.fault;
        match (fault, &self.closed) {
            (Fault::ClosesOnce, Some(_)) => return Poll::Ready(Err(ToyError(ErrorKind::Closed))),
            (Fault::ClosesEarly, _) => self.toy = None,
            (Fault::ForgetsDroppedClose, None) if self.close_polls > 0 => self.toy = None,
            _ => {
                let _ = self.flush();
            }
        }
        self.close_polls += 1;
        let Some(toy) = &mut self.toy else {
            self.closed = Some(Ok(()));
            return Poll::Ready(Ok(()));
        };
        let gone = matches!(toy.try_reserve(0), Err(TryError::Failed(_)));
        if fault == Fault::BothMayNotClose && self.closed.is_none() && gone {
            return Poll::Ready(Err(ToyError(ErrorKind::Protocol)));
        }
        let waker = self.own.tap.waker(cx.waker());
        let mut cx = Context::from_waker(&waker);
        let deaf = if fault == Fault::CloseWakesNobodyHere { Deaf::Everybody } else { Deaf::Nobody };
        let polled = match unheard(deaf, || toy.poll_close(&mut cx)) {
            Poll::Pending if fault == Fault::ClosesWithoutTheReceiver => {
                self.toy = None;
                Poll::Ready(Ok(()))
            }
            Poll::Pending if fault == Fault::ClosesWithoutPatience => Poll::Ready(Err(ToyError(ErrorKind::TimedOut))),
            Poll::Ready(Err(error)) => match (error.kind(), fault) {
                (ErrorKind::TimedOut, Fault::ClosesWithoutADeadline) => Poll::Pending,
                (_, Fault::CloseHidesLoss) => Poll::Ready(Ok(())),
                _ => Poll::Ready(Err(self.own.renamed(error))),
            },
            polled => polled,
        };
        if let Poll::Ready(result) = &polled {
            self.closed = Some(result.clone());
            self.own.shared.any_ended.store(true, Ordering::Release);
            Flags::raise(&self.own.flags.closed_here);
        }
        polled
    }
}

impl BrokenSender {
    fn wrap(&self, memory: Memory) -> BrokenSendBuf {
        BrokenSendBuf {
            toy: Some(memory),
            fault: self.own.shared.fault,
            before_split: !Flags::is(&self.own.flags.split),
            owner: Arc::downgrade(&self.own.alive),
            discarded: Arc::clone(&self.own.flags.discarded),
        }
    }
}

impl Own {
    /// Queues `slot`, more or less.
    fn queue(
        &self,
        toy: &mut ToySender,
        mut slot: ToySendBuf,
        queue: &mut Vec<ToySendBuf>,
        sent: &mut u64,
    ) -> Result<(), Unsent<ToySendBuf, ToyError>> {
        let number = *sent;
        *sent += 1;
        let seventh = number % 7 == 6;
        let frame = slot.first().copied().unwrap_or_default();
        match (self.shared.fault, frame) {
            (Fault::LosesRefusals, 3)
            | (Fault::LosesCredits, 32)
            | (Fault::LosesFins, 33)
            | (Fault::LosesWithdrawals, 19)
            | (Fault::LosesGoodbyes, 34) => return Ok(()),
            // Its longest message: the lowest byte of that.
            (Fault::FalsifiesHandshakes, 1 | 2) => slot[8 + 40] ^= 2,
            (Fault::CorruptsSegments, 18) => slot[8] ^= 1,
            (Fault::SwapsMessages, 16) if number % 3 == 2 => {
                queue.push(slot);
                return Ok(());
            }
            (Fault::RepeatsMessages, 16) => {
                for _ in 0..3 {
                    if let Ok(mut copy) = toy.try_reserve(slot.len()) {
                        copy.copy_from_slice(&slot);
                        toy.send(copy)?;
                    }
                }
            }
            _ => {}
        }
        match self.shared.fault {
            Fault::Drops if seventh => return Ok(()),
            Fault::LosesTheSendAfterADiscard if self.flags.discarded.swap(false, Ordering::AcqRel) => return Ok(()),
            Fault::Duplicates if seventh => {
                if let Ok(mut copy) = toy.try_reserve(slot.len()) {
                    copy.copy_from_slice(&slot);
                    toy.send(copy)?;
                }
            }
            Fault::Swaps if seventh => {
                queue.push(slot);
                return Ok(());
            }
            Fault::Truncates if slot.len() == self.limits.max_message => slot.truncate(self.limits.max_message - 1),
            Fault::Corrupts if slot.len() > 64 => slot[33] ^= 0x10,
            Fault::ReusesSentMemory | Fault::WaitsWithoutAFlush => {
                queue.push(slot);
                return Ok(());
            }
            _ => {}
        }
        toy.send(slot)?;
        if self.is(Fault::SwapsMessages) {
            queue.drain(..).try_for_each(|slot| toy.send(slot))?;
        }
        if self.is(Fault::RingsForEachSend) {
            let _ = toy.flush();
        }
        Ok(())
    }
}

impl Drop for BrokenSender {
    fn drop(&mut self) {
        self.own.shared.any_ended.store(true, Ordering::Release);
        let toy = self.toy.take();
        match self.own.shared.fault {
            Fault::DropDoesNotEnd => std::mem::forget(toy),
            Fault::EndWakesNobody => unheard(Deaf::Everybody, || drop(toy)),
            Fault::EndWakesNoSender => unheard(Deaf::Senders, || drop(toy)),
            _ => drop(toy),
        }
    }
}

macro_rules! endpoint {
    ($type:ty, $($own:ident).+) => {
        impl Endpoint for $type {
            type Error = ToyError;
            type Addr = ToyAddr;
            type Timer = SystemTimer;

            fn limits(&self) -> Limits {
                self.$($own).+.limits
            }

            fn local(&self) -> ToyAddr {
                self.$($own).+.addrs.0
            }

            fn peer(&self) -> ToyAddr {
                self.$($own).+.addrs.1
            }

            fn timer(&self) -> SystemTimer {
                self.$($own).+.timer.clone()
            }
        }
    };
}

endpoint!(BrokenSender, own);
endpoint!(BrokenReceiver, own);
endpoint!(BrokenTrack, sender.own);

impl SendSide for BrokenTrack {
    type SendBuf = BrokenSendBuf;

    fn try_reserve(&mut self, len: usize) -> Result<BrokenSendBuf, TryError<ToyError>> {
        self.sender.try_reserve(len)
    }

    fn send(&mut self, buf: BrokenSendBuf) -> Result<(), Unsent<BrokenSendBuf, ToyError>> {
        self.sender.send(buf)
    }

    fn carries_immediate(&self) -> bool {
        self.sender.carries_immediate()
    }

    fn send_immediate(&mut self, buf: BrokenSendBuf, word: u32) -> Result<(), Unsent<BrokenSendBuf, Option<ToyError>>> {
        self.sender.send_immediate(buf, word)
    }

    fn flush(&mut self) -> Result<(), ToyError> {
        self.sender.flush()
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sender.poll_send_ready(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ToyError>> {
        self.sender.poll_close(cx)
    }
}

impl RecvSide for BrokenTrack {
    type RecvBuf = BrokenRecvBuf;

    fn posted(&self) -> u64 {
        self.receiver.posted()
    }

    fn try_recv(&mut self) -> Result<BrokenRecvBuf, TryError<ToyError>> {
        self.receiver.try_recv()
    }

    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.sender.own.shared.fault {
            Fault::WaitsWithoutAFlush | Fault::ReceivesWithoutAFlush => {}
            _ => _ = self.sender.flush(),
        }
        self.receiver.poll_recv_ready(cx)
    }
}

impl Track for BrokenTrack {
    type Delivery = Reliable;
    type Sender = BrokenSender;
    type Receiver = BrokenReceiver;

    fn split(mut self) -> (BrokenSender, BrokenReceiver) {
        if self.sender.own.is(Fault::HalvesDiffer) {
            self.receiver.own.limits.recv_slots += 1;
        }
        Flags::raise(&self.sender.own.flags.split);
        (self.sender, self.receiver)
    }
}
