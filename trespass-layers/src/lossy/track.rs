//! Datagram tracks over any track.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use trespass_core::{
    Datagram, Endpoint, ErrorKind, Limits, RecvSide, SendSide, Track, TransportError, TryError, Unsent, WakerSlot,
};

use super::error::LossyError;
use super::network::{Faults, Network};
use super::slots::{LossySendBuf, Slots};

/// A datagram track.
pub struct LossyTrack<T: Track> {
    sender: LossySender<T::Sender>,
    receiver: LossyReceiver<T::Receiver>,
}

impl<T: Track> LossyTrack<T> {
    pub(super) fn new(inner: T, network: Network) -> Self {
        let (sender, receiver) = inner.split();
        let shared = Arc::new(Shared::default());
        let receiver = LossyReceiver { inner: receiver, next: None, deserted: false, shared: Arc::clone(&shared) };
        Self { sender: LossySender::new(sender, network, shared), receiver }
    }

    /// What became of the messages that this end has sent.
    pub fn faults(&self) -> Faults {
        self.sender.faults()
    }

    /// The receiving half of the track below, for what it alone can tell.
    pub fn inner(&self) -> &T::Receiver {
        &self.receiver.inner
    }
}

/// What the two halves know of each other.
#[derive(Debug, Default)]
struct Shared {
    /// This end was closed.
    closed: AtomicBool,
    /// A receiver whose peer is gone: only a close ends its wait.
    deserted: WakerSlot,
}

/// The sending half of a datagram track.
pub struct LossySender<S: SendSide> {
    /// Until a close is over.
    inner: Option<S>,
    ends: Ends<S>,
    slots: Arc<Slots>,
    /// Sent and not flushed.
    queue: Vec<LossySendBuf>,
    network: Network,
    /// The link or device has failed.
    failed: Option<S::Error>,
    shared: Arc<Shared>,
}

/// What an endpoint says of itself also when the track below is gone.
struct Ends<S: Endpoint> {
    limits: Limits,
    local: S::Addr,
    peer: S::Addr,
    timer: S::Timer,
}

impl<S: SendSide> LossySender<S> {
    fn new(inner: S, network: Network, shared: Arc<Shared>) -> Self {
        let limits = inner.limits();
        let ends = Ends { limits, local: inner.local(), peer: inner.peer(), timer: inner.timer() };
        Self {
            slots: Slots::new(limits.send_slots, limits.max_message),
            queue: Vec::with_capacity(limits.send_slots),
            inner: Some(inner),
            ends,
            network,
            failed: None,
            shared,
        }
    }

    /// What became of the messages that were sent here.
    pub fn faults(&self) -> Faults {
        self.network.faults
    }

    /// Why nothing can be sent, if so.
    fn ended(&self) -> Result<(), LossyError<S::Error>> {
        match (&self.failed, &self.inner) {
            (Some(error), _) => Err(LossyError::Below(error.clone())),
            (None, None) => Err(LossyError::Closed),
            (None, Some(_)) => Ok(()),
        }
    }

    /// Hands what is queued to the network, and what that carries to the track below; `all` that it holds back too.
    fn carry(&mut self, all: bool) {
        let Some(inner) = &mut self.inner else { return };
        let failed = &mut self.failed;
        let mut carry = |bytes: &[u8], faults: &mut Faults| carry_one(inner, bytes, faults, failed);
        for buf in self.queue.drain(..) {
            self.network.take(&buf, &mut carry);
        }
        if all {
            self.network.drain(&mut carry);
        }
        fails(failed, inner.flush());
    }
}

/// Copies one message to the track below, if that has a slot for it.
fn carry_one<S: SendSide>(inner: &mut S, bytes: &[u8], faults: &mut Faults, failed: &mut Option<S::Error>) {
    // What was sent just now may only need to be flushed.
    let reserved = match inner.try_reserve(bytes.len()) {
        Err(TryError::WouldBlock) => {
            fails(failed, inner.flush());
            inner.try_reserve(bytes.len())
        }
        reserved => reserved,
    };
    match reserved {
        Ok(mut buf) => {
            buf.copy_from_slice(bytes);
            fails(failed, inner.send(buf).map_err(|unsent| unsent.error));
        }
        Err(TryError::WouldBlock) => faults.overflowed += 1,
        Err(TryError::Failed(error)) => {
            faults.unheard += 1;
            fails(failed, Err(error));
        }
    }
}

/// Keeps the first failure. That the peer has ended the track is none: a datagram would not tell.
fn fails<E: TransportError>(failed: &mut Option<E>, result: Result<(), E>) {
    match result {
        Err(error) if error.kind() != ErrorKind::Closed => _ = failed.get_or_insert(error),
        _ => {}
    }
}

impl<S: SendSide> Drop for LossySender<S> {
    fn drop(&mut self) {
        // The track ends with this half. The other one is woken by the track below, if not by this.
        self.shared.closed.store(true, Ordering::SeqCst);
        self.shared.deserted.wake();
    }
}

impl<S: SendSide> Endpoint for LossySender<S> {
    type Error = LossyError<S::Error>;
    type Addr = S::Addr;
    type Timer = S::Timer;

    fn limits(&self) -> Limits {
        self.ends.limits
    }

    fn local(&self) -> S::Addr {
        self.ends.local.clone()
    }

    fn peer(&self) -> S::Addr {
        self.ends.peer.clone()
    }

    fn timer(&self) -> S::Timer {
        self.ends.timer.clone()
    }
}

impl<S: SendSide> SendSide for LossySender<S> {
    type SendBuf = LossySendBuf;

    fn try_reserve(&mut self, len: usize) -> Result<LossySendBuf, TryError<Self::Error>> {
        self.ended().map_err(TryError::Failed)?;
        let max = self.ends.limits.max_message;
        if len > max {
            return Err(TryError::Failed(LossyError::Oversize { len, max }));
        }
        self.slots.claim(len).ok_or(TryError::WouldBlock)
    }

    fn send(&mut self, buf: LossySendBuf) -> Result<(), Unsent<LossySendBuf, Self::Error>> {
        if !buf.is_of(&self.slots) {
            return Err(Unsent { buf, error: LossyError::ForeignBuffer });
        }
        if let Err(error) = self.ended() {
            return Err(Unsent { buf, error });
        }
        self.queue.push(buf);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        self.ended()?;
        self.carry(false);
        self.ended()
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.carry(false);
        if self.ended().is_err() || self.slots.has_free() {
            return Poll::Ready(());
        }
        self.slots.waiting.register(cx.waker());
        // A slot may have come back before anybody could be woken.
        if self.slots.has_free() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.carry(true);
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(self.failed.clone().map_or(Ok(()), |error| Err(error.into())));
        };
        // Where the peer is slow, this does not wait for it: dropping the half cuts the track off.
        if let Poll::Ready(Err(error)) = inner.poll_close(cx) {
            match error.kind() {
                ErrorKind::TimedOut => {}
                _ => fails(&mut self.failed, Err(error)),
            }
        }
        self.inner = None;
        self.shared.closed.store(true, Ordering::SeqCst);
        self.shared.deserted.wake();
        self.slots.waiting.wake();
        Poll::Ready(self.failed.clone().map_or(Ok(()), |error| Err(error.into())))
    }
}

/// The receiving half of a datagram track.
pub struct LossyReceiver<R: RecvSide> {
    inner: R,
    /// Taken when it was looked whether something is there.
    next: Option<R::RecvBuf>,
    /// The peer has ended the track below: nothing comes any more, and nobody says so.
    deserted: bool,
    shared: Arc<Shared>,
}

impl<R: RecvSide> LossyReceiver<R> {
    /// The receiving half of the track below, for what it alone can tell.
    pub fn inner(&self) -> &R {
        &self.inner
    }

    fn closed(&self) -> bool {
        self.shared.closed.load(Ordering::SeqCst)
    }
}

impl<R: RecvSide> Endpoint for LossyReceiver<R> {
    type Error = LossyError<R::Error>;
    type Addr = R::Addr;
    type Timer = R::Timer;

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn local(&self) -> R::Addr {
        self.inner.local()
    }

    fn peer(&self) -> R::Addr {
        self.inner.peer()
    }

    fn timer(&self) -> R::Timer {
        self.inner.timer()
    }
}

impl<R: RecvSide> RecvSide for LossyReceiver<R> {
    type RecvBuf = R::RecvBuf;

    fn posted(&self) -> u64 {
        self.inner.posted()
    }

    fn try_recv(&mut self) -> Result<R::RecvBuf, TryError<Self::Error>> {
        if let Some(next) = self.next.take() {
            return Ok(next);
        }
        // Before the look below: what arrived before the close is not passed over.
        let closed = self.closed();
        match self.inner.try_recv() {
            Ok(buf) => Ok(buf),
            Err(TryError::WouldBlock) => Err(TryError::WouldBlock),
            Err(TryError::Failed(error)) if error.kind() != ErrorKind::Closed => {
                Err(TryError::Failed(LossyError::Below(error)))
            }
            Err(TryError::Failed(_)) if closed => Err(TryError::Failed(LossyError::Closed)),
            Err(TryError::Failed(_)) => {
                self.deserted = true;
                Err(TryError::WouldBlock)
            }
        }
    }

    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.next.is_some() {
                return Poll::Ready(());
            }
            if self.deserted {
                self.shared.deserted.register(cx.waker());
                return if self.closed() { Poll::Ready(()) } else { Poll::Pending };
            }
            std::task::ready!(self.inner.poll_recv_ready(cx));
            match self.try_recv() {
                Ok(buf) => self.next = Some(buf),
                // It ends, and says so again.
                Err(TryError::Failed(_)) => return Poll::Ready(()),
                // Nothing after all: waits again, or is deserted.
                Err(TryError::WouldBlock) => {}
            }
        }
    }
}

impl<T: Track> fmt::Debug for LossyTrack<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LossyTrack").field("sender", &self.sender).field("receiver", &self.receiver).finish()
    }
}

impl<S: SendSide> fmt::Debug for LossySender<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LossySender")
            .field("faults", &self.faults())
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

impl<R: RecvSide> fmt::Debug for LossyReceiver<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LossyReceiver").field("deserted", &self.deserted).finish_non_exhaustive()
    }
}

impl<T: Track> Endpoint for LossyTrack<T> {
    type Error = LossyError<T::Error>;
    type Addr = T::Addr;
    type Timer = T::Timer;

    fn limits(&self) -> Limits {
        self.sender.limits()
    }

    fn local(&self) -> T::Addr {
        self.sender.local()
    }

    fn peer(&self) -> T::Addr {
        self.sender.peer()
    }

    fn timer(&self) -> T::Timer {
        self.sender.timer()
    }
}

impl<T: Track> SendSide for LossyTrack<T> {
    type SendBuf = LossySendBuf;

    fn try_reserve(&mut self, len: usize) -> Result<LossySendBuf, TryError<Self::Error>> {
        self.sender.try_reserve(len)
    }

    fn send(&mut self, buf: LossySendBuf) -> Result<(), Unsent<LossySendBuf, Self::Error>> {
        self.sender.send(buf)
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        self.sender.flush()
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sender.poll_send_ready(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_close(cx)
    }
}

impl<T: Track> RecvSide for LossyTrack<T> {
    type RecvBuf = T::RecvBuf;

    fn posted(&self) -> u64 {
        self.receiver.posted()
    }

    fn try_recv(&mut self) -> Result<T::RecvBuf, TryError<Self::Error>> {
        self.receiver.try_recv()
    }

    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A failure is told by whoever sends next.
        let _ = self.sender.flush();
        self.receiver.poll_recv_ready(cx)
    }
}

impl<T: Track> Track for LossyTrack<T> {
    type Delivery = Datagram;
    type Sender = LossySender<T::Sender>;
    type Receiver = LossyReceiver<T::Receiver>;

    fn split(self) -> (Self::Sender, Self::Receiver) {
        (self.sender, self.receiver)
    }
}
