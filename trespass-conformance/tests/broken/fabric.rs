//! The toy fabric with one fault: fabric, listener and handshakes.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use toy_fabric::{Toy, ToyAddr, ToyConfig, ToyConnecting, ToyError, ToyIncoming, ToyListener, ToyReceiver, ToySender};
use trespass_conformance::{Deadlines, Fabrics, Harness};
use trespass_core::{ErrorKind, Fabric, Incoming, Listener, RecvSide, SystemTimer, Track, TransportError};

use crate::fault::Fault;
use crate::track::BrokenTrack;

/// A fabric with a fault.
#[derive(Clone)]
pub(crate) struct Broken {
    toy: Toy,
    shared: Arc<Shared>,
    /// Shared by the handles alone.
    handle: Arc<()>,
}

/// What all tracks of one fabric see.
pub(crate) struct Shared {
    pub(crate) fault: Fault,
    pub(crate) any_ended: AtomicBool,
    /// What was received last, by whomever.
    pub(crate) last_received: Mutex<Vec<u8>>,
    crossing: Crossing,
    connect_dropped: AtomicBool,
}

/// Whose end takes a track with it.
#[derive(Clone)]
pub(crate) struct Parents {
    fabric: Weak<()>,
    listener: Weak<()>,
    fault: Fault,
}

impl Parents {
    /// Whether a parent is gone without which this fabric's tracks cannot be.
    pub(crate) fn gone(&self) -> bool {
        match self.fault {
            Fault::FabricTakesItsTracks => self.fabric.strong_count() == 0,
            Fault::ListenerTakesItsTracks => self.listener.strong_count() == 0,
            _ => false,
        }
    }
}

impl Fabric for Broken {
    type Addr = ToyAddr;
    type Error = ToyError;
    type Timer = SystemTimer;
    type Track = BrokenTrack;
    type Listener = BrokenListener;
    type Connecting = BrokenConnecting;

    fn listen(&self, addr: &ToyAddr) -> Result<BrokenListener, ToyError> {
        let toy = match self.toy.listen(addr) {
            Err(_) if self.shared.fault == Fault::MovesTheSecondListener => self.toy.listen(&ToyAddr(0))?,
            result => result?,
        };
        let alive = Arc::new(());
        Ok(BrokenListener { toy: Some(toy), alive: Some(alive), fabric: self.clone() })
    }

    fn connect(&self, addr: &ToyAddr) -> BrokenConnecting {
        // Where no listener matters a track's listener is the fabric.
        let parents = self.parents(&self.handle);
        BrokenConnecting { toy: Some(self.toy.connect(addr)), parents, shared: Arc::clone(&self.shared) }
    }

    fn timer(&self) -> SystemTimer {
        self.toy.timer()
    }
}

impl Broken {
    fn parents(&self, listener: &Arc<()>) -> Parents {
        Parents { fabric: Arc::downgrade(&self.handle), listener: Arc::downgrade(listener), fault: self.shared.fault }
    }
}

pub(crate) struct BrokenConnecting {
    toy: Option<ToyConnecting>,
    parents: Parents,
    shared: Arc<Shared>,
}

impl Future for BrokenConnecting {
    type Output = Result<BrokenTrack, ToyError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let fault = self.shared.fault;
        let Some(toy) = &mut self.toy else { return Poll::Pending };
        let Poll::Ready(result) = Pin::new(toy).poll(cx) else { return Poll::Pending };
        self.toy = None;
        let never = match result.as_ref().err().map(TransportError::kind) {
            Some(ErrorKind::Refused) => fault == Fault::NobodyThereHangs,
            Some(ErrorKind::TimedOut) => fault == Fault::HandshakeHasNoDeadline,
            _ => false,
        };
        if never {
            return Poll::Pending;
        }
        let (sender, mut receiver) = result?.split();
        match fault {
            Fault::LosesEarlyAnswers => drop(receiver.try_recv()),
            Fault::Crosses => receiver = self.shared.crossing.exchange(receiver),
            _ => {}
        }
        Poll::Ready(Ok(BrokenTrack::new(sender, receiver, self.parents.clone(), &self.shared)))
    }
}

/// Where two receivers that come from different threads change places.
#[derive(Default)]
struct Crossing {
    /// One that waits, and then the one that it is given instead.
    place: Mutex<(Option<ToyReceiver>, Option<ToyReceiver>)>,
    given: Condvar,
}

impl Crossing {
    fn exchange(&self, receiver: ToyReceiver) -> ToyReceiver {
        let mut place = self.place.lock().expect("no panic under this lock");
        if let Some(first) = place.0.take() {
            place.1 = Some(receiver);
            self.given.notify_one();
            return first;
        }
        place.0 = Some(receiver);
        let mut place = self.given.wait_while(place, |place| place.1.is_none()).expect("no panic under this lock");
        place.1.take().expect("waited for it")
    }
}

impl Drop for BrokenConnecting {
    fn drop(&mut self) {
        if self.toy.is_none() {
            return;
        }
        self.shared.connect_dropped.store(true, Ordering::Release);
        if self.shared.fault == Fault::DroppedConnectLivesOn {
            std::mem::forget(self.toy.take());
        }
    }
}

pub(crate) struct BrokenListener {
    toy: Option<ToyListener>,
    alive: Option<Arc<()>>,
    fabric: Broken,
}

impl BrokenListener {
    fn toy(&mut self) -> &mut ToyListener {
        self.toy.as_mut().expect("taken only when this is dropped")
    }
}

impl Listener for BrokenListener {
    type Addr = ToyAddr;
    type Error = ToyError;
    type Track = BrokenTrack;
    type Incoming = BrokenIncoming;

    fn local(&self) -> ToyAddr {
        self.toy.as_ref().expect("taken only when this is dropped").local()
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Result<BrokenIncoming, ToyError>> {
        let shared = Arc::clone(&self.fabric.shared);
        match shared.fault {
            Fault::DroppedConnectEndsTheListener if shared.connect_dropped.load(Ordering::Acquire) => {
                return Poll::Ready(Err(ToyError(ErrorKind::Device)));
            }
            _ => {}
        }
        let waker = if shared.fault == Fault::RequestWakesNobody { Waker::noop() } else { cx.waker() };
        let polled = self.toy().poll_incoming(&mut Context::from_waker(waker));
        polled.map_ok(|toy| {
            let listener = self.alive.get_or_insert_default();
            BrokenIncoming { toy: Some(toy), parents: self.fabric.parents(listener), shared }
        })
    }

    fn close(&mut self) {
        if self.fabric.shared.fault != Fault::ClosedListenerGoesOn {
            self.toy().close();
            self.alive = None;
        }
    }
}

impl Drop for BrokenListener {
    fn drop(&mut self) {
        if self.fabric.shared.fault == Fault::AddressStaysTaken {
            std::mem::forget(self.toy.take());
        }
    }
}

pub(crate) struct BrokenIncoming {
    toy: Option<ToyIncoming>,
    parents: Parents,
    shared: Arc<Shared>,
}

impl Incoming for BrokenIncoming {
    type Addr = ToyAddr;
    type Error = ToyError;
    type Track = BrokenTrack;
    type Accepting = BrokenAccepting;

    fn peer(&self) -> ToyAddr {
        self.toy.as_ref().expect("taken only when this is used up").peer()
    }

    fn accept(mut self) -> BrokenAccepting {
        let accepting = self.toy.take().expect("taken only when this is used up").accept();
        let track = accepting.into_inner().map(Track::split);
        BrokenAccepting { track: Some(track), parents: self.parents.clone(), shared: self.shared.clone() }
    }

    fn refuse(mut self) {
        self.toy.take().expect("taken only when this is used up").refuse();
    }

    fn busy(mut self) {
        let toy = self.toy.take().expect("taken only when this is used up");
        match self.shared.fault {
            Fault::BusyIsSilent => std::mem::forget(toy),
            _ => toy.busy(),
        }
    }
}

impl Drop for BrokenIncoming {
    fn drop(&mut self) {
        if self.shared.fault == Fault::DroppedRequestIsSilent {
            std::mem::forget(self.toy.take());
        }
    }
}

pub(crate) struct BrokenAccepting {
    track: Option<Result<(ToySender, ToyReceiver), ToyError>>,
    parents: Parents,
    shared: Arc<Shared>,
}

impl Future for BrokenAccepting {
    type Output = Result<BrokenTrack, ToyError>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let (sender, mut receiver) = match this.track.take() {
            Some(result) => result?,
            None => return Poll::Pending,
        };
        if this.shared.fault == Fault::LosesEarlyMessages {
            drop(receiver.try_recv());
        }
        Poll::Ready(Ok(BrokenTrack::new(sender, receiver, this.parents.clone(), &this.shared)))
    }
}

const DEADLINES: Deadlines = Deadlines { handshake: Duration::from_millis(400), close: Duration::from_millis(400) };

/// Runs the kit for a fabric with a fault.
pub(crate) struct BrokenHarness {
    fault: Fault,
    pub(crate) patience: Duration,
}

impl BrokenHarness {
    pub(crate) fn new(fault: Fault) -> Self {
        Self { fault, patience: Duration::from_secs(30) }
    }
}

impl BrokenHarness {
    fn broken(&self, config: ToyConfig) -> Fabrics<Broken> {
        let shared = Shared {
            fault: self.fault,
            any_ended: AtomicBool::new(false),
            last_received: Mutex::default(),
            crossing: Crossing::default(),
            connect_dropped: AtomicBool::new(false),
        };
        Fabrics::same(Broken { toy: Toy::new(config), shared: Arc::new(shared), handle: Arc::default() })
    }
}

impl Harness for BrokenHarness {
    type Fabric = Broken;

    fn fabrics(&self) -> Fabrics<Broken> {
        self.broken(ToyConfig::default())
    }

    fn hasty_fabrics(&self) -> Fabrics<Broken> {
        self.broken(ToyConfig { handshake: DEADLINES.handshake, close: DEADLINES.close, ..ToyConfig::default() })
    }

    fn listen_addr(&self) -> ToyAddr {
        ToyAddr(0)
    }

    fn vacant_addr(&self) -> ToyAddr {
        ToyAddr(1)
    }

    fn deadlines(&self) -> Deadlines {
        DEADLINES
    }

    fn patience(&self) -> Duration {
        self.patience
    }

    fn doorbells(&self, track: &BrokenTrack) -> Option<u64> {
        Some(track.doorbells())
    }

    fn arms(&self, track: &BrokenTrack) -> Option<u64> {
        Some(track.arms())
    }

    fn cut(&self, track: &BrokenTrack) -> Option<ErrorKind> {
        Some(track.cut())
    }
}
