//! Datagram tracks with one bug each, as a layer over others.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use trespass_core::{
    Datagram, Endpoint, ErrorKind, Fabric, Limits, RecvSide, Role, SendBuf, SendSide, Track, TransportError, TryError,
    Unsent,
};
use trespass_layers::Layer;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Nothing.
    Nothing,
    /// What is below is not datagrams at all: whoever is slow stalls whoever sends, and a close waits for the peer.
    IsReliable,
    /// Longer messages lose their last byte.
    Truncates,
    /// Every third flush sends an empty message of its own.
    Invents,
    /// Every fifth message is another track's.
    DeliversStrangers,
    /// The longest messages never arrive.
    LosesTheLongest,
    /// A sender whose receiver is slow fails.
    OverflowIsAnError,
    /// All senders fail when one receiver is slow.
    OverflowEndsAll,
    /// A close waits until the peer has taken what was sent.
    CloseWaits,
    /// A close throws away what was not read yet.
    CloseThrowsAway,
    /// Once some track has ended there are no slots.
    GoneHangs,
    /// One wait for a message in seven is in vain.
    LosesWakeUps,
    /// No wait for a message is ever woken.
    NeverWakes,
}

/// The layer: what all its tracks share.
#[derive(Clone)]
pub(crate) struct Bad(Arc<Shared>);

struct Shared {
    bug: Bug,
    tracks: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    any_gone: AtomicBool,
    /// What was sent last, and by which track.
    last: Mutex<(u64, Vec<u8>)>,
}

impl Bad {
    pub(crate) fn new(bug: Bug) -> Self {
        Self(Arc::new(Shared {
            bug,
            tracks: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            any_gone: AtomicBool::new(false),
            last: Mutex::default(),
        }))
    }
}

impl Shared {
    /// Whether more was sent than anybody has taken, by far.
    fn overflows(&self) -> bool {
        self.sent.load(Ordering::SeqCst).saturating_sub(self.received.load(Ordering::SeqCst)) > 100
    }
}

#[derive(Debug, Clone)]
pub(crate) enum BadError<E> {
    Below(E),
    Own(ErrorKind),
}

impl<E: TransportError> From<E> for BadError<E> {
    fn from(error: E) -> Self {
        Self::Below(error)
    }
}

impl<E: TransportError> fmt::Display for BadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a bad datagram track: {}", self.kind())
    }
}

impl<E: TransportError> std::error::Error for BadError<E> {}

impl<E: TransportError> TransportError for BadError<E> {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Below(error) => error.kind(),
            Self::Own(kind) => *kind,
        }
    }
}

impl<F: Fabric> Layer<F> for Bad {
    type Error = BadError<F::Error>;
    type Track = BadTrack<F::Track>;
    type Listening = ();

    fn track(&self, track: F::Track, _: Role, _: &F::Addr) -> BadTrack<F::Track> {
        let (sender, receiver) = track.split();
        let closed = Arc::<AtomicBool>::default();
        let number = self.0.tracks.fetch_add(1, Ordering::SeqCst);
        BadTrack {
            sender: BadSender {
                inner: sender,
                shared: Arc::clone(&self.0),
                closed: Arc::clone(&closed),
                number,
                sends: 0,
                flushes: 0,
                failed: false,
            },
            receiver: BadReceiver { inner: receiver, shared: Arc::clone(&self.0), closed, polls: 0 },
        }
    }
}

pub(crate) struct BadTrack<T: Track> {
    sender: BadSender<T::Sender>,
    receiver: BadReceiver<T::Receiver>,
}

pub(crate) struct BadSender<S> {
    inner: S,
    shared: Arc<Shared>,
    closed: Arc<AtomicBool>,
    number: u64,
    sends: u64,
    flushes: u64,
    failed: bool,
}

pub(crate) struct BadReceiver<R> {
    inner: R,
    shared: Arc<Shared>,
    closed: Arc<AtomicBool>,
    polls: u64,
}

impl<S> Drop for BadSender<S> {
    fn drop(&mut self) {
        self.shared.any_gone.store(true, Ordering::SeqCst);
    }
}

fn below<E: TransportError>(error: TryError<E>) -> TryError<BadError<E>> {
    match error {
        TryError::WouldBlock => TryError::WouldBlock,
        TryError::Failed(error) => TryError::Failed(error.into()),
    }
}

impl<S: SendSide> BadSender<S> {
    fn hangs(&self) -> bool {
        self.shared.bug == Bug::GoneHangs && self.shared.any_gone.load(Ordering::SeqCst)
    }

    /// Whether an overflow has ended this track.
    fn has_failed(&mut self, sending: bool) -> bool {
        self.failed |= match self.shared.bug {
            Bug::OverflowIsAnError => sending && self.shared.overflows(),
            Bug::OverflowEndsAll => self.shared.overflows(),
            _ => false,
        };
        self.failed
    }
}

impl<S: SendSide> SendSide for BadSender<S> {
    type SendBuf = S::SendBuf;

    fn try_reserve(&mut self, len: usize) -> Result<S::SendBuf, TryError<Self::Error>> {
        if self.has_failed(false) {
            return Err(TryError::Failed(BadError::Own(ErrorKind::ResourceLimit)));
        }
        if self.hangs() {
            return Err(TryError::WouldBlock);
        }
        self.inner.try_reserve(len).map_err(below)
    }

    fn send(&mut self, mut buf: S::SendBuf) -> Result<(), Unsent<S::SendBuf, Self::Error>> {
        self.sends += 1;
        self.shared.sent.fetch_add(1, Ordering::SeqCst);
        if self.has_failed(true) {
            return Err(Unsent { buf, error: BadError::Own(ErrorKind::ResourceLimit) });
        }
        match self.shared.bug {
            Bug::Truncates if buf.len() > 16 => {
                let shorter = buf.len() - 1;
                buf.truncate(shorter);
            }
            Bug::LosesTheLongest if buf.len() == self.limits().max_message => return Ok(()),
            Bug::DeliversStrangers => {
                let mut last = self.shared.last.lock().expect("no panic under this lock");
                let own = (self.number, buf.to_vec());
                if self.sends % 5 == 0 && last.0 != self.number && last.1.len() == buf.len() {
                    buf.copy_from_slice(&last.1);
                }
                *last = own;
            }
            _ => {}
        }
        self.inner.send(buf).map_err(|Unsent { buf, error }| Unsent { buf, error: error.into() })
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        self.flushes += 1;
        if self.shared.bug == Bug::Invents && self.flushes % 3 == 0 {
            if let Ok(nothing) = self.inner.try_reserve(0) {
                self.inner.send(nothing).map_err(|unsent| unsent.error)?;
            }
        }
        Ok(self.inner.flush()?)
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.hangs() {
            true => Poll::Pending,
            false => self.inner.poll_send_ready(cx),
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if self.shared.bug == Bug::CloseWaits && self.shared.overflows() {
            return Poll::Pending;
        }
        let polled = self.inner.poll_close(cx).map_err(BadError::Below);
        self.closed.fetch_or(polled.is_ready(), Ordering::SeqCst);
        polled
    }
}

impl<R: RecvSide> RecvSide for BadReceiver<R> {
    type RecvBuf = R::RecvBuf;

    fn posted(&self) -> u64 {
        self.inner.posted()
    }

    fn try_recv(&mut self) -> Result<R::RecvBuf, TryError<Self::Error>> {
        if self.shared.bug == Bug::CloseThrowsAway && self.closed.load(Ordering::SeqCst) {
            return Err(TryError::Failed(BadError::Own(ErrorKind::Closed)));
        }
        let result = self.inner.try_recv().map_err(below);
        self.shared.received.fetch_add(u64::from(result.is_ok()), Ordering::SeqCst);
        result
    }

    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.polls += 1;
        match self.shared.bug {
            Bug::LosesWakeUps if self.polls % 7 == 0 => {}
            Bug::NeverWakes => {}
            _ => return self.inner.poll_recv_ready(cx),
        }
        self.inner.poll_recv_ready(&mut Context::from_waker(Waker::noop()))
    }
}

macro_rules! endpoint {
    ($name:ident<$inner:ident: $bound:ident>, $($below:ident).+) => {
        impl<$inner: $bound> Endpoint for $name<$inner> {
            type Error = BadError<$inner::Error>;
            type Addr = $inner::Addr;
            type Timer = $inner::Timer;

            fn limits(&self) -> Limits {
                self.$($below).+.limits()
            }

            fn local(&self) -> $inner::Addr {
                self.$($below).+.local()
            }

            fn peer(&self) -> $inner::Addr {
                self.$($below).+.peer()
            }

            fn timer(&self) -> $inner::Timer {
                self.$($below).+.timer()
            }
        }
    };
}

endpoint!(BadSender<S: SendSide>, inner);
endpoint!(BadReceiver<R: RecvSide>, inner);
endpoint!(BadTrack<T: Track>, sender.inner);

impl<T: Track> SendSide for BadTrack<T> {
    type SendBuf = T::SendBuf;

    fn try_reserve(&mut self, len: usize) -> Result<T::SendBuf, TryError<Self::Error>> {
        self.sender.try_reserve(len)
    }

    fn send(&mut self, buf: T::SendBuf) -> Result<(), Unsent<T::SendBuf, Self::Error>> {
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

impl<T: Track> RecvSide for BadTrack<T> {
    type RecvBuf = T::RecvBuf;

    fn posted(&self) -> u64 {
        self.receiver.posted()
    }

    fn try_recv(&mut self) -> Result<T::RecvBuf, TryError<Self::Error>> {
        self.receiver.try_recv()
    }

    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = self.sender.flush();
        self.receiver.poll_recv_ready(cx)
    }
}

impl<T: Track> Track for BadTrack<T> {
    type Delivery = Datagram;
    type Sender = BadSender<T::Sender>;
    type Receiver = BadReceiver<T::Receiver>;

    fn split(self) -> (Self::Sender, Self::Receiver) {
        (self.sender, self.receiver)
    }
}
