//! A track for models under loom: what it is told has arrived, it has; what it sends, it has sent.
//!
//! It keeps the contract and no more. Something arrives first, and whoever waits is woken later, in a step of its own, as by
//! a driver; and a look that finds something forgets who waited before, who is then nobody's to wake.

use std::collections::VecDeque;
use std::future::Pending;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use loom::sync::{Mutex, MutexGuard};
use trespass_core::{
    Endpoint, ErrorKind, FanOut, Limits, RecvSide, Reliable, SendBuf, SendSide, Timer, Track, TransportError, TryError,
    Unsent,
};

use crate::credit::Credits;
use crate::handshake::Agreement;
use crate::opening::Opened;
use crate::wire::{HEADER, Kind, stamp};

/// Every order of two threads; of three, those in which a thread is interrupted at most twice.
pub(crate) fn model(threads: usize, run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or((threads > 2).then_some(2));
    builder.max_branches = 10_000;
    builder.check(run);
}

/// How many receives are posted, here and at the peer.
const WINDOW: u32 = 8;
/// How many the peer speaks of in the handshake: all but one are for control, and one was for the answer.
pub(crate) const NO_DATA: u32 = 5;

/// What the model has of a track: all but its carrier's end.
#[derive(Clone, Default)]
pub(crate) struct Wire(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    arrived: VecDeque<Vec<u8>>,
    /// Messages that the carrier has.
    held: usize,
    receiver: Option<Waker>,
    /// What the carrier sent, by kind.
    sent: Vec<u8>,
    /// All has arrived at the peer.
    may_close: bool,
    closer: Option<Waker>,
}

impl Wire {
    /// Where an opened carrier begins: with no credits for data.
    pub(crate) fn opened(&self) -> Opened<ModelTrack> {
        let mut credits = Credits::new(WINDOW, WINDOW);
        credits.on_sent(WINDOW.into());
        credits.on_received(NO_DATA).unwrap();
        let agreement = Agreement {
            version: 1,
            send_frame: 128,
            eager_limit: 128 - HEADER,
            max_message: 4096,
            peer_window: WINDOW,
            peer_idle: None,
            features: 0,
            head: HEADER,
            peer_incarnation: 0,
        };
        Opened { track: ModelTrack(self.clone()), fan_out: FanOut::new(), agreement, credits }
    }

    /// A frame arrives; whoever waits for one is woken after that.
    pub(crate) fn arrive(&self, kind: Kind, credits: u32, body: &[u8]) {
        let mut frame = vec![0; HEADER];
        stamp(&mut frame, kind, credits.into());
        frame.extend(body);
        self.state().arrived.push_back(frame);
        let waker = self.state().receiver.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// All that was sent has arrived: a close may end.
    pub(crate) fn let_close(&self) {
        self.state().may_close = true;
        let waker = self.state().closer.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// How many messages the carrier keeps in the buffers of the track.
    pub(crate) fn held(&self) -> usize {
        self.state().held
    }

    /// Whether the carrier sent such a frame.
    pub(crate) fn has_sent(&self, kind: Kind) -> bool {
        self.state().sent.contains(&kind.code())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct ModelTrack(Wire);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the model has no such end")]
pub(crate) struct ModelError;

impl TransportError for ModelError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Closed
    }
}

/// Time that does not pass.
#[derive(Clone)]
pub(crate) struct ModelTimer;

impl Timer for ModelTimer {
    type Sleep = Pending<()>;

    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep(&self, _: Duration) -> Pending<()> {
        std::future::pending()
    }
}

pub(crate) struct ModelSendBuf(Vec<u8>);

impl Deref for ModelSendBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for ModelSendBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl SendBuf for ModelSendBuf {
    fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }
}

pub(crate) struct ModelRecvBuf(Vec<u8>, Wire);

impl Deref for ModelRecvBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for ModelRecvBuf {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for ModelRecvBuf {
    fn drop(&mut self) {
        self.1.state().held -= 1;
    }
}

impl Endpoint for ModelTrack {
    type Error = ModelError;
    type Addr = String;
    type Timer = ModelTimer;

    fn limits(&self) -> Limits {
        Limits::new(128, 8, WINDOW as usize)
    }

    fn local(&self) -> String {
        String::new()
    }

    fn peer(&self) -> String {
        String::new()
    }

    fn timer(&self) -> ModelTimer {
        ModelTimer
    }
}

impl SendSide for ModelTrack {
    type SendBuf = ModelSendBuf;

    fn try_reserve(&mut self, len: usize) -> Result<ModelSendBuf, TryError<ModelError>> {
        Ok(ModelSendBuf(vec![0; len]))
    }

    fn send(&mut self, buf: ModelSendBuf) -> Result<(), Unsent<ModelSendBuf, ModelError>> {
        self.0.state().sent.extend(buf.first());
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ModelError> {
        Ok(())
    }

    fn poll_send_ready(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ModelError>> {
        let mut state = self.0.state();
        if state.may_close {
            return Poll::Ready(Ok(()));
        }
        state.closer = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl RecvSide for ModelTrack {
    type RecvBuf = ModelRecvBuf;

    fn posted(&self) -> u64 {
        WINDOW.into()
    }

    fn try_recv(&mut self) -> Result<ModelRecvBuf, TryError<ModelError>> {
        let mut state = self.0.state();
        let frame = state.arrived.pop_front().ok_or(TryError::WouldBlock)?;
        state.held += 1;
        drop(state);
        Ok(ModelRecvBuf(frame, self.0.clone()))
    }

    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.state();
        let empty = state.arrived.is_empty();
        let before = std::mem::replace(&mut state.receiver, empty.then(|| cx.waker().clone()));
        drop(state);
        drop(before);
        if empty { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Track for ModelTrack {
    type Delivery = Reliable;
    type Sender = Self;
    type Receiver = Self;

    fn split(self) -> (Self, Self) {
        let other = Self(self.0.clone());
        (self, other)
    }
}
